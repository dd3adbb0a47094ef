# SPDX-License-Identifier: Apache-2.0
"""HVM guests as any image boots: SeaBIOS, boot record, grub."""

from __future__ import annotations

from labkit import guest as guest_images
from labkit import util
from tests.gate import base

#: SeaBIOS, which writes to Xen's log, has read a disk and jumps into it.
BOOT_RECORD = 'Booting from 0000:7c00'


class Bios(base.GateCase):
    """From a disk on each of the buses that firmware can boot."""

    @base.slow
    def test_scsi(self) -> None:
        image = self.make_image(
            self.addCleanup, guest_images.small_guest().disk_qcow2, 'qcow2',
            hw_disk_bus='scsi')
        guest = self.make_server(
            self.addCleanup, image=image,
            flavor=self.make_flavor(self.addCleanup, guest_type='hvm'))
        guest.wait_for_status('ACTIVE')
        self.assertRegex(guest.wait_for_login(), r'guest type: HVM\b')
        guest.wait_for_ssh()
        # Only grub for the BIOS gives these arguments (grub.cfg).
        self.assertIn('console=ttyS0', guest.ssh('cat /proc/cmdline'))
        # The PV disk has taken the emulated one's place.
        self.assertEqual('xvda', guest.ssh('cd /sys/block; echo [hsx]*d?'))

    @base.slow
    def test_ide(self) -> None:
        """Up to the boot record: a kernel read word by word takes minutes."""
        guest = self.make_server(
            self.addCleanup,
            flavor=self.make_flavor(self.addCleanup, guest_type='hvm'))
        guest.wait_for_status('ACTIVE')
        mark = f'(d{self.dom0("xl", "domid", guest.domain).strip()}) '
        lines = util.wait_for(
            f'{guest.name} to boot from its disk',
            lambda: self._bios_log(mark), 300, interval=2)
        self.assertTrue(any('QEMU HARDDISK ATA' in line for line in lines))

    def _bios_log(self, mark: str) -> list[str]:
        """What Xen kept of a firmware's log once the disk has been read."""
        lines = [line for line in self.dom0('xl', 'dmesg').splitlines()
                 if line.startswith(mark)]
        return lines if any(BOOT_RECORD in line for line in lines) else []
