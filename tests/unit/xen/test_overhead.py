# SPDX-License-Identifier: Apache-2.0
"""What Xen takes for a guest."""

from oslotest import base

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

    def test_pv_has_no_pool(self):
        self.assertEqual(overhead.overhead_mib(PV, 64, 1),
                         overhead.overhead_mib(PV, 1 << 20, 1))
        self.assertLess(overhead.overhead_mib(PV, 4096, 1), 4)
