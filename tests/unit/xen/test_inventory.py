# SPDX-License-Identifier: Apache-2.0
"""What the command for operators tells of a domain."""

from oslotest import base

from tests.unit.xen import specs
from xen44_driver.xen import arch
from xen44_driver.xen import domain
from xen44_driver.xen import events
from xen44_driver.xen import inventory


class InventoryTest(base.BaseTestCase):

    def read(self, text):
        return inventory.read(events.DomainRecord(
            uuid=specs.PV.uuid, name='x', state=events.DomainState.RUNNING),
            text)

    def test_ours(self):
        for spec in (specs.PV, specs.PVH, specs.HVM):
            found = self.read(domain.to_xml(spec, arch.load('x86_64')))
            self.assertEqual(
                (spec.guest_type, spec.vcpus, spec.memory_mib,
                 tuple(disk.target for disk in spec.disks),
                 tuple(nic.mac for nic in spec.interfaces), spec.metadata),
                (found.guest_type, found.vcpus, found.memory_mib,
                 found.disks, found.macs, found.metadata))

    def test_others(self):
        """Guests that the driver does not have; vCPUs that are plugged."""
        found = self.read(
            '<domain type="xen"><memory unit="MiB">64</memory>'
            '<vcpu current="1">4</vcpu>'
            '<os><type arch="x86_64" machine="xenner">linux</type></os>'
            '<devices/></domain>')
        self.assertEqual(
            (None, 1, 64, (), (), None),
            (found.guest_type, found.vcpus, found.memory_mib, found.disks,
             found.macs, found.metadata))
