# SPDX-License-Identifier: Apache-2.0
"""Memory that is saved, restored, and left behind by failures."""

from unittest import mock

from nova import exception
from nova.compute import power_state
from nova.compute import task_states
from nova.compute import vm_states

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import hostboot
from xen44_driver.compute import interrupted
from xen44_driver.compute import machine
from xen44_driver.compute import ports
from xen44_driver.compute import power
from xen44_driver.compute import room
from xen44_driver.compute import suspend
from xen44_driver.storage import kinds
from xen44_driver.xen import arch
from xen44_driver.xen import errors
from xen44_driver.xen import host as xen_host
from xen44_driver.xen.events import DomainState

DISK = kinds.DiskRecord(
    kind='clone', name='/dev/xvda', target='xvda', file='disk.raw')
FAILED = errors.OperationFailed(
    'domainManagedSave', base.UUID, 1, 'Failed to save domain')
GIB = 1024 ** 3


class Domain:
    """A guest that does what it is told.

    :ivar hangs: whether Xen has it suspended although libvirt says it runs.
    """

    def __init__(self):
        self.uuid, self.name = base.UUID, 'instance-1'
        self.id = 7
        self.now = DomainState.RUNNING
        self.saved = False
        self.hangs = False
        self.done = []
        self.fail = {}

    def _do(self, name):
        self.done.append(name)
        if name in self.fail:
            raise self.fail.pop(name)

    def state(self):
        return self.now

    def is_busy(self):
        self._do('is_busy')
        return False

    def has_saved_memory(self):
        return self.saved

    def save_memory(self):
        self._do('save')
        self.now, self.saved, self.id = DomainState.SHUTDOWN, True, None

    def forget_memory(self):
        self._do('forget')
        was, self.saved = self.saved, False
        return was

    def resume(self):
        self._do('resume')
        self.now = DomainState.RUNNING

    def wake(self):
        self._do('wake')
        self.now = DomainState.RUNNING

    def destroy(self):
        self._do('destroy')
        self.now, self.id = DomainState.SHUTDOWN, None


class SuspendCase(base.TestCase):

    def setUp(self):
        super().setUp()
        self.node = base.node()
        self.guest = Domain()
        self.node.host.guest.return_value = self.guest
        self.node.host.memory.return_value = xen_host.HostMemory(
            total_mib=8192, dom0_mib=1024, free_mib=4096)
        self.instance = base.instance()
        machine.keep(self.instance, machine.Machine(
            guest_type='pvh', disks=(DISK,)))
        self.room = self.patch(privsep, 'saved_memory_room',
                               return_value=(1, GIB))
        self.woken = self.patch(privsep, 'wake_domain', return_value=False)
        self.patch(suspend, '_PAUSE', new=0)
        self.plug = self.patch(ports, 'plug')
        self.boot = self.patch(suspend.start, 'boot',
                               side_effect=self.booted)
        self.ensure = self.patch(suspend.disks, 'ensure_bases')

    def booted(self, node, guest, disks, limits, *, saved):
        self.assertIs(self.guest, guest)
        self.assertTrue(saved)
        guest.now, guest.id = DomainState.PAUSED, 8

    def suspend(self):
        suspend.suspend(self.node, 'context', self.instance)

    def resume(self):
        suspend.resume(self.node, 'context', self.instance,
                       network_info=['port'], block_device_info=None)

    def refused(self, operation):
        """An operation fails, and Nova leaves the instance as it was."""
        return self.assertRaises(exception.InstanceFaultRollback,
                                 operation).inner_exception


class SuspendTest(SuspendCase):

    def test_saved(self):
        self.suspend()
        self.assertTrue(self.guest.saved)
        self.assertEqual({}, +room._promised)

    def test_no_room(self):
        self.room.return_value = (1, 256 * 1024 ** 2)
        error = self.refused(self.suspend)
        self.assertIn('324 MiB', str(error))
        self.assertIn('are 256 MiB', str(error))
        self.assertEqual([], self.guest.done)

    def test_room_that_others_were_promised(self):
        with room.promised(lambda: (1, GIB), GIB - 1, 'another'):
            self.refused(self.suspend)
            with room.promised(lambda: (2, GIB), GIB, 'of another disk'):
                pass
        self.suspend()

    def test_arm(self):
        with mock.patch.object(type(self.node), 'arch', arch.load('aarch64')):
            error = self.refused(self.suspend)
        self.assertIsInstance(error, exception.InstanceSuspendFailure)
        self.assertIn('aarch64', str(error))
        self.assertEqual([], self.guest.done)
        self.room.assert_not_called()

    def test_guest_that_runs_guests(self):
        machine.keep(self.instance, machine.Machine(
            guest_type='hvm', disks=(DISK,), nested_hvm=True))
        error = self.refused(self.suspend)
        self.assertIn('xen44:nested_hvm', str(error))
        self.assertEqual([], self.guest.done)

    def test_guest_with_a_pci_device(self):
        for name, value in base.pci_devices('0000:00:10.0').items():
            setattr(self.instance, name, value)
        error = self.refused(self.suspend)
        self.assertIn('0000:00:10.0', str(error))
        self.assertEqual([], self.guest.done)

    def test_guest_that_still_boots(self):
        pauses = self.patch(suspend.time, 'sleep')
        for words in ('guest did not suspend, timed out',
                      'Bad mfn 0 for p2m frame list list; saving domain: '
                      'domain did not respond to suspend request: Success'):
            silent = errors.OperationFailed(
                'domainManagedSave', base.UUID, 1, words)
            for answers, saved in (([silent, silent, None], True),
                                   ([silent, FAILED], False)):
                pauses.reset_mock()
                self.asked(answers, saved)
                pauses.assert_called_with(suspend._REPEAT)
                self.assertEqual(len(answers) - 1, pauses.call_count)
            with mock.patch.object(suspend, '_PATIENCE', 0):
                self.assertIn(words, str(self.asked([silent], saved=False)))

    def asked(self, answers, saved):
        self.guest.now, self.guest.saved = DomainState.RUNNING, False
        real, answers = self.guest.save_memory, iter(answers)

        def save():
            error = next(answers)
            if error:
                raise error
            real()

        with mock.patch.object(self.guest, 'save_memory', save):
            error = self.suspend() if saved else self.refused(self.suspend)
        self.assertEqual([], list(answers))
        self.assertIs(saved, self.guest.saved)
        return error

    def test_fails_and_runs_on(self):
        self.guest.fail['save'] = FAILED
        error = self.refused(self.suspend)
        self.assertIn('Failed to save domain', str(error))
        # A part of the file may be there.
        self.assertIn('forget', self.guest.done)
        self.woken.assert_called_once_with(7)

    def test_fails_and_cannot_be_woken(self):
        """As with Xen 4.17, whose xl cannot do it."""
        self.guest.fail['save'] = FAILED
        self.woken.side_effect = OSError(
            'xl resume 7: command not implemented')
        # Its state is not known: Nova puts it into ERROR.
        error = self.assertRaises(errors.OperationFailed, self.suspend)
        for said in ('command not implemented', 'before 4.20', 'hard reboot'):
            self.assertIn(said, str(error))
        self.assertNotIn('forget', self.guest.done)

    def test_libvirtd_ends_meanwhile(self):
        gone = errors.ConnectionFailed('xen:///', 'end of file')
        self.guest.fail = {'save': gone, 'is_busy': gone}
        self.guest.now = DomainState.SUSPENDED
        self.assertIn('end of file', str(self.refused(self.suspend)))
        self.assertEqual(['save', 'is_busy', 'is_busy', 'wake', 'forget'],
                         self.guest.done)

    def test_libvirtd_ends_and_saved_it_all_the_same(self):
        self.guest.fail['save'] = errors.ConnectionFailed('xen:///', 'eof')
        self.guest.now, self.guest.saved = DomainState.SHUTDOWN, True
        self.suspend()
        self.assertNotIn('forget', self.guest.done)

    def test_libvirt_is_not_back(self):
        gone = errors.ConnectionFailed('xen:///', 'refused')
        self.guest.fail['save'] = gone
        self.patch(suspend, 'SETTLE_TIMEOUT', new=0)
        with mock.patch.object(self.guest, 'is_busy', side_effect=gone):
            # Its state is not known: Nova puts it into ERROR.
            self.assertRaises(TimeoutError, self.suspend)

    def test_said_but_not_done(self):
        with mock.patch.object(self.guest, 'has_saved_memory',
                               return_value=False):
            self.assertIsInstance(self.refused(self.suspend),
                                  exception.InstanceSuspendFailure)


class ResumeTest(SuspendCase):

    def setUp(self):
        super().setUp()
        self.suspend()
        self.guest.done.clear()
        self.instance.vm_state = vm_states.SUSPENDED

    def test_restored(self):
        self.resume()
        self.assertIs(DomainState.RUNNING, self.guest.now)
        # The saved memory is gone before the guest runs.
        self.assertEqual(['forget', 'resume'], self.guest.done)
        self.plug.assert_called_once_with(self.instance, ['port'])
        _node, _guest, (disk,), _limits = self.boot.call_args.args
        self.assertEqual('xvda', disk.target)

    def test_memory_is_not_there(self):
        self.guest.saved = False
        error = self.refused(self.resume)
        self.assertIn('hard reboot', str(error))
        self.boot.assert_not_called()

    def test_no_memory_in_xen(self):
        self.node.host.memory.return_value = xen_host.HostMemory(
            total_mib=8192, dom0_mib=1024, free_mib=100)
        self.assertIsInstance(self.refused(self.resume),
                              exception.ComputeResourcesUnavailable)
        self.assertTrue(self.guest.saved)
        self.plug.assert_not_called()

    def test_does_not_start(self):
        self.boot.side_effect = FAILED
        self.refused(self.resume)
        self.assertTrue(self.guest.saved)
        self.assertTrue(self.guest.now.is_off)

    def test_memory_cannot_be_removed(self):
        self.guest.fail['forget'] = FAILED
        self.refused(self.resume)
        self.assertEqual(['forget', 'destroy'], self.guest.done)
        self.assertTrue(self.guest.saved)

    def test_cannot_run_on(self):
        self.guest.fail['resume'] = FAILED
        self.assertRaises(errors.OperationFailed, self.resume)

    def test_does_not_run_on(self):
        with mock.patch.object(self.guest, 'resume'):
            self.assertRaises(exception.InstanceResumeFailure, self.resume)

    def test_interrupted_before(self):
        self.guest.now, self.guest.id = DomainState.PAUSED, 8
        self.resume()
        self.boot.assert_not_called()
        self.assertEqual(['is_busy', 'forget', 'resume'], self.guest.done)

    def test_no_domain(self):
        self.node.host.guest.side_effect = errors.DomainNotFound(base.UUID)
        self.assertIsInstance(self.refused(self.resume),
                              exception.InstanceNotFound)


class MendTest(SuspendCase):

    def setUp(self):
        super().setUp()
        self.node.host.record.side_effect = lambda uuid: mock.Mock(id=7)
        self.instance.save = mock.Mock()

    def mend(self, *, task, vm_state, state, saved):
        self.guest.now, self.guest.saved = state, saved
        self.instance.task_state = task
        self.instance.vm_state = vm_state
        interrupted._mend(self.node, None, self.instance)
        self.instance.save.assert_called_with(expected_task_state=task)
        self.assertIsNone(self.instance.task_state)
        return self.instance.vm_state, self.instance.power_state

    def test_suspending(self):
        for state, saved, after in (
            (DomainState.SHUTDOWN, True,
             (vm_states.SUSPENDED, power_state.SHUTDOWN)),
            (DomainState.SHUTDOWN, False,
             (vm_states.ACTIVE, power_state.SHUTDOWN)),
            (DomainState.RUNNING, True,
             (vm_states.ACTIVE, power_state.RUNNING)),
            (DomainState.SUSPENDED, True,
             (vm_states.ACTIVE, power_state.RUNNING)),
        ):
            self.assertEqual(after, self.mend(
                task=task_states.SUSPENDING, vm_state=vm_states.ACTIVE,
                state=state, saved=saved))
            self.assertIs(after[0] == vm_states.SUSPENDED, self.guest.saved)

    def test_resuming(self):
        for state, saved, after in (
            (DomainState.SHUTDOWN, True,
             (vm_states.SUSPENDED, power_state.SHUTDOWN)),
            (DomainState.SHUTDOWN, False,
             (vm_states.SUSPENDED, power_state.SHUTDOWN)),
            (DomainState.PAUSED, True,
             (vm_states.ACTIVE, power_state.RUNNING)),
            (DomainState.PAUSED, False,
             (vm_states.ACTIVE, power_state.RUNNING)),
            (DomainState.RUNNING, False,
             (vm_states.ACTIVE, power_state.RUNNING)),
        ):
            self.assertEqual(after, self.mend(
                task=task_states.RESUMING, vm_state=vm_states.SUSPENDED,
                state=state, saved=saved))
            if after[0] == vm_states.ACTIVE:
                self.assertFalse(self.guest.saved)

    def test_no_domain(self):
        self.node.host.guest.side_effect = errors.DomainNotFound(base.UUID)
        self.assertEqual(
            (vm_states.SUSPENDED, power_state.NOSTATE),
            self.mend(task=task_states.RESUMING,
                      vm_state=vm_states.SUSPENDED,
                      state=DomainState.SHUTDOWN, saved=False))


class HostBootTest(SuspendCase):

    def setUp(self):
        super().setUp()
        self.power_on = self.patch(power, 'power_on')

    def boot_host(self):
        hostboot.resume_on_host_boot(
            self.node, 'context', self.instance, network_info=[],
            block_device_info={})

    def test_by_state(self):
        for state, starts in ((DomainState.RUNNING, False),
                              (DomainState.PAUSED, False),
                              (DomainState.CRASHED, True),
                              (DomainState.SHUTDOWN, True)):
            self.guest.now = state
            self.power_on.reset_mock()
            self.boot_host()
            self.assertEqual(starts, self.power_on.called, state)

    def test_no_domain(self):
        self.node.host.guest.side_effect = errors.DomainNotFound(base.UUID)
        self.boot_host()
        self.power_on.assert_called_once_with(
            self.node, 'context', self.instance, network_info=[],
            block_device_info={})

    def test_suspended_ones_stay(self):
        self.guest.now, self.guest.saved = DomainState.SHUTDOWN, True
        for vm_state, task in ((vm_states.SUSPENDED, None),
                               (vm_states.ACTIVE, task_states.SUSPENDING)):
            self.instance.vm_state = vm_state
            self.instance.task_state = task
            self.boot_host()
        self.power_on.assert_not_called()
        self.boot.assert_not_called()

    def test_memory_that_the_host_saved(self):
        self.guest.now, self.guest.saved = DomainState.SHUTDOWN, True
        self.boot_host()
        self.assertIs(DomainState.RUNNING, self.guest.now)
        self.power_on.assert_not_called()

    def test_memory_of_a_guest_with_a_pci_device(self):
        """libvirt-guests does not ask whether the device's is saved."""
        self.guest.now, self.guest.saved = DomainState.SHUTDOWN, True
        for name, value in base.pci_devices('0000:00:10.0').items():
            setattr(self.instance, name, value)
        self.boot_host()
        self.boot.assert_not_called()
        self.power_on.assert_called_once()

    def test_memory_that_cannot_be_restored(self):
        self.guest.now, self.guest.saved = DomainState.SHUTDOWN, True
        self.boot.side_effect = FAILED
        self.boot_host()
        self.power_on.assert_called_once()
