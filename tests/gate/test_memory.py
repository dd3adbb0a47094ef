# SPDX-License-Identifier: Apache-2.0
"""Guests with the least memory that their type may have."""

from __future__ import annotations

from labkit import images
from tests.gate import base

#: What guests that boot from their disk, and HVM guests, need
#: (compute/properties.py).
LEAST_MIB = 64


class LeastMemory(base.GateCase):
    """The small guest is small enough for it."""

    @base.slow
    def test_pv(self) -> None:
        self._logs_in('pv', images.DISK)

    @base.slow
    def test_pvh(self) -> None:
        self._logs_in('pvh', images.DISK)

    @base.slow
    def test_hvm(self) -> None:
        self._logs_in('hvm', images.DIRECT)

    def _logs_in(self, guest_type: str, image: str) -> None:
        guest = self.make_server(
            self.addCleanup, image=self.image(image),
            flavor=self.make_flavor(self.addCleanup, guest_type=guest_type,
                                    ram=LEAST_MIB))
        guest.wait_for_status('ACTIVE')
        guest.wait_for_login()
