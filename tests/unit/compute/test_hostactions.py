# SPDX-License-Identifier: Apache-2.0
"""What Nova's API asks of a host: when it is done, and when refused."""

from unittest import mock

from nova import exception
from nova import objects

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import hostactions
from xen44_driver.compute import service as service_lib
from xen44_driver.xen import programs

DOM0 = {'00000000-0000-0000-0000-000000000000': 'Domain-0'}


class HostActionsTest(base.TestCase):
    """A host of which nothing is used."""

    def setUp(self):
        super().setUp()
        self.flags(host='xen1')
        self.flags(group='xen44', allow_host_power_actions=True)
        self.service = objects.Service(
            None, id=1, host='xen1', disabled=True, disabled_reason='RAM',
            compute_node=objects.ComputeNode(uuid=base.UUID))
        self.save = self.patch(objects.Service, 'save')
        self.patch(objects.Service, 'get_by_compute_host',
                   return_value=self.service)
        self.running = self.patch(
            privsep, 'running_domains', return_value=DOM0)
        # As entry points they would ask a daemon.
        self.run = self.patch(programs, 'run', return_value='')
        self.patch(privsep.sys_admin_pctxt, 'client_mode', False)
        self.virtapi = mock.Mock()
        self.availability = service_lib.Availability(self.virtapi)

    def test_power(self):
        for action, verb in (('reboot', 'reboot'), ('shutdown', 'poweroff')):
            self.assertEqual(
                action, hostactions.power(self.availability, action))
            self.run.assert_called_with('systemctl', verb)

    def test_power_that_is_refused(self):
        self.running.return_value = {**DOM0, base.UUID: 'web'}
        self.service.disabled = False
        error = self.assertRaises(
            exception.ComputeServiceUnavailable, hostactions.power,
            self.availability, 'reboot')
        self.assertEqual(
            'xen1 is in use: its compute service is enabled, disable it '
            'first; Xen runs guests (web), stop or move them first',
            error.format_message())
        self.run.assert_not_called()

    def test_power_that_there_is_not(self):
        self.assertRaises(NotImplementedError, hostactions.power,
                          self.availability, 'startup')
        self.flags(group='xen44', allow_host_power_actions=False)
        self.assertRaises(NotImplementedError, hostactions.power,
                          self.availability, 'reboot')
        self.run.assert_not_called()

    def test_no_other_command_as_root(self):
        for action in ('halt', 'reboot --force', ''):
            self.assertRaises(ValueError, privsep.host_power, action)
        # nova-compute is not trusted to have looked.
        self.flags(group='xen44', allow_host_power_actions=False)
        self.assertRaises(ValueError, privsep.host_power, 'reboot')
        self.run.assert_not_called()

    def test_maintenance(self):
        self.service.disabled, self.service.disabled_reason = False, None
        self.assertEqual('on_maintenance', hostactions.maintain(
            self.availability, on=True))
        self.assertEqual((True, service_lib.MAINTENANCE), (
            self.service.disabled, self.service.disabled_reason))
        # libvirt's coming and going does not end it.
        self.availability.changed(True)
        self.assertTrue(self.service.disabled)
        self.assertEqual('off_maintenance', hostactions.maintain(
            self.availability, on=False))
        self.assertEqual((False, None), (
            self.service.disabled, self.service.disabled_reason))
        self.assertEqual(
            [mock.call(mock.ANY, base.UUID, enabled=enabled)
             for enabled in (False, True)],
            self.virtapi.update_compute_provider_status.call_args_list)

    def test_maintenance_with_guests(self):
        self.service.disabled, self.service.disabled_reason = False, None
        self.running.return_value = {**DOM0, base.UUID: ''}
        self.assertEqual(
            f'xen1 is in use: Xen runs guests ({base.UUID}), stop or move '
            'them first', hostactions.maintain(self.availability, on=True))
        self.save.assert_not_called()

    def test_no_end_of_maintenance_without_libvirt(self):
        self.service.disabled_reason = 'AUTO: libvirt is away'
        self.assertEqual(
            'xen1 cannot be used: AUTO: libvirt is away',
            hostactions.maintain(self.availability, on=False))
        self.save.assert_not_called()

    def test_no_end_of_maintenance_that_began_without_libvirt(self):
        self.service.disabled, self.service.disabled_reason = False, None
        self.availability.changed(False, 'libvirt is away')
        hostactions.maintain(self.availability, on=True)
        self.assertEqual(
            'xen1 cannot be used: AUTO: libvirt is away',
            hostactions.maintain(self.availability, on=False))
        self.assertTrue(self.service.disabled)
        self.availability.changed(True)
        self.assertEqual('off_maintenance', hostactions.maintain(
            self.availability, on=False))
        self.assertFalse(self.service.disabled)
