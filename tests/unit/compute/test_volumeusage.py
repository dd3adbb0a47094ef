# SPDX-License-Identifier: Apache-2.0
"""What instances read from volumes and write to them."""

import fixtures

from tests.unit import base
from xen44_driver.compute import machine
from xen44_driver.compute import volumeusage
from xen44_driver.core import monitor
from xen44_driver.storage import kinds
from xen44_driver.xen import statistics
from xen44_driver.xen.guesttype import GuestType

ROOT = kinds.DiskRecord(
    kind='clone', name='/dev/xvda', target='xvda', file='disk.raw')
DATA = kinds.DiskRecord(
    kind='volume', name='/dev/xvdb', target='xvdb', file='/run/volume',
    volume_id=base.VOLUME, block=True)


class UsageTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.node = base.node()
        self.node.host.guest.return_value.statistics.return_value = (
            statistics.Statistics(
                max_memory_mib=256, memory_mib=192, cpu_times=(),
                interfaces=(), disks=(statistics.Disk(
                    target='xvdb', read_bytes=512, read_requests=1,
                    write_bytes=1024, write_requests=2),)))
        self.useFixture(fixtures.MockPatchObject(
            monitor, 'block_statistics', return_value={}))
        self.instance = base.instance()
        machine.keep(self.instance, machine.Machine(
            guest_type=GuestType.PVH, disks=(ROOT, DATA)))

    def usage(self):
        return [(found['volume'], found['rd_bytes'], found['wr_req'])
                for found in volumeusage.of_all(self.node, [{
                    'instance': self.instance, 'instance_bdms': [
                        {'volume_id': base.VOLUME,
                         'device_name': '/dev/xvdb'}]}])]

    def test_all(self):
        self.assertEqual([(base.VOLUME, 512, 2)], self.usage())
        self.assertEqual([1, 512, 2, 1024, 0], volumeusage.of_disk(
            self.node, self.instance, 'xvdb'))

    def test_not_known(self):
        """No such disk, or one of which nobody counts anything."""
        self.assertIsNone(volumeusage.of_disk(
            self.node, self.instance, 'xvdc'))
        self.node.host.guest.return_value.statistics.return_value = (
            statistics.Statistics(
                max_memory_mib=256, memory_mib=192, cpu_times=(),
                interfaces=(), disks=(statistics.Disk(target='xvdb'),)))
        self.assertIsNone(volumeusage.of_disk(
            self.node, self.instance, 'xvdb'))
        self.assertEqual([], self.usage())

    def test_rescued(self):
        """Then the instance's own root disk has that name."""
        self.instance.vm_state = 'rescued'
        machine.keep(self.instance, machine.Machine(
            guest_type=GuestType.PVH, disks=(ROOT,), rescue=True),
            machine.RESCUE)
        self.assertEqual([], self.usage())
