# SPDX-License-Identifier: Apache-2.0
"""What an instance is, decided once and kept.

:func:`decide` makes a :class:`Machine` when an instance is spawned, rebuilt or
resized, from its image, its flavor and the options of the host. It refuses
impossible requests before anything is made. Every later operation reads the
record, so a changed option does not affect existing instances.

The record is kept in the instance's ``system_metadata`` (:func:`keep`,
:func:`recall`) and in the domain's ``<metadata>``. While an instance is
rescued or its resize is not confirmed, it has a second record
(:data:`RESCUE`, :data:`BEFORE_RESIZE`). An instance that was made by a version
of this driver without records gets its record when one is first needed
(:func:`adopt`).
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
from typing import Any
from typing import Literal

from nova import block_device
from nova import exception
from nova import objects
from nova.objects import fields
from nova.virt import configdrive
from nova.virt import driver
from oslo_log import log as logging
from oslo_serialization import jsonutils
from oslo_utils import units

from xen44_driver.compute import cpulimits
from xen44_driver.compute import cpusets
from xen44_driver.compute import devices
from xen44_driver.compute import disk_class as disk_class_lib
from xen44_driver.compute import disklimits
from xen44_driver.compute import guest_type as guest_type_lib
from xen44_driver.compute import nestedhvm
from xen44_driver.compute import pcidevices
from xen44_driver.compute import properties
from xen44_driver.compute import volumes as volumes_lib
from xen44_driver.compute import xentables
from xen44_driver.storage import kinds
from xen44_driver.storage.kinds import blank
from xen44_driver.xen import arch as arch_lib
from xen44_driver.xen import bootfile
from xen44_driver.xen import domain
from xen44_driver.xen.diskclass import DiskClass
from xen44_driver.xen.guesttype import GuestType

LOG = logging.getLogger(__name__)

#: Version of the record's format. A record of another version is refused.
VERSION = 1

#: Key in ``system_metadata``; the further parts have ``_1``, ``_2`` ... added.
#: Nova copies every key into the images it makes of an instance, but those of
#: this namespace (NON_INHERITABLE_IMAGE_NAMESPACES in nova.compute.utils).
KEY = 'os_glance_xen44_machine'
#: Key of the machine that a rescued instance boots instead.
RESCUE = 'os_glance_xen44_rescue'
#: Key of the machine that an instance was before a resize, until the resize is
#: confirmed or reverted.
BEFORE_RESIZE = 'os_glance_xen44_before_resize'
# Characters of each part: the most that Nova's database stores in a value.
_CHUNK = 255

#: File names of an instance's disks.
ROOT_FILE = 'disk.{format}'
SWAP_FILE = 'disk.swap'
EPHEMERAL_FILE = 'disk.eph{index}'
CONFIG_DRIVE_FILE = 'disk.config'
ISO_FILE = 'disk.iso'


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The properties and options of a host that a decision depends on.

    :ivar arch: the host's architecture.
    :ivar offered: guest types that the host can run.
    :ivar default_guest_type: the type if neither image nor flavor asks.
    :ivar max_vcpus: the most vCPUs of a guest, by guest type.
    :ivar dedicated_cpus: whether vCPUs can have CPUs of their own.
    :ivar nested_hvm_problem: why guests cannot run guests of their own; None
        if they can.
    :ivar passthrough: guest types that can have PCI devices of the host.
    :ivar loaders: the loader that boots a guest's own disk, by guest type;
        only for types without firmware.
    :ivar uefi: the UEFI firmware of guests that have firmware, or None.
    :ivar uefi_problem: why no guest can have that; None if guests can.
    :ivar disk_class: what serves the disks if the flavor does not ask; None
        for the guest type's default.
    :ivar disk_format: format of root disks that QEMU serves, ``qcow2`` or
        ``raw``.
    :ivar image_kernels: whether images may have their own kernel.
    :ivar screen: whether guests that can have a screen get one, shown by VNC.
    :ivar spice: the same, shown by SPICE.
    :ivar spice_agent: whether such a guest has a channel to SPICE's agent.
    :ivar pointer_model: the pointer of a screen if the image asks for none:
        ``usbtablet``, or another for a mouse.
    :ivar config_drive: whether an instance gets a config drive unless its
        image declares it optional.
    :ivar config_drive_format: ``iso9660`` or ``vfat``.
    :ivar max_event_channels: None for what a guest needs.
    :ivar max_grant_frames: None for what a guest needs.
    :ivar most_grant_frames: the most that Xen gives to a guest; None for any
        number.
    """

    arch: arch_lib.Architecture
    offered: tuple[GuestType, ...]
    default_guest_type: GuestType
    max_vcpus: Mapping[GuestType, int] = dataclasses.field(
        default_factory=dict)
    dedicated_cpus: bool = False
    nested_hvm_problem: str | None = 'it is off'
    passthrough: frozenset[GuestType] = frozenset()
    loaders: Mapping[GuestType, bootfile.BootFile | None] = dataclasses.field(
        default_factory=dict)
    uefi: bootfile.BootFile | None = None
    uefi_problem: str | None = None
    disk_class: DiskClass | None = None
    disk_format: str = 'qcow2'
    image_kernels: bool = False
    screen: bool = True
    spice: bool = False
    spice_agent: bool = True
    pointer_model: str | None = 'usbtablet'
    config_drive: bool = True
    config_drive_format: str = 'iso9660'
    max_event_channels: int | None = None
    max_grant_frames: int | None = None
    most_grant_frames: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What an instance is, except for memory, vCPUs, ports and PCI devices.

    :ivar guest_type: PV, PVH or HVM.
    :ivar kernel_id: image with the kernel to boot; None to boot from disk.
    :ivar ramdisk_id: image with that kernel's initial ramdisk.
    :ivar cmdline: that kernel's command line; it may be empty.
    :ivar loader: path of the loader or UEFI firmware that boots the guest's
        disk; None if SeaBIOS does.
    :ivar loader_sha256: that file's checksum when the record was made.
    :ivar disks: the disks, in the guest's order; the first is the root disk.
    :ivar disk_class: what serves them.
    :ivar vif_model: ``netfront``, an emulated model, or None for libxl's
        default.
    :ivar screen: whether it has a screen, shown by VNC.
    :ivar spice: whether it has a screen, shown by SPICE.
    :ivar spice_agent: whether it has a channel to SPICE's agent.
    :ivar tablet: whether its pointer is a USB tablet.
    :ivar agent: whether it has a channel to a guest agent.
    :ivar nested_hvm: whether it can run guests of its own; HVM only.
    :ivar clock: ``utc`` or ``localtime``.
    :ivar max_event_channels: None for libxl's default.
    :ivar max_grant_frames: None for the hypervisor's default.
    :ivar cpu_weight: see :class:`cpulimits.Limits`.
    :ivar cpu_cap: see :class:`cpulimits.Limits`.
    :ivar disk_limits: the limits on each of its disks but volumes.
    :ivar rescue: whether it is the machine of a rescue. It boots the CD-ROM
        if it has one, and its kernel has a file of its own.
    """

    guest_type: GuestType
    kernel_id: str | None = None
    ramdisk_id: str | None = None
    cmdline: str | None = None
    loader: str | None = None
    loader_sha256: str | None = None
    disks: tuple[kinds.DiskRecord, ...]
    disk_class: DiskClass = DiskClass.QEMU
    vif_model: str | None = None
    screen: bool = False
    spice: bool = False
    spice_agent: bool = False
    tablet: bool = False
    agent: bool = False
    nested_hvm: bool = False
    clock: Literal['utc', 'localtime'] = 'utc'
    max_event_channels: int | None = None
    max_grant_frames: int | None = None
    cpu_weight: int | None = None
    cpu_cap: int | None = None
    disk_limits: disklimits.Limits = disklimits.NONE
    rescue: bool = False

    @property
    def cpu_limits(self) -> cpulimits.Limits:
        """Return the limits on its CPUs."""
        return cpulimits.Limits(weight=self.cpu_weight, cap=self.cpu_cap)

    @property
    def volume_limits(self) -> dict[str, disklimits.Limits]:
        """Return the limits on volumes that QEMU serves, by their ids."""
        return {disk.volume_id: disklimits.Limits(**disk.limits)
                for disk in self.disks if disk.volume_id and disk.limits}

    def devices(self, directory: str) -> tuple[domain.Disk, ...]:
        """Return the disks as devices of the guest's domain.

        :param directory: the instance's directory.
        """
        return tuple(self.device(record, directory) for record in self.disks)

    def device(
        self, record: kinds.DiskRecord, directory: str,
    ) -> domain.Disk:
        """Return a disk as a device of the guest's domain.

        :param record: the disk.
        :param directory: the instance's directory.
        """
        return kinds.load(record, directory).spec(self.disk_class)

    @property
    def root(self) -> kinds.DiskRecord:
        """Return the root disk."""
        return self.disks[0]

    def with_base(self, base: kinds.Base) -> Machine:
        """Return a copy of the record that names the image of its disks.

        :param base: the image of the instance, as it is on this host.
        """
        return dataclasses.replace(self, disks=tuple(
            dataclasses.replace(disk, base=base) if disk.kind in OF_IMAGE
            else disk for disk in self.disks))

    def to_json(self) -> str:
        """Return the record as JSON; values that are defaults are omitted."""
        return jsonutils.dumps(
            {'version': VERSION, **_plain(self)}, separators=(',', ':'))

    @classmethod
    def from_json(cls, text: str) -> Machine:
        """Read a record.

        :raises MachineUnreadable: it has another version, or is damaged.
        """
        try:
            values = jsonutils.loads(text)
            version = values.pop('version')
            if version != VERSION:
                raise MachineUnreadable(
                    reason=f'its version is {version}; this version of the '
                           f'driver reads {VERSION}')
            values['guest_type'] = GuestType(values['guest_type'])
            # Records from before there were classes have none.
            values['disk_class'] = DiskClass(
                values.get('disk_class', DiskClass.QEMU))
            values['disks'] = tuple(
                kinds.DiskRecord(**{
                    **disk,
                    'base': kinds.Base(**disk['base'])
                    if disk.get('base') else None})
                for disk in values['disks'])
            if 'disk_limits' in values:
                values['disk_limits'] = disklimits.Limits(
                    **values['disk_limits'])
            unknown = {disk.kind for disk in values['disks']} - {*kinds.KINDS}
            if unknown or not values['disks']:
                raise MachineUnreadable(
                    reason=f'it has disks of kind {", ".join(unknown)}'
                    if unknown else 'it has no disk')
            return cls(**values)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise MachineUnreadable(reason=repr(error)) from error


def with_volumes(
    machine: Machine, instance: objects.Instance,
    block_device_info: Mapping[str, Any], arch: arch_lib.Architecture,
) -> Machine:
    """Return a copy of a record with the volumes that Nova tells of.

    They are others after an operation was interrupted, or after the instance
    was on another host.

    :param block_device_info: the instance's volumes.
    :param arch: the host's architecture.
    :raises nova.exception.DiskNotFound: its root disk is a volume, of which
        Nova does not tell.
    :raises nova.exception.Invalid: the host cannot have one of them.
    """
    found = volumes_lib.with_volumes(machine.disks, volumes_lib.records(
        instance, block_device_info, arch.profile(machine.guest_type),
        instance.image_meta.properties.get('hw_disk_bus'),
        machine.disk_class))
    if not found or found[0].name != devices.ROOT:
        raise exception.DiskNotFound(
            location=f'volume {machine.root.volume_id}')
    return dataclasses.replace(machine, disks=found)


def emulated_disks(instance: objects.Instance, options: Options) -> str:
    """Return the letters of disks that a new instance gets emulated, too.

    :param options: options of the host that the instance is made on.
    :returns: such as ``abcd``; empty if it cannot be made, which its spawn
        says.
    """
    try:
        chosen = _guest_type(instance.image_meta, instance.flavor, options)
    except exception.Invalid:
        return ''
    return options.arch.profile(chosen).emulated_disks


#: Kinds of disk whose content is an image.
OF_IMAGE = (*(kind.name for kind in kinds.IMAGE_KINDS.values()), 'cdrom')


class MachineUnreadable(exception.NovaException):
    """The record of what an instance is cannot be used."""

    msg_fmt = 'The record of what the instance is cannot be read: %(reason)s'


def _plain(record: Any) -> dict[str, Any]:
    """Return a dataclass as plain values, without those that are defaults."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if value == field.default:
            continue
        if isinstance(value, tuple):
            value = [_plain(item) for item in value]
        elif dataclasses.is_dataclass(value):
            value = _plain(value)
        values[field.name] = value
    return values


def keep(
    instance: objects.Instance, machine: Machine, key: str = KEY,
) -> None:
    """Put a record into an instance's ``system_metadata``.

    The instance is not saved here: Nova does so after each operation.

    :param key: :data:`KEY`, :data:`RESCUE` or :data:`BEFORE_RESIZE`.
    """
    text = machine.to_json()
    # All old parts are removed: the new record may have fewer.
    forget(instance, key)
    instance.system_metadata = {
        **instance.system_metadata,
        **{_part(key, index): text[start:start + _CHUNK]
           for index, start in enumerate(range(0, len(text), _CHUNK))}}


def recall(instance: objects.Instance, key: str = KEY) -> Machine | None:
    """Return the record that :func:`keep` stored, or None.

    :param key: see :func:`keep`.
    :raises MachineUnreadable: the record cannot be read.
    """
    parts: list[str] = []
    while (part := instance.system_metadata.get(_part(key, len(parts)))):
        parts.append(part)
    return Machine.from_json(''.join(parts)) if parts else None


def disk_names(instance: objects.Instance) -> list[str]:
    """Return Nova's names of an instance's disks, if it has a record.

    Disks that a resize added have no block device mapping with a name. As long
    as a resize can be reverted, the disks from before it keep their names.
    """
    return [disk.name for machine in (
        recall(instance), recall(instance, BEFORE_RESIZE)) if machine
        for disk in machine.disks]


def forget(instance: objects.Instance, key: str) -> bool:
    """Remove a record; the instance is not saved.

    :param key: see :func:`keep`.
    :returns: whether there was one.
    """
    rest = {name: value for name, value in instance.system_metadata.items()
            if not name.startswith(key)}
    found = rest.keys() != instance.system_metadata.keys()
    if found:
        instance.system_metadata = rest
    return found


def _part(key: str, index: int) -> str:
    return f'{key}_{index}' if index else key


def decide(
    instance: objects.Instance, image: objects.ImageMeta,
    block_device_info: Mapping[str, Any] | None, options: Options, *,
    flavor: objects.Flavor | None = None,
) -> Machine:
    """Decide what an instance is.

    :param image: metadata of the instance's image.
    :param block_device_info: the disks besides the root disk, and volumes.
    :param options: options of the host that the instance is made on.
    :param flavor: None for the instance's.
    :raises nova.exception.Invalid: a request cannot be fulfilled; the message
        names it and what is allowed.
    """
    flavor = flavor or instance.flavor
    chosen = choose(
        image, flavor, options, kernel_id=instance.kernel_id or None,
        ramdisk_id=instance.ramdisk_id or None)
    devices.check_kinds(block_device_info)
    disk_class = disk_class_lib.choose(
        flavor, offered=options.arch.profile(chosen).disk_classes,
        default=options.disk_class)
    return _make(instance, image, block_device_info, chosen, options, flavor,
                 disk_class)


def choose(
    image: objects.ImageMeta, flavor: objects.Flavor, options: Options, *,
    kernel_id: str | None, ramdisk_id: str | None,
) -> GuestType:
    """Choose the guest type for an image, and refuse what cannot be.

    :param image: metadata of the image to boot.
    :param flavor: flavor of the instance.
    :param options: options of the host.
    :param kernel_id: image with the kernel to boot; None to boot from disk.
    :param ramdisk_id: image with that kernel's initial ramdisk.
    :raises nova.exception.Invalid: a request cannot be fulfilled; the message
        names it and what is allowed.
    """
    chosen = _guest_type(image, flavor, options)
    properties.check(image, flavor, guest_type=chosen,
                     arch=options.arch.name,
                     profile=options.arch.profile(chosen))
    properties.check_memory(flavor, chosen, direct_kernel=bool(kernel_id))
    _check_vcpus(flavor, chosen, options)
    cpusets.check_policy(image, flavor, offered=options.dedicated_cpus)
    nestedhvm.check(flavor, problem=options.nested_hvm_problem)
    pcidevices.check(flavor, chosen, offered=options.passthrough)
    properties.check_outbound_limit(
        flavor, chosen, profile=options.arch.profile(chosen),
        vif_model=image.properties.get('hw_vif_model'))
    _check_kernel(kernel_id, ramdisk_id, options)
    _check_firmware(image, kernel_id)
    return chosen


def _guest_type(
    image: objects.ImageMeta, flavor: objects.Flavor, options: Options,
) -> GuestType:
    return guest_type_lib.choose(
        image, flavor, default=options.default_guest_type,
        offered=options.offered)


def _make(
    instance: objects.Instance, image: objects.ImageMeta,
    block_device_info: Mapping[str, Any] | None, chosen: GuestType,
    options: Options, flavor: objects.Flavor, disk_class: DiskClass,
) -> Machine:
    """Make the record of an instance; do not check if its image is allowed."""
    return make(
        image, flavor, chosen, options, kernel_id=instance.kernel_id or None,
        ramdisk_id=instance.ramdisk_id or None, disk_class=disk_class,
        disks=_disks(instance, image, block_device_info,
                     options.arch.profile(chosen), options, flavor,
                     disk_class))


def make(
    image: objects.ImageMeta, flavor: objects.Flavor, chosen: GuestType,
    options: Options, *,
    kernel_id: str | None, ramdisk_id: str | None,
    disks: Iterable[kinds.DiskRecord], disk_class: DiskClass,
) -> Machine:
    """Make a record for an image; do not check if the image is allowed.

    :param image: metadata of the image to boot.
    :param flavor: flavor of the instance.
    :param chosen: the guest's type.
    :param options: options of the host.
    :param kernel_id: image with the kernel to boot; None to boot from disk.
    :param ramdisk_id: image with that kernel's initial ramdisk.
    :param disks: records of the disks, in the guest's order.
    :param disk_class: what serves the disks.
    :raises nova.exception.InvalidInput: the host has no loader for it, or its
        disks have no QEMU, which it needs.
    """
    profile = options.arch.profile(chosen)
    asked = image.properties.get
    limits = cpulimits.of_flavor(flavor)
    disk_limits = disklimits.of_flavor(flavor)
    agent = bool(asked('hw_qemu_guest_agent'))
    disk_class_lib.check(
        disk_class, limits=disk_limits != disklimits.NONE, agent=agent,
        offered=profile.disk_classes)
    disks = tuple(disks)
    loader = None
    if not kernel_id:
        loader = (_firmware(image, options) if profile.firmware
                  else _loader(chosen, options))
    tables = xentables.decide(
        flavor, chosen, disks=len(disks), host=xentables.Limits(
            max_event_channels=options.max_event_channels,
            max_grant_frames=options.max_grant_frames),
        most_grant_frames=options.most_grant_frames)
    return Machine(
        guest_type=chosen,
        kernel_id=kernel_id,
        ramdisk_id=ramdisk_id,
        cmdline=_cmdline(image, options) if kernel_id else None,
        loader=loader.path if loader else None,
        loader_sha256=loader.sha256 if loader else None,
        disks=disks,
        disk_class=disk_class,
        vif_model=asked('hw_vif_model'),
        screen=options.screen and profile.screen,
        spice=options.spice and profile.screen,
        spice_agent=(options.spice and profile.screen
                     and options.spice_agent),
        tablet=((options.screen or options.spice) and profile.screen
                and (asked('hw_pointer_model') or options.pointer_model)
                in profile.pointer_models),
        agent=agent,
        nested_hvm=nestedhvm.asked(flavor),
        # Windows would also profit from Hyper-V's enlightenments
        # (<viridian/>), but libvirt's libxl driver (11.3) ignores them.
        clock='localtime' if asked('os_type') == 'windows' else 'utc',
        max_event_channels=tables.max_event_channels,
        max_grant_frames=tables.max_grant_frames,
        cpu_weight=limits.weight,
        cpu_cap=limits.cap,
        disk_limits=disk_limits)


def _check_vcpus(
    flavor: objects.Flavor, chosen: GuestType, options: Options,
) -> None:
    limit = options.max_vcpus.get(chosen)
    if limit and flavor.vcpus > limit:
        raise exception.InvalidInput(
            reason=f'the flavor has {flavor.vcpus} vCPUs; a '
                   f'{chosen} guest can have {limit}')


def _check_kernel(
    kernel_id: str | None, ramdisk_id: str | None, options: Options,
) -> None:
    if ramdisk_id and not kernel_id:
        raise exception.InvalidInput(
            reason=f'the image has a ramdisk_id ({ramdisk_id}) but '
                   'no kernel_id; a ramdisk needs its kernel')
    if kernel_id and not options.image_kernels:
        raise exception.InvalidInput(
            reason=f'the image has a kernel_id ({kernel_id}), and '
                   'this host boots no kernels of images ([xen44] '
                   'allow_image_kernels is false); allowed: images that '
                   'boot from their own disk')


def _check_firmware(
    image: objects.ImageMeta, kernel_id: str | None,
) -> None:
    asked = image.properties.get
    uefi = asked('hw_firmware_type') == fields.FirmwareType.UEFI
    if uefi and kernel_id:
        raise exception.InvalidInput(
            reason='the image asks for hw_firmware_type uefi, and has a '
                   f'kernel_id ({kernel_id}), which it boots without that; '
                   'allowed: one of them')
    if asked('hw_firmware_stateless') and not uefi:
        raise exception.InvalidInput(
            reason='the image asks for hw_firmware_stateless, which is for '
                   'UEFI; allowed with it: hw_firmware_type=uefi')


def _cmdline(image: objects.ImageMeta, options: Options) -> str:
    asked: str | None = image.properties.get('os_command_line')
    # An empty value is used as it is: unikernels may need an empty command
    # line.
    return (options.arch.default_cmdline(devices.ROOT) if asked is None
            else asked)


def _loader(chosen: GuestType, options: Options) -> bootfile.BootFile:
    loader = options.loaders.get(chosen)
    if loader is None:
        raise exception.InvalidInput(
            reason=f'a {chosen} guest cannot boot from its own disk on '
                   f'{options.arch.name}: no [xen44_{options.arch.name}] '
                   f'{chosen}_loader is configured; allowed: images with a '
                   'kernel_id')
    return loader


def _firmware(
    image: objects.ImageMeta, options: Options,
) -> bootfile.BootFile | None:
    """Return the UEFI firmware if the image asks for it."""
    if image.properties.get('hw_firmware_type') != fields.FirmwareType.UEFI:
        return None
    if options.uefi is None:
        raise exception.InvalidInput(
            reason='the image asks for hw_firmware_type uefi, and this host '
                   f'has none ([xen44_{options.arch.name}] uefi_firmware); '
                   'allowed: bios')
    if options.uefi_problem is not None:
        raise exception.InvalidInput(
            reason='the image asks for hw_firmware_type uefi, which is not '
                   f'possible on this host: {options.uefi_problem}; allowed: '
                   'bios')
    return options.uefi


def check_loader(machine: Machine, arch: str) -> None:
    """Refuse a guest whose loader or firmware does not exist on this host.

    One that has changed, such as by an update of grub, is only logged.

    :param arch: name of the host's architecture.
    :raises nova.exception.InvalidInput: the file does not exist; the message
        names it.
    """
    if not machine.loader:
        return
    there = bootfile.look(machine.loader).sha256
    if there is None:
        option, allowed = (
            ('uefi_firmware', 'images without hw_firmware_type=uefi')
            if machine.guest_type is GuestType.HVM else
            (f'{machine.guest_type}_loader', 'images with a kernel_id'))
        raise exception.InvalidInput(
            reason=f'a {machine.guest_type} guest cannot boot from its own '
                   f'disk here: there is no file {machine.loader}, which '
                   f'was [xen44_{arch}] {option} when it was made; allowed: '
                   f'{allowed}')
    if machine.loader_sha256 not in (None, there):
        LOG.info('%(loader)s is not the one with which the guest was made '
                 '(SHA-256 %(was)s, now %(now)s)', {
                     'loader': machine.loader, 'was': machine.loader_sha256,
                     'now': there})


def _disks(
    instance: objects.Instance, image: objects.ImageMeta,
    block_device_info: Mapping[str, Any] | None,
    profile: arch_lib.Profile, options: Options, flavor: objects.Flavor,
    disk_class: DiskClass,
) -> list[kinds.DiskRecord]:
    """Return the records of all disks, the root disk first."""
    bus = image.properties.get('hw_disk_bus')
    volumes = volumes_lib.records(
        instance, block_device_info, profile, bus, disk_class)
    roots = [volume for volume in volumes if volume.name == devices.ROOT]
    # A volume that was made of an ISO image boots as a disk.
    iso = is_iso(image) and not roots
    disks = roots or [_root(
        flavor, profile, disk_class.root_format(options.disk_format), bus,
        iso=iso)]
    ephemerals = driver.block_device_info_get_ephemerals(block_device_info)
    for index, disk in enumerate(ephemerals):
        disks.append(_ephemeral(index, disk, profile, bus))
    swap = driver.block_device_info_get_swap(block_device_info)
    if driver.swap_is_usable(swap):
        name = block_device.prepend_dev(swap['device_name'])
        disks.append(kinds.DiskRecord(
            kind='blank', name=name, file=SWAP_FILE,
            target=devices.target(name, profile, bus),
            size=swap['swap_size'] * units.Mi, file_system=blank.SWAP))
    disks += [volume for volume in volumes if volume not in roots]
    if iso:
        # At a rebuild the disks keep the names they have.
        if devices.CDROM in [disk.name for disk in disks]:
            raise exception.InvalidInput(
                reason=f'the image is an ISO image, whose CD-ROM is '
                       f'{devices.CDROM}, and a disk of the instance has '
                       'that name; allowed: images of disks')
        disks.append(kinds.DiskRecord(
            kind='cdrom', name=devices.CDROM, file=ISO_FILE,
            target=devices.cdrom_target(devices.CDROM), device='cdrom'))
    if _wants_config_drive(instance, image, options):
        target, device = devices.config_drive(
            profile, options.config_drive_format)
        disks.append(kinds.DiskRecord(
            kind='config', name=devices.CONFIG_DRIVE,
            file=CONFIG_DRIVE_FILE, target=target, device=device))
    return disks


def is_iso(image: objects.ImageMeta) -> bool:
    """Return whether an image is an ISO image."""
    return (image.obj_attr_is_set('disk_format')
            and image.disk_format == 'iso')


def _root(
    flavor: objects.Flavor, profile: arch_lib.Profile, format: str,
    bus: str | None, *, iso: bool,
) -> kinds.DiskRecord:
    kind = kinds.IMAGE_KINDS[format].name
    if iso:
        if not profile.cdrom:
            raise exception.InvalidInput(
                reason='the image is an ISO image (disk_format iso), and '
                       'only hvm guests have a CD-ROM drive to boot it '
                       'from; allowed: images of disks, or '
                       'hw_vm_mode=hvm')
        if not flavor.root_gb:
            raise exception.InvalidInput(
                reason='the image is an ISO image (disk_format iso), and '
                       'the flavor has no root disk to install to; allowed: '
                       'flavors with a disk of 1 GiB or more')
        kind, format = 'blank', 'raw'
    return kinds.DiskRecord(
        kind=kind, name=devices.ROOT, format=format,
        file=ROOT_FILE.format(format=format),
        target=devices.target(devices.ROOT, profile, bus),
        size=flavor.root_gb * units.Gi)


def _ephemeral(
    index: int, disk: Mapping[str, Any], profile: arch_lib.Profile,
    bus: str | None,
) -> kinds.DiskRecord:
    file_system = disk.get('guest_format')
    if file_system and file_system not in blank.FILE_SYSTEMS:
        raise exception.InvalidInput(
            reason=f'guest_format {file_system!r} of an ephemeral disk is '
                   f'not supported; allowed: '
                   f'{", ".join(blank.FILE_SYSTEMS)}')
    name = block_device.prepend_dev(disk['device_name'])
    return kinds.DiskRecord(
        kind='blank', name=name, file=EPHEMERAL_FILE.format(index=index),
        target=devices.target(name, profile, bus),
        size=disk['size'] * units.Gi,
        file_system=file_system or blank.DEFAULT, label=f'ephemeral{index}')


def _wants_config_drive(
    instance: objects.Instance, image: objects.ImageMeta, options: Options,
) -> bool:
    """Return whether an instance gets a config drive.

    cloud-init in stock images recognises OpenStack by SMBIOS, which PV and
    PVH guests do not have. Without a config drive, its ds-identify then
    disables cloud-init.
    """
    if configdrive.required_by(instance):
        return True
    return (options.config_drive
            and image.properties.get('img_config_drive') is None)


def adopt(
    instance: objects.Instance, block_device_info: Mapping[str, Any] | None,
    options: Options, *, present: Collection[str],
) -> Machine:
    """Make the record of an existing instance that has none.

    :param block_device_info: the disks besides the root disk.
    :param options: options of this host.
    :param present: names of the files in the instance's directory.
    :raises nova.exception.DiskNotFound: the root disk does not exist.
    :raises nova.exception.InvalidInput: this host cannot run its guest type.
    """
    for format in kinds.IMAGE_KINDS:
        if ROOT_FILE.format(format=format) in present:
            break
    else:
        raise exception.DiskNotFound(
            location=ROOT_FILE.format(format=options.disk_format))
    image = instance.image_meta
    if ISO_FILE not in present:
        # Older versions of the driver used an ISO image as the root disk.
        image.disk_format = format
    # Without decide(): its checks are for new instances only.
    chosen = _guest_type(image, instance.flavor, options)
    machine = _make(
        instance, image, block_device_info, chosen,
        # A tablet is not put into a guest that has done without it, nor is
        # SPICE, with the device of its agent.
        dataclasses.replace(options, disk_format=format, pointer_model=None,
                            spice=False,
                            config_drive=CONFIG_DRIVE_FILE in present),
        instance.flavor,
        # Those versions knew no classes.
        options.arch.profile(chosen).disk_classes[0])
    if machine.cmdline == '':
        # An empty one was none then.
        machine = dataclasses.replace(
            machine, cmdline=options.arch.default_cmdline(devices.ROOT))
    # Those versions knew no nested virtualization either.
    return dataclasses.replace(machine, nested_hvm=False, disks=tuple(
        disk for disk in machine.disks if disk.file in present))
