# SPDX-License-Identifier: Apache-2.0
"""Names of disks, for Nova and for guests.

Nova's name of a disk is ``/dev/xvdX`` for every guest type, as in Linux.
Letter d is reserved for the config drive: HVM guests get the first four
letters as emulated disks, and the fourth can be a CD-ROM. Letter c is for the
CD-ROM of an instance whose image is an ISO image.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
import itertools
import string
from typing import Any

from nova import block_device
from nova import conf
from nova import exception
from nova import objects
from nova.virt import driver

from xen44_driver.xen import arch as arch_lib

CONF = conf.CONF

PREFIX = '/dev/xvd'
ROOT = f'{PREFIX}a'
CDROM = f'{PREFIX}c'
CONFIG_DRIVE = f'{PREFIX}d'

#: Letters for disks, in the order in which they are assigned.
LETTERS = tuple(
    letter for letter in string.ascii_lowercase if letter != 'd')


def next_name(used: Collection[str], *, avoid: str = '') -> str:
    """Return the first free disk name.

    :param used: names in use, such as ``/dev/xvdb``, with any prefix.
    :param avoid: letters that the disk cannot have.
    :raises nova.exception.TooManyDiskDevices: no name is free, or
        ``[compute] max_disk_devices_to_attach`` is reached.
    """
    limit = CONF.compute.max_disk_devices_to_attach
    if 0 <= limit <= len(used):
        raise exception.TooManyDiskDevices(maximum=limit)
    taken = {*avoid, *map(block_device.get_device_letter, used)}
    for letter in LETTERS:
        if letter not in taken:
            return f'{PREFIX}{letter}'
    raise exception.TooManyDiskDevices(maximum=len(LETTERS))


def assign(
    instance: objects.Instance,
    *mappings: Iterable[objects.BlockDeviceMapping], emulated: str = '',
) -> None:
    """Name every block device of a new instance.

    Names that the user chose are replaced: the guest would not use them.

    :param mappings: the block device mappings of the instance.
    :param emulated: letters of the disks that the guest gets emulated, too.
        Volumes do not get them, as Xen can neither attach nor detach an
        emulated disk, unless the guest boots from it.
    """
    devices = list(itertools.chain(*mappings))
    used = {ROOT}
    if instance.system_metadata.get('image_disk_format') == 'iso':
        used.add(CDROM)
    for mapping in devices:
        name = ROOT if mapping.boot_index == 0 else next_name(
            used, avoid=emulated if mapping.destination_type == 'volume'
            else '')
        used.add(name)
        if mapping.device_name != name:
            mapping.device_name = name
            mapping.save()
    instance.root_device_name = ROOT


def check_kinds(block_device_info: Mapping[str, Any] | None) -> None:
    """Refuse block devices that are to be something else than disks.

    :param block_device_info: the disks besides the root disk, and volumes.
    :raises nova.exception.InvalidInput: one is; the message names its
        ``device_type`` and what is allowed.
    """
    for mapping in (
            *driver.block_device_info_get_ephemerals(block_device_info),
            *driver.block_device_info_get_mapping(block_device_info)):
        kind = mapping.get('device_type') or 'disk'
        if kind != 'disk':
            raise exception.InvalidInput(
                reason=f'a block device of the instance has device_type '
                       f'{kind!r}; allowed: disk')


def target(name: str, profile: arch_lib.Profile, bus: str | None) -> str:
    """Return Xen's name of a disk.

    :param name: Nova's name of the disk, such as ``/dev/xvdb``.
    :param profile: the profile of the guest's type.
    :param bus: the image's ``hw_disk_bus``. With ``scsi``, an emulated disk
        is a SCSI disk instead of an IDE one.
    """
    letter = block_device.get_device_letter(name)
    prefix = 'xvd'
    if letter in profile.emulated_disks:
        prefix = 'sd' if bus == 'scsi' else 'hd'
    return f'{prefix}{letter}'


def cdrom_target(name: str) -> str:
    """Return Xen's name of a CD-ROM drive, which is always an IDE drive.

    :param name: Nova's name of the drive, such as ``/dev/xvdc``.
    """
    return f'hd{block_device.get_device_letter(name)}'


def config_drive(profile: arch_lib.Profile, format: str) -> tuple[str, str]:
    """Return Xen's name of the config drive, and the kind of device.

    A config drive in ISO 9660 format is a CD-ROM for guests that have a CD-ROM
    drive: they can read it without a PV driver. In all other cases it is a PV
    disk.

    :param profile: the profile of the guest's type.
    :param format: ``iso9660`` or ``vfat``.
    :returns: such as ``('hdd', 'cdrom')``.
    """
    if not profile.cdrom:
        return 'xvdd', 'disk'
    if format == 'iso9660':
        return cdrom_target(CONFIG_DRIVE), 'cdrom'
    # Beyond the letters of emulated disks.
    return 'xvdz', 'disk'
