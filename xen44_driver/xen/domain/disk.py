# SPDX-License-Identifier: Apache-2.0
"""``<disk>``: a disk or a CD-ROM."""

from __future__ import annotations

from collections.abc import Iterable
import dataclasses
import re

from lxml import etree

from xen44_driver.xen import errors
from xen44_driver.xen.domain import check
from xen44_driver.xen.domain import xml
from xen44_driver.xen.guesttype import GuestType

#: The attribute of libvirt's ``<source>`` that is the path, by type of disk.
_SOURCES = {'file': 'file', 'block': 'dev'}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk or a CD-ROM.

    HVM guests get the first four disks twice: as emulated disks, which
    firmware can boot, and as PV disks, for which Linux guests give up the
    emulated ones. ``hda`` to ``hdd`` and ``xvda`` to ``xvdd`` are emulated as
    IDE disks, ``sda`` to ``sdd`` as disks of an LSI 53C895A SCSI adapter. Only
    the target decides this; libxl ignores libvirt's bus. See
    xl-disk-configuration(5) and xen-vbd-interface(7).

    :ivar target: the guest's name of it, such as ``xvda``, ``hda`` or ``sda``.
    :ivar source: path of the file or of the block device.
    :ivar format: ``raw`` or ``qcow2``; a block device is always raw.
    :ivar type: ``file`` or ``block``.
    :ivar by_kernel: whether dom0's kernel serves it (``phy``), a file on a
        loop device, or else the guest's QEMU. It serves every block device.
    :ivar readonly: whether the guest must not write; always true for CD-ROMs.
    :ivar device: ``disk`` or ``cdrom``.
    :ivar serial: Cinder's id of a volume. The guest does not see it: Xen's PV
        disks have no serial numbers.
    """

    target: str
    source: str
    format: str = 'raw'
    type: str = 'file'
    by_kernel: bool = False
    readonly: bool = False
    device: str = 'disk'
    serial: str | None = None

    def __post_init__(self) -> None:
        check.match('disk.target', self.target, r'xvd[a-z]{1,2}|[hs]d[a-d]',
                    'xvda to xvdzz, hda to hdd, or sda to sdd')
        # libxl puts the path unquoted into QEMU's -drive option.
        check.path('disk.source', self.source, without=',')
        check.one_of('disk.format', self.format, ('raw', 'qcow2'))
        check.one_of('disk.type', self.type, ('file', 'block'))
        check.one_of('disk.device', self.device, ('disk', 'cdrom'))
        if self.serial is not None:
            check.line('disk.serial', self.serial)
        if self.type == 'block':
            object.__setattr__(self, 'by_kernel', True)
        if self.by_kernel and self.format != 'raw':
            raise errors.SpecError('disk.format', self.format,
                                   "raw, for dom0's kernel")
        if self.device == 'cdrom':
            object.__setattr__(self, 'readonly', True)

    @property
    def bus(self) -> str:
        """libvirt's name of the bus, which follows from the target."""
        return {'h': 'ide', 's': 'scsi'}.get(self.target[0], 'xen')

    @property
    def ide_in_hvm(self) -> bool:
        """Whether an HVM guest also gets it as an emulated IDE disk."""
        return re.fullmatch(r'(xvd|hd)[a-d]', self.target) is not None


def check_guest_type(disks: Iterable[Disk], guest_type: GuestType) -> None:
    """Check that a guest type can have this set of disks.

    :raises SpecError: it cannot.
    """
    hvm = guest_type is GuestType.HVM
    seen: set[str] = set()
    for i, disk in enumerate(disks):
        # hda and xvda are the same emulated disk for libxl, and Linux names
        # each of hda, sda and xvda "xvda".
        letters = re.sub(r'^(xvd|hd|sd)', '', disk.target)
        if letters in seen:
            raise errors.SpecError(f'disks[{i}].target', disk.target,
                                   'a letter that no other disk has')
        seen.add(letters)
        if disk.bus != 'xen' and not hvm:
            raise errors.SpecError(f'disks[{i}].target', disk.target,
                                   f'xvda to xvdzz, for {guest_type}')
        if (hvm and disk.readonly and disk.device == 'disk'
                and disk.ide_in_hvm):
            raise errors.SpecError(
                f'disks[{i}].target', disk.target,
                'xvde and above for a read-only disk of an HVM guest: '
                'QEMU emulates no read-only IDE disk')
        if hvm and disk.device == 'cdrom' and disk.bus != 'ide':
            raise errors.SpecError(f'disks[{i}].target', disk.target,
                                   'hda to hdd, for a CD-ROM of hvm')


def to_xml(devices: etree._Element, disk: Disk) -> None:
    """Write one disk.

    The driver is always named. Without it, libxl would choose.
    """
    element = xml.add(devices, 'disk', type=disk.type, device=disk.device)
    xml.add(element, 'driver', name='phy' if disk.by_kernel else 'qemu',
            type=disk.format)
    xml.add(element, 'source', **{_SOURCES[disk.type]: disk.source})
    xml.add(element, 'target', dev=disk.target, bus=disk.bus)
    if disk.readonly:
        xml.add(element, 'readonly')
    if disk.serial is not None:
        xml.add(element, 'serial', disk.serial)


def device_xml(disk: Disk) -> str:
    """Return a disk alone, to attach it to a domain or detach it."""
    devices = etree.Element('devices')
    to_xml(devices, disk)
    return etree.tostring(devices[0], encoding='unicode')


def from_xml(element: etree._Element) -> Disk | None:
    """Read one disk.

    :returns: None for an empty drive, and for types that are never written.
    """
    type_ = element.get('type', 'file')
    source = _SOURCES.get(type_)
    path = source and xml.get(element, 'source', source)
    if not path:
        return None
    return Disk(target=xml.need(element, 'target', 'dev'),
                source=path,
                format=xml.get(element, 'driver', 'type') or 'raw',
                type=type_,
                by_kernel=xml.get(element, 'driver', 'name') == 'phy',
                readonly=element.find('readonly') is not None,
                device=element.get('device', 'disk'),
                serial=xml.text(element, 'serial'))
