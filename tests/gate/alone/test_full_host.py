# SPDX-License-Identifier: Apache-2.0
"""A host that is full: what was promised is there, and no more is promised."""

from __future__ import annotations

import re

from tests.gate import base

#: MiB of each guest.
EACH = 512


class FullHost(base.GateCase):

    @base.slow
    def test_placement_says_no(self) -> None:
        inventory = self.inventory('MEMORY_MB')
        total, = re.findall(r'^total_memory\s*: (\d+)$',
                            self.dom0('xl', 'info'), re.MULTILINE)
        self.assertEqual(int(total), inventory['total'])
        room = (inventory['total'] - inventory['reserved']) // EACH
        self.assertGreater(room, 2)

        flavor = self.make_flavor(
            self.addCleanup, guest_type='pv', ram=EACH)
        guests = []
        for _ in range(room):
            guest = self.make_server(self.addCleanup, flavor=flavor)
            guest.wait_for_status('ACTIVE')
            guests.append(guest)
        guests[-1].wait_for_ssh()
        one_more = self.make_server(self.addCleanup, flavor=flavor)
        self.assert_fault(one_more, 'no valid host')
        self.remove_server(one_more.id)

        # dom0 still does its work: a guest reboots, and room is made.
        before = guests[-1].boot_id()
        self.cloud.compute.reboot_server(guests[-1].id, 'HARD')
        guests[-1].wait_for_status('ACTIVE')
        guests[-1].wait_for_reboot(before)
        self.assertEqual('up', self.service().state)
        self.remove_server(guests[0].id)
        another = self.make_server(self.addCleanup, flavor=flavor)
        another.wait_for_status('ACTIVE')
