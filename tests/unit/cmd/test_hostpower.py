# SPDX-License-Identifier: Apache-2.0
"""``xen44-host reboot`` and ``shutdown``: when they refuse."""

import os

import openstack
from openstack import exceptions

from tests.unit.cmd import base
from tests.unit.cmd import fakenova
from xen44_driver import privsep
from xen44_driver.cmd import systemd

GUEST = base.fake.uuid(1)


class PowerTestCase(base.CommandTestCase):
    """A host out of use: no guest runs, and its service is disabled."""

    def setUp(self):
        super().setUp()
        self.flags(host='xen1')
        self.patch(privsep.sys_admin_pctxt, 'set_client_mode')
        self.xen = self.patch(privsep, 'running_domains', return_value={
            '00000000-0000-0000-0000-000000000000': 'Domain-0'})
        self.nova = fakenova.Nova()
        self.nova.service.update(status='disabled', disabled_reason='RAM')
        self.connect = self.patch(openstack, 'connect')
        self.connect.return_value.__enter__.return_value.compute = self.nova
        self.execute = self.patch(
            systemd.processutils, 'execute', return_value=('', ''))

    def put_in_use(self):
        self.xen.return_value = {GUEST: 'guest-\x9b1'}
        self.nova.service['status'] = 'enabled'

    def commands(self):
        return [call.args for call in self.execute.call_args_list]


class GoldenTest(PowerTestCase):

    def test_reboot(self):
        status, text = self.run_host('reboot', '--yes')
        self.assertEqual(0, status, text)
        self.assert_golden('reboot.txt', text)
        self.assertEqual([('systemctl', 'reboot')], self.commands())

    def test_refused(self):
        self.put_in_use()
        status, text = self.run_host('shutdown', '--yes')
        self.assertEqual(1, status)
        self.assert_golden('shutdown-refused.txt', text)
        self.assertEqual([], self.commands())

    def test_refused_json(self):
        self.put_in_use()
        status, text = self.run_host('shutdown', '--yes', '--json')
        self.assertEqual(1, status)
        self.assert_golden('shutdown-refused.json', text)


class PowerTest(PowerTestCase):

    def test_shutdown(self):
        self.assertEqual(0, self.run_host('shutdown', '--yes')[0])
        self.assertEqual([('systemctl', 'poweroff')], self.commands())

    def test_each_reason_alone(self):
        self.nova.service['status'] = 'enabled'
        self.assertEqual(1, self.run_host('reboot', '--yes')[0])
        self.nova.service['status'] = 'disabled'
        self.xen.return_value = {GUEST: 'guest'}
        self.assertEqual(1, self.run_host('reboot', '--yes')[0])
        self.assertEqual([], self.commands())

    def test_force(self):
        self.put_in_use()
        self.answer('yes')
        status, text = self.run_host('reboot', '--force')
        self.assertEqual(0, status)
        self.assertIn('Reboot xen1, and kill the 1 guests on it? [y/N]', text)
        self.assertEqual([('systemctl', 'reboot')], self.commands())
        self.connect.assert_not_called()

    def test_force_without_xen(self):
        self.xen.side_effect = OSError('xl: no xenstore')
        self.answer('yes')
        status, text = self.run_host('reboot', '--force')
        self.assertEqual(0, status)
        self.assertIn('no xenstore', text)
        self.assertEqual(2, self.run_host('reboot')[0])

    def test_asked(self):
        self.answer('no')
        status, text = self.run_host('reboot')
        self.assertEqual(1, status)
        self.assertEqual('Reboot xen1? [y/N] Nothing was done.\n', text)
        self.assertEqual([], self.commands())

    def test_no_terminal(self):
        for force in ([], ['--force']):
            status, text = self.run_host('reboot', *force)
            self.assertEqual(2, status)
            self.assertIn('add --yes', text)
        self.assertEqual([], self.commands())

    def test_no_nova(self):
        self.connect.side_effect = exceptions.SDKException('no route')
        status, text = self.run_host('reboot', '--yes')
        self.assertEqual(2, status)
        self.assertIn('--force does not ask Nova: no route', text)
        self.assertEqual([], self.commands())

    def test_not_root(self):
        self.patch(os, 'geteuid', lambda: 1000)
        self.assertEqual(2, self.run_host('reboot', '--yes', '--force')[0])
        self.assertEqual([], self.commands())
