# SPDX-License-Identifier: Apache-2.0
"""Swap and ephemeral disks, and the root disk beside an ISO image."""

from __future__ import annotations

from typing import ClassVar

from oslo_utils import fileutils

from xen44_driver.storage import layout
from xen44_driver.storage.kinds import kind

#: File systems that an ephemeral disk can be made with.
FILE_SYSTEMS = ('ext2', 'ext3', 'ext4', 'xfs', 'vfat', 'ntfs')

#: Value of :attr:`DiskRecord.file_system` for swap space.
SWAP = 'swap'
#: Value of :attr:`DiskRecord.file_system` that leaves the choice to
#: :attr:`Tools.make_file_system`.
DEFAULT = 'default'


class Blank(kind.Kind):
    """A sparse raw file with a file system, swap space, or nothing."""

    name: ClassVar[str] = 'blank'

    def prepare(self, tools: kind.Tools) -> None:
        """See :meth:`Kind.prepare`."""
        layout.create_private(self.path, self.record.size)
        if self.record.file_system is None:
            return
        with fileutils.remove_path_on_error(self.path):
            tools.make_file_system(
                self.path, self.record.file_system, self.record.label)

    def inherit(self, old: kind.Kind, tools: kind.Tools) -> None:
        """See :meth:`Kind.inherit`. The file system does not grow."""
        if self.record.file_system == SWAP:
            self.prepare(tools)
        else:
            self._copy(old, tools)

    def inherited_bytes(self) -> int:
        """See :meth:`Kind.inherited_bytes`."""
        return 0 if self.record.file_system == SWAP else self._allocated()
