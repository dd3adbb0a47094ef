# SPDX-License-Identifier: Apache-2.0
"""Root disks as plain copies of the cached image."""

import os

from oslo_concurrency import processutils
from oslo_utils import fileutils

from xen44_driver.storage import backend
from xen44_driver.storage import imagecache
from xen44_driver.storage import layout


class RawBackend(backend.Backend):
    """A full copy: sparse, or shared blocks where the file system can."""

    format = 'raw'

    def create(
        self, image: imagecache.CachedImage, path: str, size: int,
    ) -> None:
        """See :meth:`Backend.create`."""
        layout.create_private(path)
        with fileutils.remove_path_on_error(path):
            if image.format == 'raw':
                processutils.execute(
                    'cp', '--reflink=auto', '--sparse=always', '--',
                    image.path, path)
            else:
                processutils.execute(
                    'qemu-img', 'convert', '-q', '-f', image.format,
                    '-O', 'raw', image.path, path)
            os.truncate(path, size)
