# SPDX-License-Identifier: Apache-2.0
"""Debian as its own tools make it boots as each guest type.

PV and PVH guests by the driver's own loaders, HVM guests by the disk's own
grub, all with the configuration that ``update-grub`` has written.
"""

from __future__ import annotations

from typing import Any
from typing import ClassVar

from labkit import stockguest
from labkit import util
from tests.gate import base
from tests.gate import guest as guest_lib
from tests.gate import loaders

#: Seconds: a whole initrd, systemd and cloud-init take minutes under
#: emulation, and the emulated PC's BIOS reads slowly: half an hour for HVM.
BOOT_TIMEOUT = 3600

#: What the loader says if a kernel is none for PV (xen44_driver/xen/grub).
NOT_PV = 'xen44: a PV guest cannot start this kernel'


class StockCase(loaders.LoadersCase):
    """One Debian, booted anew by each test; slow.

    :cvar stock: its name in :mod:`labkit.stockguest`.
    """

    stock: ClassVar[str]
    _image: ClassVar[Any]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls._image = cls.make_image(
            cls.addClassCleanup, stockguest.stock_guest(cls.stock), 'qcow2')

    def boot(self, kind: str) -> guest_lib.Guest:
        """Boot a guest of a type; do not wait for its login."""
        image = self._image
        if kind == 'hvm':
            # The BIOS reads a sector at a time from an IDE disk: a real
            # distribution's initrd takes it half an hour under emulation.
            image = self.make_image(
                self.addCleanup, stockguest.stock_guest(self.stock), 'qcow2',
                hw_disk_bus='scsi')
        guest = self.make_server(
            self.addCleanup, image=image, user='debian',
            flavor=self.make_flavor(self.addCleanup, guest_type=kind, ram=512,
                                    disk=stockguest.DISK_SIZE >> 10))
        # The first use of the image unpacks a gigabyte under emulation.
        guest.wait_for_status('ACTIVE', 900)
        if kind != 'hvm':
            self.assert_own_loader(guest)
        return guest

    def assert_boots(self, kind: str) -> None:
        """It boots to its login, with what its own grub.cfg says."""
        guest = self.boot(kind)
        guest.wait_for_ssh(BOOT_TIMEOUT)
        self.assertEqual(kind.upper(),
                         guest.ssh('cat /sys/hypervisor/guest_type'))
        self.assertEqual('x86_64', guest.ssh('uname -m'))
        suite = stockguest.STOCKS[self.stock].suite
        self.assertIn(f'VERSION_CODENAME={suite}\n',
                      guest.ssh('cat /etc/os-release'))
        self.assertIn(f'{stockguest.ROOT} ro console=',
                      guest.ssh('cat /proc/cmdline'))
        # The kernel of that file, and not one that somebody repacked.
        self.assertIn(guest.ssh('uname -r'),
                      guest.ssh('dpkg-query -S /boot/vmlinuz-*'))

    def assert_no_pv(self, because: str) -> None:
        """grub has read its configuration, and says what to do.

        :param because: grub's own words.
        """
        guest = self.boot('pv')
        console = util.wait_for(
            f'grub of {guest.name} to give up',
            lambda: text if NOT_PV in (text := guest.console()) else '',
            guest_lib.LOGIN_TIMEOUT, interval=3)
        self.assertIn(because, console)
        self.assertIn('xen44:guest_type=pvh in OpenStack', console)


class Bookworm(StockCase):
    """Debian 12, whose kernel is packed with xz."""

    stock = 'bookworm'

    @base.slow
    def test_pv(self) -> None:
        self.assert_boots('pv')

    @base.slow
    def test_pvh(self) -> None:
        self.assert_boots('pvh')

    @base.slow
    def test_hvm(self) -> None:
        self.assert_boots('hvm')


class Trixie(StockCase):
    """Debian 13, whose kernel is packed with zstd: grub has none for PV.

    Its grub and kernel start as HVM too. Then its systemd says "Failed to fork
    off sandboxing environment for executing generators" and stays: they have
    90 s, which seem too few in such a guest of an emulated host.
    """

    stock = 'trixie'

    @base.slow
    def test_pv(self) -> None:
        self.assert_no_pv('not xen image')

    @base.slow
    def test_pvh(self) -> None:
        self.assert_boots('pvh')


class BookwormI386(StockCase):
    """Debian 12 with 32 bits; Linux has no PV for these since 5.9.

    As PVH the driver does not support it. Here its kernel does not get beyond
    its first CPUID instruction, as PVH or as HVM: the lab's CPU is to blame
    (doc/source/user/boot-loaders.rst).
    """

    stock = 'i386'

    @base.slow
    def test_pv(self) -> None:
        self.assert_no_pv('incompatible architecture')
