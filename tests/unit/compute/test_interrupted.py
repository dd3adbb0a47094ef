# SPDX-License-Identifier: Apache-2.0
"""Which instances are mended, and what Nova is told."""

from unittest import mock

from nova import objects
from nova.compute import power_state
from nova.compute import task_states
from nova.compute import utils as compute_utils
from nova.compute import vm_states

from tests.unit import base
from xen44_driver.compute import interrupted
from xen44_driver.compute import rescue
from xen44_driver.compute import resize
from xen44_driver.xen import errors
from xen44_driver.xen.events import DomainState


class StartTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.node = base.node()
        patcher = mock.patch.object(objects.InstanceList, 'get_by_filters')
        self.list = patcher.start()
        self.addCleanup(patcher.stop)
        self.begun = True
        patcher = mock.patch.object(
            interrupted, '_was_begun',
            side_effect=lambda context, uuid: self.begun)
        patcher.start()
        self.addCleanup(patcher.stop)
        self.migration = mock.Mock(status='confirming')
        patcher = mock.patch.object(
            objects.MigrationList, 'get_by_filters',
            side_effect=lambda _, filters: [
                self.migration] if filters['status'] == self.looked else [])
        self.looked = 'confirming'
        self.migrations = patcher.start()
        self.addCleanup(patcher.stop)

    def start(self):
        """Return what is done in the background, if anything."""
        with mock.patch.object(interrupted.threads, 'start') as start:
            interrupted.start_mending(self.node)
        return start.call_args and start.call_args.args[0]

    def test_whose(self):
        """This host's instances, with those tasks that are mended."""
        self.flags(host='xen1')
        self.list.return_value = []
        self.start()
        filters, = (call.args[1] for call in self.list.call_args_list)
        self.assertEqual(('xen1', False),
                         (filters.pop('host'), filters.pop('deleted')))
        self.assertEqual({'task_state': list(interrupted._MENDERS)}, filters)

    def test_nobody_answers(self):
        self.list.side_effect = OSError('no conductor')
        self.assertIsNone(self.start())

    def test_none_to_mend(self):
        self.list.return_value = []
        self.assertIsNone(self.start())

    def test_confirmations(self):
        self.list.return_value = []
        self.begun = False
        self.start()
        self.assertEqual('confirming', self.migration.status)
        self.begun = True
        self.start()
        self.assertEqual('finished', self.migration.status)
        self.migration.save.assert_called_once_with()

    def test_resizes_that_nova_undoes(self):
        self.list.return_value = []
        self.looked = 'migrating'
        for task, begun, given_up in (
                (task_states.RESIZE_MIGRATING, True, True),
                (task_states.RESIZE_MIGRATING, False, False),
                (None, True, False)):
            self.begun = begun
            instance = base.instance(task_state=task)
            with mock.patch.object(objects.Instance, 'get_by_uuid',
                                   return_value=instance), \
                    mock.patch.object(resize, 'give_up') as give_up:
                self.start()
            self.assertEqual(given_up, give_up.called)

    def test_one_that_waits_in_the_queue(self):
        self.list.return_value = [mock.Mock()]
        self.begun = False
        self.assertIsNone(self.start())
        self.begun = True
        self.assertIsNotNone(self.start())

    def test_one_fails(self):
        first, second = mock.Mock(), mock.Mock()
        self.list.return_value = [first, second]
        work = self.start()
        with mock.patch.object(interrupted, 'mend',
                               side_effect=OSError('no')) as mend, \
                mock.patch.object(interrupted.undo_lib, 'LOG'):
            work()
        self.assertEqual([first, second],
                         [call.args[2] for call in mend.call_args_list])


class BegunTest(base.TestCase):
    """Nova's record of what nova-compute does."""

    def begun(self, *events):
        """Whether the last action was begun.

        :param events: name, host, and whether it has ended.
        """
        actions = [mock.Mock(id=2), mock.Mock(id=1)] if events else []
        found = [mock.Mock(event=name, host=host,
                           finish_time='then' if ended else None)
                 for name, host, ended in events]
        with mock.patch.object(objects.InstanceActionList,
                               'get_by_instance_uuid', return_value=actions), \
                mock.patch.object(objects.InstanceActionEventList,
                                  'get_by_action', side_effect=lambda _, id_:
                                  found if id_ == 2 else []):
            return interrupted._was_begun(None, base.UUID)

    def test_all(self):
        self.flags(host='xen1')
        conductor = ('conductor_migrate_server', 'controller', True)
        self.assertFalse(self.begun())
        self.assertFalse(self.begun(conductor))
        self.assertFalse(self.begun(
            conductor, ('compute_resize_instance', 'xen1', True)))
        self.assertFalse(self.begun(
            conductor, ('compute_prep_resize', 'xen2', False)))
        self.assertFalse(self.begun(('conductor_x', 'xen1', False)))
        self.assertTrue(self.begun(
            ('compute_resize_instance', 'xen1', True),
            ('compute_finish_resize', 'xen1', False)))


class MendTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.node = base.node()
        self.guest = self.node.host.guest.return_value
        self.guest.has_saved_memory.return_value = False
        self.node.host.record.return_value.id = 7
        self.guest.state.return_value = DomainState.RUNNING

    def mend(self, task, vm_state, **fresh):
        """Mend an instance; returns its states.

        :param fresh: what has changed since it was loaded.
        """
        instance = base.instance(task_state=task, vm_state=vm_state,
                                 host='xen1')
        instance.save = mock.Mock()
        self.assertTrue(interrupted.is_mended(instance))
        loaded = base.instance(task_state=task, host='xen1')
        for name, value in fresh.items():
            setattr(instance, name, value)
        with mock.patch.object(objects.Instance, 'get_by_uuid',
                               return_value=instance):
            interrupted.mend(self.node, None, loaded)
        self.saved = instance.save
        return instance.vm_state, instance.power_state

    def test_by_state(self):
        for state, saved, vm_state, after in (
            (DomainState.RUNNING, False, vm_states.ACTIVE,
             (vm_states.ACTIVE, power_state.RUNNING)),
            (DomainState.SHUTDOWN, False, vm_states.ACTIVE,
             (vm_states.STOPPED, power_state.SHUTDOWN)),
            (DomainState.PAUSED, False, vm_states.PAUSED,
             (vm_states.PAUSED, power_state.PAUSED)),
            (DomainState.SHUTDOWN, True, vm_states.SUSPENDED,
             (vm_states.SUSPENDED, power_state.SHUTDOWN)),
            (DomainState.SHUTDOWN, False, vm_states.SUSPENDED,
             (vm_states.STOPPED, power_state.SHUTDOWN)),
        ):
            for task in (task_states.SHELVING, task_states.UPDATING_PASSWORD,
                         task_states.SHELVING_IMAGE_PENDING_UPLOAD,
                         task_states.SHELVING_IMAGE_UPLOADING,
                         task_states.IMAGE_BACKUP, task_states.PAUSING):
                self.guest.state.return_value = state
                self.guest.has_saved_memory.return_value = saved
                self.assertEqual(after, self.mend(task, vm_state))
                self.saved.assert_called_once_with(expected_task_state=task)

    def test_offloading(self):
        self.node.host.guest.side_effect = errors.DomainNotFound(base.UUID)
        self.assertEqual(
            (vm_states.SHELVED, power_state.NOSTATE),
            self.mend(task_states.SHELVING_OFFLOADING, vm_states.SHELVED))

    def test_ended_meanwhile(self):
        for changed in ({'task_state': None}, {'host': 'xen2'}):
            self.mend(task_states.SHELVING, vm_states.PAUSED,
                      power_state=power_state.PAUSED, **changed)
            self.saved.assert_not_called()

    def test_waits_for_libvirt(self):
        refused = errors.ConnectionFailed('xen:///', 'refused')
        self.guest.state.side_effect = [
            refused, refused, *[DomainState.RUNNING] * 3]
        with mock.patch('time.sleep') as sleep:
            self.assertEqual((vm_states.ACTIVE, power_state.RUNNING),
                             self.mend(task_states.SHELVING, 'active'))
        self.assertEqual(2, sleep.call_count)

    def test_it_fails(self):
        for error in (OSError('x'), errors.ConnectionFailed('xen:///', 'x')):
            with mock.patch.dict(
                    interrupted._MENDERS, {task_states.RESCUING: mock.Mock(
                        side_effect=error)}), mock.patch.object(
                    compute_utils, 'add_instance_fault_from_exc') as fault:
                self.assertEqual(vm_states.ERROR, self.mend(
                    task_states.RESCUING, 'active', power_state=1)[0])
            self.assertIn('x', str(fault.call_args.args[2]))
            self.saved.assert_called_once_with(
                expected_task_state=task_states.RESCUING)

    def test_nova_cannot_be_told_why(self):
        with mock.patch.dict(
                interrupted._MENDERS, {task_states.RESCUING: mock.Mock(
                    side_effect=OSError('x'))}), mock.patch.object(
                compute_utils, 'add_instance_fault_from_exc',
                side_effect=OSError('conductor')):
            self.assertEqual(vm_states.ERROR, self.mend(
                task_states.RESCUING, 'active', power_state=1)[0])

    def test_what_nova_mends(self):
        for task in (None, task_states.RESIZE_MIGRATING,
                     task_states.POWERING_OFF, task_states.DELETING):
            self.assertFalse(
                interrupted.is_mended(base.instance(task_state=task)))


class RescueTest(base.TestCase):
    """What becomes of a rescue depends on what runs."""

    def setUp(self):
        super().setUp()
        self.node = base.node()
        self.guest = self.node.host.guest.return_value
        for name in ('end_rescue', 'machine_of'):
            patcher = mock.patch.object(rescue.power, name)
            setattr(self, name, patcher.start())
            self.addCleanup(patcher.stop)
        patcher = mock.patch.object(rescue, '_define')
        self.define = patcher.start()
        self.addCleanup(patcher.stop)

    def mend(self, task, runs):
        """Mend it.

        :param runs: what the domain runs as: 'own', 'rescue', or None.
        """
        self.end_rescue.reset_mock()
        self.define.reset_mock()
        instance = base.instance(
            task_state=task, info_cache=objects.InstanceInfoCache(
                network_info=None))
        with mock.patch.object(
                rescue, '_booted',
                return_value=runs and mock.Mock(rescue=runs == 'rescue')):
            return rescue.mend(self.node, None, instance)

    def test_rescuing(self):
        for runs, after in (('own', vm_states.ACTIVE),
                            (None, vm_states.STOPPED),
                            ('rescue', vm_states.RESCUED)):
            self.assertEqual(after, self.mend(task_states.RESCUING, runs))
            self.assertEqual(after != vm_states.RESCUED,
                             self.end_rescue.called)
            self.assertEqual(after == vm_states.STOPPED, self.define.called)

    def test_unrescuing(self):
        for runs, after in ((None, vm_states.RESCUED),
                            ('rescue', vm_states.RESCUED),
                            ('own', vm_states.ACTIVE)):
            self.assertEqual(after, self.mend(task_states.UNRESCUING, runs))
            self.assertEqual(after == vm_states.ACTIVE,
                             self.end_rescue.called)

    def test_booted(self):
        self.guest.state.return_value = DomainState.SHUTDOWN
        self.assertIsNone(rescue._booted(self.node, base.instance()))
        self.node.host.guest.side_effect = errors.DomainNotFound(base.UUID)
        self.assertIsNone(rescue._booted(self.node, base.instance()))
