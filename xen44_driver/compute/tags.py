# SPDX-License-Identifier: Apache-2.0
"""Tell guests which of their devices has which tag.

A user can tag ports and disks. The metadata service and the config drive show
the tags beside what a guest sees of the device: a MAC address, the name and
Xen's number of a disk. Nova keeps this in ``instance.device_metadata``.
"""

from __future__ import annotations

from nova import block_device
from nova import context as nova_context
from nova import objects

from xen44_driver.compute import machine as machine_lib
from xen44_driver.xen import xenstore


def record(
    context: nova_context.RequestContext, instance: objects.Instance,
    machine: machine_lib.Machine,
) -> None:
    """Record the tags of all devices of an instance, and save it.

    Nova would save a new instance when the guest already runs, and may already
    have asked the metadata service. Nova itself removes the tag of a volume
    that is detached; it knows it by its serial number.

    :param machine: the instance's record.
    """
    _keep(instance, [*_interfaces(context, instance),
                     *_disks(context, instance, machine)])
    if instance.device_metadata:
        instance.save()


def record_interfaces(
    context: nova_context.RequestContext, instance: objects.Instance,
) -> None:
    """Record the tags of the interfaces anew; those of disks are kept.

    The instance is not saved here: Nova does so after the operation.
    """
    _keep(instance, [
        *_interfaces(context, instance),
        *(device for device in _recorded(instance)
          if not isinstance(device, objects.NetworkInterfaceMetadata))])


def forget_interface(instance: objects.Instance, mac: str) -> None:
    """Remove the tag of an interface, if it has one.

    The instance is not saved here: Nova does so after the operation.

    :param mac: its MAC address, in lower case.
    """
    _keep(instance, [
        device for device in _recorded(instance)
        if not isinstance(device, objects.NetworkInterfaceMetadata)
        or device.mac.lower() != mac])


def _recorded(instance: objects.Instance) -> list[objects.DeviceMetadata]:
    recorded = instance.device_metadata
    return list(recorded.devices) if recorded else []


def _keep(
    instance: objects.Instance, devices: list[objects.DeviceMetadata],
) -> None:
    if not devices and not instance.device_metadata:
        return
    instance.device_metadata = objects.InstanceDeviceMetadata(devices=devices)


def _interfaces(
    context: nova_context.RequestContext, instance: objects.Instance,
) -> list[objects.DeviceMetadata]:
    # Without an address: it may be another after a reboot. Guests know the
    # interface by its MAC address.
    return [
        objects.NetworkInterfaceMetadata(
            mac=vif.address, bus=objects.XenDeviceBus(), tags=[vif.tag])
        for vif in objects.VirtualInterfaceList.get_by_instance_uuid(
            context, instance.uuid)
        if 'tag' in vif and vif.tag]


def _disks(
    context: nova_context.RequestContext, instance: objects.Instance,
    machine: machine_lib.Machine,
) -> list[objects.DeviceMetadata]:
    mappings = objects.BlockDeviceMappingList.get_by_instance_uuid(
        context, instance.uuid)
    tags = {block_device.strip_dev(mapping.device_name): mapping.tag
            for mapping in mappings if mapping.tag}
    return [
        objects.DiskMetadata(
            path=disk.name, tags=[tags[block_device.strip_dev(disk.name)]],
            bus=objects.XenDeviceBus(
                address=str(xenstore.disk_number(disk.target))),
            **({'serial': disk.volume_id} if disk.volume_id else {}))
        for disk in machine.disks
        if block_device.strip_dev(disk.name) in tags]
