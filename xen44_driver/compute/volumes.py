# SPDX-License-Identifier: Apache-2.0
"""Say which disk of an instance a volume is; nothing is connected here."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
from typing import Any

from nova import block_device
from nova import context as nova_context
from nova import exception
from nova import objects
from nova.virt import block_device as virt_block_device
from nova.virt import driver

from xen44_driver.compute import devices
from xen44_driver.compute import disklimits
from xen44_driver.compute import transports
from xen44_driver.storage import kinds
from xen44_driver.xen import arch as arch_lib
from xen44_driver.xen import volumelinks
from xen44_driver.xen.diskclass import DiskClass


def id_of(connection_info: Mapping[str, Any]) -> str:
    """Return Cinder's id of a volume.

    :param connection_info: what Cinder says of the connection.
    :raises nova.exception.InvalidVolume: it has none.
    """
    found = virt_block_device.get_volume_id(connection_info)
    if not found:
        raise exception.InvalidVolume(
            reason='what Cinder says of its connection has no volume_id')
    return str(found)


def mappings(
    block_device_info: Mapping[str, Any] | None,
) -> list[Mapping[str, Any]]:
    """Return Nova's mappings of the volumes that Cinder has connected.

    Nova has others while it attaches a volume or makes an instance.

    :param block_device_info: the disks besides the root disk, and volumes.
    """
    return [mapping for mapping
            in driver.block_device_info_get_mapping(block_device_info)
            if (mapping.get('connection_info') or {}).get('data')]


def note(mapping: objects.BlockDeviceMapping, connection_info: str) -> None:
    """Have Nova keep how a volume is connected.

    :param connection_info: what Cinder says of the connection, in JSON.
    """
    mapping.connection_info = connection_info
    mapping.save()


def known(
    context: nova_context.RequestContext, instance: objects.Instance,
) -> dict[str, Any]:
    """Return the block device info of an instance as Nova has recorded it.

    For operations to which Nova does not pass any.
    """
    found: dict[str, Any] = driver.get_block_device_info(
        instance, objects.BlockDeviceMappingList.get_by_instance_uuid(
            context, instance.uuid))
    return found


def record(
    instance: objects.Instance, connection_info: Mapping[str, Any],
    name: str, profile: arch_lib.Profile, bus: str | None,
    disk_class: DiskClass,
) -> kinds.DiskRecord:
    """Make the record of a volume as a disk of an instance.

    :param connection_info: what Cinder says of the connection.
    :param name: Nova's name of the disk, such as ``/dev/xvdb``.
    :param profile: the profile of the guest's type.
    :param bus: the image's ``hw_disk_bus``.
    :param disk_class: what serves the guest's disks.
    :raises nova.exception.Invalid: this host cannot have such a volume; the
        message says what is allowed.
    """
    volume = id_of(connection_info)
    transports.check_sharing(connection_info)
    name = block_device.prepend_dev(name)
    try:
        link = volumelinks.path(instance.uuid, volume)
    except ValueError as error:
        raise exception.InvalidVolume(
            reason=f'{error}; allowed: a UUID') from error
    return kinds.DiskRecord(
        kind='volume', name=name,
        target=devices.target(name, profile, bus),
        file=link, format=transports.file_format(connection_info, disk_class),
        volume_id=volume, block=transports.of(connection_info).block,
        readonly=transports.is_readonly(connection_info),
        limits=_limits(connection_info, disk_class))


def _limits(
    connection_info: Mapping[str, Any], disk_class: DiskClass,
) -> dict[str, int] | None:
    """Return the limits on a volume by their names; None without any.

    dom0's kernel, which serves block devices, has none.

    :raises nova.exception.InvalidVolume: it is a file with limits, and the
        kernel serves that, too.
    """
    if transports.of(connection_info).block:
        return None
    specs = transports.qos_specs(connection_info)
    limits = disklimits.of_specs(specs)
    if disk_class is DiskClass.KERNEL and limits != disklimits.NONE:
        raise exception.InvalidVolume(
            reason=f'its type asks for limits ({", ".join(specs)}), and disks '
                   f'of class {disk_class} have none; allowed: a type without')
    return {name: value for name, value
            in dataclasses.asdict(limits).items() if value} or None


def records(
    instance: objects.Instance,
    block_device_info: Mapping[str, Any] | None,
    profile: arch_lib.Profile, bus: str | None, disk_class: DiskClass,
) -> list[kinds.DiskRecord]:
    """Make the records of all volumes of an instance.

    :param block_device_info: the disks besides the root disk, and volumes.
    :param profile: the profile of the guest's type.
    :param bus: the image's ``hw_disk_bus``.
    :param disk_class: what serves the guest's disks.
    :raises nova.exception.Invalid: see :func:`record`.
    """
    return [record(instance, mapping['connection_info'],
                   mapping['mount_device'], profile, bus, disk_class)
            for mapping in mappings(block_device_info)]


def with_volumes(
    disks: Iterable[kinds.DiskRecord], volumes: Iterable[kinds.DiskRecord],
) -> tuple[kinds.DiskRecord, ...]:
    """Return an instance's disks with other volumes, the root disk first.

    A volume that it has already keeps its place.

    :param disks: the records of its disks.
    :param volumes: the records of the volumes that it is to have.
    """
    wanted = {volume.volume_id: volume for volume in volumes}
    kept = [
        disk if disk.kind != 'volume' else wanted.pop(disk.volume_id)
        for disk in disks
        if disk.kind != 'volume' or disk.volume_id in wanted]
    every = [*kept, *wanted.values()]
    return tuple(sorted(every, key=lambda disk: disk.name != devices.ROOT))
