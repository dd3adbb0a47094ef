# SPDX-License-Identifier: Apache-2.0
"""CPUs that belong to one guest, on a host that has one to give."""

from __future__ import annotations

from typing import Any

from tests.gate import base
from tests.gate import guest as guest_lib

#: The lab's host has two.
OPTIONS = '''[compute]
cpu_shared_set = 0
cpu_dedicated_set = 1
'''
DEDICATED = {'hw:cpu_policy': 'dedicated'}


class DedicatedCpus(base.GateCase):
    """One guest has a CPU of its own, all others share the other one."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.configure(cls.addClassCleanup, OPTIONS)

    @base.slow  # nova-compute restarts twice.
    def test_a_cpu_of_its_own(self) -> None:
        self.assertEqual({'VCPU': (1, 0), 'PCPU': (1, 0)}, self.cpus())
        own = self.make_flavor(self.addCleanup, guest_type='pvh',
                               specs=DEDICATED)
        guest = self.make_server(self.addCleanup, flavor=own)
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        self.assertEqual({'1'}, self.pins(guest))
        self.assertEqual({'VCPU': (1, 0), 'PCPU': (1, 1)}, self.cpus())

        # There is no other one to give. The lab's scheduler has no
        # NUMATopologyFilter, and so tries with a VCPU.
        late = self.make_server(self.addCleanup, flavor=own)
        self.assert_fault(late, 'maximum number of retries')

        before = guest.boot_id()
        guest.leave('reboot')
        guest.wait_for_reboot(before)
        self.assertEqual({'1'}, self.pins(guest))

        # Another flavor gives it back, and it gets it again.
        before = guest.boot_id()
        self.cloud.compute.resize_server(guest.id, self.make_flavor(
            self.addCleanup, guest_type='pvh').id)
        guest.wait_for_status('VERIFY_RESIZE')
        guest.wait_for_reboot(before)
        self.assertEqual({'0'}, self.pins(guest))
        before = guest.boot_id()
        self.cloud.compute.revert_server_resize(guest.id)
        guest.wait_for_status('ACTIVE')
        guest.wait_for_reboot(before)
        self.assertEqual({'1'}, self.pins(guest))

        shared = self.make_server(self.addCleanup, flavor=self.make_flavor(
            self.addCleanup, guest_type='pv'))
        shared.wait_for_status('ACTIVE')
        self.assertEqual({'0'}, self.pins(shared))

    def pins(self, guest: guest_lib.Guest) -> set[str]:
        """The host's CPUs that Xen lets a guest's vCPUs run on."""
        # A header, then: name, id, vCPU, CPU, state, time, hard / soft.
        lines = self.dom0('xl', 'vcpu-list', guest.domain).splitlines()[1:]
        return {line.split(' / ')[0].split()[-1] for line in lines}

    def cpus(self) -> dict[str, tuple[int, int]]:
        """What Placement has of each class of CPUs: total and used."""
        provider: Any
        provider, = self.cloud.placement.resource_providers()
        used = self.cloud.placement.get(
            f'/resource_providers/{provider.id}/usages').json()['usages']
        return {inventory.resource_class: (
            inventory.total, used[inventory.resource_class])
            for inventory in
            self.cloud.placement.resource_provider_inventories(provider)
            if inventory.resource_class.endswith('CPU')}
