# SPDX-License-Identifier: Apache-2.0
"""Names of disks, for Nova and for guests."""

from unittest import mock

from nova import exception

from tests.unit import base
from xen44_driver.compute import devices
from xen44_driver.xen.guesttype import GuestType

PV, PVH, HVM = GuestType


def mapping(**values):
    return mock.Mock(**{
        'destination_type': 'local', 'volume_id': None, 'boot_index': -1,
        'device_name': None, **values})


class NamesTest(base.TestCase):

    def test_next_name_keeps_d_for_the_config_drive(self):
        used = []
        for _ in range(4):
            used.append(devices.next_name(used))
        self.assertEqual(
            ['/dev/xvda', '/dev/xvdb', '/dev/xvdc', '/dev/xvde'], used)

    def test_gaps_and_other_prefixes(self):
        self.assertEqual(
            '/dev/xvdb', devices.next_name(['/dev/vda', 'sdc1']))

    def test_too_many(self):
        every = [f'/dev/xvd{letter}' for letter in devices.LETTERS]
        self.assertRaises(
            exception.TooManyDiskDevices, devices.next_name, every)
        self.flags(max_disk_devices_to_attach=2, group='compute')
        self.assertRaises(
            exception.TooManyDiskDevices, devices.next_name, every[:2])

    def test_assign(self):
        root = mapping(boot_index=0, device_name='/dev/vda')
        ephemeral, swap = mapping(), mapping(device_name='/dev/xvdq')
        server = base.instance()
        devices.assign(server, [root], [ephemeral], [swap], [])
        self.assertEqual('/dev/xvda', root.device_name)
        self.assertEqual('/dev/xvdb', ephemeral.device_name)
        self.assertEqual('/dev/xvdc', swap.device_name)
        self.assertEqual('/dev/xvda', server.root_device_name)

    def test_volume_is_refused_before_anything_is_named(self):
        root = mapping(boot_index=0)
        volume = mapping(destination_type='volume', volume_id='a-volume')
        raised = self.assertRaises(
            exception.InvalidBDM, devices.assign, base.instance(),
            [root], [volume])
        self.assertIn('a-volume', str(raised))
        root.save.assert_not_called()


class DisksTest(base.TestCase):

    def target(self, name, kind, bus=None):
        return devices.disk(
            name, kind, source='/disk', format='raw', bus=bus).target

    def test_hvm_boots_from_emulated_disks(self):
        self.assertEqual('hda', self.target('/dev/xvda', HVM))
        self.assertEqual('hdc', self.target('/dev/xvdc', HVM))
        self.assertEqual('xvde', self.target('/dev/xvde', HVM))
        for kind in (PV, PVH):
            self.assertEqual('xvda', self.target('/dev/xvda', kind))

    def test_bus_of_emulated_disks(self):
        for bus in (None, 'xen', 'ide'):
            self.assertEqual('hdb', self.target('/dev/xvdb', HVM, bus))
        self.assertEqual('sda', self.target('/dev/xvda', HVM, 'scsi'))
        self.assertEqual('xvde', self.target('/dev/xvde', HVM, 'scsi'))

    def config_drive(self, kind):
        disk = devices.config_drive(kind, source='/disk', format='raw')
        # QEMU's xen-disk refuses what is read-only.
        self.assertEqual(disk.device == 'cdrom', disk.readonly)
        return disk.target, disk.device

    def test_config_drive(self):
        self.assertEqual(('hdd', 'cdrom'), self.config_drive(HVM))
        self.assertEqual(('xvdd', 'disk'), self.config_drive(PV))
        self.flags(config_drive_format='vfat')
        self.assertEqual(('xvdz', 'disk'), self.config_drive(HVM))
