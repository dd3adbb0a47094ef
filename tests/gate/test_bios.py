# SPDX-License-Identifier: Apache-2.0
"""An HVM guest as any image boots: SeaBIOS, boot record, grub. Slow."""

from __future__ import annotations

from tests.gate import base

#: grub reads kernel and initrd through an emulated BIOS, sector by sector.
BIOS_TIMEOUT = 900


class Bios(base.GateCase):
    """Minutes under emulation, so there is one test and no more."""

    def test_hvm_from_its_own_disk(self) -> None:
        guest = self.make_server(
            self.addCleanup,
            flavor=self.make_flavor(self.addCleanup, guest_type='hvm'))
        guest.wait_for_status('ACTIVE')
        self.assertRegex(guest.wait_for_login(BIOS_TIMEOUT),
                         r'guest type: HVM\b')
        guest.wait_for_ssh()
        # Only grub for the BIOS gives these arguments (grub.cfg).
        self.assertIn('console=ttyS0', guest.ssh('cat /proc/cmdline'))
