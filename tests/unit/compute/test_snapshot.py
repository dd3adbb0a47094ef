# SPDX-License-Identifier: Apache-2.0
"""What a snapshot needs, and what is left of an interrupted one.

The rest is in tests/functional/test_snapshot.py.
"""

import os
from unittest import mock

import fixtures
from nova import exception

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import blockjobs
from xen44_driver.compute import machine
from xen44_driver.compute import quiesce
from xen44_driver.compute import snapshot
from xen44_driver.storage import kinds
from xen44_driver.storage import scratch
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen import qmp
from xen44_driver.xen.diskclass import DiskClass
from xen44_driver.xen.events import DomainRecord
from xen44_driver.xen.events import DomainState

MiB = 1024 ** 2


class MendTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.flags(host='xen1')
        self.node = base.node()
        self.scratch = scratch.Scratch(self.instances, 'xen1', base.UUID)
        self.scratch.create(0, 0)
        self.clear = self.useFixture(fixtures.MockPatchObject(
            blockjobs, 'clear')).mock
        self.node.host.guest.return_value.disks.return_value = (
            domain.Disk(target='xvda', source='/qcow2', format='qcow2'),)

    def mend(self, state=DomainState.RUNNING):
        self.node.host.records.return_value = {} if state is None else {
            base.UUID: DomainRecord(
                uuid=base.UUID, name='x', state=state, id=7)}
        snapshot.mend(self.node)
        self.assertFalse(os.path.exists(self.scratch.path))

    def test_running(self):
        self.mend()
        self.clear.assert_called_once_with(
            base.UUID, snapshot.JOB, [snapshot.TARGET], domid=7)

    def test_no_qemu(self):
        self.node.host.guest.return_value.disks.return_value = (
            domain.Disk(target='xvda', source='/raw', by_kernel=True),)
        files = self.node.files_of(base.UUID)
        files.create()
        with open(files.clone, 'w'):
            self.mend()
        self.clear.assert_not_called()
        self.assertEqual([], files.names())

    def test_off_or_gone(self):
        for state in (DomainState.SHUTDOWN, None):
            self.scratch.create(0, 0)
            self.mend(state)
        self.clear.assert_not_called()

    def test_no_answer(self):
        self.clear.side_effect = qmp.MonitorUnavailable('busy')
        with mock.patch.object(snapshot.LOG, 'warning') as warning:
            self.mend()
        self.assertEqual(2, warning.call_count)

    def test_file_stays(self):
        self.useFixture(fixtures.MockPatchObject(
            scratch.Scratch, 'remove', side_effect=OSError('read-only')))
        self.node.host.records.return_value = {}
        with mock.patch.object(snapshot.LOG, 'warning') as warning:
            snapshot.mend(self.node)
        self.assertIn('left', warning.call_args.args[0])


class NeedTest(base.TestCase):
    """How much room a copy may take."""

    def most(self, kind, *, file, base_file=0, base_format='raw'):
        node = base.node()
        directory = node.images.store.directory
        os.makedirs(directory, exist_ok=True)
        image = kinds.Base(id=base.IMAGE, format=base_format,
                           virtual_size=3 * MiB, size=0)
        for path, size in (
                (node.images.store.path(base.IMAGE), base_file),
                (f'{self.instances}/disk', file)):
            with open(path, 'wb') as out:
                out.write(os.urandom(size))
                out.truncate(max(size, 8 * MiB))
        return snapshot._most(node, kinds.load(kinds.DiskRecord(
            kind=kind, name='/dev/xvda', target='xvda', file='disk',
            base=image), self.instances)) / MiB

    def test_data_not_size(self):
        self.assertEqual(2, self.most('clone', file=2 * MiB))

    def test_with_the_image(self):
        self.assertEqual(
            3, self.most('overlay', file=2 * MiB, base_file=MiB))

    def test_image_that_may_be_compressed(self):
        self.assertEqual(5, self.most(
            'overlay', file=2 * MiB, base_file=MiB, base_format='qcow2'))

    def test_never_more_than_the_disk(self):
        self.assertEqual(8, self.most(
            'overlay', file=7 * MiB, base_file=7 * MiB))


class BackUpTest(base.TestCase):
    """What QEMU and qemu-img are told, and in which order."""

    def setUp(self):
        super().setUp()
        self.node, self.instance = base.node(), base.instance()
        self.guest = mock.Mock(id=7)
        self.guest.state.return_value = DomainState.RUNNING
        self.disk = domain.Disk(target='xvda', source='/disk')
        self.steps = mock.Mock()
        self.steps.scratch.path = '/copy'
        for where, name in (
                (snapshot.monitor, 'execute'), (snapshot, '_find'),
                (snapshot.processutils, 'execute'),
                (snapshot.faultpoints, 'reached'),
                (quiesce, 'freeze'), (quiesce, 'thaw'),
                (blockjobs, 'wait'), (blockjobs, 'clear')):
            self.steps.attach_mock(
                self.useFixture(fixtures.MockPatchObject(where, name)).mock,
                f'{where.__name__.rpartition(".")[2]}_{name}'.strip('_'))
        self.find = self.steps.snapshot__find
        self.find.return_value = mock.Mock(node='drive', size=4 * MiB)

    def back_up(self):
        return snapshot._back_up(
            self.node, self.instance, self.guest, self.disk,
            self.steps.scratch, 3 * MiB)

    def names(self):
        """The steps; fault points by their names."""
        return [args[0].removeprefix('snapshot: ')
                if name == 'faultpoints_reached' else name
                for name, args, _ in self.steps.mock_calls]

    def test_qcow2(self):
        self.flags(snapshot_image_format='qcow2', group='xen44')
        self.assertEqual(4 * MiB, self.back_up())
        self.assertEqual(
            ['snapshot__find', 'scratch.create', 'processutils_execute',
             'file made', 'monitor_execute', 'target open',
             'quiesce_freeze', 'monitor_execute', 'quiesce_thaw',
             'copy begun', 'blockjobs_wait', 'snapshot__find',
             'blockjobs_clear', 'disk copied', 'processutils_execute'],
            self.names())
        self.find.assert_called_with(base.UUID, self.disk, 7)
        self.steps.scratch.create.assert_called_once_with(4 * MiB, 3 * MiB)
        self.assertEqual([
            mock.call('qemu-img', 'create', '-q', '-f', 'qcow2', '/copy',
                      str(4 * MiB)),
            mock.call('qemu-img', 'check', '-q', '-f', 'qcow2', '/copy',
                      check_exit_code=[0, 3])],
            self.steps.processutils_execute.mock_calls)
        self.assertEqual([
            mock.call(base.UUID, 'blockdev-add', {
                'driver': 'qcow2', 'node-name': snapshot.TARGET,
                'discard': 'unmap', 'file': {
                    'driver': 'file', 'filename': '/copy',
                    'discard': 'unmap'}}, domid=7),
            mock.call(base.UUID, 'transaction', {'actions': [{
                'type': 'blockdev-backup', 'data': {
                    'job-id': snapshot.JOB, 'device': 'drive',
                    'target': snapshot.TARGET, 'sync': 'full',
                    'compress': True, 'x-perf': {'max-workers': 4},
                    'auto-dismiss': False}}]}, domid=7)],
            self.steps.monitor_execute.mock_calls)
        self.steps.blockjobs_clear.assert_called_once_with(
            base.UUID, snapshot.JOB, [snapshot.TARGET], domid=7)

    def test_raw(self):
        self.flags(snapshot_image_format='raw', group='xen44')
        self.back_up()
        self.steps.processutils_execute.assert_not_called()
        target, copy = (call.args[2] for call
                        in self.steps.monitor_execute.mock_calls)
        self.assertEqual('raw', target['driver'])
        self.assertIs(False, copy['actions'][0]['data']['compress'])

    def test_whose_job_is_waited_for(self):
        self.back_up()
        (uuid, job), options = self.steps.blockjobs_wait.call_args
        self.assertEqual((base.UUID, snapshot.JOB, 7),
                         (uuid, job, options['domid']))
        same_guest = options['same_guest']
        self.assertTrue(same_guest())
        self.guest.state.return_value = DomainState.SHUTDOWN
        self.assertFalse(same_guest())
        self.guest.state.return_value = DomainState.RUNNING
        self.guest.id = 8
        self.assertFalse(same_guest())

    def test_disk_that_became_another(self):
        """The copy ends, and is not taken for one of the PV disk."""
        self.find.side_effect = [self.find.return_value,
                                 mock.Mock(node='other', size=4 * MiB)]
        raised = self.assertRaises(errors.OperationFailed, self.back_up)
        self.assertEqual(('snapshot', base.UUID),
                         (raised.operation, raised.domain))
        self.steps.blockjobs_clear.assert_called_once_with(
            base.UUID, snapshot.JOB, [snapshot.TARGET], domid=7)
        self.assertNotIn('disk copied', self.names())

    def test_job_fails(self):
        self.steps.blockjobs_wait.side_effect = blockjobs.JobFailed('full')
        self.assertRaises(blockjobs.JobFailed, self.back_up)
        self.steps.blockjobs_clear.assert_called_once()

    def test_no_room(self):
        self.steps.scratch.create.side_effect = scratch.NoRoom('full')
        self.assertRaises(scratch.NoRoom, self.back_up)
        self.assertEqual(['snapshot__find', 'scratch.create'], self.names())


class CopyTest(base.TestCase):
    """Which way a disk is copied."""

    def setUp(self):
        super().setUp()
        self.node, self.instance = base.node(), base.instance()
        self.guest = self.node.host.guest.return_value
        self.scratch = mock.Mock()
        self.patch = {name: self.useFixture(fixtures.MockPatchObject(
            snapshot, name)).mock for name in (
                '_back_up', '_copy_file', '_convert', '_most', '_size')}
        for where, name in ((snapshot.disks, 'ensure_bases'),
                            (snapshot.monitor, 'wait_until_closed')):
            self.patch[name] = self.useFixture(
                fixtures.MockPatchObject(where, name)).mock
        self.patch['_most'].return_value = 5

    def copy(self, state, **values):
        self.guest.state.return_value = state
        self.machine = machine.Machine(guest_type='pvh', disks=(
            kinds.DiskRecord(kind='clone', name='/dev/xvda', target='xvda',
                             file='disk.raw', format='raw'),), **values)
        return snapshot._copy(self.node, 'context', self.instance,
                              self.machine, self.scratch)

    def test_off(self):
        """What is written last is in the copy."""
        self.assertIs(self.patch['_size'].return_value,
                      self.copy(DomainState.SHUTDOWN))
        self.patch['ensure_bases'].assert_called_once_with(
            self.node, 'context', self.machine)
        self.patch['wait_until_closed'].assert_called_once_with(base.UUID)
        self.scratch.create.assert_called_once_with(0, 5)
        self.patch['_convert'].assert_called_once_with(
            os.path.join(self.instances, base.UUID, 'disk.raw'), 'raw',
            self.scratch)

    def test_by_qemu(self):
        for state in (DomainState.RUNNING, DomainState.PAUSED):
            self.assertIs(self.patch['_back_up'].return_value,
                          self.copy(state))
            (node, instance, guest, disk, file, need), _ = (
                self.patch['_back_up'].call_args)
            self.assertEqual(
                (self.node, self.instance, self.guest, 'xvda', self.scratch,
                 5), (node, instance, guest, disk.target, file, need))
        self.patch['_convert'].assert_not_called()

    def test_by_kernel(self):
        self.assertIs(
            self.patch['_copy_file'].return_value,
            self.copy(DomainState.RUNNING, disk_class=DiskClass.KERNEL))
        self.patch['_back_up'].assert_not_called()
        (node, instance, state, root, file, need), _ = (
            self.patch['_copy_file'].call_args)
        self.assertEqual(
            (self.node, self.instance, DomainState.RUNNING, 'xvda',
             self.scratch, 5),
            (node, instance, state, root.record.target, file, need))


class RefusalTest(base.TestCase):

    def test_no_record(self):
        update, node = mock.Mock(), base.node()
        arguments = (node, mock.Mock(), base.instance(), base.IMAGE, update)
        node.host.records.return_value = {base.UUID: None}
        self.assertRaisesRegex(
            errors.OperationFailed, 'reboot it hard once',
            snapshot.snapshot, *arguments)
        node.host.records.return_value = {}
        self.assertRaises(
            exception.InstanceNotRunning, snapshot.snapshot, *arguments)
        update.assert_not_called()


class AbandonTest(base.TestCase):
    """Cancelling where there may be no QEMU any more."""

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MockPatchObject(
            privsep, 'execute_monitor',
            side_effect=qmp.MonitorUnavailable('refused')))

    def test_another_or_no_guest(self):
        gone = errors.DomainNotFound(base.UUID)
        for same in (mock.Mock(return_value=False),
                     mock.Mock(side_effect=gone)):
            snapshot._abandon(base.UUID, 7, same)

    def test_same_guest(self):
        self.assertRaises(
            qmp.MonitorUnavailable, snapshot._abandon, base.UUID, 7,
            mock.Mock(return_value=True))


class FrozenTest(base.TestCase):
    """File systems are frozen for the moment that the copy is of."""

    def setUp(self):
        super().setUp()
        self.node = base.node()
        self.freeze, self.thaw = (
            self.useFixture(fixtures.MockPatchObject(
                snapshot.quiesce, name)).mock for name in ('freeze', 'thaw'))

    def copy(self, *, required):
        instance = base.instance()
        instance.system_metadata['image_os_require_quiesce'] = str(required)
        with snapshot._frozen(self.node, instance):
            self.freeze.assert_called_once_with(self.node, instance)
            self.thaw.assert_not_called()

    def test_thawed_whatever_happens(self):
        for thaws in (None, exception.InstanceQuiesceFailed(reason='')):
            self.freeze.reset_mock()
            self.thaw.reset_mock()
            self.thaw.side_effect = thaws
            self.copy(required=True)
            self.thaw.assert_called_once()

    def test_no_agent(self):
        for error in (exception.QemuGuestAgentNotEnabled(),
                      exception.InstanceQuiesceFailed(reason='')):
            self.freeze.reset_mock()
            self.freeze.side_effect = error
            self.copy(required=False)
            self.thaw.assert_not_called()
            self.assertRaises(type(error), self.copy, required=True)


class MetadataTest(base.TestCase):

    def test_kernel_and_system(self):
        found = snapshot._metadata(base.instance(
            kernel_id='k', ramdisk_id='', os_type='windows'), 2)
        self.assertEqual(2, found['min_disk'])
        self.assertEqual(
            {'image_location': 'snapshot', 'image_state': 'available',
             'owner_id': 'project', 'kernel_id': 'k', 'os_type': 'windows'},
            found['properties'])
