# SPDX-License-Identifier: Apache-2.0
"""A root disk that is a full copy of its image."""

from __future__ import annotations

import os
from typing import ClassVar

from oslo_concurrency import processutils
from oslo_utils import fileutils

from xen44_driver.storage import layout
from xen44_driver.storage.kinds import kind


class Clone(kind.Kind):
    """A sparse raw file, which shares blocks if the file system can."""

    name: ClassVar[str] = 'clone'

    def prepare(self, tools: kind.Tools) -> None:
        """See :meth:`Kind.prepare`."""
        base = kind.base_of(self.record)
        image = tools.image_path(base.id)
        layout.create_private(self.path)
        with fileutils.remove_path_on_error(self.path), tools.copying:
            if base.format == 'raw':
                processutils.execute(
                    'cp', '--reflink=auto', '--sparse=always', '--',
                    image, self.path)
            else:
                processutils.execute(
                    'qemu-img', 'convert', '-q', '-f', base.format,
                    '-O', 'raw', image, self.path)
            os.truncate(self.path, self.record.size or base.virtual_size)

    def inherit(self, old: kind.Kind, tools: kind.Tools) -> None:
        """See :meth:`Kind.inherit`."""
        self._copy(old, tools)

    def inherited_bytes(self) -> int:
        """See :meth:`Kind.inherited_bytes`."""
        return self._allocated()
