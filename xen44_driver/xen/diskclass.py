# SPDX-License-Identifier: Apache-2.0
"""The classes of guests' disks."""

from __future__ import annotations

import enum


class DiskClass(enum.StrEnum):
    """What in dom0 serves the disks of a guest.

    * ``QEMU``: a QEMU of the guest's own, a program of dom0. It can read
      qcow2 files, and can copy, limit and resize a disk while the guest runs.
    * ``KERNEL``: dom0's kernel (blkback). Files are raw and on loop devices,
      which libxl makes and removes. There is no QEMU for the guest.
    """

    QEMU = 'qemu'
    KERNEL = 'kernel'

    @property
    def formats(self) -> tuple[str, ...]:
        """Formats of files that can be disks."""
        return ('raw',) if self is DiskClass.KERNEL else ('raw', 'qcow2')

    def root_format(self, preferred: str) -> str:
        """Return the format of a root disk that is made of an image.

        :param preferred: the format if disks of this class can have it.
        """
        return preferred if preferred in self.formats else 'raw'
