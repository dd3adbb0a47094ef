# SPDX-License-Identifier: Apache-2.0
"""Stopping, starting, rebooting; guests that do not listen."""

import dataclasses
from unittest import mock

from nova import exception
from nova.compute import power_state
from nova.compute import vm_states

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import faults
from xen44_driver.compute import machine
from xen44_driver.compute import ports
from xen44_driver.compute import power
from xen44_driver.compute import start
from xen44_driver.storage import images
from xen44_driver.storage import kinds
from xen44_driver.xen import errors as xen_errors
from xen44_driver.xen import events
from xen44_driver.xen.events import DomainState

DISK = kinds.DiskRecord(
    kind='clone', name='/dev/xvda', target='xvda', file='disk.raw')


class PowerTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.node = base.node()
        self.instance = base.instance()
        self.guest = self.node.host.guest.return_value
        self.guest.state.return_value = DomainState.RUNNING
        self.guest.disks.return_value = ()

    def power_off(self, timeout=60, retry_interval=10):
        power.power_off(self.node, self.instance, timeout=timeout,
                        retry_interval=retry_interval)

    def test_at_once(self):
        self.power_off(timeout=0)
        self.guest.shutdown.assert_not_called()
        self.guest.destroy.assert_called_once_with()
        self.guest.forget_memory.assert_not_called()

    def test_suspended(self):
        # It is shelved.
        self.instance.vm_state = vm_states.SUSPENDED
        self.power_off()
        self.guest.forget_memory.assert_called_once_with()

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
        self.guest.press_power_button.assert_not_called()
        # The last wait is not longer than what is left.
        self.assertEqual(
            10, self.guest.wait_for.call_args_list[-1].kwargs['timeout'])
        self.guest.destroy.assert_called_once_with()

    def test_guest_is_asked_as_long_as_there_is_time(self):
        self.guest.wait_for.return_value = False
        with mock.patch('time.monotonic', side_effect=[0, 59.5, 60]):
            self.power_off(retry_interval=0)
        self.assertEqual(
            [mock.call(events.OFF, timeout=60),
             mock.call(events.OFF, timeout=1)],
            self.guest.wait_for.mock_calls)

    def test_guest_cannot_be_asked(self):
        self.guest.shutdown.side_effect = xen_errors.OperationFailed(
            'domainShutdown', base.UUID, 1, 'no PV drivers')
        self.guest.wait_for.return_value = True
        self.power_off()
        self.guest.destroy.assert_called_once_with()

    def test_no_such_domain(self):
        # The operator undefined it: it is off.
        self.node.host.guest.side_effect = xen_errors.DomainNotFound(
            base.UUID)
        self.power_off()

    def reboot(self, soft):
        machine.keep(self.instance, machine.Machine(
            guest_type='pv', disks=(DISK,)))
        with mock.patch.object(power, 'power_on') as power_on, \
                mock.patch.object(power.start, 'boot') as self.boot:
            power.reboot(self.node, None, self.instance, soft=soft,
                         network_info=None, block_device_info=None)
        return power_on.called

    def test_soft_reboot(self):
        self.guest.wait_for.return_value = True
        self.assertFalse(self.reboot(soft=True))
        _node, guest, (disk,), booted = self.boot.call_args.args
        self.assertEqual(machine.recall(self.instance), booted)
        self.assertIs(self.guest, guest)
        self.assertEqual('xvda', disk.target)
        self.guest.destroy.assert_not_called()

    def test_soft_reboot_with_other_volumes(self):
        """An attachment was interrupted before the domain had the volume."""
        self.guest.wait_for.return_value = True
        self.guest.disks.return_value = (
            mock.Mock(serial=None), mock.Mock(serial=base.VOLUME))
        privsep.linked_volumes.return_value = [base.VOLUME]
        self.assertTrue(self.reboot(soft=True))
        self.boot.assert_not_called()

    def test_soft_reboot_becomes_hard(self):
        self.flags(soft_reboot_timeout=1, group='xen44')
        self.guest.wait_for.return_value = False
        clock = iter(range(100))
        with mock.patch('time.monotonic', side_effect=lambda: next(clock)):
            self.assertTrue(self.reboot(soft=True))
        self.guest.state.return_value = DomainState.SHUTDOWN
        self.assertTrue(self.reboot(soft=True))
        self.boot.assert_not_called()

    def test_soft_reboot_of_a_domain_that_was_undefined(self):
        gone = xen_errors.DomainNotFound(base.UUID)
        for look in (self.node.host.guest, self.guest.state,
                     self.guest.wait_for):
            with mock.patch.object(look, 'side_effect', gone):
                self.assertTrue(self.reboot(soft=True), look)
            self.boot.assert_not_called()

    def test_info_costs_no_call(self):
        self.node.host.record.return_value = events.DomainRecord(
            uuid=base.UUID, name='x', state=DomainState.PAUSED, id=7)
        info = power.info(self.node, self.instance, cached=True)
        self.assertEqual(power_state.PAUSED, info.state)
        self.assertEqual('7', info.internal_id)
        self.node.host.guest.assert_not_called()

    def test_a_crashed_guest_is_off(self):
        # Nova ignores the event of a stopped guest that it finds CRASHED.
        self.node.host.record.return_value = events.DomainRecord(
            uuid=base.UUID, name='x', state=DomainState.CRASHED, id=None)
        self.assertEqual(
            power_state.SHUTDOWN,
            power.info(self.node, self.instance, cached=True).state)

    def test_unpause(self):
        power.unpause(self.node, self.instance)
        self.guest.resume.assert_not_called()
        self.guest.state.return_value = DomainState.PAUSED
        power.unpause(self.node, self.instance)
        self.guest.resume.assert_called_once_with()


class PowerOnTest(base.TestCase):
    """Each step is seen: what is done, and in which order."""

    def setUp(self):
        super().setUp()
        self.node = base.node()
        self.host = self.node.host
        self.instance = base.instance()
        made = machine.Machine(guest_type='pv', loader=__file__,
                               disks=(DISK,))
        machine.keep(self.instance, made)
        self.steps = mock.Mock()
        self.steps.attach_mock(self.host, 'host')
        for where, name in ((ports, 'plug'), (power.start, 'boot'),
                            (power.disks, 'ensure_bases')):
            patcher = mock.patch.object(where, name)
            self.steps.attach_mock(patcher.start(), name)
            self.addCleanup(patcher.stop)

    def power_on(self):
        power.power_on(self.node, 'context', self.instance,
                       network_info=[base.vif()], block_device_info=None)

    def done(self):
        return [name for name, _args, _kwargs in self.steps.mock_calls
                if name in ('ensure_bases', 'host.guest().destroy', 'plug',
                            'host.define', 'boot')]

    def test_order(self):
        self.power_on()
        # The old domain is off before it is defined anew and started.
        self.assertEqual(['ensure_bases', 'host.guest().destroy', 'plug',
                          'host.define', 'boot'], self.done())
        (xml,) = self.host.define.call_args.args
        self.assertIn(f'{base.UUID}/disk.raw', xml)
        _node, guest, disks, _limits = self.steps.boot.call_args.args
        self.assertIs(self.host.define.return_value, guest)
        self.assertEqual(['xvda'], [disk.target for disk in disks])

    def test_volumes_that_nova_tells_of(self):
        self.instance.save = mock.Mock()
        with mock.patch.object(power.connections, 'renewed'), \
                mock.patch.object(power.connections, 'connect_all'):
            power.machine_of(self.node, 'context', self.instance, {
                'block_device_mapping': [{
                    'mount_device': '/dev/xvdb', 'boot_index': None,
                    'connection_info': base.connection_info()}]})
        kept = machine.recall(self.instance)
        self.assertEqual(
            [('/dev/xvda', None), ('/dev/xvdb', base.VOLUME)],
            [(disk.name, disk.volume_id) for disk in kept.disks])
        self.instance.save.assert_called_once_with()

    def test_a_base_that_is_gone_stops_nothing_that_runs(self):
        self.steps.ensure_bases.side_effect = exception.ImageNotFound('gone')
        self.assertRaises(exception.ImageNotFound, self.power_on)
        self.assertEqual(['ensure_bases'], self.done())

    def test_a_loader_that_is_gone_stops_nothing_that_runs(self):
        machine.keep(self.instance, machine.Machine(
            guest_type='pv', loader='/gone', disks=(DISK,)))
        raised = self.assertRaises(exception.InvalidInput, self.power_on)
        self.assertIn('/gone', str(raised))
        self.assertEqual([], self.done())

    def test_an_instance_without_a_record_gets_one(self):
        self.flags(default_guest_type='pvh', pvh_loader=__file__,
                   group='xen44_x86_64')
        # A domain of the older version, whose metadata has no record.
        self.host.guest.return_value.metadata.return_value = None
        self.instance.save = mock.Mock()
        files = self.node.files(self.instance)
        files.create()
        found = images.Image(id=base.IMAGE, path='/x', format='raw',
                             virtual_size=512, size=512)
        for gone in (None, exception.ImageNotFound('gone')):
            self.instance.system_metadata = {}
            with open(files.path('disk.qcow2'), 'w'), \
                    mock.patch.object(self.node.images.store, 'disk',
                                      return_value=found, side_effect=gone):
                self.power_on()
            kept = machine.recall(self.instance)
            self.assertEqual(('pvh', 'qcow2'),
                             (kept.guest_type, kept.root.format))
            # The size of the flavor's disk stays.
            self.assertEqual(1024 ** 3, kept.root.size)
            # A base that is known is looked after from now on.
            self.assertEqual(gone is None, kept.root.base is not None)
            self.instance.save.assert_called_with()

    def test_a_record_that_is_lost_or_damaged_is_the_domains(self):
        made = machine.recall(self.instance)
        self.host.guest.return_value.metadata.return_value = (
            start.describe(self.node, self.instance, made, ()).metadata)
        self.instance.save = mock.Mock()
        for lost in ({}, {machine.KEY: '{"version":'}):
            self.instance.system_metadata = lost
            self.power_on()
            self.assertEqual(made, machine.recall(self.instance))

    def test_the_record_of_a_rescue_is_not_the_instances(self):
        rescue = machine.Machine(guest_type='hvm', disks=(DISK,), rescue=True)
        self.host.guest.return_value.metadata.return_value = (
            start.describe(self.node, self.instance, rescue, ()).metadata)
        self.instance.system_metadata = {machine.KEY: '{"version":'}
        self.assertRaises(machine.MachineUnreadable, self.power_on)
        self.assertEqual([], self.done())

    def rescue(self):
        """Give the instance the record and a file of a rescue."""
        self.instance.save = mock.Mock()
        machine.keep(self.instance, machine.Machine(
            guest_type='hvm', rescue=True, disks=(
                dataclasses.replace(
                    DISK, target='hda', file='disk.rescue.raw'),
                dataclasses.replace(DISK, target='hdb'))), machine.RESCUE)
        self.files = self.node.files(self.instance)
        self.files.create()
        with open(self.files.path('disk.rescue.raw'), 'w'):
            pass

    def test_a_rescued_instance_boots_the_rescue_again(self):
        self.rescue()
        self.instance.vm_state = 'rescued'
        self.power_on()
        (xml,) = self.host.define.call_args.args
        self.assertIn(f'{base.UUID}/disk.rescue.raw', xml)
        self.assertEqual(['disk.rescue.raw', 'console.log'],
                         sorted(self.files.names(), reverse=True))
        self.assertIsNotNone(machine.recall(self.instance, machine.RESCUE))

    def test_a_rescue_that_nova_has_forgotten_ends(self):
        self.rescue()
        self.assertFalse(power._soft_reboot(
            self.node, 'context', self.instance, None))
        self.host.guest().shutdown.assert_not_called()
        self.power_on()
        (xml,) = self.host.define.call_args.args
        self.assertNotIn('rescue', xml)
        self.assertEqual([], self.files.names())
        self.assertIsNone(machine.recall(self.instance, machine.RESCUE))
        self.instance.save.assert_called_once_with()

    def test_a_rescue_is_there_until_the_instance_has_started(self):
        self.rescue()
        self.steps.boot.side_effect = OSError('no')
        self.assertRaises(OSError, self.power_on)
        self.assertIsNotNone(machine.recall(self.instance, machine.RESCUE))

    def test_a_damaged_record_and_no_other(self):
        self.instance.system_metadata = {machine.KEY: '{"version":'}
        self.host.guest.return_value.metadata.return_value = None
        self.assertRaises(machine.MachineUnreadable, self.power_on)
        self.assertEqual([], self.done())


class FacadeTest(base.TestCase):

    def test_every_public_method_is_translated(self):
        @faults.facade
        class Driver:
            def power_on(self, context, instance):
                raise xen_errors.DomainNotFound('x')

            def list_instances(self):
                raise xen_errors.ConnectionFailed('xen:///', 'refused')

            def _private(self):
                raise OSError

        raised = self.assertRaises(
            exception.InstanceNotFound, Driver().power_on, None,
            base.instance())
        self.assertIn(base.UUID, str(raised))
        self.assertRaises(
            exception.InstanceNotFound, Driver().power_on, None,
            instance=base.instance())
        self.assertRaises(exception.HypervisorUnavailable,
                          Driver().list_instances)
        self.assertRaises(OSError, Driver()._private)


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
            (xen_errors.OperationFailed('domainCreate', 'x', 68,
                                        'no device model'),
             faults.OperationFailed, 'no device model'),
            (OSError(28, 'No space left'), faults.OperationFailed,
             'No space left'),
            (faults.processutils.ProcessExecutionError(
                cmd='qemu-img create', stderr='broken\n'),
             faults.OperationFailed, 'qemu-img create: broken'),
        ):
            raised = self.assertRaises(novas, self._raise, instance, ours)
            self.assertIn(says, str(raised))

    def test_state_kept(self):
        """Nova changes no state for what is refused before anything."""
        def fail(error):
            with faults.state_kept('resize', base.instance()):
                raise error

        for error, inner in (
                (OSError(28, 'No space left'), faults.OperationFailed),
                (exception.ResizeError(reason='no'), exception.ResizeError)):
            raised = self.assertRaises(
                exception.InstanceFaultRollback, fail, error)
            self.assertIsInstance(raised.inner_exception, inner)
        self.assertRaises(KeyError, fail, KeyError())

    def test_a_domain_that_vanishes_while_it_is_made(self):
        # Nova leaves an instance building when spawn says that there is
        # none.
        with mock.patch.object(self, '_operation', 'spawn'):
            raised = self.assertRaises(
                faults.OperationFailed, self._raise, base.instance(),
                xen_errors.DomainNotFound('x'))
        self.assertIn('domain x does not exist', str(raised))

    _operation = 'start'

    def _raise(self, instance, error):
        with faults.translated(self._operation, instance):
            raise error
