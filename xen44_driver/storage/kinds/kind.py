# SPDX-License-Identifier: Apache-2.0
"""The base of all kinds of disk."""

from __future__ import annotations

import abc
from collections.abc import Callable
from collections.abc import Mapping
from contextlib import AbstractContextManager
import dataclasses
import os
from typing import ClassVar

from oslo_concurrency import processutils
from oslo_utils import fileutils

from xen44_driver.storage import layout
from xen44_driver.xen import domain
from xen44_driver.xen.diskclass import DiskClass


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The image that a disk was made of, as it was then.

    :ivar id: the image's id.
    :ivar format: ``raw``, ``qcow2`` or ``iso``.
    :ivar virtual_size: bytes of the disk in it.
    :ivar size: bytes of its file on the host.
    """

    id: str
    format: str
    virtual_size: int
    size: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DiskRecord:
    """The record of a guest's disk, made once and kept.

    :ivar kind: name of the kind of disk, see :data:`KINDS`.
    :ivar name: Nova's name of the disk, such as ``/dev/xvda``.
    :ivar target: Xen's name of the disk, such as ``xvda``, ``hda`` or ``sda``.
    :ivar file: name of its file in the instance's directory; of a volume, the
        path of the link to it.
    :ivar format: format of that file. It is never probed, as a guest can write
        anything to a raw disk.
    :ivar size: bytes of the disk; 0 for the size of the base.
    :ivar base: the image that the disk is made from.
    :ivar device: ``disk`` or ``cdrom``.
    :ivar file_system: content of a blank disk: ``swap``, the name of a file
        system, or ``default``; None for an empty disk.
    :ivar label: label of that file system.
    :ivar volume_id: Cinder's id of a volume.
    :ivar block: whether a volume is a block device, which dom0's kernel
        serves.
    :ivar readonly: whether the guest may only read a volume.
    :ivar limits: limits on a volume that QEMU serves, by their names.
    """

    kind: str
    name: str
    target: str
    file: str
    format: str = 'raw'
    size: int = 0
    base: Base | None = None
    device: str = 'disk'
    file_system: str | None = None
    label: str | None = None
    volume_id: str | None = None
    block: bool = False
    readonly: bool = False
    limits: Mapping[str, int] | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Functions of the caller that make disks.

    :ivar image_path: takes an image's id and returns the path of its file.
    :ivar copying: a context for large copies, which limits how many run.
    :ivar make_file_system: formats a file; takes path, file system and label.
    :ivar write_config_drive: writes a config drive to a path.
    """

    image_path: Callable[[str], str]
    copying: AbstractContextManager[object]
    make_file_system: Callable[[str, str, str | None], None]
    write_config_drive: Callable[[str], None]


def base_of(record: DiskRecord) -> Base:
    """Return the image that a disk is made from.

    :raises ValueError: the record does not name an image.
    """
    if record.base is None:
        raise ValueError(f'{record.kind} disk {record.name} has no image')
    return record.base


class Kind(abc.ABC):
    """One disk of one instance.

    :param record: the disk's record.
    :param directory: the instance's directory.
    """

    name: ClassVar[str]

    def __init__(self, record: DiskRecord, directory: str) -> None:
        self.record = record
        self.path = os.path.join(directory, record.file)

    @abc.abstractmethod
    def prepare(self, tools: Tools) -> None:
        """Make the disk, replacing an existing file.

        :raises OSError: such as no space on the file system.
        :raises oslo_concurrency.processutils.ProcessExecutionError: a
            program failed.
        """

    def inherit(self, old: Kind, tools: Tools) -> None:
        """Make the disk with the content of an older one, for a resize.

        The older disk is in another directory of the same file system. It is
        not changed, not even later. The disk may be larger, not smaller.

        Kinds whose content is made by the host make it anew.

        :param old: the older disk.
        :raises OSError: such as no space on the file system.
        :raises oslo_concurrency.processutils.ProcessExecutionError: a
            program failed.
        """
        self.prepare(tools)

    def inherited_bytes(self) -> int:
        """Return how many bytes are copied if a disk inherits this one."""
        return 0

    def measure(self) -> int:
        """Return the bytes of the disk, as the guest sees it.

        :raises OSError: the disk cannot be read.
        """
        return os.path.getsize(self.path)

    def grow(self, size: int) -> None:
        """Make the disk larger, while the guest is off.

        :param size: its new size, in bytes; not less than it has.
        :raises OSError: it cannot be made larger.
        :raises oslo_concurrency.processutils.ProcessExecutionError: a
            program failed.
        """
        os.truncate(self.path, size)

    def settle(self, tools: Tools) -> bool:
        """Merge what an earlier :meth:`inherit` left; safe to repeat.

        To be called before the disk is inherited again, while the guest is
        off.

        :returns: whether there was something to merge.
        :raises oslo_concurrency.processutils.ProcessExecutionError: a
            program failed.
        """
        return False

    def _copy(self, old: Kind, tools: Tools) -> None:
        """Copy a raw disk; blocks are shared if the file system can."""
        layout.create_private(self.path)
        with fileutils.remove_path_on_error(self.path):
            with tools.copying:
                processutils.execute(
                    'cp', '--reflink=auto', '--sparse=always', '--',
                    old.path, self.path)
            os.truncate(self.path, max(self.record.size, old.measure()))

    def _allocated(self) -> int:
        return os.stat(self.path).st_blocks * 512

    def spec(self, disk_class: DiskClass = DiskClass.QEMU) -> domain.Disk:
        """Return the disk as a device of the guest's domain.

        :param disk_class: what serves the guest's disks.
        """
        return domain.Disk(
            target=self.record.target, source=self.path,
            format=self.record.format, device=self.record.device,
            by_kernel=disk_class is DiskClass.KERNEL)

    def remove(self) -> None:
        """Remove the disk; safe to repeat."""
        fileutils.delete_if_exists(self.path)
