# SPDX-License-Identifier: Apache-2.0
"""A root disk that stores only the differences from its image."""

from __future__ import annotations

import errno
import os
from typing import ClassVar

from oslo_concurrency import processutils

from xen44_driver.storage import header
from xen44_driver.storage import layout
from xen44_driver.storage.kinds import kind

#: Name of the file below an overlay that inherited its content.
LAYER_FILE = 'layer.qcow2'


class Overlay(kind.Kind):
    """A qcow2 file whose backing file is the image in the store.

    If it inherited its content from an older overlay, a hard link to that one
    is its backing file. Nothing writes to it as long as it has two names.
    """

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

    def inherit(self, old: kind.Kind, tools: kind.Tools) -> None:
        """See :meth:`Kind.inherit`. Nothing is copied."""
        directory = os.path.dirname(self.path)
        os.link(old.path, os.path.join(directory, LAYER_FILE))
        layout.create_private(self.path)
        # The name is relative to the overlay's directory, which is renamed
        # when it is complete.
        processutils.execute(
            'qemu-img', 'create', '-q', '-f', 'qcow2',
            '-b', LAYER_FILE, '-F', 'qcow2',
            self.path, str(max(self.record.size, old.measure())))

    def inherited_bytes(self) -> int:
        """See :meth:`Kind.inherited_bytes`."""
        # What settle() copies before.
        return self._allocated() if os.path.exists(self._layer) else 0

    def measure(self) -> int:
        """See :meth:`Kind.measure`."""
        size = header.virtual_size(self.path)
        if size is None:
            raise OSError(errno.EINVAL, 'it is not qcow2', self.path)
        return size

    def grow(self, size: int) -> None:
        """See :meth:`Kind.grow`."""
        processutils.execute(
            'qemu-img', 'resize', '-q', '-f', 'qcow2', self.path, str(size))

    def settle(self, tools: kind.Tools) -> bool:
        """See :meth:`Kind.settle`.

        The disk can be used at any time meanwhile: the layer has all of the
        overlay's content before it takes its name.
        """
        if not os.path.exists(self._layer):
            return False
        with tools.copying:
            processutils.execute(
                'qemu-img', 'commit', '-q', '-f', 'qcow2', self.path)
        os.rename(self._layer, self.path)
        return True

    @property
    def _layer(self) -> str:
        return os.path.join(os.path.dirname(self.path), LAYER_FILE)
