# SPDX-License-Identifier: Apache-2.0
"""Xen on 64-bit ARM."""

from __future__ import annotations

from typing import ClassVar

from xen44_driver.xen.arch import base
from xen44_driver.xen.diskclass import DiskClass
from xen44_driver.xen.guesttype import GuestType


class Aarch64(base.Architecture):
    """One guest type, which is PVH although libvirt calls it ``xenpv``.

    libxl turns ``xenpv`` into PVH, the only type that Xen has on ARM. grub has
    no build for Xen guests on ARM, so guests boot a kernel from Glance, or
    UEFI firmware that the operator provides.
    """

    name = 'aarch64'
    # Xen knows no "max:" there (xen/arch/arm/domain_build.c:
    # d->max_pages = dom0_mem >> PAGE_SHIFT).
    fixed_dom0_memory = True
    profiles: ClassVar[dict[GuestType, base.Profile]] = {
        GuestType.PVH: base.Profile(
            # libvirt's schema (11.3) does not allow arch='aarch64' for Xen
            # guests.
            os_type=base.OsType('linux', 'xenpv', None),
            # Debian has no QEMU for Xen on ARM.
            disk_classes=(DiskClass.KERNEL,),
            # libxl has no code for it on ARM
            # (LIBXL_HAVE_NO_SUSPEND_RESUME).
            saves_memory=False),
    }

    def default_cmdline(self, root_device: str) -> str:
        """Return a command line that uses Xen's console, the only console."""
        return f'root={root_device} ro console=hvc0'
