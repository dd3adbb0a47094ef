# SPDX-License-Identifier: Apache-2.0
"""Kernels and initial ramdisks that are images of their own.

They are copied to the instance's directory, because Xen reads them at each
start and the image may have been removed by then. Only the beginning of a
kernel is checked here. libxenguest unpacks the kernel in dom0 and limits its
unpacked size. The operator decides whether images may have kernels at all.
"""

from __future__ import annotations

import os
import shutil

from oslo_utils import fileutils

from xen44_driver.storage import images
from xen44_driver.storage import layout

#: Signatures of kernels that Xen can start: (name, offset, bytes).
#: From Linux's Documentation/arch/{x86,arm64}/boot*.rst, its
#: arch/arm/boot/compressed/head.S, and libxenguest's loaders.
KERNELS = (
    ('Linux bzImage', 0x202, b'HdrS'),
    ('ELF', 0, b'\x7fELF'),
    ('gzip', 0, b'\x1f\x8b'),
    ('Linux arm64 Image', 0x38, b'ARM\x64'),
    ('Linux arm zImage', 0x24, b'\x18\x28\x6f\x01'),
)


def check_kernel(head: bytes) -> str | None:
    """Return why a file is not a kernel, or None if it is one.

    :param head: the beginning of the file, 1 KiB or more if it is that long.
    """
    if any(head[offset:offset + len(magic)] == magic
           for _name, offset, magic in KERNELS):
        return None
    return ('it is not a kernel that Xen can start; allowed: '
            + ', '.join(name for name, _offset, _magic in KERNELS))


def check_ramdisk(head: bytes) -> str | None:
    """Return None: any file is accepted, as the kernel defines the format."""
    return None


def copy_kernel(
    store: images.ImageStore, source: images.Source, path: str,
) -> None:
    """Copy a kernel to an instance's directory.

    :param store: the store that fetches the image.
    :param source: the image, which is a kernel.
    :param path: path of the copy.
    :raises images.ImageRefused: the image is not a kernel, or too large.
    """
    _copy(store.file(source, check_kernel), path)


def copy_ramdisk(
    store: images.ImageStore, source: images.Source, path: str,
) -> None:
    """Copy an initial ramdisk to an instance's directory.

    The parameters are those of :func:`copy_kernel`.
    """
    _copy(store.file(source, check_ramdisk), path)


def _copy(source: str, path: str) -> None:
    layout.create_private(path)
    with fileutils.remove_path_on_error(path):
        shutil.copyfile(source, path)
        with open(path, 'rb') as file:
            os.fsync(file.fileno())
