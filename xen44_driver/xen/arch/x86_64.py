# SPDX-License-Identifier: Apache-2.0
"""Xen on 64-bit PCs."""

from typing import ClassVar

from xen44_driver.xen.arch import base
from xen44_driver.xen.guesttype import GuestType


class X86_64(base.Architecture):
    """All three kinds of guests.

    PVH is the default: of the three it needs the least of dom0, and, unlike
    PV, hardware keeps its memory apart.
    """

    name = 'x86_64'
    os_types: ClassVar[dict[GuestType, base.OsType]] = {
        GuestType.PV: base.OsType('linux', 'xenpv', 'x86_64'),
        GuestType.PVH: base.OsType('xenpvh', 'xenpvh', 'x86_64'),
        GuestType.HVM: base.OsType('hvm', 'xenfv', 'x86_64'),
    }
    default_guest_type = GuestType.PVH
    # Since QEMU 8.2 the framebuffer of PV and PVH guests needs `-vga xenfb`
    # (hw/display/xenfb.c), which libxl does not say. The device is there
    # then, nobody serves it, and Linux waits 30 s for it at every boot.
    vnc_guest_types = frozenset({GuestType.HVM})
    loaders: ClassVar[dict[GuestType, str]] = {
        GuestType.PV: '/usr/lib/grub-xen/grub-x86_64-xen.bin',
        GuestType.PVH: '/usr/lib/grub-xen/grub-i386-xen_pvh.bin',
    }

    def default_cmdline(self, root_device: str) -> str:
        """Messages on Xen's console, which every guest type has."""
        return f'root={root_device} ro console=hvc0'
