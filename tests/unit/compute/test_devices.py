# SPDX-License-Identifier: Apache-2.0
"""Names of disks, for Nova and for guests."""

from unittest import mock

from nova import exception

from tests.unit import base
from xen44_driver.compute import devices
from xen44_driver.xen import arch
from xen44_driver.xen.guesttype import GuestType

PV, PVH, HVM = GuestType
X86 = arch.load('x86_64')


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
        raised = self.assertRaises(
            exception.TooManyDiskDevices, devices.next_name, every[:2])
        self.assertIn('(2)', str(raised))
        self.assertEqual('/dev/xvdb', devices.next_name(every[:1]))

    def test_assign(self):
        root = mapping(boot_index=0, device_name='/dev/vda')
        ephemeral, swap = mapping(), mapping(device_name='/dev/xvdq')
        server = base.instance()
        devices.assign(server, [root], [ephemeral], [swap], [])
        self.assertEqual('/dev/xvda', root.device_name)
        self.assertEqual('/dev/xvdb', ephemeral.device_name)
        self.assertEqual('/dev/xvdc', swap.device_name)
        self.assertEqual('/dev/xvda', server.root_device_name)

    def test_iso_keeps_c_for_the_cdrom(self):
        server = base.instance(
            system_metadata={'image_disk_format': 'iso'})
        disks = [mapping(), mapping()]
        devices.assign(server, disks)
        self.assertEqual(['/dev/xvdb', '/dev/xvde'],
                         [disk.device_name for disk in disks])

    def test_volumes_are_not_emulated(self):
        volume = {'destination_type': 'volume'}
        disks = [mapping(**volume, boot_index=0), mapping(),
                 mapping(**volume), mapping(**volume)]
        devices.assign(base.instance(), disks, emulated='abcd')
        self.assertEqual(
            ['/dev/xvda', '/dev/xvdb', '/dev/xvde', '/dev/xvdf'],
            [disk.device_name for disk in disks])

    def test_letters_to_avoid(self):
        self.assertEqual('/dev/xvde', devices.next_name(
            ['/dev/xvda'], avoid='abcd'))


class KindsTest(base.TestCase):

    def test_only_disks(self):
        devices.check_kinds(None)
        for kind in (None, 'disk'):
            devices.check_kinds({'block_device_mapping': [
                {'device_type': kind}], 'ephemerals': [{}]})
        for name in ('block_device_mapping', 'ephemerals'):
            raised = self.assertRaises(
                exception.InvalidInput, devices.check_kinds,
                {name: [{'device_type': 'cdrom'}]})
            self.assertIn("'cdrom'; allowed: disk", str(raised))


class TargetsTest(base.TestCase):

    def target(self, name, kind, bus=None):
        return devices.target(name, X86.profile(kind), bus)

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
