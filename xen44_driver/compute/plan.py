# SPDX-License-Identifier: Apache-2.0
"""What an instance is to be made of, decided before anything is made.

:func:`make` reads what Nova says about an instance, refuses what cannot be,
and leaves nothing to decide: the same plan is used to create an instance and
to start it again, so that both give the same domain.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import os
from typing import Any

from nova import block_device
from nova import conf
from nova import exception
from nova import objects
from nova.network import model
from nova.virt import configdrive
from nova.virt import driver
from oslo_utils import units

from xen44_driver.compute import devices
from xen44_driver.compute import guest_type
from xen44_driver.compute import node as compute_node
from xen44_driver.network import vif as vif_lib
from xen44_driver.storage import blank
from xen44_driver.storage import layout
from xen44_driver.xen.guesttype import GuestType

CONF = conf.CONF

#: ``hw_vif_model`` a guest can have; netfront is the PV interface alone.
VIF_MODELS = {
    GuestType.PV: ('netfront',),
    GuestType.PVH: ('netfront',),
    GuestType.HVM: ('netfront', 'e1000', 'rtl8139'),
}

#: ``hw_disk_bus`` a guest can have. An HVM guest's first disks are PV disks
#: and emulated ones, IDE unless SCSI is asked for.
DISK_BUSES = {
    GuestType.PV: ('xen',),
    GuestType.PVH: ('xen',),
    GuestType.HVM: ('xen', 'ide', 'scsi'),
}

#: ``hw_scsi_model`` a guest can have: libxl has QEMU emulate an LSI 53C895A.
SCSI_MODELS = ('lsilogic',)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Blank:
    """A disk with nothing on it but a file system, or swap.

    :ivar name: Nova's, ``/dev/xvdb``
    :ivar path: its file
    :ivar size: bytes
    """

    name: str
    path: str
    size: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ephemeral(Blank):
    """An ephemeral disk.

    :ivar file_system: what it is formatted with; None means the default
    """

    file_system: str | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An instance, decided.

    :ivar instance: Nova's
    :ivar image: its image's metadata
    :ivar guest_type: PV, PVH or HVM
    :ivar files: where its files are
    :ivar root_size: bytes of the root disk; 0 takes the image's
    :ivar ephemerals: its ephemeral disks
    :ivar swap: its swap disk
    :ivar config_drive: whether it has one
    :ivar kernel_id: image with the kernel to boot; None boots from disk
    :ivar ramdisk_id: image with that kernel's initial ramdisk
    :ivar loader: what boots a PV or PVH guest from its disk
    :ivar vifs: its ports
    :ivar vif_model: ``netfront``, an emulated model, or None: both
    """

    instance: objects.Instance
    image: objects.ImageMeta
    guest_type: GuestType
    files: layout.InstanceFiles
    root_size: int
    ephemerals: tuple[Ephemeral, ...]
    swap: Blank | None
    config_drive: bool
    kernel_id: str | None
    ramdisk_id: str | None
    loader: str | None
    vifs: tuple[model.VIF, ...]
    vif_model: str | None


def make(
    node: compute_node.Node, instance: objects.Instance,
    image: objects.ImageMeta, *,
    network_info: model.NetworkInfo | None,
    block_device_info: Mapping[str, Any] | None,
) -> Plan:
    """Decide what an instance is made of.

    :param node: where it is to run
    :param instance: Nova's
    :param image: its image's metadata
    :param network_info: its ports
    :param block_device_info: its disks besides the root disk
    :raises nova.exception.Invalid: something asked for cannot be; the
        message names it and what is allowed
    """
    chosen = guest_type.choose(
        image, instance.flavor, default=node.default_guest_type,
        offered=node.capabilities.guest_types)
    _check_size(node, instance, chosen)
    _check_properties(image, chosen)
    for mapping in driver.block_device_info_get_mapping(block_device_info):
        devices.check_local('volume', mapping.get('volume_id'))
    vifs = tuple(network_info or ())
    for vif in vifs:
        vif_lib.check(vif)
    files = layout.InstanceFiles(instance.uuid)
    return Plan(
        instance=instance, image=image, guest_type=chosen, files=files,
        root_size=instance.flavor.root_gb * units.Gi,
        ephemerals=_ephemerals(files, block_device_info),
        swap=_swap(files, block_device_info),
        config_drive=bool(configdrive.required_by(instance)),
        kernel_id=instance.kernel_id or None,
        ramdisk_id=instance.ramdisk_id or None,
        loader=_loader(node, instance, chosen),
        vifs=vifs, vif_model=image.properties.get('hw_vif_model'))


def _check_size(
    node: compute_node.Node, instance: objects.Instance, chosen: GuestType,
) -> None:
    limit = node.capabilities.max_vcpus.get(chosen)
    if limit and instance.flavor.vcpus > limit:
        raise exception.InvalidInput(
            reason=f'the flavor has {instance.flavor.vcpus} vCPUs; a '
                   f'{chosen} guest can have {limit}')


def _check_properties(image: objects.ImageMeta, chosen: GuestType) -> None:
    properties = [
        ('hw_vif_model', VIF_MODELS[chosen]),
        ('hw_disk_bus', DISK_BUSES[chosen]),
        ('hw_firmware_type', ('bios',)),
    ]
    if image.properties.get('hw_disk_bus') == 'scsi':
        properties.append(('hw_scsi_model', SCSI_MODELS))
    for name, allowed in properties:
        value = image.properties.get(name)
        if value is not None and value not in allowed:
            raise exception.InvalidInput(
                reason=f'the image asks for {name} {str(value)!r}; allowed '
                       f'for a {chosen} guest: {", ".join(allowed)}')


def _ephemerals(
    files: layout.InstanceFiles, block_device_info: Mapping[str, Any] | None,
) -> tuple[Ephemeral, ...]:
    planned = []
    for index, disk in enumerate(
            driver.block_device_info_get_ephemerals(block_device_info)):
        blank.check_file_system(disk.get('guest_format'))
        planned.append(Ephemeral(
            name=block_device.prepend_dev(disk['device_name']),
            path=files.ephemeral(index), size=disk['size'] * units.Gi,
            file_system=disk.get('guest_format')))
    return tuple(planned)


def _swap(
    files: layout.InstanceFiles, block_device_info: Mapping[str, Any] | None,
) -> Blank | None:
    swap = driver.block_device_info_get_swap(block_device_info)
    if not driver.swap_is_usable(swap):
        return None
    return Blank(name=block_device.prepend_dev(swap['device_name']),
                 path=files.swap, size=swap['swap_size'] * units.Mi)


def _loader(
    node: compute_node.Node, instance: objects.Instance, chosen: GuestType,
) -> str | None:
    """What boots the guest, where it is neither a kernel nor a BIOS."""
    if instance.kernel_id:
        return None
    if instance.ramdisk_id:
        raise exception.InvalidInput(
            reason=f'the image has a ramdisk_id ({instance.ramdisk_id}) but '
                   'no kernel_id; a ramdisk needs its kernel')
    if chosen is GuestType.HVM:
        return None
    loader = node.loader(chosen)
    option = f'[xen44_{node.arch.name}] {chosen}_loader'
    if loader is None:
        raise exception.InvalidInput(
            reason=f'a {chosen} guest cannot boot from its own disk on '
                   f'{node.arch.name}: no {option} is configured; allowed: '
                   'images with a kernel_id')
    if not os.path.isfile(loader):
        raise exception.InvalidInput(
            reason=f'a {chosen} guest cannot boot from its own disk here: '
                   f'{option} is {loader!r}, and there is no such file; '
                   'allowed: images with a kernel_id')
    return loader
