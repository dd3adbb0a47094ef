# SPDX-License-Identifier: Apache-2.0
"""A host whose libvirtd is away for minutes."""

import time

from nova import context as nova_context

from tests.functional import test_servers


class AvailabilityTest(test_servers.ServersBase):

    def service(self):
        """The compute service, as the API shows it."""
        return next(service for service in self.api.get_services()
                    if service['binary'] == 'nova-compute')

    def wait_for_service(self, done, status):
        """Wait until the driver changed the service, by what it logs.

        The API, asked meanwhile, would turn every thread of this process to
        another cell's database.
        """
        end = time.monotonic() + 30
        while f'The compute service is {done}' not in self.log():
            self.assertLess(time.monotonic(), end, self.log())
            time.sleep(0.1)
        self.assertEqual(status, self.service()['status'])

    def log(self):
        """What was logged so far."""
        return self.stdlog.logger.output

    def test_libvirtd_away_for_minutes(self):
        provider = self._get_provider_uuid_by_host('xen1')
        before = self._get_provider_inventory(provider)
        self.below.host.up = False
        self.below.host.restart_libvirtd()
        self.wait_for_service('disabled', 'disabled')
        self.assertTrue(
            self.service()['disabled_reason'].startswith('AUTO: '))
        quiet = len(self.log())
        for _minute in range(3):
            self.compute.manager.update_available_resource(
                nova_context.get_admin_context())
        self.assertNotIn('Traceback', self.log()[quiet:])
        self.assertNotIn('WARNING', self.log()[quiet:])
        self.assertEqual(before, self._get_provider_inventory(provider))
        self.assertIn('COMPUTE_STATUS_DISABLED',
                      self._get_provider_traits(provider))
        self.boot(expected='ERROR')
        self.assertEqual({}, self.below.host.domains)

        self.below.host.up = True
        self.wait_for_service('enabled again', 'enabled')
        self.assertNotIn('COMPUTE_STATUS_DISABLED',
                         self._get_provider_traits(provider))
        self.boot()

    def test_operators_word_holds(self):
        service = self.service()['id']
        self.api.put_service(service, {
            'status': 'disabled', 'disabled_reason': 'new disks'})
        self.below.host.restart_libvirtd()
        self.compute = self.restart_compute_service(self.compute)
        self.assertEqual('disabled', self.service()['status'])
        self.assertEqual('new disks', self.service()['disabled_reason'])

    def test_uptime_without_rpc(self):
        self.flags(rpc_response_timeout=1)
        self.compute.stop()
        (hypervisor,) = self.api.api_get(
            '/os-hypervisors/detail').body['hypervisors']
        self.assertIn('load average', hypervisor['uptime'])
