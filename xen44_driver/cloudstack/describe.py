# SPDX-License-Identifier: Apache-2.0
"""Decide what a VM is, and describe its domain; changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses

from oslo_utils import units

from xen44_driver.cloudstack import payload as payload_lib
from xen44_driver.cloudstack import templates
from xen44_driver.cloudstack import vmrecord
from xen44_driver.storage import kinds
from xen44_driver.storage import layout
from xen44_driver.xen import arch as arch_lib
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen.diskclass import DiskClass
from xen44_driver.xen.domain import interface as interface_lib
from xen44_driver.xen.guesttype import GuestType

#: Xen's names of the disks. HVM guests also get the first four as emulated
#: disks; there the third and the fourth are CD-ROM drives.
ROOT_TARGET = 'xvda'
ISO_TARGET = 'hdc'
SEED_DISK_TARGET = 'xvdd'
SEED_CDROM_TARGET = 'hdd'

#: The most seconds that the detail ``stop_timeout`` can have.
MAX_STOP_TIMEOUT = 3600

# Linux has no longer command line on x86.
_CMDLINE = r'[ -~]{1,2047}'


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """The properties and options of a host that a VM depends on.

    :ivar arch: the host's architecture.
    :ivar offered: guest types that the host can run.
    :ivar default_guest_type: the type if no detail asks for one.
    :ivar max_vcpus: the most vCPUs of a guest, by guest type.
    :ivar loaders: path of the loader that boots a guest's own disk, by guest
        type; only for types without firmware.
    :ivar disk_format: format of root disks, ``qcow2`` or ``raw``.
    :ivar config_drive: whether a VM gets a config drive if no detail says.
    :ivar network_mode: ``ovs`` or ``bridge``.
    :ivar network_bridge: the bridge if the host's details name none.
    """

    arch: arch_lib.Architecture
    offered: tuple[GuestType, ...]
    default_guest_type: GuestType
    max_vcpus: Mapping[GuestType, int]
    loaders: Mapping[GuestType, str | None]
    disk_format: str
    config_drive: bool
    network_mode: str
    network_bridge: str | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a template and its VM ask for.

    :ivar record: the record, without the image of the root disk.
    :ivar image: name of the image's file.
    :ivar image_format: its format, or None for what it contains.
    :ivar kernel: name of the kernel's file, or None.
    :ivar ramdisk: name of the file of its initial ramdisk, or None.
    """

    record: vmrecord.VmRecord
    image: str
    image_format: str | None
    kernel: str | None
    ramdisk: str | None


def decide(
    vm: payload_lib.Vm, root_disk_gb: int | None, options: HostOptions,
) -> Wanted:
    """Decide what a new VM is.

    :param vm: the VM.
    :param root_disk_gb: size of the root disk in GiB; None for the image's.
    :param options: the host's options.
    :raises SpecError: something that is asked for is not possible.
    """
    details = vm.details
    image = details.file('image')
    if image is None:
        raise errors.SpecError(
            'externaldetails.virtualmachine.image', None,
            'the name of a file in [xen44_cloudstack] images_directory')
    asked = details.one_of('guest_type', tuple(GuestType))
    guest_type = GuestType(asked or options.default_guest_type)
    if guest_type not in options.offered:
        raise errors.SpecError(
            'guest_type', str(guest_type), options.offered)
    profile = options.arch.profile(guest_type)
    disk_class = profile.disk_classes[0]
    format = disk_class.root_format(options.disk_format)
    kernel, ramdisk = details.file('kernel'), details.file('ramdisk')
    if ramdisk and not kernel:
        raise errors.SpecError(
            'ramdisk', ramdisk, 'none, without a kernel')
    smallest = details.number('min_disk_gb', 1, 65536) or 0
    size = max(root_disk_gb or 0, smallest) * units.Gi
    disks = [kinds.DiskRecord(
        kind=kinds.IMAGE_KINDS[format].name,
        name='root', target=ROOT_TARGET, format=format,
        file=vmrecord.ROOT_FILE.format(format=format), size=size)]
    # Here, as it must not keep a VM from being stopped.
    details.number('stop_timeout', 0, MAX_STOP_TIMEOUT)
    seed = details.flag('config_drive')
    if options.config_drive if seed is None else seed:
        disks.append(kinds.DiskRecord(
            kind='config', name='seed', file=vmrecord.SEED_FILE,
            target=SEED_CDROM_TARGET if profile.cdrom else SEED_DISK_TARGET,
            device='cdrom' if profile.cdrom else 'disk'))
    return Wanted(
        image=image,
        image_format=details.one_of('image_format', templates.FORMATS),
        kernel=kernel, ramdisk=ramdisk,
        record=vmrecord.VmRecord(
            name=vm.name, guest_type=guest_type, disks=tuple(disks),
            disk_class=disk_class,
            loader=None if kernel or profile.firmware
            else _loader(guest_type, options),
            kernel=kernel is not None, ramdisk=ramdisk is not None,
            cmdline=_cmdline(details, options) if kernel else None,
            nic_model=details.one_of('nic_model', profile.vif_models)))


def _loader(guest_type: GuestType, options: HostOptions) -> str:
    loader = options.loaders.get(guest_type)
    if loader is None:
        raise errors.SpecError(
            'guest_type', str(guest_type),
            f'with a detail "kernel", as no [xen44_{options.arch.name}] '
            f'{guest_type}_loader is configured on this host')
    return loader


def _cmdline(details: payload_lib.Details, options: HostOptions) -> str:
    return (details.text('cmdline', _CMDLINE, 'one line of ASCII characters')
            or options.arch.default_cmdline(f'/dev/{ROOT_TARGET}'))


def build(
    vm: payload_lib.Vm, hardware: payload_lib.Hardware,
    record: vmrecord.VmRecord, *, host: payload_lib.Details,
    files: layout.InstanceFiles, options: HostOptions,
) -> domain.DomainSpec:
    """Describe the domain of a VM.

    :param vm: the VM.
    :param hardware: what it is to have.
    :param record: what it is.
    :param host: details of the host in CloudStack.
    :param files: paths of the VM's files.
    :param options: the host's options.
    :raises SpecError: something that is asked for is not possible.
    """
    if hardware.arch not in (None, options.arch.name):
        raise errors.SpecError('arch', hardware.arch, options.arch.name)
    limit = options.max_vcpus.get(record.guest_type)
    if limit and hardware.vcpus > limit:
        raise errors.SpecError(
            'cpus', hardware.vcpus, f'1 to {limit}, for {record.guest_type}')
    profile = options.arch.profile(record.guest_type)
    return domain.DomainSpec(
        uuid=vm.uuid,
        name=vm.name,
        arch=options.arch.name,
        guest_type=record.guest_type,
        memory_mib=hardware.memory_mib,
        vcpus=hardware.vcpus,
        boot=_boot(record, files),
        disks=tuple(
            kinds.load(disk, files.directory).spec(record.disk_class)
            for disk in record.disks),
        interfaces=tuple(
            _interface(nic, record, host, options) for nic in hardware.nics),
        monitor=record.disk_class is DiskClass.QEMU,
        # Others reach it through a relay, which asks for a password.
        screen=domain.Screen(
            vnc='127.0.0.1', tablet='usbtablet' in profile.pointer_models)
        if profile.screen else None,
        serial_log=files.serial_log if profile.serial_port else None,
        metadata=domain.VmMetadata(name=vm.name))


def _boot(
    record: vmrecord.VmRecord, files: layout.InstanceFiles,
) -> domain.Boot:
    if record.kernel:
        return domain.DirectBoot(
            kernel=files.kernel,
            ramdisk=files.ramdisk if record.ramdisk else None,
            cmdline=record.cmdline or '')
    if record.loader:
        return domain.GrubBoot(loader=record.loader)
    iso = record.disk(vmrecord.ISO_FILE)
    return domain.FirmwareBoot(devices=('hd', 'cdrom') if iso else ('hd',))


def _interface(
    nic: payload_lib.Nic, record: vmrecord.VmRecord,
    host: payload_lib.Details, options: HostOptions,
) -> domain.Interface:
    bridge = host.text(
        'network_bridge', r'[A-Za-z0-9][A-Za-z0-9_.+@-]{0,14}',
        'the name of a bridge') or options.network_bridge
    if bridge is None:
        raise errors.SpecError(
            'externaldetails.host.network_bridge', None,
            'the name of a bridge (or [xen44_cloudstack] network_bridge)')
    mode = host.one_of(
        'network_mode', ('ovs', 'bridge')) or options.network_mode
    ovs = mode == 'ovs'
    if nic.vlan is not None and not ovs:
        bridge = f'{bridge}-{nic.vlan}'
    limit = None
    if nic.rate_mbps is not None:
        limit = min(nic.rate_mbps * 10 ** 6 // 8 // 1024,
                    interface_lib.MAX_OUTBOUND_KIB)
    return domain.Interface(
        mac=nic.mac, bridge=bridge, ovs=ovs,
        vlan=nic.vlan if ovs else None, model=record.nic_model,
        mtu=nic.mtu, outbound_kib=limit)
