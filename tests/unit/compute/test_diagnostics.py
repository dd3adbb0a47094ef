# SPDX-License-Identifier: Apache-2.0
"""Statistics in Nova's words."""

import fixtures
from oslo_utils import timeutils

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import diagnostics
from xen44_driver.compute import machine
from xen44_driver.storage import kinds
from xen44_driver.xen import qmp
from xen44_driver.xen import statistics
from xen44_driver.xen.events import DomainState

DISKS = (
    kinds.DiskRecord(kind='clone', name='/dev/xvda', target='xvda',
                     file='disk.raw'),
    kinds.DiskRecord(kind='config', name='/dev/xvdd', target='xvdd',
                     file='disk.config'))
DIRECTION = statistics.Direction(octets=10, packets=2, errors=1, drop=0)
FOUND = statistics.Statistics(
    max_memory_mib=256, memory_mib=192, cpu_times=(5, 6),
    interfaces=(
        statistics.Interface(mac='00:16:3e:00:00:01', received=DIRECTION,
                             sent=DIRECTION),
        statistics.Interface(mac='00:16:3e:00:00:02')),
    disks=(statistics.Disk(target='xvda'),
           statistics.Disk(target='xvdd', read_bytes=12288, read_requests=3,
                           write_bytes=0, write_requests=0)))


class DiagnosticsTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.node = base.node()
        guest = self.node.host.guest.return_value
        guest.state.return_value = DomainState.RUNNING
        guest.statistics.return_value = FOUND
        self.answer = [
            {'device': '', 'qdev': '/x', 'inserted': {
                'node-name': 'xvda-raw', 'image': {'virtual-size': 1}}}], [
            {'node-name': 'xvda-raw', 'stats': {
                'rd_bytes': 512, 'rd_operations': 1, 'wr_bytes': 1024,
                'wr_operations': 2}}]
        self.execute = self.useFixture(fixtures.MockPatchObject(
            privsep, 'execute_monitor',
            side_effect=lambda *_: self.answer)).mock
        self.instance = base.instance()
        machine.keep(self.instance, machine.Machine(
            guest_type='pv', disks=DISKS))

    def test_object(self):
        made = diagnostics.instance_diagnostics(self.node, self.instance)
        self.assertEqual(
            ('running', 'libvirt', 'xen', True, None),
            (made.state, made.driver, made.hypervisor, made.config_drive,
             made.uptime))
        self.assertEqual((256, 192), (made.memory_details.maximum,
                                      made.memory_details.used))
        self.assertEqual((2, 2, 2),
                         (made.num_cpus, made.num_nics, made.num_disks))
        self.assertEqual([5, 6], [cpu.time for cpu in made.cpu_details])
        first, second = made.nic_details
        self.assertEqual((10, 2, 1, 0), (
            first.rx_octets, first.tx_packets, first.rx_errors,
            first.tx_drop))
        self.assertIsNone(second.rx_octets)
        self.assertEqual([512, 12288],
                         [disk.read_bytes for disk in made.disk_details])

    def test_qemu_does_not_answer(self):
        self.execute.side_effect = qmp.MonitorUnavailable('busy')
        made = diagnostics.instance_diagnostics(self.node, self.instance)
        self.assertEqual([None, 12288],
                         [disk.read_bytes for disk in made.disk_details])

    def test_rescued(self):
        self.instance.vm_state = 'rescued'
        machine.keep(self.instance, machine.Machine(
            guest_type='pv', disks=DISKS[1:]), machine.RESCUE)
        made = diagnostics.instance_diagnostics(self.node, self.instance)
        # The root disk that it has now is another one.
        self.assertIsNone(made.disk_details[0].read_bytes)

    def test_uptime(self):
        self.instance.launched_at = timeutils.utcnow()
        made = diagnostics.instance_diagnostics(self.node, self.instance)
        self.assertIn(made.uptime, range(60))

    def test_old(self):
        self.assertEqual({
            'memory': 262144, 'memory-actual': 196608,
            'cpu0_time': 5, 'cpu1_time': 6,
            'xvda_read': 512, 'xvda_read_req': 1, 'xvda_write': 1024,
            'xvda_write_req': 2,
            'xvdd_read': 12288, 'xvdd_read_req': 3, 'xvdd_write': 0,
            'xvdd_write_req': 0,
            'vif0_rx': 10, 'vif0_rx_packets': 2, 'vif0_rx_errors': 1,
            'vif0_rx_drop': 0, 'vif0_tx': 10, 'vif0_tx_packets': 2,
            'vif0_tx_errors': 1, 'vif0_tx_drop': 0,
        }, diagnostics.old_diagnostics(self.node, self.instance))
