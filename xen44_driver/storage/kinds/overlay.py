# SPDX-License-Identifier: Apache-2.0
"""A root disk that stores only the differences from its image."""

from __future__ import annotations

import os
from typing import ClassVar

from oslo_concurrency import processutils

from xen44_driver.storage import layout
from xen44_driver.storage.kinds import kind


class Overlay(kind.Kind):
    """A qcow2 file whose backing file is the image in the store."""

    name: ClassVar[str] = 'overlay'

    def prepare(self, tools: kind.Tools) -> None:
        """See :meth:`Kind.prepare`."""
        base = kind.base_of(self.record)
        backing = os.path.abspath(tools.image_path(base.id))
        layout.create_private(self.path)
        # With the base's format, so that QEMU does not probe a file that a
        # tenant made.
        processutils.execute(
            'qemu-img', 'create', '-q', '-f', 'qcow2',
            '-b', backing, '-F', base.format,
            self.path, str(self.record.size or base.virtual_size))
