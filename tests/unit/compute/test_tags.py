# SPDX-License-Identifier: Apache-2.0
"""What guests are told of their tagged devices."""

from unittest import mock

from nova import objects

from tests.unit import base
from xen44_driver.compute import machine
from xen44_driver.compute import tags
from xen44_driver.storage import kinds
from xen44_driver.xen.guesttype import GuestType

MAC = 'fa:16:3e:00:00:01'
MACHINE = machine.Machine(guest_type=GuestType.HVM, disks=(
    kinds.DiskRecord(kind='overlay', name='/dev/xvda', file='disk.qcow2',
                     target='hda'),
    kinds.DiskRecord(kind='blank', name='/dev/xvdq', file='disk.eph0',
                     target='xvdq'),
    kinds.DiskRecord(kind='blank', name='/dev/xvdb', file='disk.swap',
                     target='hdb')))


class TagsTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.instance = base.instance(device_metadata=None)
        patcher = mock.patch.object(objects.Instance, 'save')
        self.save = patcher.start()
        self.addCleanup(patcher.stop)
        self.vifs = [
            objects.VirtualInterface(address=MAC, tag='inside'),
            objects.VirtualInterface(address='fa:16:3e:00:00:02', tag=None)]
        self.disks = [
            objects.BlockDeviceMapping(device_name='/dev/xvda', tag='root'),
            objects.BlockDeviceMapping(device_name='xvdq', tag='data'),
            objects.BlockDeviceMapping(device_name='/dev/xvdb', tag=None)]
        for kind, found in (
                (objects.VirtualInterfaceList, self.vifs),
                (objects.BlockDeviceMappingList, self.disks)):
            patcher = mock.patch.object(
                kind, 'get_by_instance_uuid',
                side_effect=lambda context, uuid, found=found: {
                    ('context', base.UUID): found}[context, uuid])
            patcher.start()
            self.addCleanup(patcher.stop)

    def told(self):
        return [(device.tags, getattr(device, 'mac', None)
                 or (device.path, device.bus.address))
                for device in self.instance.device_metadata.devices]

    def test_all(self):
        tags.record('context', self.instance, MACHINE)
        self.assertEqual(
            [(['inside'], MAC), (['root'], ('/dev/xvda', '768')),
             (['data'], ('/dev/xvdq', '268439552'))], self.told())
        self.save.assert_called_once_with()

    def test_none(self):
        del self.vifs[0]
        del self.disks[:2]
        tags.record('context', self.instance, MACHINE)
        self.assertIsNone(self.instance.device_metadata)
        self.save.assert_not_called()

    def test_interfaces(self):
        tags.record('context', self.instance, MACHINE)
        tags.forget_interface(self.instance, MAC)
        self.assertEqual(['root', 'data'],
                         [tag for (tag,), _ in self.told()])
        tags.forget_interface(self.instance, MAC)
        self.vifs[1].tag = 'outside'
        tags.record_interfaces('context', self.instance)
        self.assertEqual(['inside', 'outside', 'root', 'data'],
                         [tag for (tag,), _ in self.told()])
