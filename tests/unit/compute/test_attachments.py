# SPDX-License-Identifier: Apache-2.0
"""Volumes are attached, detached and extended, whatever goes wrong."""

import dataclasses
import os
from unittest import mock

import fixtures
from nova import exception
from nova import objects
from oslo_serialization import jsonutils

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import attachments
from xen44_driver.compute import connections
from xen44_driver.compute import disklimits
from xen44_driver.compute import machine
from xen44_driver.compute import node as node_lib
from xen44_driver.compute import tags
from xen44_driver.core import backends
from xen44_driver.core import monitor
from xen44_driver.storage import kinds
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen import xenstore
from xen44_driver.xen.diskclass import DiskClass
from xen44_driver.xen.domain import disk as disk_lib
from xen44_driver.xen.domain import xml
from xen44_driver.xen.events import DomainState
from xen44_driver.xen.guesttype import GuestType

ROOT = kinds.DiskRecord(
    kind='overlay', name='/dev/xvda', target='xvda', file='disk.qcow2',
    format='qcow2')
LINK = f'/run/xen44/volumes/{base.UUID}/{base.VOLUME}'
MINE = domain.Disk(target='xvdb', source=LINK, type='block',
                   serial=base.VOLUME)
NAME = '/dev/xvdb'


class Guest:
    """A domain: what libvirt lists, and what the guest really has.

    :ivar has: targets and xenstore entries of the disks that it has.
    :ivar fail: errors by what is attempted, such as ``('attach', True)``.
    :ivar holds: how often it keeps what is detached.
    """

    uuid = base.UUID
    name = 'instance-1'

    def __init__(self):
        self.id = 7
        self.power = DomainState.RUNNING
        self.defined, self.live = [], []
        self.has = {}
        self.fail = {}
        self.holds = 0
        self.calls = []

    def off(self):
        self.id, self.power = None, DomainState.SHUTDOWN
        self.live, self.has = [], {}

    def state(self):
        return self.power

    def disks(self, *, live):
        return tuple(self.live if live else self.defined)

    def attach_device(self, text, *, live):
        self.calls.append(('attach', live))
        disk = disk_lib.from_xml(xml.parse(text))
        if live:
            # libxl leaves its entries after a failure.
            self.has[disk.target] = {'sectors': 2048}
        self.raise_if(('attach', live))
        (self.live if live else self.defined).append(disk)

    def detach_device(self, text, *, live):
        self.calls.append(('detach', live))
        self.raise_if(('detach', live))
        disk = disk_lib.from_xml(xml.parse(text))
        if live and self.has.pop(disk.target, None) and self.holds:
            # It was taken away after all; libvirt has not noticed.
            raise errors.OperationFailed('detach', base.UUID, 1, 'timeout')
        (self.live if live else self.defined).remove(disk)

    def raise_if(self, attempt):
        if attempt in self.fail:
            raise self.fail[attempt]


class AttachmentsCase(base.TestCase):

    def setUp(self):
        super().setUp()
        self.node = base.node()
        self.guest = Guest()
        self.node.host.guest.return_value = self.guest
        self.instance = base.instance(host='xen1')
        self.flags(host='xen1')
        self.instance.save = mock.Mock()
        machine.keep(self.instance, machine.Machine(
            guest_type=GuestType.PVH, disks=(ROOT,)))
        self.info = base.connection_info()
        self.mapping = mock.Mock()
        for where, name, double in (
                (objects.BlockDeviceMapping, 'get_by_volume_and_instance',
                 mock.Mock(return_value=self.mapping)),
                (privsep, 'read_backends', self.read),
                (privsep, 'detach_disk', mock.Mock(side_effect=self.xl)),
                (privsep, 'read_log_end', mock.Mock(return_value=b'')),
                (privsep, 'volume_is_linked', mock.Mock(return_value=True)),
                (node_lib, '_PAUSE', 0),
                (connections, 'connect', mock.Mock()),
                (connections, 'disconnect', mock.Mock()),
                (backends, 'wait_until_open', mock.Mock()),
                (monitor, 'execute', mock.Mock(return_value=[])),
                (tags, 'record', mock.Mock()),
                (attachments, 'GONE_TIMEOUT', 0),
                (attachments, 'EXTEND_TIMEOUT', 0)):
            self.useFixture(fixtures.MockPatchObject(where, name, double))

    def read(self, domid, kind):
        return '\n'.join(
            f'/local/domain/0/backend/vbd/{domid}/'
            f'{xenstore.disk_number(target)}/{key} = "{value}"'
            for target, values in self.guest.has.items()
            for key, value in {'dev': target, **values}.items()
            ) if kind == 'vbd' else ''

    def xl(self, domid, target):
        self.guest.has.pop(target)

    def volumes(self):
        return [disk.volume_id for disk
                in machine.recall(self.instance).disks if disk.volume_id]

    def attach(self):
        attachments.attach(self.node, 'context', self.instance, self.info,
                           NAME, encryption=None)

    def detach(self):
        attachments.detach(self.node, self.instance, self.info)

    def assert_there(self):
        self.assertEqual([MINE], self.guest.defined)
        self.assertEqual([base.VOLUME], self.volumes())
        connections.disconnect.assert_not_called()

    def assert_nothing_left(self):
        self.assertEqual([], self.guest.defined)
        self.assertEqual([], self.guest.live)
        self.assertEqual({}, self.guest.has)
        self.assertEqual([], self.volumes())
        connections.disconnect.assert_called_once()


class AttachTest(AttachmentsCase):

    def test_running(self):
        self.attach()
        self.assert_there()
        self.assertEqual([MINE], self.guest.live)
        # Nova knows how it is connected before it is.
        self.assertEqual(base.VOLUME, jsonutils.loads(
            self.mapping.connection_info)['serial'])
        tags.record.assert_called_once()

    def test_off(self):
        self.guest.off()
        self.attach()
        self.assert_there()
        self.assertEqual([('attach', False)], self.guest.calls)

    def test_refused_before_anything(self):
        self.info = base.connection_info(kind='vmdk')
        self.assertRaises(exception.InvalidVolume, self.attach)
        self.assertEqual([], self.guest.calls)
        connections.connect.assert_not_called()
        self.mapping.save.assert_not_called()

    def test_name_of_another_disk(self):
        self.assertRaises(
            exception.InvalidVolume, attachments.attach, self.node, 'context',
            self.instance, self.info, '/dev/xvda', encryption=None)

    def test_libxl_fails(self):
        """It leaves its entries, and libvirt lists nothing."""
        self.guest.fail['attach', True] = errors.OperationFailed(
            'attach', base.UUID, 1, 'libxenlight failed')
        self.assertRaises(errors.OperationFailed, self.attach)
        privsep.detach_disk.assert_called_once_with(7, 'xvdb')
        self.assert_nothing_left()

    def test_qemu_does_not_open_it(self):
        self.info = base.connection_info(kind='nfs')
        backends.wait_until_open.side_effect = backends.DiskNotOpened(
            MINE, 'no such file')
        self.assertRaises(backends.DiskNotOpened, self.attach)
        self.assertEqual([], self.guest.live)
        self.assertEqual([], self.volumes())
        connections.disconnect.assert_called_once()

    def test_limits(self):
        self.info = base.connection_info(
            kind='nfs', qos_specs={'total_iops_sec': '7'})
        limits = {base.VOLUME: disklimits.Limits(total_iops_sec=7)}
        failed = errors.OperationFailed('block', base.UUID, None, 'x')
        with mock.patch.object(privsep, 'read_backends', return_value=(
                f'/local/domain/0/backend/qdisk/7/'
                f'{xenstore.disk_number("xvdb")}/dev = "xvdb"')), \
                mock.patch.object(disklimits, 'apply') as apply:
            self.attach()
            apply.assert_called_once_with(
                base.UUID, [dataclasses.replace(
                    MINE, type='file', by_kernel=False)],
                disklimits.NONE, limits, domid=7)
            self.detach_quietly()

            def reboot(*_args, **_options):
                self.guest.id = 8
                raise failed

            apply.side_effect = reboot
            self.attach()
        with mock.patch.object(disklimits, 'apply', side_effect=failed):
            self.detach_quietly()
            self.assertRaises(errors.OperationFailed, self.attach)
        self.assertEqual([], self.guest.live)

    def detach_quietly(self):
        with mock.patch.object(privsep, 'read_backends', return_value=''):
            self.detach()

    def test_backend_reports_an_error(self):
        attach = self.guest.attach_device

        def fail(text, *, live):
            attach(text, live=live)
            if live:
                self.guest.has['xvdb']['hotplug-error'] = 'in use'

        self.guest.attach_device = fail
        raised = self.assertRaises(errors.OperationFailed, self.attach)
        self.assertIn('in use', str(raised))
        self.assertEqual(base.UUID, raised.domain)
        self.assert_nothing_left()

    def test_guest_that_rebooted_meanwhile(self):
        attach = self.guest.attach_device

        def reboot(text, *, live):
            if live:
                self.guest.id = 8
                self.guest.has['xvdb'] = {}
                raise errors.OperationFailed('attach', base.UUID, 1, 'gone')
            attach(text, live=live)

        self.guest.attach_device = reboot
        self.attach()
        self.assert_there()

    def test_libvirtd_restarts_meanwhile(self):
        """It is waited for; then what was made is unmade."""
        away = errors.ConnectionFailed('xen:///', 'end of file')
        answers = iter([self.guest.power, away, away])
        self.guest.fail['attach', True] = away

        def state():
            answer = next(answers, DomainState.RUNNING)
            if isinstance(answer, Exception):
                raise answer
            return answer

        self.guest.state = state
        self.assertRaises(errors.ConnectionFailed, self.attach)
        self.assert_nothing_left()

    def test_what_cannot_be_taken_away_stays_connected(self):
        self.guest.fail['attach', True] = errors.OperationFailed(
            'attach', base.UUID, 1, 'libxenlight failed')
        privsep.detach_disk.side_effect = OSError('xl failed')
        self.assertRaises(errors.OperationFailed, self.attach)
        self.assert_there()


class DetachTest(AttachmentsCase):

    def setUp(self):
        super().setUp()
        self.attach()
        self.guest.calls.clear()

    def test_running(self):
        self.detach()
        self.assertEqual([('detach', False), ('detach', True)],
                         self.guest.calls)
        self.assert_nothing_left()

    def test_second_call(self):
        """libxl took it away after ten seconds, and libvirt has it still."""
        self.guest.holds = 1
        self.detach()
        self.assertEqual(2, self.guest.calls.count(('detach', True)))
        self.assert_nothing_left()

    def test_never_connected(self):
        """Nova was interrupted before it told this host of the volume."""
        attachments.detach(self.node, self.instance, {})
        self.assert_there()

    def test_emulated(self):
        self.guest.live = self.guest.defined = [
            dataclasses.replace(MINE, target='hdb')]
        raised = self.assertRaises(exception.DeviceDetachFailed, self.detach)
        self.assertIn('stop the instance', str(raised))
        self.assertEqual([], self.guest.calls)
        connections.disconnect.assert_not_called()
        self.guest.off()
        self.detach()
        self.assert_nothing_left()

    def test_off(self):
        self.guest.off()
        with mock.patch.object(monitor, 'wait_until_closed') as wait:
            self.detach()
        wait.assert_called_once_with(base.UUID)
        self.assert_nothing_left()

    def test_no_domain(self):
        self.node.host.guest.side_effect = errors.DomainNotFound(base.UUID)
        self.detach()
        self.assertEqual([], self.volumes())
        connections.disconnect.assert_called_once()

    def test_twice(self):
        self.detach()
        self.detach()
        self.assertEqual(2, connections.disconnect.call_count)

    def test_libvirt_does_not_list_it(self):
        self.guest.defined, self.guest.live = [], []
        self.detach()
        privsep.detach_disk.assert_called_once_with(7, 'xvdb')
        self.assert_nothing_left()

    def test_guest_does_not_let_go(self):
        self.guest.fail['detach', True] = errors.OperationFailed(
            'detach', base.UUID, 1, 'timeout')
        privsep.detach_disk.side_effect = OSError('xl failed')
        raised = self.assertRaises(exception.DeviceDetachFailed, self.detach)
        self.assertIn('xl failed', str(raised))
        self.assert_there()

    def test_instance_of_another_host(self):
        """The record is that of the guest, which has it there."""
        self.instance.host = 'xen2'
        self.node.host.guest.side_effect = errors.DomainNotFound(base.UUID)
        self.detach()
        self.assertEqual([base.VOLUME], self.volumes())
        connections.disconnect.assert_called_once()

    def test_root(self):
        """A rebuild takes it away and brings it back."""
        decided = machine.recall(self.instance)
        machine.keep(self.instance, machine.Machine(
            guest_type=GuestType.PVH, disks=decided.disks[1:]))
        self.node.host.guest.side_effect = errors.DomainNotFound(base.UUID)
        self.detach()
        self.assertEqual([base.VOLUME], self.volumes())


class ExtendTest(AttachmentsCase):

    def setUp(self):
        super().setUp()
        self.attach()
        self.calls = self.useFixture(fixtures.MockPatchObject(
            connections, 'extend', return_value=4096 * 512)).mock

    def extend(self):
        attachments.extend(self.node, 'context', self.instance, self.info,
                           4096 * 512)

    def test_block(self):
        self.assertRaises(exception.VolumeExtendFailed, self.extend)
        self.guest.has['xvdb']['sectors'] = 4096
        self.extend()
        # A guest without a driver has no sectors.
        del self.guest.has['xvdb']['sectors']
        self.extend()

    def test_block_of_a_guest_that_is_off(self):
        self.guest.off()
        self.extend()

    def test_not_connected(self):
        """The host was rebooted; the next start sees the size."""
        privsep.volume_is_linked.return_value = False
        self.guest.off()
        self.extend()
        self.calls.assert_not_called()

    def test_not_attached(self):
        self.detach()
        self.assertRaises(exception.VolumeExtendFailed, self.extend)
        self.calls.assert_not_called()

    def with_file(self):
        self.detach()
        path = os.path.join(self.instances, 'volume')
        with open(path, 'wb') as file:
            file.truncate(1024)
        self.info = base.connection_info(kind='nfs', device_path=path)
        self.calls.return_value = None
        return path

    def test_file_of_a_guest_that_is_off(self):
        path = self.with_file()
        self.guest.off()
        self.attach()
        self.extend()
        self.assertEqual(4096 * 512, os.path.getsize(path))

    def test_file_by_kernel(self):
        self.with_file()
        machine.keep(self.instance, dataclasses.replace(
            machine.recall(self.instance), disk_class=DiskClass.KERNEL))
        # It is where block devices are.
        self.attach()
        self.assertTrue(self.guest.defined[0].by_kernel)
        raised = self.assertRaises(
            exception.VolumeExtendFailed, self.extend)
        self.assertIn('while the instance is off', str(raised))
        self.guest.off()
        self.extend()

    def test_file(self):
        self.with_file()
        with mock.patch.object(privsep, 'read_backends', return_value=(
                f'/local/domain/0/backend/qdisk/7/'
                f'{xenstore.disk_number("xvdb")}/dev = "xvdb"')):
            self.attach()
        node = {'qdev': '/machine/x', 'device': '', 'inserted': {
            'file': LINK, 'node-name': 'xvdb-raw',
            'image': {'virtual-size': 1024}}}
        with mock.patch.object(
                monitor, 'execute', return_value=[node]) as execute:
            self.extend()
        execute.assert_called_with(
            base.UUID, 'block_resize',
            {'node-name': 'xvdb-raw', 'size': 4096 * 512}, domid=7)
        with mock.patch.object(monitor, 'execute', return_value=[]):
            self.assertRaises(exception.VolumeExtendFailed, self.extend)


class NameTest(AttachmentsCase):

    def test_next_name(self):
        self.assertEqual('/dev/xvdb', attachments.next_name(
            self.node, self.instance, []))
        machine.keep(self.instance, machine.Machine(
            guest_type=GuestType.HVM, disks=(ROOT,)))
        self.assertEqual('/dev/xvdf', attachments.next_name(
            self.node, self.instance, [mock.Mock(device_name='/dev/xvde')]))

    def test_resize_that_can_be_reverted(self):
        """The disks that come back keep their names."""
        machine.keep(self.instance, machine.Machine(
            guest_type=GuestType.PVH, disks=(ROOT, dataclasses.replace(
                ROOT, name='/dev/xvdb', file='disk.swap'))),
            machine.BEFORE_RESIZE)
        self.assertEqual('/dev/xvdc', attachments.next_name(
            self.node, self.instance, []))
