# SPDX-License-Identifier: Apache-2.0
"""What is in our sdist, our wheel and our Debian packages."""

import pathlib
import tarfile
import zipfile

from testtools import testcase

from tests.functional import base
from tests.functional import packages

#: Where the Debian packages have files of the wheel, if not in the same place.
_DEBIAN = {
    'etc/xen44/xen44.conf.sample': 'usr/share/xen44/xen44.conf.sample',
    'share/xen44/libvirtd.service.conf':
        'usr/lib/systemd/system/libvirtd.service.d/xen44.conf',
    'share/xen44/logrotate.timer.conf':
        'usr/lib/systemd/system/logrotate.timer.d/xen44.conf',
    'share/xen44/xenconsoled': 'usr/share/xen44/xenconsoled',
    # Debian's packages of Nova have their own, and ours do the rest of it.
    'etc/logrotate.d/xen44-nova-compute': None,
    'share/xen44/nova-compute.service': None,
    'share/xen44/prepare-dom0': None,
    'share/xen44/sudoers': None,
}

#: What is in the Debian packages alone.
_DEBIANS_OWN = {
    'etc/nova/nova-compute.conf',
    'usr/bin/xen44-cloudstack',
    'usr/bin/xen44-host',
    'usr/bin/xen44-import',
    'usr/bin/xen44-status',
    'usr/lib/systemd/system/xen.service.d/xen44-console.conf',
    'usr/lib/tmpfiles.d/nova-compute-xen44.conf',
}


def _files(*patterns):
    """Files of the checkout: their content by their path."""
    return {str(path.relative_to(packages.PROJECT)): path.read_bytes()
            for pattern in patterns
            for path in packages.PROJECT.glob(pattern)
            if path.is_file() and '__pycache__' not in path.parts}


def _code():
    return _files('xen44_driver/**/*', 'xen44_driver-nova.pth')


def _data():
    return _files('etc/logrotate.d/*', 'etc/nova/rootwrap.d/*',
                  'etc/xen44/xen44.conf.sample', 'share/xen44/*')


class PackagesTest(testcase.WithAttributes, testcase.TestCase):

    def assert_same(self, expected, actual):
        self.assertEqual(sorted(expected), sorted(actual))
        for name, content in expected.items():
            self.assertEqual(content, actual[name], name)

    def test_sdist(self):
        with tarfile.open(packages.sdist()) as archive:
            names = {name.partition('/')[2] for name in archive.getnames()}
        # The wheel is built of it, so this is what else an sdist is for.
        for name in ('LICENSE', 'README.rst', 'doc/source/conf.py',
                     'etc/debian/rules', 'test-requirements.txt',
                     'tests/unit/__init__.py', 'tox.ini'):
            self.assertIn(name, names)

    def test_wheel(self):
        with zipfile.ZipFile(packages.wheel()) as archive:
            wheel = {name: archive.read(name)
                     for name in archive.namelist()
                     if '.dist-info/' not in name}
        root = next(name for name in wheel if '.data/' in name).split('/')[0]
        self.assert_same(
            {**_code(), **{f'{root}/data/{name}': content
                           for name, content in _data().items()}}, wheel)

    @base.slow
    def test_debian(self):
        """It needs the packages of bindep.txt's profile deb."""
        root = packages.debian()
        debian = {str(path.relative_to(root)): path.read_bytes()
                  for path in root.rglob('*') if path.is_file()}
        python = 'usr/lib/python3/dist-packages'
        expected = {f'{python}/{name}': content
                    for name, content in _code().items()}
        for name, content in _data().items():
            if place := _DEBIAN.get(name, name):
                expected[place] = content
        self.assert_same(expected, {
            name: content for name, content in debian.items()
            if name not in _DEBIANS_OWN and '.dist-info/' not in name
            and not name.startswith(('usr/share/doc/', 'usr/share/lintian/'))})
        self.assertLessEqual(_DEBIANS_OWN, debian.keys())

        # What Nova and the commands find by their names.
        (points,) = pathlib.Path(root, python).glob(
            'xen44_driver-*.dist-info/entry_points.txt')
        with zipfile.ZipFile(packages.wheel()) as archive:
            (name,) = (one for one in archive.namelist()
                       if one.endswith('/entry_points.txt'))
            self.assertEqual(archive.read(name), points.read_bytes())
