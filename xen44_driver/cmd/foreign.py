# SPDX-License-Identifier: Apache-2.0
"""What a domain is that somebody else made: its definition, and its disks.

Formats of disks are those of the definition. What the disks contain, which
their guests wrote, is only checked against them.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import hashlib
import os
import stat

from lxml import etree

from xen44_driver.storage import header
from xen44_driver.storage import images
from xen44_driver.xen import domain as domain_lib
from xen44_driver.xen import errors
from xen44_driver.xen import guest as guest_lib
from xen44_driver.xen import host as xen_host
from xen44_driver.xen import inventory
from xen44_driver.xen.domain import boot as boot_lib
from xen44_driver.xen.domain import disk as disk_lib
from xen44_driver.xen.domain import metadata as metadata_lib
from xen44_driver.xen.domain import xml
from xen44_driver.xen.guesttype import GuestType

#: Where the kernel tells of block devices.
BLOCK_DEVICES = '/sys/dev/block'

#: How the loaders' files begin, of grub and of Xen's older pv-grub.
_LOADERS = ('grub', 'pv-grub', 'pvgrub')

# Metadata of Nova's libvirt driver, through its versions.
_NOVA = tuple(f'metadata/{{http://openstack.org/xmlns/libvirt/nova/{version}}}'
              'instance' for version in ('1.0', '1.1'))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk of a domain.

    :ivar target: the guest's name of it, such as ``xvda``.
    :ivar source: its path in the definition.
    :ivar format: ``raw`` or ``qcow2``, by the definition.
    :ivar size: bytes that the guest sees; 0 if that is not known.
    :ivar written: what is another after something has written to it; empty
        if that is not known.
    :ivar problem: why it cannot be read, or is not what the definition says.
    """

    target: str
    source: str
    format: str
    size: int = 0
    written: tuple[int, ...] = ()
    problem: str | None = None

    @property
    def path(self) -> str:
        """Its file or block device, such as behind a logical volume's link."""
        return os.path.realpath(self.source)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A domain that is not this driver's.

    :ivar uuid: its UUID.
    :ivar name: its name.
    :ivar state: such as ``running``.
    :ivar guest_type: None if the driver has no such guests.
    :ivar vcpus: number of vCPUs.
    :ivar memory_mib: its memory, in MiB.
    :ivar disks: its disks, without CD-ROMs; the first is the root disk.
    :ivar macs: MAC addresses of its network interfaces.
    :ivar vif_model: the card that an HVM guest gets emulated, or None.
    :ivar kernel: the kernel of this host that it boots, with its RAM disk and
        command line; None if it boots its disk.
    :ivar uefi: whether UEFI firmware boots it.
    :ivar local_time: whether its clock has the host's time zone.
    :ivar of_nova: whether Nova's libvirt driver made it.
    :ivar problems: why it cannot be taken over as it is.
    """

    uuid: str
    name: str
    state: str
    guest_type: GuestType | None
    vcpus: int
    memory_mib: int
    disks: tuple[Disk, ...]
    macs: tuple[str, ...]
    vif_model: str | None = None
    kernel: boot_lib.DirectBoot | None = None
    uefi: bool = False
    local_time: bool = False
    of_nova: bool = False
    problems: tuple[str, ...] = ()

    @property
    def stamp(self) -> str:
        """What is another after something has written to one of its disks.

        Nobody can know it who cannot look at this host's files.
        """
        return hashlib.sha256(repr([self.uuid, *(
            (disk.target, disk.source, disk.written)
            for disk in self.disks)]).encode()).hexdigest()


def read(summary: inventory.DomainSummary, text: str, *,
         saved: bool, of_xl: bool) -> Foreign:
    """Read a domain from libvirt's XML, and look at its disks.

    :param summary: what is known of it already.
    :param text: the ``<domain>`` element.
    :param saved: whether its memory is saved.
    :param of_xl: whether Xen runs it although libvirt calls it off.
    """
    domain = xml.parse(text)
    problems = [*_problems(summary, domain, saved=saved, of_xl=of_xl)]
    disks = []
    for element in domain.iterfind('devices/disk'):
        # Those of CD-ROM and floppy drives are not the guest's own.
        if element.get('device', 'disk') == 'disk':
            try:
                disks.append(_disk(element))
            except errors.SpecError as error:
                problems.append(str(error))
    if not disks and not problems:
        problems.append('it has no disk')
    uefi, kernel = False, None
    if summary.guest_type is not None:
        try:
            uefi, kernel = _boot(domain, summary.guest_type)
        except (errors.SpecError, OSError) as error:
            problems.append(str(error))
    models = {model.get('type') for model
              in domain.iterfind('devices/interface/model')}
    if len(models - {'netfront'}) > 1:
        problems.append('its interfaces have different models')
    return Foreign(
        uuid=summary.record.uuid, name=summary.record.name,
        state=summary.record.state.value, guest_type=summary.guest_type,
        vcpus=summary.vcpus, memory_mib=summary.memory_mib,
        disks=tuple(disks),
        macs=tuple(mac.lower() for mac in summary.macs),
        vif_model=next(iter(models - {'netfront'}), None)
        if summary.guest_type is GuestType.HVM else None,
        kernel=kernel, uefi=uefi,
        local_time=xml.get(domain, 'clock', 'offset') == 'localtime',
        of_nova=any(domain.find(path) is not None for path in _NOVA),
        problems=tuple(problems))


def of_xen_alone(uuid: str, name: str) -> Foreign:
    """Return a domain of which libvirt does not know, such as of xl."""
    return Foreign(
        uuid=uuid, name=name, state='unknown to libvirt', guest_type=None,
        vcpus=0, memory_mib=0, disks=(), macs=(), problems=(
            'it was made without libvirt: shut it down, and define it from '
            'its file of xl: virsh domxml-from-native xen-xl FILE > XML, '
            'virsh define XML',))


def _problems(summary: inventory.DomainSummary, domain: etree._Element, *,
              saved: bool, of_xl: bool) -> Iterator[str]:
    """Yield what speaks against it, apart from what it boots from."""
    if isinstance(metadata_lib.any_from_xml(domain), metadata_lib.VmMetadata):
        yield 'it is CloudStack\'s'
    if not summary.record.state.is_off:
        yield f'it is {summary.record.state.value}: shut it down'
    elif of_xl:
        yield ('it runs, and libvirt does not know, as xl has started it: '
               'shut it down with xl')
    elif saved:
        yield ('its memory is saved, and its disks are not whole without: '
               'start it and shut it down')
    if summary.guest_type is None:
        yield ('the driver has no such guests: '
               f'{xml.text(domain, "os/type")} '
               f'{xml.get(domain, "os/type", "arch")} '
               f'{xml.get(domain, "os/type", "machine")}')
    if domain.find('devices/hostdev') is not None:
        yield 'it has a device of the host (hostdev): detach it'


def _disk(element: etree._Element) -> Disk:
    """Read a disk, and check that it is what the definition says.

    :raises xen44_driver.xen.errors.SpecError: the driver has no such disks.
    """
    read = disk_lib.from_xml(element)
    if read is None:
        raise errors.SpecError(
            f'type of disk {xml.get(element, "target", "dev")}',
            element.get('type'), 'a file or a block device')
    disk = Disk(target=read.target, source=read.source, format=read.format)
    try:
        content = header.examine(disk.path)
        disk = dataclasses.replace(disk, size=content.virtual_size,
                                   written=written(disk.path))
        images.check_content(disk.source, disk.format, content, deep=True)
    except OSError as error:
        return dataclasses.replace(disk, problem=f'{error.strerror}')
    except images.ImageRefused as error:
        return dataclasses.replace(disk, problem=error.reason)
    return disk


def written(path: str) -> tuple[int, ...]:
    """Return what is another after a write to a file or a block device.

    :raises OSError: it cannot be read.
    """
    found = os.stat(path)
    if not stat.S_ISBLK(found.st_mode):
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    # Writes to a device do not change its node. The kernel counts them, and
    # discards (its Documentation/block/stat.rst).
    device = f'{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}'
    with open(os.path.join(BLOCK_DEVICES, device, 'stat'),
              encoding='ascii') as file:
        counters = [int(counter) for counter in file.read().split()]
    return (found.st_rdev, *counters[4:7], *counters[11:14])


def _boot(domain: etree._Element, guest_type: GuestType,
          ) -> tuple[bool, boot_lib.DirectBoot | None]:
    """Return whether UEFI boots it, and the kernel that it boots.

    :raises xen44_driver.xen.errors.SpecError: it boots in another way.
    :raises OSError: the kernel cannot be read.
    """
    os_element = domain.find('os')
    if os_element is None or domain.find('bootloader') is not None or (
            guest_type is not GuestType.HVM
            and os_element.find('kernel') is None):
        # pygrub, which libvirt runs also if none is named, and its like. The
        # driver's loaders find what they find.
        return False, None
    boot = boot_lib.from_xml(os_element, guest_type)
    if isinstance(boot, domain_lib.FirmwareBoot):
        return (boot.uefi is not None
                or os_element.get('firmware') == 'efi'), None
    path = (boot.loader if isinstance(boot, domain_lib.GrubBoot)
            else boot.kernel)
    if os.path.basename(path).startswith(_LOADERS):
        return False, None
    for file in filter(None, (path, getattr(boot, 'ramdisk', None))):
        os.stat(file)
    if isinstance(boot, domain_lib.GrubBoot):
        return False, domain_lib.DirectBoot(kernel=path, cmdline='')
    return False, boot


def changed(foreign: Foreign, guest: guest_lib.Guest,
            running: Mapping[str, str]) -> str | None:
    """Return what has happened to a domain since it was read, or None.

    :param foreign: what was read, of a domain that was off.
    :param guest: the domain.
    :param running: see :func:`found`.
    :raises xen44_driver.xen.errors.XenError: libvirt does not answer.
    :raises OSError: a disk is not there any more.
    """
    if (not guest.state().is_off
            or _runs(foreign.uuid, foreign.name, running)):
        return 'it was started meanwhile'
    for disk in foreign.disks:
        if disk.written and disk.written != written(disk.path):
            return (f'something has written to disk {disk.target} '
                    f'({disk.source}) meanwhile')
    return None


def _runs(uuid: str, name: str, running: Mapping[str, str]) -> bool:
    # xl gives a domain another UUID if its file has none. A name is taken as
    # long as its domain runs.
    return uuid in running or name in running.values()


def found(host: xen_host.Host,
          running: Mapping[str, str]) -> Iterator[Foreign]:
    """Yield the domains that libvirt knows, and that are not Nova's.

    :param host: the host, connected.
    :param running: names of the domains that Xen runs, by UUID.
    :raises xen44_driver.xen.errors.XenError: libvirt does not answer.
    """
    for summary in host.inventory():
        record = summary.record
        if record.ours:
            continue
        try:
            guest = host.foreign_guest(record.uuid)
            yield read(summary, guest.kept_xml(),
                       saved=guest.has_saved_memory(),
                       of_xl=_runs(record.uuid, record.name, running))
        except errors.DomainNotFound:
            continue  # it was undefined meanwhile
