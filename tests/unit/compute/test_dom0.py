# SPDX-License-Identifier: Apache-2.0
"""Settings of dom0 that harm guests later."""

import os
import socket
from unittest import mock

import fixtures
import os_vif

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import dom0
from xen44_driver.xen import programs


class Dom0TestCase(base.TestCase):

    def setUp(self):
        super().setUp()
        self.directory = self.useFixture(fixtures.TempDir()).path
        self.units = {}
        self.useFixture(fixtures.MockPatch(
            'oslo_concurrency.processutils.execute', self._execute))

    def _execute(self, *command, check_exit_code, timeout):
        """Systemd, or none (``units`` is None)."""
        self.assertEqual(('systemctl', 'is-enabled'), command[:2])
        self.assertIs(False, check_exit_code)
        self.assertGreater(timeout, 0)
        if self.units is None:
            raise FileNotFoundError(2, 'No such file', 'systemctl')
        return f'{self.units.get(command[2], "disabled")}\n', ''

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, 'w') as file:
            file.write(text)
        return path

    def assert_warns(self, found, *texts):
        [warning] = found
        for text in texts:
            self.assertIn(text, warning)


class GuestUnitsTest(Dom0TestCase):

    def test_enabled(self):
        for unit in ('xendomains.service', 'libvirt-guests.service'):
            self.units = {unit: 'enabled'}
            self.assert_warns(
                dom0.guest_units(), unit, f'systemctl disable {unit}')

    def test_all_is_well(self):
        for self.units in (
                {}, {'xendomains.service': 'masked'},
                {'xendomains.service': 'not-found'}, None):
            self.assertEqual([], list(dom0.guest_units()), self.units)


class LogRotationTest(Dom0TestCase):

    def setUp(self):
        super().setUp()
        self.flags(console_log_dir='/logs/of/guests', group='xen44')
        self.cron = os.path.join(self.directory, 'cron')
        self.units = {'logrotate.timer': 'enabled'}
        self.useFixture(fixtures.MockPatchObject(
            dom0, 'LOGROTATE_FILES', f'{self.directory}/*'))
        self.useFixture(fixtures.MockPatchObject(
            dom0, 'LOGROTATE_CRON', self.cron))

    def test_no_file(self):
        self.write('other', '/var/log/nova/*.log {\n}\n')
        self.assert_warns(
            dom0.log_rotation(), '/logs/of/guests', 'logrotate.d/xen44')

    def test_nobody_runs_it(self):
        self.write('xen44', '/logs/of/guests/guest-*.log {\n}\n')
        self.units = {}
        self.assert_warns(dom0.log_rotation(), 'logrotate.timer')

    def test_all_is_well(self):
        self.write('xen44', '/logs/of/guests/guest-*.log {\n}\n')
        self.assertEqual([], list(dom0.log_rotation()))
        # Not by systemd.
        self.units = {}
        self.write('cron', '')
        self.assertEqual([], list(dom0.log_rotation()))
        self.units = None
        os.unlink(self.cron)
        self.assertEqual([], list(dom0.log_rotation()))


class DeviceModelTest(Dom0TestCase):

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MockPatchObject(
            dom0, 'DEVICE_MODELS', (
                f'{self.directory}/xen*/bin/qemu-system-*',
                f'{self.directory}/xen-qemu-system-*')))

    def test_none(self):
        self.write('xen-qemu-system-i386', '')  # not a program
        self.assert_warns(dom0.device_model(), 'qemu-system-xen')

    def test_where_debian_has_it(self):
        os.chmod(self.write('xen-qemu-system-i386', ''), 0o700)
        self.assertEqual([], list(dom0.device_model()))

    def test_where_xen_has_it(self):
        os.makedirs(os.path.join(self.directory, 'xen-4.20', 'bin'))
        os.chmod(self.write('xen-4.20/bin/qemu-system-i386', ''), 0o700)
        self.assertEqual([], list(dom0.device_model()))


class ConsoleLoggingTest(Dom0TestCase):

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MockPatchObject(
            dom0, 'PROCESSES', f'{self.directory}/[0-9]*'))
        self.process(1, 'init')

    def process(self, number, name, *arguments):
        os.mkdir(os.path.join(self.directory, str(number)))
        self.write(f'{number}/comm', f'{name}\n')
        self.write(f'{number}/cmdline',
                   ''.join(f'{word}\0' for word in (name, *arguments)))

    def test_does_not_run(self):
        self.assert_warns(dom0.console_logging(), 'xenconsoled does not run')

    def test_does_not_log(self):
        for number, arguments in enumerate((
                (), ('--log=none',), ('--log=hv',),
                ('--log-dir=/var/log/guest',)), 2):
            self.process(number, 'xenconsoled', '--pid-file=/x', *arguments)
            self.assert_warns(
                dom0.console_logging(), '--log=guest', 'XENCONSOLED_ARGS')
            os.unlink(os.path.join(self.directory, str(number), 'comm'))

    def test_logs(self):
        for number, arguments in enumerate((
                ('--log=guest', '--log-dir=/x'), ('--log=all',),
                ('--log', 'guest')), 2):
            self.process(number, 'xenconsoled', *arguments)
            self.assertEqual([], list(dom0.console_logging()), arguments)
            os.unlink(os.path.join(self.directory, str(number), 'comm'))


class IntegrationBridgeTest(Dom0TestCase):

    def test_by_its_name(self):
        self.useFixture(fixtures.MockPatchObject(
            dom0, 'NETWORK_DEVICES', self.directory))
        os.mkdir(os.path.join(self.directory, 'br-int'))
        self.assertEqual([], list(dom0.integration_bridge()))
        self.flags(ovs_bridge='br-other', group='neutron')
        self.assert_warns(dom0.integration_bridge(), 'br-other', 'agent')


class BridgeFiltersTest(Dom0TestCase):

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MockPatchObject(
            dom0, 'BRIDGE_SETTINGS', self.directory))
        self.policy = self.useFixture(fixtures.MockPatchObject(
            privsep, 'forward_policy')).mock
        self.policy.side_effect = lambda ipv6: 'ACCEPT' if ipv6 else 'DROP'

    def test_packets_are_dropped(self):
        self.write('bridge-nf-call-iptables', '1\n')
        self.write('bridge-nf-call-ip6tables', '1\n')
        self.assert_warns(
            dom0.bridge_filters(),
            'sysctl -w net.bridge.bridge-nf-call-iptables=0')

    def test_bridges_are_not_filtered(self):
        for value in (None, '0\n'):
            if value:
                self.write('bridge-nf-call-iptables', value)
            self.assertEqual([], list(dom0.bridge_filters()))
        self.policy.assert_not_called()

    def test_no_iptables(self):
        self.write('bridge-nf-call-iptables', '1\n')
        self.policy.side_effect = FileNotFoundError(2, 'No such file')
        self.assertEqual([], list(dom0.bridge_filters()))


class SwitchTest(Dom0TestCase):

    def setUp(self):
        super().setUp()
        os_vif.initialize()

    def connect_to(self, where):
        self.flags(ovsdb_connection=where, group='os_vif_ovs')

    def test_tcp(self):
        with socket.create_server(('127.0.0.1', 0)) as server:
            where = f'tcp:127.0.0.1:{server.getsockname()[1]}'
            self.connect_to(where)
            self.assertEqual([], list(dom0.switch()))
        self.assert_warns(
            dom0.switch(), where, 'ovs-vsctl set-manager', 'refused')

    def test_unix(self):
        path = os.path.join(self.directory, 'db.sock')
        self.connect_to(f'unix:{path}')
        self.assert_warns(dom0.switch(), path, 'No such file')
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen()
            self.assertEqual([], list(dom0.switch()))

    def test_not_an_address(self):
        self.connect_to('tcp:127.0.0.1')
        self.assert_warns(dom0.switch(), 'tcp:127.0.0.1')


class AffinityTest(Dom0TestCase):

    def setUp(self):
        super().setUp()
        self.allowed = self.useFixture(fixtures.MockPatchObject(
            privsep, 'dom0_affinity')).mock

    def warnings(self, *allowed):
        """What it says if dom0 has vCPUs on these CPUs."""
        self.allowed.return_value = [*allowed]
        return list(dom0.affinity(frozenset({2, 3, 5})))

    def test_apart(self):
        self.assertEqual([], self.warnings('0-1', '4,6-7'))

    def test_together(self):
        for allowed, both in (('2', '2'), ('0-3', '2-3'), ('all', '2-3,5')):
            [found] = self.warnings('0', allowed)
            self.assertIn(f'may run too ({both}):', found)

    def test_not_known(self):
        self.allowed.side_effect = OSError('not today')
        [found] = self.warnings()
        self.assertIn('not today', found)
        self.allowed.side_effect = None
        for said in ([], ['0-'], ['none']):
            [found] = self.warnings(*said)
            self.assertIn('Cannot see on which CPUs', found)


class UnknownDomainsTest(Dom0TestCase):

    def setUp(self):
        super().setUp()
        self.node = base.node()
        self.node.host.records.return_value = {}
        self.running = self.useFixture(fixtures.MockPatchObject(
            privsep, 'running_domains')).mock
        self.running.return_value = {
            '00000000-0000-0000-0000-000000000000': 'Domain-0',
            base.UUID: 'instance-00000001'}

    def test_libvirt_does_not_know_an_instance(self):
        os.mkdir(os.path.join(self.instances, base.UUID))
        self.assert_warns(
            dom0.unknown_domains(self.node), base.UUID,
            'xl destroy instance-00000001')

    def test_libvirt_knows_it(self):
        os.mkdir(os.path.join(self.instances, base.UUID))
        self.node.host.records.return_value = {base.UUID: mock.Mock()}
        self.assertEqual([], list(dom0.unknown_domains(self.node)))

    def test_not_an_instance(self):
        self.assertEqual([], list(dom0.unknown_domains(self.node)))

    def test_no_xl(self):
        self.running.side_effect = FileNotFoundError(2, 'No such file', 'xl')
        self.assert_warns(dom0.unknown_domains(self.node), "'xl'")


class PrivsepTest(base.TestCase):
    """What runs as root for it."""

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MockPatchObject(
            privsep.sys_admin_pctxt, 'client_mode', False))
        directory = self.useFixture(fixtures.TempDir()).path
        self.programs = directory
        self.useFixture(fixtures.EnvironmentVariable(
            'PATH', f'{directory}:{os.environ["PATH"]}'))

    def program(self, name, script):
        path = os.path.join(self.programs, name)
        with open(path, 'w') as file:
            file.write(f'#!/bin/sh\n{script}\n')
        os.chmod(path, 0o700)

    def test_running_domains(self):
        self.program('xl', f'''[ "$*" = vm-list ] && cat << END
UUID                                  ID    name
00000000-0000-0000-0000-000000000000  0    Domain-0
{base.UUID}  7    my guest
END''')
        self.assertEqual(
            {'00000000-0000-0000-0000-000000000000': 'Domain-0',
             base.UUID: 'my guest'}, privsep.running_domains())

    def test_domains_that_are_not_ours_have_odd_names(self):
        self.program('xl', f"""cat << END
UUID                                  ID    name
{base.UUID}  7    $(printf 'k\\344se')
{base.IMAGE}  8
END""")
        self.assertEqual({base.UUID: 'k\ufffdse', base.IMAGE: ''},
                         privsep.running_domains())

    def test_facts_of_xen(self):
        self.program('xl', '''case "$*" in
info) echo 'virt_caps : pv hvm hvm_directio hap';;
'vcpu-list 0') echo header; echo 'Domain-0 0 0 1 r-- 7.4  0-1 / all';;
esac''')
        self.assertEqual(['hvm'], privsep.passthrough())
        self.assertEqual(['0-1'], privsep.dom0_affinity())

    def test_detach_interface(self):
        self.program('xl', 'echo "$*" >&2; [ "$2" = 7 ]')
        privsep.detach_interface(7, 1)
        self.assertRaisesRegex(
            OSError, 'network-detach 8 1', privsep.detach_interface, 8, 1)

    def test_a_command_fails(self):
        self.program('xl', 'echo not today >&2; exit 1')
        self.assertRaisesRegex(
            OSError, 'xl vm-list: not today', privsep.running_domains)

    def test_a_command_hangs(self):
        self.program('xl', 'exec sleep 10')
        with mock.patch.object(programs, 'TIMEOUT', 0.1):
            self.assertRaisesRegex(
                OSError, 'timed out', privsep.running_domains)

    def test_forward_policy(self):
        for name, policy in (('iptables', 'DROP'), ('ip6tables', 'ACCEPT')):
            self.program(
                name, f'echo "-P FORWARD {policy}"; echo "-A FORWARD -j X"')
        self.assertEqual('DROP', privsep.forward_policy(False))
        self.assertEqual('ACCEPT', privsep.forward_policy(True))
