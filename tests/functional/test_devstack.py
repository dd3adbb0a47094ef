# SPDX-License-Identifier: Apache-2.0
"""The devstack plugin's phases in a Debian with systemd, apt and sudo.

devstack is a double, the one of the plugin's unit tests, but what it promises
to do is done. The container is no dom0, and Xen in it cannot be: the only
double of the host is the answer to whether it is one.
"""

import configparser

import testtools
from testtools import testcase

from tests import threads
from tests.functional import base
from tests.functional import container
from tests.functional import packages

#: Where the checkout is, as ``enable_plugin`` puts it, and the double's notes.
PLUGIN = 'xen44_driver'
NOTES = 'double'

DOM0 = """
VIRT_DRIVER=xen44
Q_AGENT=openvswitch
XEN44_MIN_MEMORY=1
"""
NESTED = """
VIRT_DRIVER=xen44
XEN44_NESTED=True
XEN44_BUILD_IMAGE=False
Q_AGENT=openvswitch
Q_ML2_TENANT_NETWORK_TYPE=vxlan
HOST_IP=192.168.144.2
XEN44_MIN_MEMORY=1
disable_service n-cpu tls-proxy
"""

#: Of the lab only what would start an emulated host, or ask one, is a double.
_LAB = f"""#!/bin/bash
echo "xenlab $*" >> /{container.HOME}/{NOTES}/calls
case $1 in
up) sleep 3 && mkdir -p "$XENLAB_STATE/xen1" ;;
join) cat > "$XENLAB_STATE/joined" ;;
*) exec "${{BASH_SOURCE[0]}}-itself" "$@" ;;
esac
"""


@testtools.skipIf(threads.NOVA < 34, 'no Nova is asked: once is enough')
class DevstackTest(testcase.WithAttributes, testcase.TestCase):

    def setUp(self):
        super().setUp()
        self.host = self.useFixture(container.Container())
        self.home = self.host.root / container.HOME
        packages.run('cp', '-r', packages.copy(f'devstack/{self.id()}'),
                     self.home / PLUGIN)
        self.host.write(f'{NOTES}/calls', '')

    def double(self, mode, localrc):
        """Run stack.sh, unstack.sh or clean.sh as devstack's user.

        :returns: what was said, and whether it went well.
        """
        self.host.write(f'{NOTES}/localrc', localrc)
        self.host.write(f'{NOTES}/calls', '')
        said, status = self.host.call(
            'bash', f'{PLUGIN}/tests/unit/devstack/double.sh', mode,
            ON='machine', HOST=f'/{container.HOME}/{NOTES}',
            PLUGIN=f'/{container.HOME}/{PLUGIN}')
        self.addDetail(f'{mode} {len(self.getDetails())}',
                       testtools.content.text_content(said))
        self.assertNotIn('UNKNOWN', self.calls())
        return said, status == 0

    def run_well(self, mode, localrc):
        said, well = self.double(mode, localrc)
        self.assertTrue(well, said)

    def refused(self, localrc):
        """What stack.sh says when it ends in pre-install."""
        before, packages_before = self.host.state(), self.host.debs()
        said, well = self.double('stack', localrc)
        self.assertFalse(well, said)
        self.assertNotIn('== stack install', self.calls())
        self.assert_state(before)
        self.assertEqual(packages_before, self.host.debs())
        return said

    def assert_state(self, before):
        after = self.host.state()
        for name, value in before['files'].items():
            self.assertEqual(value, after['files'].get(name), name)
        self.assertEqual(set(), after['files'].keys() - before['files'].keys())
        self.assertEqual(before, after)

    def assert_no_trace(self, state):
        """Nothing in the state of the host has to do with us."""
        for name in state['files']:
            self.assertNotIn('xen44', name)
        for name in ('rules', 'links'):
            self.assertNotIn('xenlab', state[name])

    def calls(self):
        return (self.home / NOTES / 'calls').read_text()

    def ini(self, name):
        parser = configparser.ConfigParser(
            interpolation=None, default_section='')
        parser.read_string(self.host.read(name))
        return {section: dict(parser[section])
                for section in parser.sections()}

    def shown(self, unit, *properties):
        return [self.host.run('systemctl', 'show', '--value',
                              f'--property={name}', unit).strip()
                for name in properties]

    @base.slow
    def test_no_dom0(self):
        controller = DOM0 + 'disable_service n-cpu\n'
        # Packages stay. What else they leave is not the plugin's.
        self.host.install(*container.debs_of_plugin())
        before = self.host.state()
        for _ in range(2):
            self.run_well('stack', controller)
            self.assertEqual('xen', self.ini('etc/tempest/tempest.conf')[
                'compute']['hypervisor_type'])
            self.assertNotIn('compute_driver',
                             self.host.read('etc/nova/nova.conf'))
        self.run_well('unstack', controller)
        self.run_well('clean', controller)
        self.assert_state(before)

        for lines, words in (
                (DOM0, 'this machine is not the dom0 of a Xen host'),
                (DOM0 + 'ENABLED_SERVICES=n-cpu,placement-client,q-agt\n',
                 'this machine is not the dom0 of a Xen host'),
                (DOM0 + 'XEN44_INSTALL_XEN=maybe\n',
                 'XEN44_INSTALL_XEN=maybe: it is True or False'),
                (DOM0 + 'VIRT_DRIVER=libvirt\n',
                 'VIRT_DRIVER=libvirt: it is xen44, set in localrc'),
                (NESTED + 'XEN44_MIN_MEMORY=99999999\n',
                 'XEN44_MIN_MEMORY is 99999999'),
                (NESTED + 'ENABLED_SERVICES+=,n-cpu\n',
                 'disable_service n-cpu')):
            self.assertIn(words, self.refused(lines))

    @base.slow
    def test_dom0(self):
        # Xen is installed, and the machine is not booted with it yet.
        self.assertNotIn('xen44', self.host.read('boot/grub/grub.cfg'))
        install = DOM0 + 'XEN44_INSTALL_XEN=True\nXEN44_DOM0_MEMORY=6144M\n'
        for _ in range(2):
            said, well = self.double('stack', install)
            self.assertFalse(well)
            self.assertIn('Reboot this machine, then run', said)
            self.assertNotIn('== stack install', self.calls())
            self.assertLessEqual(
                {'xen-system-amd64', 'grub-xen-host', 'qemu-system-xen',
                 'libvirt-daemon-driver-xen', 'python3-libvirt'},
                self.host.debs())
            self.assertRegex(
                self.host.read('boot/grub/grub.cfg'),
                r'multiboot2\s+/boot/xen-\S+ .*dom0_mem=6144M,max:6144M')
        self.run_well('clean', install)
        self.assertNotIn('dom0_mem', self.host.read('boot/grub/grub.cfg'))
        before, debs = self.host.state(), self.host.debs()
        self.assert_no_trace(before)
        enabled, active = before['units']
        for name in ('libvirtd', 'libvirt-guests', 'xendomains'):
            self.assertIn(f'{name}.service enabled enabled',
                          {' '.join(line.split()) for line in enabled})
        self.assertIn('libvirtd.service', active)
        self.assertIn('not the dom0', self.refused(DOM0))

        # From here on it says that it is a dom0.
        xl = self.host.root / 'usr/local/sbin/xl'
        xl.write_text('#!/bin/sh\n[ "$1" = info ]\n')
        xl.chmod(0o755)

        # A stack.sh that ends half-way, and the next one over it.
        self.host.run('systemctl', 'mask', '--runtime', 'libvirtd',
                      user='root')
        said, well = self.double('stack', DOM0)
        self.assertFalse(well)
        self.assertNotIn('== stack post-config', self.calls())
        self.host.run('systemctl', 'unmask', '--runtime', 'libvirtd',
                      user='root')
        self.run_well('stack', DOM0)
        self.check_dom0()
        files = self.host.files()
        self.run_well('stack', DOM0)
        self.check_dom0()
        self.assertEqual(files, self.host.files())
        self.assertNotIn('add_user_to_group', self.calls())

        self.run_well('unstack', DOM0)
        self.assertEqual(
            ['inactive', 'disabled'],
            self.shown('devstack@n-cpu', 'ActiveState', 'UnitFileState'))
        self.run_well('unstack', DOM0)
        self.run_well('clean', DOM0)
        xl.unlink()
        # libvirtd has started it, in what said that it is a dom0.
        self.host.run('systemctl', 'stop', 'xen', user='root')
        self.assert_state(before)
        self.assertEqual(debs, self.host.debs())
        self.assertFalse((self.home / 'data').exists())
        self.run_well('clean', DOM0)

    def check_dom0(self):
        """What stack.sh makes of the host, as systemd and others see it."""
        nova = self.ini('etc/nova/nova-cpu.conf')
        self.assertEqual('xen44.Xen44Driver',
                         nova['DEFAULT']['compute_driver'])
        self.assertEqual({'default_guest_type': 'hvm'}, nova['xen44_x86_64'])
        # The driver is where nova-compute and the .pth look for it.
        python = f'/{container.HOME}/data/venv/bin/python3'
        self.host.run(python, '-c', 'import libvirt, qemu.qmp, xen44_driver')
        self.assertEqual(1, len([*self.home.glob(
            'data/venv/lib/python3*/site-packages/xen44_driver-nova.pth')]))
        # nova-compute may ask libvirtd.
        pid, state = self.shown('devstack@n-cpu', 'MainPID', 'ActiveState')
        self.assertEqual('active', state)
        group = self.host.run('getent', 'group', 'libvirt').split(':')[2]
        groups = self.host.run('grep', '^Groups:', f'/proc/{pid}/status')
        self.assertIn(group, groups.split())
        # libvirtd starts after Xen, and others leave its guests alone.
        after, active = self.shown('libvirtd', 'After', 'ActiveState')
        self.assertIn('xen.service', after.split())
        self.assertEqual('active', active)
        for unit in ('xendomains', 'libvirt-guests'):
            self.assertEqual(['disabled'],
                             self.shown(unit, 'UnitFileState'))
        self.assertEqual(['active'], self.shown('logrotate.timer',
                                                'ActiveState'))
        # What a guest writes is kept, and not for ever.
        self.assertIn('--log-dir=/var/log/xen/console',
                      self.host.read('etc/default/xen'))
        self.host.run('test', '-d', '/var/log/xen/console', user='root')
        said = self.host.run('logrotate', '--debug', '/etc/logrotate.d/xen44',
                             user='root')
        self.assertIn('/opt/stack/data/nova/instances/*/', said)
        self.assertNotIn('error:', said)

    @base.slow
    def test_nested(self):
        lab = self.home / PLUGIN / 'lab/xenlab'
        lab.rename(f'{lab}-itself')
        lab.write_text(_LAB)
        lab.chmod(0o755)
        missing = set(container.debs_for_lab()) - self.host.debs()
        self.assertIn('mmdebstrap', missing)
        self.run_well('stack', NESTED)
        self.assertEqual(set(), missing - self.host.debs())
        self.run_well('clean', NESTED)
        # Packages stay. What else they leave is not the plugin's.
        before = self.host.state()
        self.assert_no_trace(before)

        for _ in range(2):
            self.run_well('stack', NESTED)
            self.assertRegex(
                self.host.run('ip', '-brief', 'address', 'show', 'xenlab0'),
                r'UP .*\b192\.168\.144\.2/24\b')
            self.assertEqual(1, self.host.run(
                'iptables', '-S', user='root').splitlines().count(
                    '-A INPUT -i xenlab0 -j ACCEPT'))
            joined = self.host.read('var/lib/xen44-devstack/lab/joined')
            self.assertIn('address=192.168.144.2\n', joined)
            self.assertIn(
                'transport_url=rabbit://u:p@q:5672/nova_cell1\n', joined)
            self.assertEqual(
                'xvdb', self.ini('etc/tempest/tempest.conf')['compute'][
                    'volume_device_name'])
            self.assertNotIn('compute_driver',
                             self.host.read('etc/nova/nova.conf'))
        self.run_well('unstack', NESTED)
        self.assertEqual(before['rules'],
                         self.host.run('iptables', '-S', user='root'))
        # devstack's services, which stop next, use this address.
        self.assertIn('192.168.144.2', self.host.run('ip', 'address'))
        self.run_well('clean', NESTED)
        self.assert_state(before)
