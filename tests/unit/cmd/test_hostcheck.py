# SPDX-License-Identifier: Apache-2.0
"""``xen44-host check`` on hosts that are fit and on others."""

import contextlib
import io
import json
import os
import pwd
import shutil
import types
from unittest import mock

import fixtures
from nova import exception
import os_vif
from oslo_privsep import priv_context

from tests.unit.cmd import base
from xen44_driver import privsep
from xen44_driver.cmd import hostcheck
from xen44_driver.cmd import report
from xen44_driver.compute import dom0
from xen44_driver.compute import privileges
from xen44_driver.compute import proof
from xen44_driver.storage import usage
from xen44_driver.xen import grub
from xen44_driver.xen import pci

#: What the programs of a fit host print.
SAID = {
    'journalctl': 'xen:events: Using FIFO-based ABI\n',
    'timedatectl': 'yes\n',
    'logrotate.timer': 'enabled\n',
    'xendomains.service': 'disabled\n',
    'libvirt-guests.service': 'disabled\n',
}

DOM0_FEATURES = '00000b05'
DOMU_FEATURES = '00000305'


class HostCheckTestCase(base.CommandTestCase):
    """A host that is fit; tests break it."""

    def setUp(self):
        super().setUp()
        # Its plugins take seconds to import.
        self.patch(os_vif, 'initialize')
        self.patch(priv_context, 'init')
        self.become = self.patch(hostcheck, 'become')
        self.user = self.patch(pwd, 'getpwnam')
        self.patch(privileges, 'start')
        self.result = self.patch(privileges, 'result', return_value=True)
        self.patch(privsep, 'running_domains', return_value={})
        self.patch(privsep, 'dom0_affinity', return_value=['all', '0-1'])
        self.passthrough = self.patch(
            privsep, 'passthrough', return_value=['hvm', 'pv'])
        self.unproven = self.patch(proof.Proof, 'problem', return_value=None)
        self.said = dict(SAID)
        self.patch(hostcheck.processutils, 'execute', self._execute)
        self.programs = {'qemu-img', 'mkisofs'}
        self.patch(shutil, 'which', lambda name, path=None: (
            f'/usr/bin/{name}' if name in self.programs else None))
        self.patch(usage, 'measure', return_value=usage.Usage(
            total=100 << 30, used=1 << 30, free=99 << 30, promised=1 << 30))
        self.root = os.path.join(self.instances, 'dom0')
        for name in ('br-int', 'bridges', 'logrotate.d', '7', 'xen/bin'):
            os.makedirs(os.path.join(self.root, name))
        self.flags(mkisofs_cmd='mkisofs')
        self.flags(console_log_dir='/logs', group='xen44')
        self.flags(
            pv_loader=self.write('pv.bin', ''),
            pvh_loader=self.write('pvh.bin', ''),
            uefi_firmware=self.write('uefi.bin', ''), group='xen44_x86_64')
        self.write('7/comm', 'xenconsoled\n')
        self.write('7/cmdline', 'xenconsoled\0--log=guest\0')
        self.write('logrotate.d/xen44', '/logs/guest-*.log {\n')
        os.chmod(self.write('xen/bin/qemu-system-i386', ''), 0o700)
        self.patch(hostcheck, 'FEATURES', self.write(
            'features', DOM0_FEATURES))
        self.patch(hostcheck, 'CAPABILITIES', self.path('no-such-file'))
        for name, path in (
                ('NETWORK_DEVICES', ''), ('BRIDGE_SETTINGS', 'bridges'),
                ('PROCESSES', '[0-9]*'), ('LOGROTATE_FILES', 'logrotate.d/*'),
                ('LOGROTATE_CRON', 'cron')):
            self.patch(dom0, name, self.path(path))
        self.patch(dom0, 'DEVICE_MODELS', (
            self.path('xen/bin/qemu-system-*'),))
        self.ovs = self.patch(
            dom0, 'switch', return_value=[])

    def path(self, name):
        return os.path.join(self.root, name)

    def write(self, name, text):
        path = self.path(name)
        with open(path, 'w') as file:
            file.write(text)
        return path

    def _execute(self, *command, check_exit_code, timeout):
        name = command[2] if command[0] == 'systemctl' else command[0]
        if name not in self.said:
            raise FileNotFoundError(2, 'No such file or directory', name)
        return self.said[name], ''

    def break_host(self):
        """Break all that leaves the host a dom0 with libvirt."""
        self.said |= {
            'journalctl': 'xen:events: Using 2-level ABI\n',
            'timedatectl': 'no\n', 'logrotate.timer': 'disabled\n',
            'xendomains.service': 'enabled\n',
            'libvirt-guests.service': 'enabled\n'}
        self.programs.clear()
        self.flags(instances_path='/no/such/directory')
        self.flags(cpu_dedicated_set='77', group='compute')
        self.flags(ovs_bridge='br-none', group='neutron')
        for name in ('pv.bin', 'uefi.bin', 'xen/bin/qemu-system-i386'):
            os.unlink(self.path(name))
        self.write('7/cmdline', 'xenconsoled\0')
        self.libvirt.dom0_max_mib = 6143
        self.ovs.return_value = ['\x9b31mno Open vSwitch']

    def check(self, *argv):
        return self.run_host('check', *argv)

    def outcomes(self):
        _, text = self.check('--json')
        return {check['check']: check for check in json.loads(text)['checks']}


class GoldenTest(HostCheckTestCase):

    def test_fit(self):
        status, text = self.check()
        self.assertEqual(0, status, text)
        self.assert_golden('check-fit.txt', text, ROOT=self.root)
        self.become.assert_called_once_with(self.user.return_value)

    def test_fit_json(self):
        status, text = self.check('--json')
        self.assertEqual(0, status)
        self.assert_golden('check-fit.json', text, ROOT=self.root)

    def test_broken(self):
        self.break_host()
        status, text = self.check()
        self.assertEqual(1, status)
        self.assert_golden('check-broken.txt', text, ROOT=self.root)

    def test_no_libvirt_json(self):
        self.stop_libvirt()
        status, text = self.check('--json')
        self.assertEqual(1, status)
        self.assert_golden('check-no-libvirt.json', text)

    def test_not_dom0(self):
        self.write('features', DOMU_FEATURES)
        status, text = self.check()
        self.assertEqual(1, status)
        self.assert_golden('check-not-dom0.txt', text)
        self.become.assert_not_called()


class OutcomeTest(HostCheckTestCase):

    def test_warnings_are_no_failure(self):
        self.said['timedatectl'] = 'no\n'
        status, text = self.check()
        self.assertEqual(0, status)
        self.assertIn('WARN  dom0\'s clock\n      ', text)

    def test_loaders(self):
        """The driver's own ones are what was built, of what is there."""
        self.flags(pv_loader=None, loader_directory=self.root,
                   group='xen44_x86_64')
        self.patch(grub, 'DISTRIBUTION', '/no/such/directory')
        self.assertIn('/no/such/directory/grub-x86_64-xen.bin',
                      self.outcomes()['loaders']['texts'][0])
        self.write('grub-x86_64-xen.bin', 'not built here')
        loaders = self.outcomes()['loaders']
        self.assertEqual('WARN', loaders['result'])
        self.assertIn('grub-x86_64-xen.bin is not what was built: run '
                      'xen44-host build-loaders', loaders['texts'][0])

    def test_what_was_not_tried(self):
        """It only warns, and says what tries it."""
        self.flags(nested_hvm=True, group='xen44_x86_64')
        self.unproven.return_value = 'run xen44-host probe-it'
        status, text = self.run_host('check')
        self.assertEqual(0, status)
        for said in ('images with hw_firmware_type=uefi may not boot: run',
                     'flavors with xen44:nested_hvm are refused: run'):
            self.assertIn(f'{said} xen44-host probe-it', text)

    def test_pci_devices(self):
        self.patch(pci, 'BACKEND', self.path('pciback'))
        self.passthrough.return_value = []
        # Nobody is to have any.
        self.assertEqual('PASS', self.outcomes()['pci-devices']['result'])
        self.flags(device_spec=['{"address": "0000:00:10.0"}'], group='pci')
        found = self.outcomes()['pci-devices']
        self.assertEqual('WARN', found['result'])
        iommu, module = found['texts']
        self.assertIn('cannot have PCI devices: hvm, pv. Does Xen', iommu)
        self.assertIn('load the module xen-pciback', module)
        os.mkdir(self.path('pciback'))
        self.passthrough.return_value = ['hvm', 'pv']
        self.assertEqual('PASS', self.outcomes()['pci-devices']['result'])

    def test_debian_12(self):
        """What its Xen and libvirt cannot do is said, and is no failure."""
        self.libvirt.version = 4_017_000
        self.libvirt.lib_version = 9_000_000
        asked = self.patch(privsep, 'grant_frames', return_value=None)
        found = self.outcomes()
        self.assertNotIn('FAIL', {check['result'] for check in found.values()})
        self.assertEqual('WARN', found['uefi']['result'])
        self.assertIn('are refused: libvirt 9.0.0 starts the firmware that',
                      found['uefi']['texts'][0])
        self.assertEqual('WARN', found['grant-frames']['result'])
        self.assertIn('Xen 4.17.0 gives a guest at most 64 grant frames',
                      found['grant-frames']['texts'][0])
        asked.return_value = 256
        self.assertEqual('PASS', self.outcomes()['grant-frames']['result'])

    def test_dom0_on_dedicated_cpus(self):
        self.flags(cpu_dedicated_set='1', group='compute')
        found = self.outcomes()['dom0-cpus']
        self.assertEqual('WARN', found['result'])
        self.assertIn('dom0 may run too (1):', found['texts'][0])

    def test_dom0_by_xenfs(self):
        os.unlink(self.path('features'))
        self.assertEqual('FAIL', self.outcomes()['dom0']['result'])
        self.write('no-such-file', 'control_d\n')
        self.assertEqual('PASS', self.outcomes()['dom0']['result'])

    def test_no_user(self):
        self.user.side_effect = KeyError('nova')
        status, text = self.check()
        self.assertEqual(1, status)
        self.assertIn('prepare-dom0', text)
        self.become.assert_not_called()

    def test_wrong_option(self):
        path = self.write('nova.conf', '[xen44]\ndisk_format = qcow3\n')
        hostcheck.CONF(['--config-file', path], project='nova')
        status, text = self.check()
        self.assertEqual(1, status)
        self.assertIn('qcow3', text)
        self.become.assert_not_called()

    def test_programs_that_do_not_tell(self):
        for name in ('journalctl', 'timedatectl'):
            self.said[name] = ''
        found = self.outcomes()
        for key in ('event-channels', 'clock'):
            self.assertEqual('SKIP', found[key]['result'])
            self.assertTrue(found[key]['texts'])
        self.said.clear()
        self.assertEqual('SKIP', self.outcomes()['clock']['result'])

    def test_sudo_refuses(self):
        self.result.side_effect = exception.InvalidConfiguration('no sudo')
        found = self.outcomes()
        self.assertEqual(
            {'privileges': 'FAIL', 'console-logs': 'SKIP',
             'port-privileges': 'WARN'},
            {key: found[key]['result'] for key in (
                'privileges', 'console-logs', 'port-privileges')})

    def test_old_xen(self):
        self.libvirt.version = 4_000_000
        found = self.outcomes()
        self.assertEqual('FAIL', found['versions']['result'])
        self.assertIn('4.0.0', found['versions']['texts'][0])
        self.assertEqual('SKIP', found['guest-types']['result'])

    def test_not_root(self):
        self.patch(os, 'geteuid', lambda: 1000)
        status, text = self.check()
        self.assertEqual(2, status)
        self.assertEqual('xen44-host: run it as root\n', text)

    def test_an_error_of_the_command_itself(self):
        self.patch(dom0, 'read_text', side_effect=IndexError('a bug'))
        status, text = self.check()
        self.assertEqual(2, status)
        self.assertIn('a bug', text)


class ColourTest(HostCheckTestCase):

    def printed(self, *, terminal, **environment):
        out = io.StringIO()
        out.isatty = lambda: terminal
        with (mock.patch.dict(os.environ, {
                'TERM': 'xterm', 'NO_COLOR': '', **environment}),
                contextlib.redirect_stdout(out)):
            hostcheck.run(as_json=False)
        return out.getvalue()

    def test_on_a_terminal_only(self):
        self.assertIn('\033[32mPASS\033[0m  ', self.printed(terminal=True))
        for text in (self.printed(terminal=False),
                     self.printed(terminal=True, NO_COLOR='1'),
                     self.printed(terminal=True, TERM='dumb')):
            self.assertNotIn('\033', text)

    def test_nothing_else_controls_it(self):
        self.assertEqual('a\ufffd[31mb\ufffd\ufffd',
                         report.printable('a\x1b[31mb\x9b\u202e'))


class BecomeTest(base.CommandTestCase):

    def test_in_this_order(self):
        calls = mock.Mock()
        for name in ('initgroups', 'setgid', 'setuid', 'chdir'):
            calls.attach_mock(self.patch(os, name), name)
        self.useFixture(fixtures.EnvironmentVariable('HOME', '/root'))
        with mock.patch.dict(os.environ), mock.patch(
                'builtins.open', side_effect=OSError):
            hostcheck.become(types.SimpleNamespace(
                pw_name='nova', pw_uid=7, pw_gid=8, pw_dir='/home'))
            self.assertEqual('/home', os.environ['HOME'])
        self.assertEqual(
            [mock.call.initgroups('nova', 8), mock.call.setgid(8),
             mock.call.setuid(7), mock.call.chdir('/')], calls.mock_calls)
