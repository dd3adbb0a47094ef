# SPDX-License-Identifier: Apache-2.0
"""``<os>``: the guest type, and what the domain boots."""

from __future__ import annotations

import dataclasses

from lxml import etree

from xen44_driver.xen import errors
from xen44_driver.xen.arch import Architecture
from xen44_driver.xen.domain import check
from xen44_driver.xen.domain import xml
from xen44_driver.xen.guesttype import GuestType

#: libvirt's names of the devices that firmware can boot from.
DEVICES = ('hd', 'cdrom')


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DirectBoot:
    """Boot a kernel in the host's file system.

    :ivar kernel: path of the kernel.
    :ivar ramdisk: path of the initial RAM disk, or None.
    :ivar cmdline: the kernel's command line; may be empty.
    """

    kernel: str
    ramdisk: str | None = None
    cmdline: str

    def __post_init__(self) -> None:
        check.path('boot.kernel', self.kernel)
        if self.ramdisk is not None:
            check.path('boot.ramdisk', self.ramdisk)
        if self.cmdline:
            check.line('boot.cmdline', self.cmdline)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GrubBoot:
    """Boot the guest's own disk with grub's Xen build (PV and PVH).

    grub runs inside the guest; dom0 does not read the guest's disk.

    :ivar loader: path of grub's image.
    """

    loader: str

    def __post_init__(self) -> None:
        check.path('boot.loader', self.loader)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareBoot:
    """Boot the guest's own disk or CD-ROM with firmware (HVM).

    :ivar devices: ``hd`` and ``cdrom``, in the order in which SeaBIOS tries
        them.
    :ivar uefi: path of a UEFI firmware; None for SeaBIOS.
    """

    devices: tuple[str, ...] = ('hd',)
    uefi: str | None = None

    def __post_init__(self) -> None:
        if self.uefi is not None:
            check.path('boot.uefi', self.uefi)
        if not self.devices or len(set(self.devices)) < len(self.devices):
            raise errors.SpecError(
                'boot.devices', self.devices,
                f'one or more of {", ".join(DEVICES)}, each once')
        for device in self.devices:
            check.one_of('boot.devices', device, DEVICES)


Boot = DirectBoot | GrubBoot | FirmwareBoot


def check_guest_type(boot: Boot, guest_type: GuestType) -> None:
    """Check that a guest type can boot in this way.

    :raises SpecError: it cannot.
    """
    hvm = guest_type is GuestType.HVM
    if isinstance(boot, FirmwareBoot) and not hvm:
        raise errors.SpecError('boot', 'firmware',
                               f'grub or a kernel, for {guest_type}')
    if isinstance(boot, GrubBoot) and hvm:
        raise errors.SpecError('boot', 'grub',
                               'firmware or a kernel, for hvm')


def needs_mark(boot: Boot) -> bool:
    """Return whether ``<os>`` alone does not tell how the domain boots.

    grub appears in it as a kernel without RAM disk and command line, and so
    does a kernel that has neither. A mark in the metadata tells them apart.
    """
    return (isinstance(boot, DirectBoot)
            and not boot.cmdline and boot.ramdisk is None)


def to_xml(domain: etree._Element, guest_type: GuestType, boot: Boot,
           arch: Architecture) -> None:
    """Write ``<os>``.

    For a PV guest without ``<kernel>``, libvirt's libxl driver would run
    pygrub, which parses the guest's disk as root in dom0 (XSA-443). So every
    way to boot a PV guest writes a kernel. ``<cmdline>`` may be missing.
    """
    ours = arch.os_type(guest_type)
    os = xml.add(domain, 'os')
    xml.add(os, 'type', ours.type, arch=ours.arch, machine=ours.machine)
    match boot:
        case DirectBoot():
            xml.add(os, 'kernel', boot.kernel)
            if boot.ramdisk is not None:
                xml.add(os, 'initrd', boot.ramdisk)
            if boot.cmdline:
                xml.add(os, 'cmdline', boot.cmdline)
        case GrubBoot():
            xml.add(os, 'kernel', boot.loader)
        case FirmwareBoot():
            # hvmloader need not be named: libxl knows its path. libvirt takes
            # "pflash" for UEFI, and has no variable store for libxl.
            if boot.uefi is not None:
                xml.add(os, 'loader', boot.uefi, readonly='yes', type='pflash')
            for device in boot.devices:
                xml.add(os, 'boot', dev=device)


def from_xml(os: etree._Element, guest_type: GuestType, *,
             marked: bool = False) -> Boot:
    """Read ``<os>``.

    :param marked: whether the metadata has the mark, see :func:`needs_mark`.
    :raises SpecError: it boots in a way that this module does not write.
    """
    kernel = xml.text(os, 'kernel')
    cmdline = xml.text(os, 'cmdline') or ''
    ramdisk = xml.text(os, 'initrd')
    hvm = guest_type is GuestType.HVM
    if kernel is not None and (cmdline or ramdisk or marked or hvm):
        return DirectBoot(kernel=kernel, ramdisk=ramdisk, cmdline=cmdline)
    if kernel is not None:
        return GrubBoot(loader=kernel)
    if not hvm:
        raise errors.SpecError('boot', None, f'a kernel, for {guest_type}')
    devices = tuple(found.get('dev', '') for found in os.iterfind('boot'))
    return FirmwareBoot(
        devices=devices or ('hd',),
        uefi=xml.text(os, 'loader')
        if xml.get(os, 'loader', 'type') == 'pflash' else None)
