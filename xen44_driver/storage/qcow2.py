# SPDX-License-Identifier: Apache-2.0
"""Root disks as qcow2 overlays on the cached image."""

import os

from oslo_concurrency import processutils

from xen44_driver.storage import backend
from xen44_driver.storage import imagecache
from xen44_driver.storage import layout


class Qcow2Backend(backend.Backend):
    """The image stays in the cache; the disk holds what differs from it."""

    format = 'qcow2'

    def create(
        self, image: imagecache.CachedImage, path: str, size: int,
    ) -> None:
        """See :meth:`Backend.create`."""
        # The base's format is written down: QEMU must never guess it from
        # what a guest's image contains.
        layout.create_private(path)
        processutils.execute(
            'qemu-img', 'create', '-q', '-f', 'qcow2',
            '-b', os.path.abspath(image.path), '-F', image.format,
            path, str(size))
