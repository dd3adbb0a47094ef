# SPDX-License-Identifier: Apache-2.0
"""The compute service follows the connection to libvirt."""

from unittest import mock

from nova import exception
from nova import objects

from tests.unit import base
from xen44_driver.compute import service as service_lib

LOG = 'xen44_driver.compute.service'


class AvailabilityTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.service = objects.Service(
            None, id=1, host='xen1', disabled=False, disabled_reason=None,
            compute_node=objects.ComputeNode(uuid=base.UUID))
        self.save = self.patch(objects.Service, 'save')
        self.get = self.patch(
            objects.Service, 'get_by_compute_host',
            return_value=self.service)
        self.virtapi = mock.Mock()
        self.availability = service_lib.Availability(self.virtapi)

    def disabled(self, reason):
        self.service.disabled = True
        self.service.disabled_reason = reason

    def test_away_and_back(self):
        with self.assertLogs(LOG, 'INFO') as logs:
            self.availability.changed(False, 'connection reset')
            self.assertTrue(self.service.disabled)
            self.assertEqual('AUTO: connection reset',
                             self.service.disabled_reason)
            self.availability.changed(False, 'still away')
            self.availability.changed(True)
        self.assertFalse(self.service.disabled)
        self.assertIsNone(self.service.disabled_reason)
        self.assertEqual(2, self.save.call_count)
        self.assertEqual(2, len(logs.output), logs.output)
        self.assertIn('connection reset', logs.output[0])
        update = self.virtapi.update_compute_provider_status
        self.assertEqual(
            [mock.call(mock.ANY, base.UUID, enabled=enabled)
             for enabled in (False, True)], update.call_args_list)

    def test_enabled_at_start_after_an_earlier_process(self):
        self.disabled('AUTO: libvirt is away')
        self.availability.changed(True)
        self.assertFalse(self.service.disabled)

    def test_operators_word_holds(self):
        for reason in ('disks are replaced', None):
            self.disabled(reason)
            self.availability.changed(False, 'gone')
            self.availability.changed(True)
            self.assertTrue(self.service.disabled)
            self.assertEqual(reason, self.service.disabled_reason)
        self.save.assert_not_called()

    def test_not_registered_yet(self):
        self.get.side_effect = exception.ComputeHostNotFound(host='xen1')
        with self.assertNoLogs(LOG, 'INFO'):
            self.availability.changed(True)

    def test_long_reason(self):
        self.availability.changed(False, 'x' * 300)
        self.assertEqual(255, len(self.service.disabled_reason))

    def test_conductor_away_too(self):
        self.disabled('AUTO: gone')
        self.get.side_effect = TimeoutError('no reply')
        with self.assertLogs(LOG, 'WARNING') as logs:
            self.availability.changed(True)
        self.assertEqual(1, len(logs.output))
        self.assertIn('no reply', logs.output[0])
        self.assertTrue(self.service.disabled)
        # Nova's next periodic task mends it, and only that one.
        self.get.side_effect = None
        self.availability.settle()
        self.assertFalse(self.service.disabled)
        self.availability.settle()
        self.assertEqual(2, self.get.call_count)

    def test_nothing_to_settle(self):
        self.availability.settle()
        self.get.assert_not_called()

    def test_back_while_disabling(self):
        # The connection is back before "disabled" is in the database.
        def save():
            if self.save.call_count == 1:
                self.availability._wanted = service_lib._Wanted(True, '')

        self.save.side_effect = save
        self.availability.changed(False, 'gone')
        self.assertFalse(self.service.disabled)

    def test_placement_away(self):
        self.virtapi.update_compute_provider_status.side_effect = (
            exception.ResourceProviderUpdateFailed(url='', error=''))
        self.availability.changed(False, 'gone')
        self.assertTrue(self.service.disabled)
