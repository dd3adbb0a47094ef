# SPDX-License-Identifier: Apache-2.0
"""An ISO image as a CD-ROM."""

from __future__ import annotations

import errno
import os
from typing import ClassVar

from oslo_concurrency import processutils

from xen44_driver.storage.kinds import kind


class Cdrom(kind.Kind):
    """The image itself, hard-linked into the instance's directory.

    Guests cannot write to it, so all instances can share the file. The link
    keeps the file when the image is removed from the store.
    """

    name: ClassVar[str] = 'cdrom'

    def prepare(self, tools: kind.Tools) -> None:
        """See :meth:`Kind.prepare`."""
        self._link(tools.image_path(kind.base_of(self.record).id), tools)

    def inherit(self, old: kind.Kind, tools: kind.Tools) -> None:
        """See :meth:`Kind.inherit`."""
        self._link(old.path, tools)

    def _link(self, image: str, tools: kind.Tools) -> None:
        self.remove()
        try:
            os.link(image, self.path)
        except OSError as error:
            # The store may be on another file system, or on one without hard
            # links.
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK,
                                   errno.EOPNOTSUPP):
                raise
            with tools.copying:
                processutils.execute(
                    'cp', '--reflink=auto', '--', image, self.path)
