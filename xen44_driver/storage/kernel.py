# SPDX-License-Identifier: Apache-2.0
"""Kernels and initial ramdisks that come as images of their own.

They are copied to the instance's directory: Xen reads them at every start,
and the image may be gone by then.
"""

from __future__ import annotations

import shutil

from nova import context as nova_context
from nova import exception

from xen44_driver.storage import imagecache
from xen44_driver.storage import layout

#: What a kernel Xen can start begins with: (name, offset, bytes).
#: From Linux's Documentation/arch/{x86,arm64}/boot*.rst and libxenguest's
#: loaders.
KERNELS = (
    ('Linux bzImage', 0x202, b'HdrS'),
    ('ELF', 0, b'\x7fELF'),
    ('gzip', 0, b'\x1f\x8b'),
    ('Linux arm64 Image', 0x38, b'ARM\x64'),
)


def copy_kernel(
    cache: imagecache.ImageCache, context: nova_context.RequestContext,
    image_id: str, path: str,
) -> None:
    """Put an image's kernel in an instance's directory.

    :param cache: where it is fetched through
    :param context: of the request
    :param image_id: Glance's id of the kernel
    :param path: where to
    :raises nova.exception.ImageUnacceptable: it is no kernel
    """
    source = cache.fetch_file(context, image_id)
    with open(source, 'rb') as image:
        head = image.read(0x210)
    if not any(head[offset:offset + len(magic)] == magic
               for _name, offset, magic in KERNELS):
        raise exception.ImageUnacceptable(
            image_id=image_id,
            reason='it is no kernel that Xen can start; allowed: '
                   + ', '.join(name for name, _offset, _magic in KERNELS))
    _copy(source, path)


def copy_ramdisk(
    cache: imagecache.ImageCache, context: nova_context.RequestContext,
    image_id: str, path: str,
) -> None:
    """Put an image's initial ramdisk in an instance's directory.

    Parameters as :func:`copy_kernel`.
    """
    _copy(cache.fetch_file(context, image_id), path)


def _copy(source: str, path: str) -> None:
    layout.create_private(path)
    shutil.copyfile(source, path)
