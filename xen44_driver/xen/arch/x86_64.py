# SPDX-License-Identifier: Apache-2.0
"""Xen on 64-bit PCs."""

from __future__ import annotations

from typing import ClassVar

from xen44_driver.xen.arch import base
from xen44_driver.xen.diskclass import DiskClass
from xen44_driver.xen.guesttype import GuestType


class X86_64(base.Architecture):
    """All three guest types: PV, PVH and HVM."""

    name = 'x86_64'
    # PV and PVH have no screen: since QEMU 8.2 their framebuffer needs
    # `-vga xenfb` (hw/display/xenfb.c), which libxl does not pass. The guest
    # would have a device without a backend, and Linux would wait 30 s for it
    # at each boot.
    profiles: ClassVar[dict[GuestType, base.Profile]] = {
        GuestType.PV: base.Profile(
            os_type=base.OsType('linux', 'xenpv', 'x86_64'),
            grub='x86_64-xen',
            agent=True,
            pci=True),
        GuestType.PVH: base.Profile(
            os_type=base.OsType('xenpvh', 'xenpvh', 'x86_64'),
            # It boots 64-bit kernels too.
            grub='i386-xen_pvh',
            agent=True),
        GuestType.HVM: base.Profile(
            os_type=base.OsType('hvm', 'xenfv', 'x86_64'),
            firmware=True,
            # It has a QEMU in any case.
            disk_classes=(DiskClass.QEMU,),
            disk_buses=('xen', 'ide', 'scsi'),
            # The adapter that libxl uses is an LSI 53C895A.
            scsi_models=('lsilogic',),
            # libxl emulates four; this driver keeps the fourth for a CD-ROM.
            emulated_disks='abc',
            vif_models=('netfront', 'e1000', 'rtl8139'),
            video_models=('vga',),
            pointer_models=('usbtablet',),
            cdrom=True,
            serial_port=True,
            agent=True,
            pci=True),
    }

    def default_cmdline(self, root_device: str) -> str:
        """Return a command line that uses Xen's console."""
        return f'root={root_device} ro console=hvc0'
