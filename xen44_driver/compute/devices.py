# SPDX-License-Identifier: Apache-2.0
"""What a guest's disks are called.

Nova's name of a disk is ``/dev/xvdX`` for every guest type: what Linux calls
it. Letter d is kept for the config drive, because the first four letters are
emulated disks for HVM guests, and the fourth is where a CD-ROM goes.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
import itertools
import string

from nova import block_device
from nova import conf
from nova import exception
from nova import objects

from xen44_driver.xen.domain import spec
from xen44_driver.xen.guesttype import GuestType

CONF = conf.CONF

PREFIX = '/dev/xvd'
ROOT = f'{PREFIX}a'
CONFIG_DRIVE = f'{PREFIX}d'

#: In the order they are given out.
LETTERS = tuple(
    letter for letter in string.ascii_lowercase if letter != 'd')

# HVM guests get these as emulated disks as well, IDE or SCSI.
_EMULATED = ('a', 'b', 'c')


def next_name(used: Collection[str]) -> str:
    """The first free name.

    :param used: names (``/dev/xvdb``, whatever the prefix) in use
    :raises nova.exception.TooManyDiskDevices: none is free, or
        ``[compute] max_disk_devices_to_attach`` is reached
    """
    limit = CONF.compute.max_disk_devices_to_attach
    if 0 <= limit <= len(used):
        raise exception.TooManyDiskDevices(maximum=limit)
    taken = {block_device.get_device_letter(name) for name in used}
    for letter in LETTERS:
        if letter not in taken:
            return f'{PREFIX}{letter}'
    raise exception.TooManyDiskDevices(maximum=len(LETTERS))


def assign(
    instance: objects.Instance,
    *mappings: Iterable[objects.BlockDeviceMapping],
) -> None:
    """Name every block device of a new instance.

    A name the user gave is not kept: the guest would not call the disk so.

    :param instance: the new instance
    :param mappings: its block device mappings
    :raises nova.exception.InvalidBDM: a volume among them, which we cannot
        attach; named, and before anything is made for it
    """
    devices = list(itertools.chain(*mappings))
    for mapping in devices:
        check_local(mapping.destination_type, mapping.volume_id)
    used = {ROOT}
    for mapping in devices:
        name = ROOT if mapping.boot_index == 0 else next_name(used)
        used.add(name)
        if mapping.device_name != name:
            mapping.device_name = name
            mapping.save()
    instance.root_device_name = ROOT


def check_local(destination: str | None, volume_id: str | None) -> None:
    """Refuse a volume.

    :param destination: the mapping's ``destination_type``
    :param volume_id: Cinder's id, if it exists yet
    :raises nova.exception.InvalidBDM: it is one
    """
    if destination == 'volume':
        raise exception.InvalidBDM(
            f'cannot use volume {volume_id or "(a new one)"}: this host '
            'attaches no volumes; allowed: destination_type local')


def disk(
    name: str, guest_type: GuestType, *, source: str, format: str,
    bus: str | None = None, readonly: bool = False,
) -> spec.Disk:
    """A disk as a guest of that type gets it.

    :param name: Nova's name of it, ``/dev/xvdb``
    :param guest_type: the guest's
    :param source: its file on the host
    :param format: of that file
    :param bus: ``scsi`` emulates a SCSI disk for HVM guests, not an IDE one
    :param readonly: whether the guest may not write
    """
    letter = block_device.get_device_letter(name)
    prefix = 'xvd'
    if guest_type is GuestType.HVM and letter in _EMULATED:
        prefix = 'sd' if bus == 'scsi' else 'hd'
    return spec.Disk(target=f'{prefix}{letter}', source=source,
                     format=format, readonly=readonly)


def config_drive(
    guest_type: GuestType, *, source: str, format: str,
) -> spec.Disk:
    """The config drive as a guest of that type gets it.

    A CD-ROM for HVM guests, which need no PV driver to read it; one that
    was made as vfat is no CD-ROM and is a PV disk for them. A disk can be
    written, which harms only the guest's own copy: QEMU's xen-disk refuses
    a read-only one ("Block node is read-only"), and the guest has none then.

    :param guest_type: the guest's
    :param source: its file on the host
    :param format: of that file
    """
    if guest_type is GuestType.HVM:
        if CONF.config_drive_format == 'iso9660':
            return spec.Disk(target='hdd', device='cdrom', readonly=True,
                             source=source, format=format)
        # Past the emulated disks.
        return spec.Disk(target='xvdz', source=source, format=format)
    return spec.Disk(target='xvdd', source=source, format=format)
