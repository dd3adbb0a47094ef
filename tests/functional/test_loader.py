# SPDX-License-Identifier: Apache-2.0
"""Our wheel beside a real Nova: installed from its wheel, and editable.

Each in a virtual environment of its own, where nova and xen44-driver are
really installed; all they need besides is taken from the environment that
runs the tests.
"""

import importlib.metadata
import pathlib
import sys
import sysconfig
import tempfile
import time
import venv

from testtools import testcase

from tests.functional import base
from tests.functional import packages

#: Loads the driver as nova-compute does; says where things came from.
LOAD = """
import nova.conf
from nova import objects
objects.register_all()
nova.conf.CONF([], project='nova', default_config_files=[])
from nova.virt import driver
loaded = driver.load_compute_driver(None, 'xen44.Xen44Driver')
# Nova is whole: what we add to it hides nothing of it.
import nova.compute.manager, nova.virt.libvirt.driver
import nova, xen44_driver
print(type(loaded).__module__, type(loaded).__name__)
print(nova.__file__)
print(xen44_driver.__file__)
"""


class LoaderTest(testcase.WithAttributes, testcase.TestCase):
    """``compute_driver = xen44.Xen44Driver`` in Nova's two kinds."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.work = pathlib.Path(directory.name)
        cls.nova = f'nova=={importlib.metadata.version("nova")}'
        cls.wheel = packages.wheel()
        cls.borrowed = cls._borrow()

    @classmethod
    def _borrow(cls):
        """What is installed here, but for nova and us.

        :returns: a directory of links to it
        """
        directory = cls.work / 'borrowed'
        directory.mkdir()
        for name in ('purelib', 'platlib'):
            for entry in pathlib.Path(sysconfig.get_path(name)).iterdir():
                link = directory / entry.name
                if (not entry.name.startswith(('nova', 'xen44', '__editable'))
                        and entry.suffix != '.pth' and not link.exists()):
                    link.symlink_to(entry)
        return directory

    def environment(self, name):
        """Make an environment that borrows what it does not have.

        :returns: its Python
        """
        directory = self.work / name
        venv.create(directory, with_pip=False)
        own = pathlib.Path(sysconfig.get_path(
            'purelib', 'venv', {'base': str(directory)}))
        (own / 'borrowed.pth').write_text(str(self.borrowed))
        return directory / 'bin' / 'python'

    def install(self, python, *what):
        """Install into an environment, whatever it borrows."""
        packages.run(
            sys.executable, '-m', 'pip', '--python', python, 'install',
            '--quiet', '--no-deps', '--ignore-installed',
            '--no-warn-script-location', *what)

    def assert_loads(self, python, nova):
        """See that Nova loads the driver.

        :param nova: directory that nova has to be in
        """
        said = packages.run(python, '-I', '-W', 'ignore', '-c', LOAD)
        kind, nova_file, ours = said.splitlines()[-3:]
        self.assertEqual('xen44_driver.driver Xen44Driver', kind)
        self.assertTrue(
            pathlib.Path(nova_file).is_relative_to(nova), nova_file)
        self.assertTrue(pathlib.Path(ours).is_relative_to(
            python.parents[1]), ours)

    def test_nova_from_wheel(self):
        python = self.environment('wheel')
        self.install(python, '--only-binary', ':all:', self.nova)
        self.install(python, self.wheel)
        self.assert_loads(python, python.parents[1])

    @base.slow
    def test_nova_editable(self):
        packages.run(
            sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps',
            '--no-binary', 'nova', '--dest', self.work, self.nova)
        (sdist,) = self.work.glob('nova-*.tar.gz')
        packages.run('tar', '-xf', sdist, '-C', self.work)
        source = self.work / sdist.name.removesuffix('.tar.gz')
        python = self.environment('editable')
        self.install(python, '--editable', source)
        self.install(python, self.wheel)
        self.assert_loads(python, source)

    def test_costs_little(self):
        # Every Python of that environment pays for it.
        python = self.environment('cost')
        self.install(python, self.wheel)

        def start():
            began = time.perf_counter()
            packages.run(python, '-I', '-c', 'pass')
            return time.perf_counter() - began

        with_ours = min(start() for _ in range(10))
        (pth,) = (python.parents[1] / 'lib').rglob(
            'xen44_driver-nova.pth')
        pth.unlink()
        without = min(start() for _ in range(10))
        self.assertLess(with_ours - without, 0.02)
