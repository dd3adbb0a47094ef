# SPDX-License-Identifier: Apache-2.0
"""Describe the domain of a machine; pure: reads no options and no files."""

from __future__ import annotations

from collections.abc import Iterable
import dataclasses

from nova import exception
from nova import objects
from nova.network import model

from xen44_driver.compute import cpusets
from xen44_driver.compute import machine as machine_lib
from xen44_driver.compute import nestedhvm
from xen44_driver.compute import pcidevices
from xen44_driver.compute import properties
from xen44_driver.network import vif as vif_lib
from xen44_driver.storage import layout
from xen44_driver.xen import arch as arch_lib
from xen44_driver.xen import domain
from xen44_driver.xen import sockets


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The host's options that apply to a domain at each start.

    They are the host's, so they are not part of the instance's record.

    :ivar shared_cpus: numbers of the host's CPUs on which all vCPUs run that
        have no CPU of their own; None for all.
    :ivar dedicated_cpus: numbers of those that belong to one vCPU each.
    :ivar nested_feature: the CPU's feature by which guests can run guests of
        their own; None if it has none.
    :ivar serial_console: whether the serial port of an HVM guest can be
        written to.
    :ivar spice: options of QEMU's SPICE servers.
    """

    shared_cpus: frozenset[int] | None
    dedicated_cpus: frozenset[int] = frozenset()
    nested_feature: str | None = None
    serial_console: bool = False
    spice: tuple[str, ...] = ()


def build(
    machine: machine_lib.Machine, instance: objects.Instance,
    vifs: Iterable[model.VIF], *, arch: arch_lib.Architecture,
    files: layout.InstanceFiles, options: Options,
) -> domain.DomainSpec:
    """Describe the domain of an instance.

    :param machine: the instance's record.
    :param vifs: the instance's ports.
    :param arch: the host's architecture.
    :param files: paths of the instance's files.
    :param options: the host's options.
    :raises xen44_driver.xen.errors.SpecError: a value is not possible, such
        as a newline in the kernel's command line.
    :raises nova.exception.InvalidInput: a vCPU has no CPU to run on, or the
        host's CPU does not have what the guest has.
    """
    profile = arch.profile(machine.guest_type)
    disks = machine.devices(files.directory)
    return domain.DomainSpec(
        uuid=instance.uuid,
        name=instance.name,
        arch=arch.name,
        guest_type=machine.guest_type,
        memory_mib=instance.flavor.memory_mb,
        vcpus=instance.flavor.vcpus,
        cpus=cpusets.of_instance(
            instance, options.shared_cpus, options.dedicated_cpus),
        boot=_boot(machine, files, profile),
        disks=disks,
        interfaces=tuple(
            interface(vif, machine.vif_model, instance.flavor)
            for vif in vifs),
        pci_devices=pcidevices.of_instance(instance),
        # Without a disk that QEMU serves or emulates, there may be no QEMU.
        monitor=bool(profile.emulated_disks) or any(
            not disk.by_kernel for disk in disks),
        screen=_screen(machine, instance, options),
        serial_log=files.serial_log if profile.serial_port else None,
        serial_socket=(
            sockets.path(instance.uuid, sockets.SocketKind.SERIAL)
            if profile.serial_port and options.serial_console else None),
        agent_socket=(
            sockets.path(instance.uuid, sockets.SocketKind.AGENT)
            if machine.agent else None),
        nested_hvm=_nested_hvm(machine, options),
        clock=machine.clock,
        max_event_channels=machine.max_event_channels,
        max_grant_frames=machine.max_grant_frames,
        metadata=domain.InstanceMetadata(
            name=instance.display_name or instance.name,
            flavor=instance.flavor.name,
            image=instance.image_ref or None,
            project=instance.project_id,
            user=instance.user_id,
            machine=machine.to_json()),
        title=instance.display_name or None,
    )


def _nested_hvm(
    machine: machine_lib.Machine, options: Options,
) -> str | None:
    if not machine.nested_hvm:
        return None
    if options.nested_feature is None:
        raise exception.InvalidInput(
            reason='the instance was made to run guests of its own '
                   f'({nestedhvm.EXTRA_SPEC}), and this host\'s CPU has '
                   f'neither {" nor ".join(domain.NESTED_FEATURES)}')
    return options.nested_feature


def _screen(
    machine: machine_lib.Machine, instance: objects.Instance,
    options: Options,
) -> domain.Screen | None:
    """Describe the screen; only relays of the driver reach its servers."""
    if not (machine.screen or machine.spice):
        return None
    return domain.Screen(
        vnc='127.0.0.1' if machine.screen else None,
        spice=domain.Spice(
            socket=sockets.path(instance.uuid, sockets.SocketKind.SPICE),
            agent=machine.spice_agent, options=options.spice)
        if machine.spice else None,
        tablet=machine.tablet)


def _boot(
    machine: machine_lib.Machine, files: layout.InstanceFiles,
    profile: arch_lib.Profile,
) -> domain.Boot:
    if machine.kernel_id:
        kernel, ramdisk = (
            (files.rescue_kernel, files.rescue_ramdisk) if machine.rescue
            else (files.kernel, files.ramdisk))
        return domain.DirectBoot(
            kernel=kernel, ramdisk=ramdisk if machine.ramdisk_id else None,
            cmdline=machine.cmdline or '')
    if machine.loader and not profile.firmware:
        return domain.GrubBoot(loader=machine.loader)
    cdrom = any(disk.kind == 'cdrom' for disk in machine.disks)
    if machine.rescue:
        # Nothing else: the disk is the one to be rescued.
        return domain.FirmwareBoot(devices=('cdrom',) if cdrom else ('hd',),
                                   uefi=machine.loader)
    # Disk first: firmware skips it while it is empty, and then boots the
    # installer's CD-ROM.
    return domain.FirmwareBoot(devices=('hd', 'cdrom') if cdrom else ('hd',),
                               uefi=machine.loader)


def interface(
    vif: model.VIF, vif_model: str | None, flavor: objects.Flavor,
) -> domain.Interface:
    """Describe the network interface for a port.

    :param vif: the port.
    :param vif_model: the machine's model of interfaces.
    :param flavor: the instance's flavor, which may limit the interface.
    :raises xen44_driver.xen.errors.SpecError: a value is not possible.
    """
    return domain.Interface(
        mac=vif['address'].lower(),
        bridge=vif_lib.bridge(vif),
        model=vif_model,
        mtu=vif['network'].get_meta('mtu'),
        outbound_kib=properties.outbound_limit(flavor))
