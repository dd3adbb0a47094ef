# SPDX-License-Identifier: Apache-2.0
"""Nova's own suite for virt drivers, on ours."""

import os

import fixtures
from nova import exception
from nova import test
from nova.tests.unit.virt import test_virt_drivers

from tests.functional import base


class VirtDriverTest(test_virt_drivers._VirtDriverTestCase, test.TestCase):
    """64 tests; what the driver lacks raises NotImplementedError there."""

    def setUp(self):
        self.driver_module = 'nova.virt.xen44.Xen44Driver'
        self.below = base.DriverFixture(self)
        self.useFixture(self.below)
        super().setUp()
        # Nova's double of Glance has images without content.
        self.useFixture(fixtures.MonkeyPatch(
            'nova.virt.images.fetch', self._fetch))
        base.tolerate_noload()
        self.flags(enabled=True, group='vnc')
        self.flags(enabled=True, group='spice')
        self.connection.init_host('myhostname')
        self.addCleanup(self.connection.cleanup_host, 'myhostname')

    @staticmethod
    def _fetch(context, image_href, path, trusted_certs=None):
        with open(path, 'wb') as image:
            image.write(base.raw_image())

    def _check_available_resource_fields(self, host_status):
        super()._check_available_resource_fields(host_status)
        self.assertEqual('xen', host_status['hypervisor_type'])
        self.assertEqual(4020000, host_status['hypervisor_version'])

    # Nova's tests of these need more of a driver than its interface.

    def test_live_migration(self):
        self.assertRaises(NotImplementedError, super().test_live_migration)

    def test_live_migration_force_complete(self):
        instance, _network_info = self._get_running_instance()
        self.assertRaises(
            NotImplementedError,
            self.connection.live_migration_force_complete, instance)

    def test_migrate_disk_and_power_off(self):
        error = self.assertRaises(exception.InstanceFaultRollback,
                                  super().test_migrate_disk_and_power_off)
        self.assertIn('no migration', str(error.inner_exception))

    def test_set_admin_password(self):
        # Nova's guest has no agent.
        self.assertRaises(exception.QemuGuestAgentNotEnabled,
                          super().test_set_admin_password)

    # Its volumes have no ids, or some that Cinder never gives.

    def test_attach_detach_volume(self):
        self.assertRaises(exception.InvalidVolume,
                          super().test_attach_detach_volume)

    def test_attach_detach_different_power_states(self):
        self.assertRaises(exception.InvalidVolume,
                          super().test_attach_detach_different_power_states)

    def test_swap_volume(self):
        self.assertRaises(exception.InvalidVolume, super().test_swap_volume)

    def test_block_stats(self):
        instance, _network_info = self._get_running_instance()
        self.assertIsNone(self.connection.block_stats(instance, 'someid'))

    def test_destroy_leaves_nothing(self):
        instance, network_info = self._get_running_instance()
        self.below.write_console(instance.name, 'Linux')
        self.connection.destroy(self.ctxt, instance, network_info)
        self.assertEqual({}, self.below.host.domains)
        self.assertFalse(os.path.exists(
            os.path.join(self.below.instances, instance.uuid)))
