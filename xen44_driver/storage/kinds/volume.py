# SPDX-License-Identifier: Apache-2.0
"""A volume, which another service has made and keeps."""

from __future__ import annotations

from typing import ClassVar

from xen44_driver.storage.kinds import kind
from xen44_driver.xen import domain
from xen44_driver.xen.diskclass import DiskClass


class Volume(kind.Kind):
    """A device or a file behind a link.

    See :mod:`xen44_driver.xen.volumelinks`.

    Whoever connects the volume to the host makes the link, and removes it. So
    there is nothing to make or to remove here.
    """

    name: ClassVar[str] = 'volume'

    def prepare(self, tools: kind.Tools) -> None:
        """See :meth:`Kind.prepare`. The content is not touched."""

    def spec(self, disk_class: DiskClass = DiskClass.QEMU) -> domain.Disk:
        """See :meth:`Kind.spec`."""
        record = self.record
        return domain.Disk(
            target=record.target, source=self.path, format=record.format,
            type='block' if record.block else 'file',
            by_kernel=disk_class is DiskClass.KERNEL,
            readonly=record.readonly, serial=record.volume_id)

    def remove(self) -> None:
        """See :meth:`Kind.remove`. The volume is not this host's."""
