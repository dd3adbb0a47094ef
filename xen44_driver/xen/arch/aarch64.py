# SPDX-License-Identifier: Apache-2.0
"""Xen on 64-bit ARM."""

from typing import ClassVar

from xen44_driver.xen.arch import base
from xen44_driver.xen.guesttype import GuestType


class Aarch64(base.Architecture):
    """One kind of guest, which is PVH in all but libvirt's name.

    libvirt calls it ``xenpv``; libxl makes it PVH, the only kind that Xen has
    on ARM. No grub for Xen guests is known, so they boot a kernel of the
    host.
    """

    name = 'aarch64'
    os_types: ClassVar[dict[GuestType, base.OsType]] = {
        # libvirt's schema (11.3) knows no ARM in Xen's guests, so XML that
        # says aarch64 would not be valid.
        GuestType.PVH: base.OsType('linux', 'xenpv', None),
    }
    default_guest_type = GuestType.PVH

    def default_cmdline(self, root_device: str) -> str:
        """Messages on Xen's console, the only one there is."""
        return f'root={root_device} ro console=hvc0'
