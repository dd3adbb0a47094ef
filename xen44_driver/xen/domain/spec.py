# SPDX-License-Identifier: Apache-2.0
"""What a domain is.

Plain values, checked when they are made: a :class:`DomainSpec` that exists can
be written as XML that libvirt's schema accepts. Whether the *host* can run it
is a question for :mod:`xen44_driver.xen.capabilities`.

Memory is in MiB. Paths are absolute paths of the host.
"""

import dataclasses
import re

from xen44_driver.xen import errors
from xen44_driver.xen.domain import check
from xen44_driver.xen.guesttype import GuestType

__all__ = [
    'Boot', 'DirectBoot', 'Disk', 'DomainSpec', 'FirmwareBoot', 'GrubBoot',
    'GuestType', 'InstanceMetadata', 'Interface', 'Vnc',
]

# What the kernel takes as the name of a network interface (IFNAMSIZ - 1), and
# the ending that Xen's hot-plug scripts give to an emulated card's twin.
_MAX_IFNAME = 15
_EMULATED_SUFFIX = '-emu'


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DirectBoot:
    """Boot a kernel of the host's file system.

    :param kernel: path of the kernel.
    :param ramdisk: path of the initial RAM disk.
    :param cmdline: the kernel's command line. Not empty: in the XML, a kernel
        without one is how a boot loader looks (see :class:`GrubBoot`).
    """

    kernel: str
    ramdisk: str | None = None
    cmdline: str

    def __post_init__(self) -> None:
        check.path('boot.kernel', self.kernel)
        if self.ramdisk is not None:
            check.path('boot.ramdisk', self.ramdisk)
        check.line('boot.cmdline', self.cmdline)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GrubBoot:
    """Boot the guest's own disk through grub's Xen build (PV and PVH).

    grub runs inside the guest. Nothing of the guest's disk is read in dom0.

    :param loader: path of grub's image, ``Architecture.boot_loader()``.
    """

    loader: str

    def __post_init__(self) -> None:
        check.path('boot.loader', self.loader)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareBoot:
    """Boot the guest's own disk through firmware (HVM).

    :param firmware: path of an OVMF image, one of those that
        ``Capabilities.firmware`` lists; None for hvmloader's SeaBIOS.
    """

    firmware: str | None = None

    def __post_init__(self) -> None:
        if self.firmware is not None:
            check.path('boot.firmware', self.firmware)


Boot = DirectBoot | GrubBoot | FirmwareBoot


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk or a CD-ROM.

    HVM guests get the first four twice: as emulated disks, which firmware can
    boot, and as PV disks, for which a Linux guest gives up the emulated ones.
    ``hda`` to ``hdd`` and ``xvda`` to ``xvdd`` are emulated IDE disks, ``sda``
    to ``sdd`` those of an LSI 53C895A SCSI adapter. libxl decides that by the
    target alone; libvirt's bus is for the reader. (xl-disk-configuration(5),
    xen-vbd-interface(7))

    :param target: the guest's name of it, ``xvda``, ``hda`` or ``sda``.
    :param source: path of the file or of the block device.
    :param format: ``raw`` or ``qcow2``; a block device is always raw.
    :param type: ``file``, served by a QEMU in dom0, or ``block``, served by
        the kernel of dom0 (``phy``).
    :param readonly: whether the guest may not write. Always for CD-ROMs.
    :param device: ``disk`` or ``cdrom``.
    :param bus: ``xen``, ``ide`` or ``scsi``; None takes what the target says.
    """

    target: str
    source: str
    format: str = 'raw'
    type: str = 'file'
    readonly: bool = False
    device: str = 'disk'
    bus: str | None = None

    def __post_init__(self) -> None:
        check.match('disk.target', self.target, r'xvd[a-z]{1,2}|[hs]d[a-d]',
                    'xvda to xvdzz, hda to hdd, or sda to sdd')
        # libxl puts it unquoted into QEMU's -drive option.
        check.path('disk.source', self.source, without=',')
        check.one_of('disk.format', self.format, ('raw', 'qcow2'))
        check.one_of('disk.type', self.type, ('file', 'block'))
        check.one_of('disk.device', self.device, ('disk', 'cdrom'))
        if self.type == 'block' and self.format != 'raw':
            raise errors.SpecError('disk.format', self.format,
                                   'raw, for a block device')
        bus = {'h': 'ide', 's': 'scsi'}.get(self.target[0], 'xen')
        if self.bus is None:
            object.__setattr__(self, 'bus', bus)
        elif self.bus != bus:
            raise errors.SpecError('disk.bus', self.bus,
                                   f'{bus}, for target {self.target}')
        if self.device == 'cdrom':
            object.__setattr__(self, 'readonly', True)

    @property
    def ide_in_hvm(self) -> bool:
        """Whether an HVM guest gets it as an emulated IDE disk as well."""
        return re.fullmatch(r'(xvd|hd)[a-d]', self.target) is not None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface on a bridge of the host.

    :param mac: the guest's address, ``00:16:3e:00:00:01``.
    :param bridge: the host's bridge, Linux or Open vSwitch.
    :param script: the hot-plug script that plugs it: a path, or a name in
        Xen's script directory; None for Xen's default, ``vif-bridge``.
    :param model: ``netfront`` for PV only, or a card for HVM to emulate
        beside it (``e1000``, ``rtl8139``); None lets libvirt choose: PV
        only, and for HVM an emulated card too.
    :param target: the interface's name on the host, None for Xen's
        ``vifDOMID.N``. Not itself ``vif...``: libvirt drops those. An emulated
        card's twin is called ``NAME-emu``, so with one the name is shorter.
    :param mtu: in bytes. libvirt's libxl driver (11.3) keeps it in the XML
        but does not give it to Xen: the hot-plug script has to set it.
    """

    mac: str
    bridge: str
    script: str | None = None
    model: str | None = None
    target: str | None = None
    mtu: int | None = None

    def __post_init__(self) -> None:
        # A multicast address is refused by libvirt: the lowest bit of the
        # first octet.
        check.match('interface.mac', self.mac,
                    r'[0-9a-f][02468ace](:[0-9a-f]{2}){5}',
                    'a unicast address, lower case, such as 00:16:3e:00:00:01')
        check.match('interface.bridge', self.bridge, _IFNAME, _IFNAME_WORDS)
        if self.script is not None:
            check.match('interface.script', self.script, r'[\w./+@:=-]+',
                        'a path, or a name of letters, digits and ./_+@:=-')
        if self.model is not None:
            check.match('interface.model', self.model, r'[a-z0-9-]+',
                        'netfront, e1000, rtl8139 or another of QEMU\'s')
        if self.target is not None:
            check.match('interface.target', self.target,
                        rf'(?!vif){_IFNAME}',
                        f'{_IFNAME_WORDS}, not beginning with "vif"')
        if self.mtu is not None:
            check.within('interface.mtu', self.mtu, 68, 65535)

    def emulated(self, guest_type: GuestType) -> bool:
        """Whether such a guest gets an emulated card beside the PV one."""
        return guest_type is GuestType.HVM and self.model != 'netfront'


_IFNAME = rf'[\w.+@-]{{1,{_MAX_IFNAME}}}'
_IFNAME_WORDS = f'1 to {_MAX_IFNAME} letters, digits and ._+@-'


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Vnc:
    """A screen, shown by VNC: emulated VGA for HVM, a PV one otherwise.

    :param listen: address or host name that the VNC server listens on.
    :param port: None to let libvirt choose a free one. Not below 5900, where
        VNC's display 0 is.
    :param keymap: QEMU's name of a keyboard layout, such as ``de``.
    :param tablet: HVM: emulate a USB tablet, so that the pointer is where the
        viewer's is. It costs the host some CPU.
    """

    listen: str
    port: int | None = None
    keymap: str | None = None
    tablet: bool = False

    def __post_init__(self) -> None:
        check.match('vnc.listen', self.listen, r'[A-Za-z0-9][\w.:-]*|::[\w:]*',
                    'an address or a host name')
        if self.port is not None:
            check.within('vnc.port', self.port, 5900, 65535)
        if self.keymap is not None:
            check.match('vnc.keymap', self.keymap, r'[A-Za-z0-9_-]+',
                        'a name such as en-us')


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class InstanceMetadata:
    """What the cloud calls it: for a person who looks at the domain.

    Free text; characters that XML cannot carry are dropped.

    :param name: the instance's display name.
    :param flavor: the flavor's name.
    :param image: UUID of the image, None when booted from a volume.
    :param project: who owns it.
    :param user: who made it.
    """

    name: str
    flavor: str
    image: str | None = None
    project: str | None = None
    user: str | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None:
                object.__setattr__(self, field.name, check.printable(value))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DomainSpec:
    """A whole domain.

    :param uuid: lower case, with dashes; Nova's UUID of the instance.
    :param name: libvirt's and Xen's name of it; names files of both.
    :param arch: ``x86_64`` or ``aarch64``.
    :param guest_type: PV, PVH or HVM.
    :param memory_mib: in MiB.
    :param vcpus: how many.
    :param cpus: numbers of the host's CPUs they run on, None for all.
    :param boot: from where.
    :param disks: in the guest's order.
    :param interfaces: in the guest's order.
    :param vnc: its screen, None for none.
    :param serial_log: HVM: path of the file that the first serial port is
        written to. PV and PVH have no serial port; their console is Xen's.
    :param max_event_channels: None for Xen's own limit (1023).
    :param max_grant_frames: None for Xen's own limit.
    :param metadata: the cloud's names of it.
    :param title: one line for people.
    :param description: text for people.
    """

    uuid: str
    name: str
    arch: str
    guest_type: GuestType
    memory_mib: int
    vcpus: int
    boot: Boot
    cpus: frozenset[int] | None = None
    disks: tuple[Disk, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    vnc: Vnc | None = None
    serial_log: str | None = None
    max_event_channels: int | None = None
    max_grant_frames: int | None = None
    metadata: InstanceMetadata | None = None
    title: str | None = None
    description: str | None = None

    def __post_init__(self) -> None:
        check.match('uuid', self.uuid,
                    r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}',
                    'a UUID, lower case, with dashes')
        check.match('name', self.name, r'\w[\w.+@:-]{0,127}',
                    '1 to 128 letters, digits and ._+@:-, the first of them '
                    'a letter, a digit or _')
        check.match('arch', self.arch, r'[a-z0-9_]+', 'such as x86_64')
        check.one_of('guest_type', self.guest_type, tuple(GuestType))
        object.__setattr__(self, 'guest_type', GuestType(self.guest_type))
        # Xen's and libvirt's own types hold far more; this keeps KiB in 63
        # bits, which is what the schema's integer allows.
        check.within('memory_mib', self.memory_mib, 1, 2 ** 40)
        check.within('vcpus', self.vcpus, 1, 65535)
        if self.cpus is not None:
            if not self.cpus:
                raise errors.SpecError('cpus', 'none', 'one or more')
            for cpu in self.cpus:
                check.within('cpus', cpu, 0, 65535)
        # The FIFO ABI's size: 2^17.
        if self.max_event_channels is not None:
            check.within('max_event_channels', self.max_event_channels,
                         1, 2 ** 17)
        if self.max_grant_frames is not None:
            check.within('max_grant_frames', self.max_grant_frames,
                         1, 2 ** 20)
        if self.title is not None:
            # The schema has no empty title.
            object.__setattr__(self, 'title',
                               check.one_line(self.title) or None)
        if self.description is not None:
            object.__setattr__(self, 'description',
                               check.printable(self.description))
        self._check_boot()
        self._check_devices()

    def _check_boot(self) -> None:
        hvm = self.guest_type is GuestType.HVM
        if isinstance(self.boot, FirmwareBoot) and not hvm:
            raise errors.SpecError('boot', 'firmware',
                                   f'grub or a kernel, for {self.guest_type}')
        if isinstance(self.boot, GrubBoot) and hvm:
            raise errors.SpecError('boot', 'grub',
                                   'firmware or a kernel, for hvm')

    def _check_devices(self) -> None:
        hvm = self.guest_type is GuestType.HVM
        seen: set[str] = set()
        for i, disk in enumerate(self.disks):
            # libxl takes hda and xvda for the same emulated disk, and Linux
            # calls either of them xvda, and sda too.
            letters = re.sub(r'^(xvd|hd|sd)', '', disk.target)
            if letters in seen:
                raise errors.SpecError(f'disks[{i}].target', disk.target,
                                       'a letter that no other disk has')
            seen.add(letters)
            if disk.bus != 'xen' and not hvm:
                raise errors.SpecError(f'disks[{i}].bus', disk.bus,
                                       f'xen, for {self.guest_type}')
            if (hvm and disk.readonly and disk.device == 'disk'
                    and disk.ide_in_hvm):
                raise errors.SpecError(
                    f'disks[{i}].target', disk.target,
                    'xvde and above for a read-only disk of an HVM guest: '
                    'QEMU emulates no read-only IDE disk')
            if hvm and disk.device == 'cdrom' and disk.bus != 'ide':
                raise errors.SpecError(f'disks[{i}].target', disk.target,
                                       'hda to hdd, for a CD-ROM of hvm')
        for i, interface in enumerate(self.interfaces):
            if not hvm and interface.model not in (None, 'netfront'):
                raise errors.SpecError(
                    f'interfaces[{i}].model', interface.model,
                    f'netfront, for {self.guest_type}')
            room = _MAX_IFNAME - len(_EMULATED_SUFFIX)
            if (interface.target is not None
                    and interface.emulated(self.guest_type)
                    and len(interface.target) > room):
                raise errors.SpecError(
                    f'interfaces[{i}].target', interface.target,
                    f'at most {room} characters beside an emulated card, '
                    'whose twin ends in -emu; or model netfront')
        if self.serial_log is not None:
            if not hvm:
                raise errors.SpecError('serial_log', self.serial_log,
                                       f'none, for {self.guest_type}')
            # It becomes a part of QEMU's -serial option, like a disk's path.
            check.path('serial_log', self.serial_log, without=',')
        if self.vnc is not None and self.vnc.tablet and not hvm:
            raise errors.SpecError('vnc.tablet', True,
                                   f'none, for {self.guest_type}')
