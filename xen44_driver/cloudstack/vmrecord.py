# SPDX-License-Identifier: Apache-2.0
"""What a VM is, decided when it is created and kept beside its disks.

CloudStack passes memory, vCPUs and interfaces anew at each start. All else is
in this record, so a changed option or template does not affect a VM that
exists.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import json
import os
from typing import Any

from oslo_utils import fileutils

from xen44_driver.storage import kinds
from xen44_driver.storage import layout
from xen44_driver.xen.diskclass import DiskClass
from xen44_driver.xen.guesttype import GuestType

#: Version of the record's format. A record of another version is refused.
VERSION = 1

#: Names of the files in a VM's directory.
RECORD_FILE = 'vm.json'
ROOT_FILE = 'disk.{format}'
NEW_ROOT_FILE = 'new.{format}'
ISO_FILE = 'disk.iso'
SEED_FILE = 'disk.config'
REBOOT_FILE = 'rebooting'


class RecordUnreadable(Exception):
    """The record of a VM is missing or cannot be used."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VmRecord:
    """What a VM is, except for memory, vCPUs and interfaces.

    :ivar name: its name in libvirt and Xen, by which its logs are found.
    :ivar guest_type: PV, PVH or HVM.
    :ivar disks: the disks, in the guest's order; the first is the root disk.
    :ivar disk_class: what serves them.
    :ivar loader: path of the loader that boots the guest's disk; None if
        firmware does, or if it boots a kernel.
    :ivar kernel: whether it boots a kernel of its own, in its directory.
    :ivar ramdisk: whether that kernel has an initial ramdisk.
    :ivar cmdline: the kernel's command line.
    :ivar nic_model: ``netfront``, an emulated model, or None for libxl's
        default.
    :ivar snapshots: descriptions of the snapshots that have one, by name.
    """

    name: str
    guest_type: GuestType
    disks: tuple[kinds.DiskRecord, ...]
    disk_class: DiskClass = DiskClass.QEMU
    loader: str | None = None
    kernel: bool = False
    ramdisk: bool = False
    cmdline: str | None = None
    nic_model: str | None = None
    snapshots: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def root(self) -> kinds.DiskRecord:
        """Return the root disk."""
        return self.disks[0]

    def disk(self, file: str) -> kinds.DiskRecord | None:
        """Return the disk with a file name, or None."""
        return next((disk for disk in self.disks if disk.file == file), None)

    def with_root(self, root: kinds.DiskRecord) -> VmRecord:
        """Return a copy with another root disk."""
        return dataclasses.replace(self, disks=(root, *self.disks[1:]))

    def with_disk(self, disk: kinds.DiskRecord) -> VmRecord:
        """Return a copy with one more disk."""
        return dataclasses.replace(self, disks=(*self.disks, disk))

    def without(self, file: str) -> VmRecord:
        """Return a copy without the disk with a file name."""
        return dataclasses.replace(self, disks=tuple(
            disk for disk in self.disks if disk.file != file))


def save(files: layout.InstanceFiles, record: VmRecord) -> None:
    """Write a record, in place of an older one.

    :param files: paths of the VM's files; its directory exists.
    """
    path = files.path(RECORD_FILE)
    part = f'{path}.part'
    layout.create_private(part)
    with fileutils.remove_path_on_error(part):
        with open(part, 'w', encoding='utf-8') as file:
            json.dump({'version': VERSION, **dataclasses.asdict(record)},
                      file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(part, path)


def load(files: layout.InstanceFiles) -> VmRecord:
    """Read a record.

    :param files: paths of the VM's files.
    :raises RecordUnreadable: there is none, or it cannot be used.
    """
    path = files.path(RECORD_FILE)
    try:
        with open(path, encoding='utf-8') as file:
            values: dict[str, Any] = json.load(file)
        version = values.pop('version')
        if version != VERSION:
            raise RecordUnreadable(
                f'{path} has version {version}; this program reads '
                f'{VERSION}')
        disks = tuple(
            kinds.DiskRecord(**{
                **disk, 'base': kinds.Base(**disk['base'])
                if disk['base'] else None})
            for disk in values.pop('disks'))
        record = VmRecord(disks=disks, **{
            **values, 'guest_type': GuestType(values['guest_type']),
            # Records from before there were classes have none.
            'disk_class': DiskClass(
                values.get('disk_class', DiskClass.QEMU))})
    except FileNotFoundError:
        raise RecordUnreadable(
            f'there is no VM with this UUID on this host ({path} is missing)'
        ) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RecordUnreadable(f'{path} is damaged: {error!r}') from error
    if not record.disks or {disk.kind for disk in disks} - {*kinds.KINDS}:
        raise RecordUnreadable(f'{path} is damaged: it has no known disks')
    return record
