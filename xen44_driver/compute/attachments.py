# SPDX-License-Identifier: Apache-2.0
"""Attach volumes to instances, detach them, and let them grow.

A volume is in four places: this host is connected to it and has a link to it,
the instance's record has it, libvirt's definition of the domain has it, so
that a guest that reboots keeps it, and a running guest has it. xenstore tells
whether the running guest has it: libvirt's own list is wrong after libxl has
failed.

The copy of the record in the domain's metadata is of the last start.

An operation that was interrupted can be repeated. A start or a hard reboot
takes the volumes from Nova's list, whatever was left.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import itertools
from typing import Any

from nova import conf
from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_concurrency import processutils
from oslo_log import log as logging
from oslo_serialization import jsonutils

from xen44_driver import faultpoints
from xen44_driver import privsep
from xen44_driver.compute import connections
from xen44_driver.compute import devices
from xen44_driver.compute import disklimits
from xen44_driver.compute import machine as machine_lib
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import power
from xen44_driver.compute import tags
from xen44_driver.compute import volumes
from xen44_driver.core import backends
from xen44_driver.core import evidence
from xen44_driver.core import monitor
from xen44_driver.core import undo as undo_lib
from xen44_driver.storage import kinds
from xen44_driver.xen import blocks
from xen44_driver.xen import domain
from xen44_driver.xen import errors as xen_errors
from xen44_driver.xen import guest as xen_guest
from xen44_driver.xen import xenstore

CONF = conf.CONF
LOG = logging.getLogger(__name__)

#: Seconds until a detached disk must be gone, after libxl's own 20.
GONE_TIMEOUT = 10

#: Seconds until a guest must have a disk's new size.
EXTEND_TIMEOUT = 10

#: How often libvirt is asked to detach a disk. If a guest does not let go,
#: libxl takes the disk away and fails all the same; libvirt notices that it is
#: gone when it is asked once more.
DETACH_ATTEMPTS = 2


def next_name(
    node: compute_node.Node, instance: objects.Instance,
    bdms: Iterable[objects.BlockDeviceMapping],
) -> str:
    """Return a name for another disk of an instance.

    :param bdms: its block device mappings.
    :raises nova.exception.TooManyDiskDevices: no name is free.
    """
    machine = machine_lib.recall(instance)
    return devices.next_name(
        {devices.ROOT, *machine_lib.disk_names(instance),
         *(bdm.device_name for bdm in bdms if bdm.device_name)},
        # Those would be emulated disks from the guest's next start on.
        avoid=node.arch.profile(machine.guest_type).emulated_disks
        if machine else '')


def attach(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, connection_info: dict[str, Any],
    name: str, *, encryption: Mapping[str, Any] | None,
) -> None:
    """Attach a volume to an instance, which may run or be off.

    :param connection_info: what Cinder says of the connection. The device on
        this host is noted in it, which Nova keeps.
    :param name: Nova's name of the disk, such as ``/dev/xvdb``.
    :param encryption: how the volume is encrypted, if it is.
    :raises nova.exception.Invalid: this host cannot have such a volume;
        nothing was done.
    :raises xen44_driver.core.backends.DiskNotOpened: QEMU cannot open it;
        nothing is left.
    :raises xen44_driver.xen.errors.XenError: libvirt or libxl failed; nothing
        is left.
    """
    machine = power.machine_of(node, context, instance, None)
    profile = node.arch.profile(machine.guest_type)
    record = volumes.record(
        instance, connection_info, name, profile,
        instance.image_meta.properties.get('hw_disk_bus'),
        machine.disk_class)
    _check_name(machine, record)
    disk = _spec(node, instance, machine, record)
    guest = node.host.guest(instance.uuid)
    # Nova does so when it is attached. If nova-compute ends before, nobody
    # would know how to disconnect it.
    volumes.note(
        objects.BlockDeviceMapping.get_by_volume_and_instance(
            context, volumes.id_of(connection_info), instance.uuid),
        jsonutils.dumps(connection_info))
    with undo_lib.Undo(instance) as undo:
        undo.add(connections.give_up, instance, connection_info)
        connections.connect(context, instance, connection_info, encryption)
        undo.add(_forget, instance, record)
        machine = remember(instance, record)
        faultpoints.reached('attach volume: recorded')
        undo.add(_undefine, guest, disk)
        # It may have failed because libvirtd was restarted.
        undo.add(node.wait_for_libvirt, instance.uuid)
        _define(guest, disk)
        faultpoints.reached('attach volume: defined')
        if not guest.state().is_off:
            undo.add_first(_detach_live, instance, guest, disk)
            undo.add(node.wait_for_libvirt, instance.uuid)
            _attach_live(node, instance, guest, disk)
            _limit(guest, disk, machine)
            faultpoints.reached('attach volume: attached')
        tags.record(context, instance, machine)


def detach(
    node: compute_node.Node, instance: objects.Instance,
    connection_info: Mapping[str, Any],
) -> None:
    """Detach a volume from an instance, which may run, be off or not exist.

    It is no failure if the instance does not have the volume.

    :param connection_info: what Cinder says of the connection.
    :raises nova.exception.DeviceDetachFailed: the running guest still has it.
    :raises os_brick.exception.BrickException: this host cannot disconnect it;
        the guest does not have it any more.
    """
    if not connection_info.get('data'):
        # Nova was interrupted before it could tell this host of it.
        LOG.info('The volume was never connected', instance=instance)
        return
    volume = volumes.id_of(connection_info)
    machine = machine_lib.recall(instance)
    record = recorded(machine, volume) if machine else None
    try:
        _detach(instance, node.host.guest(instance.uuid), volume,
                _spec(node, instance, machine, record)
                if machine and record else None)
    except xen_errors.DomainNotFound:
        LOG.info('There is no domain to detach a volume from',
                 instance=instance)
    # Without a root disk there is no instance: Nova gives it one again. And
    # where the instance is not on this host, its record is not this host's.
    if (machine and record and record is not machine.root
            and instance.host == CONF.host):
        _forget(instance, record)
    faultpoints.reached('detach volume: forgotten')
    connections.disconnect(instance, connection_info)


def extend(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, connection_info: Mapping[str, Any],
    size: int,
) -> None:
    """Let an instance have the new size of a volume, while it runs or not.

    :param connection_info: what Cinder says of the connection.
    :param size: bytes of the volume.
    :raises nova.exception.VolumeExtendFailed: this host, or the running guest,
        does not see the new size; a later start of the guest may.
    """
    volume = volumes.id_of(connection_info)
    machine = power.machine_of(node, context, instance, None)
    record = recorded(machine, volume)
    if record is None:
        raise exception.VolumeExtendFailed(
            volume_id=volume, reason='the instance does not have it here')
    disk = _spec(node, instance, machine, record)
    guest = node.host.guest(instance.uuid)
    if guest.state().is_off and not privsep.volume_is_linked(volume):
        LOG.info('This host is not connected to volume %s: the next start '
                 'sees its new size', volume, instance=instance)
        return
    block_size = connections.extend(context, instance, connection_info)
    faultpoints.reached('extend volume: device extended')
    if block_size is not None:
        if not guest.state().is_off:
            _wait_for_size(instance, guest, disk, block_size)
    elif guest.state().is_off:
        monitor.wait_until_closed(instance.uuid)
        processutils.execute(
            'qemu-img', 'resize', '-q', '-f', disk.format,
            connection_info['data']['device_path'], str(size))
    elif disk.by_kernel:
        raise exception.VolumeExtendFailed(
            volume_id=volume,
            reason="it is a file, and dom0's kernel serves it, which does not "
                   'see that it grows; allowed: while the instance is off')
    else:
        _resize_in_qemu(guest, disk, volume, size)
    faultpoints.reached('extend volume: disk extended')


def _check_name(
    machine: machine_lib.Machine, record: kinds.DiskRecord,
) -> None:
    """Refuse a disk whose name another disk has."""
    for other in machine.disks:
        if other.name == record.name and other.volume_id != record.volume_id:
            raise exception.InvalidVolume(
                reason=f'another disk of the instance is {record.name}')


def remember(
    instance: objects.Instance, record: kinds.DiskRecord,
) -> machine_lib.Machine:
    """Put a volume into an instance's record; the instance is saved.

    If the record has it, it keeps its place: the first disk is the root disk.
    """
    return _keep(instance, lambda disks: (
        tuple(record if disk.volume_id == record.volume_id else disk
              for disk in disks)
        if any(disk.volume_id == record.volume_id for disk in disks)
        else (*disks, record)))


def _forget(
    instance: objects.Instance, record: kinds.DiskRecord,
) -> machine_lib.Machine:
    """Take a volume out of an instance's record; the instance is saved."""
    return _keep(instance, lambda disks: tuple(
        disk for disk in disks if disk.volume_id != record.volume_id))


def _keep(
    instance: objects.Instance,
    change: Callable[
        [tuple[kinds.DiskRecord, ...]], tuple[kinds.DiskRecord, ...]],
) -> machine_lib.Machine:
    machine = machine_lib.recall(instance)
    if machine is None:
        raise machine_lib.MachineUnreadable(reason='it is not there any more')
    machine = dataclasses.replace(machine, disks=change(machine.disks))
    machine_lib.keep(instance, machine)
    instance.save()
    return machine


def recorded(
    machine: machine_lib.Machine, volume: str,
) -> kinds.DiskRecord | None:
    """Return the record of a volume, if an instance has it."""
    for record in machine.disks:
        if record.volume_id == volume:
            return record
    return None


def _spec(
    node: compute_node.Node, instance: objects.Instance,
    machine: machine_lib.Machine, record: kinds.DiskRecord,
) -> domain.Disk:
    return machine.device(record, node.files(instance).directory)


def _listed(
    guest: xen_guest.Guest, volume: str, *, live: bool,
) -> list[domain.Disk]:
    """Return what libvirt lists of a volume."""
    return [disk for disk in guest.disks(live=live) if disk.serial == volume]


def _define(guest: xen_guest.Guest, disk: domain.Disk) -> None:
    """Put a disk into a domain's definition, if its volume is not there."""
    if not _listed(guest, str(disk.serial), live=False):
        guest.attach_device(domain.disk_xml(disk), live=False)


def _undefine(guest: xen_guest.Guest, disk: domain.Disk) -> None:
    """Take a disk out of a domain's definition, if it is there."""
    for mine in _listed(guest, str(disk.serial), live=False):
        guest.detach_device(domain.disk_xml(mine), live=False)


def _attach_live(
    node: compute_node.Node, instance: objects.Instance,
    guest: xen_guest.Guest, disk: domain.Disk,
) -> None:
    """Attach a disk to a running guest and look until it is open."""
    domid = guest.id
    try:
        with evidence.explained(guest.name):
            guest.attach_device(domain.disk_xml(disk), live=True)
    except xen_errors.OperationFailed as error:
        if not guest.state().is_off and guest.id == domid:
            raise
        LOG.info('The guest ended or rebooted meanwhile: %s', error,
                 instance=instance)
        return
    # libxl itself waits for what dom0's kernel serves, but not for QEMU.
    backends.wait_until_open(node.host, guest, [disk])
    seen = _seen(guest, disk)
    if guest.id == domid and (seen is None or seen.error):
        raise xen_errors.OperationFailed(
            'domainAttachDeviceFlags', guest.uuid, None,
            f'the disk {disk.target}: '
            + ((seen and seen.error) or 'Xen has no backend for it'))


def _limit(
    guest: xen_guest.Guest, disk: domain.Disk, machine: machine_lib.Machine,
) -> None:
    """Set the limits of a disk that was attached to a running guest."""
    domid = guest.id
    try:
        disklimits.apply(guest.uuid, [disk], disklimits.NONE,
                         machine.volume_limits, domid=domid)
    except xen_errors.XenError:
        # If it has rebooted meanwhile, they are set again.
        if guest.id == domid and not guest.state().is_off:
            raise


def _detach(
    instance: objects.Instance, guest: xen_guest.Guest, volume: str,
    recorded: domain.Disk | None,
) -> None:
    """Take a volume out of a domain's definition and a running guest.

    :param recorded: the disk that it is, by the instance's record.
    :raises nova.exception.DeviceDetachFailed: the guest still has it.
    """
    off = guest.state().is_off
    disk = next(itertools.chain(
        _listed(guest, volume, live=False),
        () if off else _listed(guest, volume, live=True),
        [recorded] if recorded else ()), None)
    if disk is None:
        LOG.info('The instance does not have volume %s', volume,
                 instance=instance)
        return
    if not off and disk.bus != 'xen':
        # As after a rebuild with an image of another guest type.
        raise exception.DeviceDetachFailed(
            device=disk.target,
            reason='it is an emulated disk, which Xen does not detach from a '
                   'guest that runs; allowed: to stop the instance first')
    with undo_lib.Undo(instance) as undo:
        # First the definition: a guest that reboots meanwhile comes back
        # without the disk.
        undo.add(_define, guest, disk)
        _undefine(guest, disk)
        faultpoints.reached('detach volume: undefined')
        if off:
            # Xen does not wait for the QEMU of a guest that has ended.
            monitor.wait_until_closed(guest.uuid)
        else:
            _detach_live(instance, guest, disk)
        faultpoints.reached('detach volume: detached')


def _detach_live(
    instance: objects.Instance, guest: xen_guest.Guest, disk: domain.Disk,
) -> None:
    """Detach a disk from a running guest and look until it is gone.

    :raises nova.exception.DeviceDetachFailed: the guest still has it.
    """
    problem = ''
    for _ in range(DETACH_ATTEMPTS):
        if not _listed(guest, str(disk.serial), live=True):
            break
        try:
            with evidence.explained(guest.name):
                guest.detach_device(domain.disk_xml(disk), live=True)
        except xen_errors.OperationFailed as error:
            problem = str(error)
            LOG.warning('libvirt cannot detach the disk %(disk)s: %(why)s',
                        {'disk': disk.target, 'why': problem},
                        instance=instance)
    if not _is_gone(guest, disk):
        problem = _take_away(guest, disk) or problem
        if not _is_gone(guest, disk):
            raise exception.DeviceDetachFailed(
                device=disk.target, reason='the guest still has it'
                + (f' ({problem})' if problem else ''))
    if not disk.by_kernel:
        _close_swapped(instance, guest, disk)


def _close_swapped(
    instance: objects.Instance, guest: xen_guest.Guest, disk: domain.Disk,
) -> None:
    """Have QEMU close a detached disk whose volume was swapped.

    By itself it closes the volume with which it opened the disk. What stays
    open only takes room until the guest ends.
    """
    domid = guest.id
    try:
        for node in monitor.execute(
                guest.uuid, 'query-named-block-nodes', {'flat': True},
                domid=domid):
            if blocks.is_swapped(node['node-name'], disk):
                monitor.execute(guest.uuid, 'blockdev-del', {
                    'node-name': node['node-name']}, domid=domid)
    except xen_errors.XenError as error:
        LOG.warning('QEMU may still have the detached disk %(disk)s open: '
                    '%(error)s', {'disk': disk.target, 'error': error},
                    instance=instance)


def _is_gone(guest: xen_guest.Guest, disk: domain.Disk) -> bool:
    """Look until a running guest does not have a disk any more."""
    return any(_seen(guest, disk) is None
               for _ in backends.pauses(GONE_TIMEOUT))


def _take_away(guest: xen_guest.Guest, disk: domain.Disk) -> str | None:
    """Detach a disk without libvirt.

    :returns: why that failed, or None.
    """
    domid = guest.id
    if domid is not None:
        try:
            privsep.detach_disk(domid, disk.target)
        except OSError as error:
            return str(error)
    return None


def _seen(
    guest: xen_guest.Guest, disk: domain.Disk,
) -> xenstore.Backend | None:
    """Return what xenstore shows of a disk of a running guest.

    :returns: None if the guest does not have it or is off.
    """
    domid = guest.id
    if domid is None:
        return None
    kind = (xenstore.BackendKind.VBD if disk.by_kernel
            else xenstore.BackendKind.QDISK)
    number = xenstore.disk_number(disk.target)
    for found in xenstore.backends(privsep.read_backends(domid, kind)):
        if found.number == number:
            return found
    return None


def _wait_for_size(
    instance: objects.Instance, guest: xen_guest.Guest, disk: domain.Disk,
    size: int,
) -> None:
    """Look until dom0's kernel offers a disk's new size to a running guest.

    It looks at the device by itself, several times a second.

    :param size: bytes of the disk.
    :raises nova.exception.VolumeExtendFailed: it does not.
    """
    sectors = 0
    for _ in backends.pauses(EXTEND_TIMEOUT):
        seen = _seen(guest, disk)
        if seen is None or seen.sectors is None:
            LOG.info('The guest does not use the disk %s now', disk.target,
                     instance=instance)
            return
        sectors = seen.sectors
        if sectors * xenstore.SECTOR_BYTES >= size:
            return
    raise exception.VolumeExtendFailed(
        volume_id=disk.serial,
        reason=f'its device has {size} bytes, and the guest still has '
               f'{sectors} sectors')


def _resize_in_qemu(
    guest: xen_guest.Guest, disk: domain.Disk, volume: str, size: int,
) -> None:
    """Have the QEMU of a running guest make a file larger, and tell it."""
    found = blocks.in_use(
        monitor.execute(guest.uuid, 'query-block', domid=guest.id), disk)
    if found is None:
        raise exception.VolumeExtendFailed(
            volume_id=volume,
            reason=f"the guest's QEMU does not have the disk {disk.target}")
    if found.size < size:
        monitor.execute(guest.uuid, 'block_resize', {
            'node-name': found.node, 'size': size}, domid=guest.id)
