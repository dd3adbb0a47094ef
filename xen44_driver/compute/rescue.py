# SPDX-License-Identifier: Apache-2.0
"""Boot an instance from another image, to repair its root disk.

A rescue is a second machine for the same domain. Its record stands beside the
instance's own, which is not touched, and its files are named ``*.rescue*``.
The instance boots from it as long as Nova says that it is rescued: also after
nova-compute or the host was started anew.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import shutil
from typing import Any

from nova import block_device
from nova import context as nova_context
from nova import exception
from nova import objects
from nova.compute import task_states
from nova.compute import vm_states
from nova.network import model
from oslo_log import log as logging

from xen44_driver import faultpoints
from xen44_driver.compute import devices
from xen44_driver.compute import disks
from xen44_driver.compute import glance
from xen44_driver.compute import machine as machine_lib
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import power
from xen44_driver.compute import start
from xen44_driver.core import undo as undo_lib
from xen44_driver.storage import kinds
from xen44_driver.storage import layout
from xen44_driver.storage import usage
from xen44_driver.xen import arch as arch_lib
from xen44_driver.xen import errors as xen_errors
from xen44_driver.xen.guesttype import GuestType

LOG = logging.getLogger(__name__)

#: File names of a rescue's disks.
DISK_FILE = 'disk.rescue.{format}'
ISO_FILE = 'disk.rescue.iso'
CONFIG_DRIVE_FILE = 'disk.rescue.config'

#: Name of the instance's root disk while it is rescued.
OLD_ROOT = f'{devices.PREFIX}b'


def rescue(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, image: objects.ImageMeta, *,
    network_info: model.NetworkInfo | None, admin_password: str | None,
    block_device_info: Mapping[str, Any] | None,
) -> None:
    """Boot an instance, which is off, from an image to repair its root disk.

    :param image: metadata of the image to boot.
    :param network_info: the ports.
    :param admin_password: the password, for the config drive.
    :param block_device_info: the disks besides the root disk.
    :raises nova.exception.ImageNotFound: the image names a kernel or ramdisk
        that the user may not read.
    :raises nova.exception.NovaException: the instance cannot be rescued; it
        is off, and is what it was before.
    """
    vifs = tuple(network_info or ())
    own = power.machine_of(node, context, instance, block_device_info)
    options = dataclasses.replace(
        node.machine_options(), default_guest_type=own.guest_type,
        # The instance has it or not, whatever the host now offers.
        nested_hvm_problem=None)
    kernel_id, ramdisk_id = glance.GlanceSource(context, image.id).kernel
    for file_id in filter(None, (kernel_id, ramdisk_id)):
        # Nova's API has only looked for the image. This host may have a copy
        # of somebody else's kernel.
        glance.GlanceSource(context, file_id).check()
    machine = decide(own, image, instance.flavor, options,
                     kernel_id=kernel_id, ramdisk_id=ramdisk_id)
    machine_lib.check_loader(machine, node.arch.name)
    start.describe(node, instance, machine, vifs)
    machine = _fetch(node, context, instance, machine, image.id)
    faultpoints.reached('rescue: image fetched')
    with undo_lib.Undo(instance) as undo:
        # The rest of an interrupted one goes first.
        power.end_rescue(node, instance)
        undo.add(power.end_rescue, node, instance)
        disks.create(
            node, context, instance, machine, undo,
            network_info=network_info, injected_files=(),
            admin_password=admin_password)
        faultpoints.reached('rescue: disks made')
        machine_lib.keep(instance, machine, machine_lib.RESCUE)
        # Before the domain is defined: whoever finds it knows what it is.
        instance.save()
        faultpoints.reached('rescue: record kept')
        undo.add(_define, node, instance, own, vifs)
        power.boot(node, context, instance, machine, vifs, block_device_info)
        faultpoints.reached('rescue: guest booted')
    LOG.info('Rescued with image %s', image.id, instance=instance)


def unrescue(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance,
) -> None:
    """Boot a rescued instance from its own disk again; safe to repeat.

    :raises nova.exception.NovaException: it cannot be started; what the rescue
        made is still there, and a hard reboot tries again.
    """
    machine = power.machine_of(node, context, instance, None)
    power.boot(node, context, instance, machine,
               tuple(instance.get_network_info() or ()), None)
    faultpoints.reached('unrescue: guest booted')
    power.end_rescue(node, instance)


def mend(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance,
) -> str:
    """Bring an interrupted rescue or unrescue to an end.

    A rescue whose guest does not run yet is undone; the instance is off then.

    :returns: the instance's state in Nova.
    :raises nova.exception.NovaException: the instance cannot be described.
    """
    booted = _booted(node, instance)
    if booted is not None and booted.rescue:
        return str(vm_states.RESCUED)
    if booted is None and instance.task_state == task_states.UNRESCUING:
        # It can be unrescued again.
        return str(vm_states.RESCUED)
    power.end_rescue(node, instance)
    if booted is not None:
        return str(vm_states.ACTIVE)
    _define(node, instance,
            power.machine_of(node, context, instance, None),
            tuple(instance.get_network_info() or ()))
    return str(vm_states.STOPPED)


def _booted(
    node: compute_node.Node, instance: objects.Instance,
) -> machine_lib.Machine | None:
    """Return the record that the domain of an instance runs as, if it does."""
    try:
        guest = node.host.guest(instance.uuid)
        if guest.state().is_off:
            return None
        found = guest.metadata()
    except xen_errors.DomainNotFound:
        return None
    if found is None or found.machine is None:
        return machine_lib.recall(instance)
    return machine_lib.Machine.from_json(found.machine)


def _define(
    node: compute_node.Node, instance: objects.Instance,
    machine: machine_lib.Machine, vifs: tuple[model.VIF, ...],
) -> None:
    start.define(node, start.describe(node, instance, machine, vifs))


def _fetch(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, machine: machine_lib.Machine, image_id: str,
) -> machine_lib.Machine:
    """Fetch the image, and check that the host has room for its disk.

    :returns: the machine with the image filled in.
    """
    directory = node.files(instance).directory
    # The flavor does not limit it. It is refused before it is unpacked, which
    # could fill the host's disk.
    try:
        base = disks.fetch_image(node, context, instance, image_id,
                                 limit=shutil.disk_usage(directory).free)
    except exception.FlavorDiskSmallerThanImage as error:
        usage.require(directory, error.kwargs['image_size'],
                      'the rescue disk')
        raise
    place, = (index for index, record in enumerate(machine.disks)
              if record.file != CONFIG_DRIVE_FILE
              and layout.RESCUE in record.file)
    records = list(machine.disks)
    records[place] = dataclasses.replace(records[place], base=base)
    if records[place].kind != 'cdrom':
        # The disk may grow to the size of the image, beside it.
        usage.require(directory, base.virtual_size, 'the rescue disk')
    return dataclasses.replace(machine, disks=tuple(records))


def decide(
    own: machine_lib.Machine, image: objects.ImageMeta,
    flavor: objects.Flavor, options: machine_lib.Options, *,
    kernel_id: str | None, ramdisk_id: str | None,
) -> machine_lib.Machine:
    """Decide what a rescued instance is.

    :param own: what the instance is otherwise.
    :param image: metadata of the image to boot.
    :param flavor: the instance's flavor.
    :param options: options of the host; the default guest type is the
        instance's.
    :param kernel_id: image with the kernel to boot; None to boot from disk.
    :param ramdisk_id: image with that kernel's initial ramdisk.
    :raises nova.exception.Invalid: a request cannot be fulfilled; the message
        names it and what is allowed.
    """
    asked = image.properties.get
    chosen = machine_lib.choose(
        image, flavor, options, kernel_id=kernel_id, ramdisk_id=ramdisk_id)
    profile = options.arch.profile(chosen)
    if asked('hw_rescue_device') or asked('hw_rescue_bus'):
        _check_stable(own, image, chosen, profile)
        return dataclasses.replace(
            own, rescue=True, kernel_id=None, ramdisk_id=None, cmdline=None,
            disks=(*(_with_own_config(record) for record in own.disks),
                   _beside(own.disks)))
    made = machine_lib.make(
        image, flavor, chosen, options, kernel_id=kernel_id,
        ramdisk_id=ramdisk_id, disk_class=own.disk_class,
        disks=_instead(own, image, profile, options))
    return dataclasses.replace(
        made, rescue=True, nested_hvm=own.nested_hvm)


def _instead(
    own: machine_lib.Machine, image: objects.ImageMeta,
    profile: arch_lib.Profile, options: machine_lib.Options,
) -> list[kinds.DiskRecord]:
    """Return the disks: the image's, the old root disk, a config drive."""
    bus = image.properties.get('hw_disk_bus')
    if machine_lib.is_iso(image):
        if not profile.cdrom:
            raise exception.InvalidInput(
                reason='the rescue image is an ISO image, and only hvm '
                       'guests have a CD-ROM drive; allowed: images of disks')
        first = kinds.DiskRecord(
            kind='cdrom', name=devices.ROOT, file=ISO_FILE,
            target=devices.cdrom_target(devices.ROOT), device='cdrom')
    else:
        format = own.disk_class.root_format(options.disk_format)
        first = kinds.DiskRecord(
            kind=kinds.IMAGE_KINDS[format].name,
            name=devices.ROOT, format=format,
            file=DISK_FILE.format(format=format),
            target=devices.target(devices.ROOT, profile, bus))
    records = [first, dataclasses.replace(
        own.root, name=OLD_ROOT,
        target=devices.target(OLD_ROOT, profile, bus))]
    for record in own.disks:
        if record.kind == 'config':
            target, device = devices.config_drive(
                profile, options.config_drive_format)
            records.append(dataclasses.replace(
                _with_own_config(record), target=target, device=device))
    return records


def _with_own_config(record: kinds.DiskRecord) -> kinds.DiskRecord:
    """Return the record of a disk, with a new file for a config drive.

    It has the password of the rescue.
    """
    if record.kind != 'config':
        return record
    return dataclasses.replace(record, file=CONFIG_DRIVE_FILE)


def _check_stable(
    own: machine_lib.Machine, image: objects.ImageMeta, chosen: GuestType,
    profile: arch_lib.Profile,
) -> None:
    """Refuse a device of the rescue that a guest cannot boot from.

    With such a device, all disks of the instance keep their names. So it
    cannot be the first disk, the only one that grub and SeaBIOS boot from.
    SeaBIOS boots from a CD-ROM wherever it is.

    :param chosen: the guest type for the image.
    :raises nova.exception.InvalidInput: it cannot; the message names the
        property, its value and what is allowed.
    """
    device = image.properties.get('hw_rescue_device', 'disk')
    bus = image.properties.get('hw_rescue_bus', 'ide')
    allowed = 'allowed: an ISO image as cdrom on ide, for hvm; or neither'
    if not profile.cdrom or device != 'cdrom' or bus != 'ide':
        raise exception.InvalidInput(
            reason=f'hw_rescue_device {device!r} on hw_rescue_bus {bus!r} '
                   f'cannot boot {chosen}; {allowed}')
    if not machine_lib.is_iso(image):
        raise exception.InvalidInput(
            reason=f"hw_rescue_device 'cdrom', and the image is "
                   f'{image.disk_format}; {allowed}')
    if own.guest_type != chosen:
        raise exception.InvalidInput(
            reason=f"hw_rescue_device 'cdrom' boots {chosen}, and the "
                   f'instance is {own.guest_type}; {allowed}')


def _beside(own: tuple[kinds.DiskRecord, ...]) -> kinds.DiskRecord:
    """Return the CD-ROM of a rescue that leaves all disks their names.

    :raises nova.exception.InvalidInput: the instance leaves no name.
    """
    used = {block_device.get_device_letter(record.name): record
            for record in own}
    # SeaBIOS boots from the first CD-ROM that it can boot from.
    for letter in 'bcd':
        if letter not in used:
            name = f'{devices.PREFIX}{letter}'
            return kinds.DiskRecord(
                kind='cdrom', name=name, file=ISO_FILE,
                target=devices.cdrom_target(name), device='cdrom')
        if used[letter].kind == 'cdrom':
            break
    raise exception.InvalidInput(
        reason="hw_rescue_device 'cdrom' has no place beside the instance's "
               'disks; allowed: a rescue image without hw_rescue_device')
