# SPDX-License-Identifier: Apache-2.0
"""Stopping, starting, rebooting; guests that do not listen."""

from unittest import mock

from nova import exception
from nova.compute import power_state

from tests.unit import base
from xen44_driver.compute import errors
from xen44_driver.compute import power
from xen44_driver.xen import errors as xen_errors
from xen44_driver.xen import events
from xen44_driver.xen.events import DomainState


class PowerTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.node = base.node()
        self.instance = base.instance()
        self.guest = self.node.host.guest.return_value
        self.guest.state.return_value = DomainState.RUNNING

    def power_off(self, timeout=60, retry_interval=10):
        power.power_off(self.node, self.instance, timeout=timeout,
                        retry_interval=retry_interval)

    def test_at_once(self):
        self.power_off(timeout=0)
        self.guest.shutdown.assert_not_called()
        self.guest.destroy.assert_called_once_with()

    def test_guest_obeys(self):
        self.guest.wait_for.return_value = True
        self.power_off()
        self.guest.shutdown.assert_called_once_with()
        self.guest.wait_for.assert_called_once_with(events.OFF, timeout=10)

    def test_guest_is_asked_again_and_then_stopped(self):
        clock = iter(range(0, 1000, 25))
        self.guest.wait_for.return_value = False
        with mock.patch('time.monotonic', side_effect=lambda: next(clock)):
            self.power_off()
        self.assertEqual(2, self.guest.shutdown.call_count)
        # The last wait is not longer than what is left.
        self.assertEqual(
            10, self.guest.wait_for.call_args_list[-1].kwargs['timeout'])
        self.guest.destroy.assert_called_once_with()

    def test_guest_cannot_be_asked(self):
        self.guest.shutdown.side_effect = xen_errors.OperationFailed(
            'domainShutdown', base.UUID, 1, 'no PV drivers')
        self.guest.wait_for.return_value = True
        self.power_off()
        self.guest.destroy.assert_called_once_with()

    def test_no_such_domain(self):
        self.node.host.guest.side_effect = xen_errors.DomainNotFound(
            base.UUID)
        self.assertRaises(exception.InstanceNotFound, self.power_off)

    def reboot(self, soft):
        with mock.patch.object(power, 'power_on') as power_on:
            power.reboot(self.node, self.instance, soft=soft,
                         network_info=None, block_device_info=None)
        return power_on.called

    def test_soft_reboot(self):
        self.guest.wait_for.return_value = True
        self.assertFalse(self.reboot(soft=True))
        self.guest.start.assert_called_once_with()
        self.guest.destroy.assert_not_called()

    def test_soft_reboot_becomes_hard(self):
        self.flags(soft_reboot_timeout=1, group='xen44')
        self.guest.wait_for.return_value = False
        clock = iter(range(100))
        with mock.patch('time.monotonic', side_effect=lambda: next(clock)):
            self.assertTrue(self.reboot(soft=True))
        self.guest.state.return_value = DomainState.SHUTDOWN
        self.assertTrue(self.reboot(soft=True))
        self.guest.start.assert_not_called()

    def test_info_costs_no_call(self):
        self.node.host.record.return_value = events.DomainRecord(
            uuid=base.UUID, name='x', state=DomainState.PAUSED, id=7)
        info = power.info(self.node, self.instance, cached=True)
        self.assertEqual(power_state.PAUSED, info.state)
        self.assertEqual('7', info.internal_id)
        self.node.host.guest.assert_not_called()

    def test_unpause(self):
        power.unpause(self.node, self.instance)
        self.guest.resume.assert_not_called()
        self.guest.state.return_value = DomainState.PAUSED
        power.unpause(self.node, self.instance)
        self.guest.resume.assert_called_once_with()

    def test_host_boot(self):
        for state, starts in ((DomainState.RUNNING, False),
                              (DomainState.PAUSED, False),
                              (DomainState.CRASHED, True),
                              (DomainState.SHUTDOWN, True)):
            self.guest.state.return_value = state
            with mock.patch.object(power, 'power_on') as power_on:
                power.resume_on_host_boot(
                    self.node, self.instance, network_info=None,
                    block_device_info=None)
            self.assertEqual(starts, power_on.called, state)


class TranslatedTest(base.TestCase):

    def test_every_error(self):
        instance = base.instance()
        for ours, novas, says in (
            (xen_errors.DomainNotFound('x'), exception.InstanceNotFound,
             base.UUID),
            (xen_errors.SpecError('boot.cmdline', '\n', 'one line'),
             exception.InvalidInput, 'boot.cmdline'),
            (xen_errors.ConnectionFailed('xen:///', 'refused'),
             exception.HypervisorUnavailable, 'refused'),
            (xen_errors.OperationTimedOut('domainCreate', 'x', 68,
                                          'no device model'),
             errors.OperationFailed, 'no device model'),
            (OSError(28, 'No space left'), errors.OperationFailed,
             'No space left'),
            (errors.processutils.ProcessExecutionError(
                cmd='qemu-img create', stderr='broken\n'),
             errors.OperationFailed, 'qemu-img create: broken'),
        ):
            raised = self.assertRaises(novas, self._raise, instance, ours)
            self.assertIn(says, str(raised))

    @staticmethod
    def _raise(instance, error):
        with errors.translated('start', instance):
            raise error
