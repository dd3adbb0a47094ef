# SPDX-License-Identifier: Apache-2.0
"""What Xen takes for a guest."""

from oslotest import base

from xen44_driver.xen import facts
from xen44_driver.xen import overhead
from xen44_driver.xen.guesttype import GuestType

PV, PVH, HVM = GuestType


class OverheadTest(base.BaseTestCase):

    def test_paging_pool(self):
        # Two pages of 4 KiB for each MiB and 1 MiB for each vCPU, and no
        # more than 4 MiB besides.
        for kind in (PVH, HVM):
            for memory, vcpus in ((64, 1), (4096, 2), (1 << 20, 128)):
                pool = memory * 8 / 1024 + vcpus
                found = overhead.overhead_mib(kind, memory, vcpus)
                self.assertGreaterEqual(found, pool + 2)
                self.assertLessEqual(found, pool + vcpus / 16 + 4)

    def test_rounded_up(self):
        """1600 and 6208 KiB: whole MiB, as Xen has to have it all."""
        for found, most in (
                (overhead.overhead_mib(PV, 64, 1), 2),
                (overhead.overhead_mib(PVH, 256, 1), 7)):
            self.assertEqual((int, most), (type(found), found))

    def test_shortage(self):
        def shortage(free, *freed):
            return overhead.shortage(facts.HostMemory(
                total_mib=8192, dom0_mib=1024, free_mib=free), PV, 64, 1,
                *freed)

        self.assertIsNone(shortage(66))
        self.assertIsNone(shortage(60, 6))
        self.assertIn('65 MiB of free', shortage(65))
        self.assertIn('65 MiB of free', shortage(60, 5))

    def test_pv_has_no_pool(self):
        self.assertEqual(overhead.overhead_mib(PV, 64, 1),
                         overhead.overhead_mib(PV, 1 << 20, 1))
        self.assertLess(overhead.overhead_mib(PV, 4096, 1), 4)
