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
from xen44_driver.xen import errors
from xen44_driver.xen.events import DomainState


class StartTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.node = base.node()
        patcher = mock.patch.object(objects.InstanceList, 'get_by_filters')
        self.list = patcher.start()
        self.addCleanup(patcher.stop)
        self.migration = mock.Mock(status='confirming')
        patcher = mock.patch.object(
            objects.MigrationList, 'get_by_filters',
            return_value=[self.migration])
        self.migrations = patcher.start()
        self.addCleanup(patcher.stop)

    def start(self):
        """Return what is done in the background, if anything."""
        with mock.patch.object(interrupted.threads, 'start') as start:
            interrupted.start_mending(self.node)
        return start.call_args and start.call_args.args[0]

    def test_nobody_answers(self):
        self.list.side_effect = OSError('no conductor')
        self.assertIsNone(self.start())

    def test_none_to_mend(self):
        self.list.return_value = []
        self.assertIsNone(self.start())

    def test_confirmations(self):
        self.list.return_value = []
        self.start()
        self.assertEqual('confirming',
                         self.migrations.call_args.args[1]['status'])
        self.assertEqual('finished', self.migration.status)
        self.migration.save.assert_called_once_with()

    def test_one_fails(self):
        self.list.return_value = ['first', 'second']
        work = self.start()
        with mock.patch.object(interrupted, 'mend',
                               side_effect=OSError('no')) as mend, \
                mock.patch.object(interrupted.undo_lib, 'LOG'):
            work()
        self.assertEqual(['first', 'second'],
                         [call.args[2] for call in mend.call_args_list])


class MendTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.node = base.node()
        self.guest = self.node.host.guest.return_value
        self.node.host.record.return_value.id = 7
        self.guest.state.return_value = DomainState.RUNNING

    def mend(self, task, vm_state):
        instance = base.instance(task_state=task, vm_state=vm_state)
        instance.save = mock.Mock()
        self.assertTrue(interrupted.is_mended(instance))
        interrupted.mend(self.node, None, instance)
        instance.save.assert_called_with(expected_task_state=task)
        self.assertIsNone(instance.task_state)
        return instance.vm_state, instance.power_state

    def test_by_state(self):
        for task in (task_states.SHELVING, task_states.UPDATING_PASSWORD,
                     task_states.SHELVING_IMAGE_PENDING_UPLOAD,
                     task_states.SHELVING_IMAGE_UPLOADING):
            self.guest.state.return_value = DomainState.RUNNING
            self.assertEqual((vm_states.ACTIVE, power_state.RUNNING),
                             self.mend(task, vm_states.ACTIVE))
            self.guest.state.return_value = DomainState.SHUTDOWN
            self.assertEqual((vm_states.STOPPED, power_state.SHUTDOWN),
                             self.mend(task, vm_states.ACTIVE))

    def test_it_fails(self):
        self.node.host.guest.side_effect = errors.DomainNotFound(base.UUID)
        with mock.patch.dict(
                interrupted._MENDERS,
                {task_states.RESCUING: mock.Mock(side_effect=OSError('x'))}):
            with mock.patch.object(
                    compute_utils, 'add_instance_fault_from_exc') as fault:
                self.assertEqual((vm_states.ERROR, power_state.NOSTATE),
                                 self.mend(task_states.RESCUING,
                                           vm_states.ACTIVE))
        self.assertEqual('x', str(fault.call_args.args[2]))

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

    def mend(self, task, *, record, runs):
        """Mend it.

        :param record: whether the record of the rescue was kept.
        :param runs: what the domain runs as: 'own', 'rescue', or None.
        """
        self.end_rescue.reset_mock()
        self.define.reset_mock()
        instance = base.instance(
            task_state=task, info_cache=objects.InstanceInfoCache(
                network_info=None),
            system_metadata={'os_glance_xen44_rescue': 'x'} if record else {})
        with mock.patch.object(
                rescue, '_booted',
                return_value=runs and mock.Mock(rescue=runs == 'rescue')):
            return rescue.mend(self.node, None, instance)

    def test_rescuing(self):
        for record, runs, after in (
            (False, 'own', vm_states.ACTIVE),
            (False, None, vm_states.STOPPED),
            (True, None, vm_states.STOPPED),
            (True, 'rescue', vm_states.RESCUED),
        ):
            self.assertEqual(after, self.mend(
                task_states.RESCUING, record=record, runs=runs))
            self.assertEqual(after != vm_states.RESCUED,
                             self.end_rescue.called)
            self.assertEqual(after == vm_states.STOPPED, self.define.called)

    def test_unrescuing(self):
        for runs, after in ((None, vm_states.RESCUED),
                            ('rescue', vm_states.RESCUED),
                            ('own', vm_states.ACTIVE)):
            self.assertEqual(after, self.mend(
                task_states.UNRESCUING, record=True, runs=runs))
            self.assertEqual(after == vm_states.ACTIVE,
                             self.end_rescue.called)

    def test_booted(self):
        self.guest.state.return_value = DomainState.SHUTDOWN
        self.assertIsNone(rescue._booted(self.node, base.instance()))
        self.node.host.guest.side_effect = errors.DomainNotFound(base.UUID)
        self.assertIsNone(rescue._booted(self.node, base.instance()))
