# SPDX-License-Identifier: Apache-2.0
"""Kinds of disk that a guest can have on its host, one module each."""

from __future__ import annotations

from collections.abc import Mapping

from xen44_driver.storage.kinds.blank import Blank
from xen44_driver.storage.kinds.cdrom import Cdrom
from xen44_driver.storage.kinds.clone import Clone
from xen44_driver.storage.kinds.configdrive import ConfigDrive
from xen44_driver.storage.kinds.kind import Base
from xen44_driver.storage.kinds.kind import DiskRecord
from xen44_driver.storage.kinds.kind import Kind
from xen44_driver.storage.kinds.kind import Tools
from xen44_driver.storage.kinds.overlay import Overlay
from xen44_driver.storage.kinds.volume import Volume

__all__ = [
    'IMAGE_KINDS', 'KINDS', 'Base', 'DiskRecord', 'Kind', 'Tools', 'load',
]

#: The kinds, by the name in a disk's record.
KINDS: Mapping[str, type[Kind]] = {
    kind.name: kind
    for kind in (Overlay, Clone, Blank, ConfigDrive, Cdrom, Volume)}

#: Kinds of root disk that are made from an image, by ``[xen44] disk_format``.
IMAGE_KINDS: Mapping[str, type[Kind]] = {'qcow2': Overlay, 'raw': Clone}


def load(record: DiskRecord, directory: str) -> Kind:
    """Return the disk of a record; its file need not exist yet.

    :param record: the disk's record.
    :param directory: the instance's directory.
    :raises KeyError: the record's kind is not known.
    """
    return KINDS[record.kind](record, directory)
