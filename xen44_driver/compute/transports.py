# SPDX-License-Identifier: Apache-2.0
"""How volumes come to this host, by what Cinder says of their connection.

os-brick connects them. Here stands what the guest then gets: a block device,
which dom0's kernel serves (``phy``), or a file, which the guest's QEMU serves,
or dom0's kernel for guests that have none.
Debian's QEMU for Xen has no network protocols of its own, so a volume of Ceph
is a block device of the kernel (``rbd map``).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import errno
from typing import Any

from nova import exception
from os_brick import initiator
from os_brick.initiator.connectors import nvmeof

from xen44_driver.xen.diskclass import DiskClass


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """A way in which volumes come to this host.

    :ivar protocol: os-brick's name of it.
    :ivar block: whether a volume is a block device here, or else a file.
    :ivar busy: exit status of what disconnects a volume, if the kernel still
        has its device open; None where that does not matter.
    :ivar find: finds the device of a volume from what Cinder says of its
        connection; None if os-brick disconnects a volume without knowing it.
    """

    protocol: str
    block: bool = True
    busy: int | None = None
    find: Callable[[Mapping[str, Any]], str | None] | None = None


def _find_nvmeof(data: Mapping[str, Any]) -> str | None:
    """Return the device that a volume of NVMe-oF has on this host now.

    Names are given in the order of connections, and they are given again.

    :param data: what Cinder says of the connection.
    :returns: None if this host is not connected to it. What was noted, if it
        has replicas: a RAID of theirs, which has a name of its own.
    """
    # What it is given it changes.
    properties = nvmeof.NVMeOFConnProps({**data}, find_controllers=True)
    if properties.is_replicated:
        return data.get('device_path')
    return next(iter(properties.get_devices()), None)


#: The transports by Cinder's names (``driver_volume_type``).
TRANSPORTS: Mapping[str, Transport] = {
    'fibre_channel': Transport(protocol=initiator.FIBRE_CHANNEL),
    'iscsi': Transport(protocol=initiator.ISCSI),
    'iser': Transport(protocol=initiator.ISER),
    'local': Transport(protocol=initiator.LOCAL),
    'nfs': Transport(protocol=initiator.NFS, block=False),
    'nvmeof': Transport(protocol=initiator.NVMEOF, find=_find_nvmeof),
    'rbd': Transport(protocol=initiator.RBD, busy=errno.EBUSY),
}


def of(connection_info: Mapping[str, Any]) -> Transport:
    """Return the transport of a volume.

    :param connection_info: what Cinder says of the connection.
    :raises nova.exception.InvalidVolume: it is not supported; the message
        names it and those that are.
    """
    name = str(connection_info.get('driver_volume_type'))
    if name not in TRANSPORTS:
        raise exception.InvalidVolume(
            reason=f'this host does not connect volumes by {name!r} '
                   f'(driver_volume_type); allowed: {", ".join(TRANSPORTS)}')
    return TRANSPORTS[name]


def check_sharing(connection_info: Mapping[str, Any]) -> None:
    """Refuse a volume that several instances share and that is a file.

    The QEMUs of two hosts would each have a page cache of their own.

    :param connection_info: what Cinder says of the connection.
    :raises nova.exception.InvalidVolume: it is one.
    """
    if connection_info.get('multiattach') and not of(connection_info).block:
        raise exception.InvalidVolume(
            reason='several instances may have it (multiattach), and it is a '
                   'file; allowed: volumes that are block devices')


def file_format(
    connection_info: Mapping[str, Any], disk_class: DiskClass,
) -> str:
    """Return the format of a volume, as Cinder has recorded it.

    It is never probed, as a guest can write anything to a raw volume.

    :param connection_info: what Cinder says of the connection.
    :param disk_class: what serves the guest's disks.
    :raises nova.exception.InvalidVolume: it is not supported; the message
        names it and those that are.
    """
    if of(connection_info).block:
        return 'raw'
    format = str(connection_info['data'].get('format', 'raw'))
    if format not in disk_class.formats:
        raise exception.InvalidVolume(
            reason=f'the format of its file is {format!r}; allowed for disks '
                   f'of class {disk_class}: {", ".join(disk_class.formats)}')
    return format


def qos_specs(connection_info: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the type of a volume asks of the host that has it.

    :param connection_info: what Cinder says of the connection.
    """
    specs = connection_info['data'].get('qos_specs')
    return specs if isinstance(specs, Mapping) else {}


def is_readonly(connection_info: Mapping[str, Any]) -> bool:
    """Return whether a guest may only read a volume.

    :param connection_info: what Cinder says of the connection.
    :raises nova.exception.InvalidVolumeAccessMode: Cinder asks for something
        else than ``rw`` and ``ro``.
    :raises nova.exception.InvalidVolume: it is to be read only, and it is a
        file; QEMU refuses such a disk.
    """
    mode = connection_info['data'].get('access_mode') or 'rw'
    if mode not in ('rw', 'ro'):
        raise exception.InvalidVolumeAccessMode(access_mode=mode)
    if mode == 'ro' and not of(connection_info).block:
        raise exception.InvalidVolume(
            reason="it is a file, and its access_mode is 'ro'; allowed: 'rw', "
                   "or a volume that is a block device")
    return bool(mode == 'ro')
