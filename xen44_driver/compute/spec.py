# SPDX-License-Identifier: Apache-2.0
"""A plan in Xen's words. Pure: nothing is read or made here."""

from nova import conf
from nova.network import model
from nova.virt import hardware

from xen44_driver.compute import devices
from xen44_driver.compute import plan as plan_lib
from xen44_driver.network import vif as vif_lib
from xen44_driver.storage import blank
from xen44_driver.storage import configdrive
from xen44_driver.xen import arch as arch_lib
from xen44_driver.xen.domain import spec
from xen44_driver.xen.guesttype import GuestType

CONF = conf.CONF


def build(
    plan: plan_lib.Plan, arch: arch_lib.Architecture, *, root_format: str,
) -> spec.DomainSpec:
    """Describe the domain of an instance.

    :param plan: what the instance is made of
    :param arch: the host's architecture
    :param root_format: format of the root disk's file
    :raises xen44_driver.xen.errors.SpecError: a value that no domain can
        have, such as a newline in the kernel's command line
    """
    instance = plan.instance
    hvm = plan.guest_type is GuestType.HVM
    return spec.DomainSpec(
        uuid=instance.uuid,
        name=instance.name,
        arch=arch.name,
        guest_type=plan.guest_type,
        memory_mib=instance.flavor.memory_mb,
        vcpus=instance.flavor.vcpus,
        cpus=_cpus(),
        boot=_boot(plan, arch),
        disks=_disks(plan, root_format),
        interfaces=tuple(_interface(plan, vif) for vif in plan.vifs),
        vnc=_vnc(plan, arch),
        serial_log=plan.files.serial_log if hvm else None,
        max_event_channels=CONF.xen44.max_event_channels,
        max_grant_frames=CONF.xen44.max_grant_frames,
        metadata=spec.InstanceMetadata(
            name=instance.display_name or instance.name,
            flavor=instance.flavor.name,
            image=instance.image_ref or None,
            project=instance.project_id,
            user=instance.user_id),
        title=instance.display_name or None,
    )


def _cpus() -> frozenset[int] | None:
    shared = hardware.get_cpu_shared_set()
    return frozenset(shared) if shared else None


def _boot(plan: plan_lib.Plan, arch: arch_lib.Architecture) -> spec.Boot:
    if plan.kernel_id:
        return spec.DirectBoot(
            kernel=plan.files.kernel,
            ramdisk=plan.files.ramdisk if plan.ramdisk_id else None,
            cmdline=(plan.image.properties.get('os_command_line')
                     or arch.default_cmdline(devices.ROOT)))
    if plan.guest_type is GuestType.HVM:
        return spec.FirmwareBoot()
    # A plan without a kernel has a loader: see plan._loader.
    return spec.GrubBoot(loader=str(plan.loader))


def _disks(plan: plan_lib.Plan, root_format: str) -> tuple[spec.Disk, ...]:
    kind = plan.guest_type
    bus = plan.image.properties.get('hw_disk_bus')
    disks = [devices.disk(
        devices.ROOT, kind, source=plan.files.root(root_format),
        format=root_format, bus=bus)]
    blanks: list[plan_lib.Blank] = [*plan.ephemerals]
    if plan.swap:
        blanks.append(plan.swap)
    disks += [devices.disk(disk.name, kind, source=disk.path,
                           format=blank.FORMAT, bus=bus) for disk in blanks]
    if plan.config_drive:
        disks.append(devices.config_drive(
            kind, source=plan.files.config_drive, format=configdrive.FORMAT))
    return tuple(disks)


def _interface(plan: plan_lib.Plan, vif: model.VIF) -> spec.Interface:
    return spec.Interface(
        mac=vif['address'].lower(),
        bridge=vif_lib.bridge(vif),
        model=plan.vif_model,
        mtu=vif['network'].get_meta('mtu'))


def _vnc(
    plan: plan_lib.Plan, arch: arch_lib.Architecture,
) -> spec.Vnc | None:
    if not CONF.vnc.enabled or not arch.vnc(plan.guest_type):
        return None
    return spec.Vnc(listen=str(CONF.vnc.server_listen))
