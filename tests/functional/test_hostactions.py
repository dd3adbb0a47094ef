# SPDX-License-Identifier: Apache-2.0
"""Nova's API os-hosts, which ended with microversion 2.42."""

from unittest import mock

import fixtures

from tests.functional import test_servers
from xen44_driver import privsep


class HostActionsTest(test_servers.ServersBase):

    def setUp(self):
        super().setUp()
        self.admin_api.microversion = '2.42'
        self.running = self.patch('running_guests')
        self.running.return_value = {'uuid': 'web'}
        self.power = self.patch('host_power')
        self.host = self.compute.host

    def patch(self, name):
        return self.useFixture(
            fixtures.MockPatchObject(privsep, name)).mock

    def ask(self, action, status=200):
        """Ask for an action; returns the answer's JSON."""
        return self.admin_api.api_get(
            f'/os-hosts/{self.host}/{action}',
            check_response_status=[status]).body

    def maintain(self, mode, status=200):
        return self.admin_api.api_put(
            f'/os-hosts/{self.host}', {'maintenance_mode': mode},
            check_response_status=[status]).body

    def service(self):
        service, = self.admin_api.api_get(
            '/os-services?binary=nova-compute').body['services']
        return service['status'], service['disabled_reason']

    def test_there_and_back(self):
        # As long as the operator has not allowed them.
        self.ask('reboot', 501)
        self.flags(allow_host_power_actions=True, group='xen44')
        self.ask('startup', 501)
        said = self.ask('reboot', 400)['badRequest']['message']
        self.assertIn('Xen runs guests (web)', said)
        self.assertIn('its compute service is enabled', said)
        said = self.maintain('enable', 400)['badRequest']['message']
        self.assertIn('Xen runs guests (web)', said)
        self.assertEqual(('enabled', None), self.service())
        self.power.assert_not_called()

        self.running.return_value = {}
        self.assertEqual('on_maintenance',
                         self.maintain('enable')['maintenance_mode'])
        self.assertEqual(('disabled', 'maintenance mode'), self.service())
        for action in ('reboot', 'shutdown'):
            self.assertEqual(action, self.ask(action)['power_action'])
        self.assertEqual([mock.call('reboot'), mock.call('poweroff')],
                         self.power.call_args_list)
        self.assertEqual('off_maintenance',
                         self.maintain('disable')['maintenance_mode'])
        self.assertEqual(('enabled', None), self.service())
