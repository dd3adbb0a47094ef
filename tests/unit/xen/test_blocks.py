# SPDX-License-Identifier: Apache-2.0
"""Disks in the answers of a guest's QEMU."""

from oslotest import base

from xen44_driver.xen import blocks
from xen44_driver.xen import domain

PATH = '/var/lib/nova/instances/x/disk.qcow2'
DISK = domain.Disk(target='xvda', source=PATH, format='qcow2')


def entry(node, *, file=PATH, device='', qdev='/machine/unattached/device[1]'):
    return {'device': device, 'qdev': qdev, 'inserted': {
        'node-name': node, 'file': file, 'image': {'virtual-size': 4096}}}


PV = entry('xvda-qcow2')
EMULATED = entry('#block123', device='ide0-hd0')


class InUseTest(base.BaseTestCase):

    def node(self, *entries):
        found = blocks.in_use(entries, DISK)
        return found and found.node

    def test_pv(self):
        self.assertEqual('xvda-qcow2', self.node(
            {'device': 'ide1-cd0', 'qdev': 'x'}, PV,
            entry('xvdb-raw', file='/other')))
        self.assertEqual(
            blocks.Attached(device='/machine/unattached/device[1]',
                            node='xvda-qcow2', emulated=False, size=4096,
                            throttle=dict.fromkeys(blocks.THROTTLE, 0)),
            blocks.in_use([PV], DISK))

    def test_throttle(self):
        limited = entry('xvda-qcow2')
        limited['inserted'] |= {'bps': 5, 'iops_wr': 7, 'bps_max': 9}
        self.assertEqual(
            {'bps': 5, 'bps_rd': 0, 'bps_wr': 0, 'iops': 0, 'iops_rd': 0,
             'iops_wr': 7}, blocks.in_use([limited], DISK).throttle)

    def test_emulated_first(self):
        for order in ((PV, EMULATED), (EMULATED, PV)):
            self.assertEqual('#block123', self.node(*order))

    def test_unplugged(self):
        self.assertEqual('xvda-qcow2', self.node(
            entry('#block123', device='ide0-hd0', qdev=''), PV))

    def test_by_the_name_of_the_node(self):
        self.assertEqual('xvda-qcow2', self.node(
            entry('xvda-qcow2', file='json:{}')))

    def test_none(self):
        self.assertIsNone(self.node(entry('xvdb-raw', file='/other')))


class StatisticsTest(base.BaseTestCase):

    def test_both_devices_of_a_disk(self):
        other = domain.Disk(target='xvdb', source='/other')
        gone = domain.Disk(target='xvdc', source='/gone')
        counters = [
            {'node-name': node, 'stats': {
                'rd_bytes': 512, 'rd_operations': 1, 'wr_bytes': 1024,
                'wr_operations': 2, 'flush_operations': 3}}
            for node in ('xvda-qcow2', '#block123', 'xvdb-raw')]
        found = blocks.statistics(
            [PV, EMULATED, entry('xvdb-raw', file='/other'),
             entry('xvdc-raw', file='/gone')], counters,
            [DISK, other, gone])
        self.assertEqual({
            'xvda': blocks.Statistics(
                read_bytes=1024, read_requests=2, write_bytes=2048,
                write_requests=4, flush_requests=6),
            'xvdb': blocks.Statistics(
                read_bytes=512, read_requests=1, write_bytes=1024,
                write_requests=2, flush_requests=3)}, found)
