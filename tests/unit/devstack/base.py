# SPDX-License-Identifier: Apache-2.0
"""A host in a directory, and the double of devstack on it."""

import configparser
import os
import pathlib
import subprocess

import fixtures
from oslotest import base

from labkit import config

CHECKOUT = config.CHECKOUT
PLUGIN = CHECKOUT / 'devstack'
DOUBLE = pathlib.Path(__file__).parent / 'double.sh'

#: What the user of a dom0 writes, and of a machine without Xen.
DOM0 = """
VIRT_DRIVER=xen44
Q_AGENT=openvswitch
XEN44_MIN_MEMORY=1
"""
NESTED = f"""
VIRT_DRIVER=xen44
XEN44_NESTED=True
Q_AGENT=openvswitch
Q_ML2_TENANT_NETWORK_TYPE=vxlan
HOST_IP={config.NODE_IP}
XEN44_MIN_MEMORY=1
disable_service n-cpu tls-proxy
"""


class TestCase(base.BaseTestCase):
    """A host in a directory, and the double of devstack on it.

    :ivar host: the directory.
    """

    def setUp(self):
        super().setUp()
        self.host = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        for name in ('etc/default', 'etc/logrotate.d', 'fails',
                     'var/log/xen', 'etc/systemd/system'):
            (self.host / name).mkdir(parents=True)
        self.write('etc/default/xen', '# Xen\nXENCONSOLED_ARGS=\n')
        self.write('enabled', 'xendomains.service\nssh.service\n')
        self.write('groups', 'stack sudo\n')
        self.write('guests', 'Domain-0\ninstance-00000001\nother\n')

    def write(self, name, text):
        (self.host / name).write_text(text)

    def read(self, name):
        return (self.host / name).read_text()

    def run_double(self, mode, localrc=DOM0, **env):
        """Run stack.sh, unstack.sh or clean.sh.

        :returns: what was said, and whether it went well.
        """
        self.write('calls', '')
        self.write('localrc', localrc + ''.join(
            f'XEN44_{name}={self.host}/{where}\n' for name, where in (
                ('STATE_DIR', 'lib/state'), ('CACHE_DIR', 'cache/lab'))
            if f'XEN44_{name}' not in localrc))
        done = subprocess.run(
            ['bash', DOUBLE, mode], check=False, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
            env={'PATH': os.environ['PATH'], 'HOST': str(self.host),
                 'PLUGIN': str(CHECKOUT), **env})
        self.assertNotIn('UNKNOWN', self.read('calls'), done.stdout)
        return done.stdout, done.returncode == 0

    def run_well(self, mode, localrc=DOM0, **env):
        said, well = self.run_double(mode, localrc, **env)
        self.assertTrue(well, said)
        self.assertNotRegex(said, '(?i)error|fail|no such|not found')

    def refused(self, localrc=DOM0, **env):
        """What stack.sh says when it ends in pre-install."""
        before = self.tree()
        said, well = self.run_double('stack', localrc, **env)
        self.assertFalse(well, said)
        self.assertNotIn('== stack install', self.calls())
        self.assertEqual(before, self.tree())
        return said

    def calls(self, name=''):
        return [line for line in self.read('calls').splitlines()
                if line.startswith(name)]

    def tree(self):
        """The host's files and what is in them, as an operator sees it."""
        ours = ('calls', 'localrc', 'nova', 'neutron', 'tempest', 'fails',
                'joined', 'xenconsoled')
        return {
            str(path.relative_to(self.host)):
                path.read_text() if path.is_file() else None
            for path in sorted(self.host.rglob('*'))
            if path.relative_to(self.host).parts[0] not in ours
            and not path.name.startswith('async-')}

    def ini(self, name):
        parser = configparser.ConfigParser(
            interpolation=None, default_section='')
        parser.read_string(self.read(name))
        return {section: dict(parser[section])
                for section in parser.sections()}
