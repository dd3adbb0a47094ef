# SPDX-License-Identifier: Apache-2.0
"""How much space instances' disks take, and how much they may still take."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import tempfile

from oslo_concurrency import processutils
from oslo_log import log as logging

from xen44_driver.storage import header
from xen44_driver.storage import layout

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Space on the file system with the instances, in bytes.

    :ivar total: size of the file system.
    :ivar used: space that is used.
    :ivar free: space that is free.
    :ivar promised: space by which sparse disks may still grow.
    """

    total: int
    used: int
    free: int
    promised: int


def measure(instances: str) -> Usage:
    """Return how much space there is.

    :param instances: the directory of all instances.
    """
    total, used, free = shutil.disk_usage(instances)
    return Usage(total=total, used=used, free=free,
                 promised=_promised(instances))


def _promised(instances: str) -> int:
    """Return how many bytes the disks of all instances may still grow."""
    promised = 0
    for directory in os.scandir(instances):
        if not directory.is_dir(follow_symlinks=False):
            continue
        if directory.name.endswith(layout.BEFORE_RESIZE):
            # The disks that took their place may grow, at least as much.
            continue
        try:
            for entry in os.scandir(directory.path):
                if entry.name.startswith('disk.'):
                    promised += growth(entry.path)
        except OSError as error:
            # It was deleted meanwhile, or belongs to another user.
            LOG.debug('Not counting %(path)s: %(error)s',
                      {'path': directory.path, 'error': error})
    return promised


def growth(path: str, *, more_snapshots: int = 0) -> int:
    """Return how many bytes a disk may still grow.

    A guest can write all of its disk anew after each snapshot inside it.

    :param path: the disk.
    :param more_snapshots: number of snapshots that are to be made of it.
    :raises OSError: it cannot be read.
    """
    status = os.stat(path, follow_symlinks=False)
    size, snapshots = status.st_size, more_snapshots
    # The name decides, not the content, which a guest can write.
    if path.endswith('.qcow2'):
        found = header.read_qcow2(path)
        if found is not None:
            size = found.virtual_size or size
            snapshots += found.snapshots
    return max(0, min(size, (1 + snapshots) * size - status.st_blocks * 512))


def require(directory: str, size: int, what: str) -> None:
    """Refuse to write more than a file system has room for.

    :param directory: a directory of the file system.
    :param size: bytes to write.
    :param what: what is written, for the message.
    :raises OSError: there is too little space.
    """
    free = shutil.disk_usage(directory).free
    if size > free:
        raise OSError(
            errno.ENOSPC, f'{os.strerror(errno.ENOSPC)}: {what} needs {size} '
                          f'bytes, and {free} are free', directory)


def clone(source: str, target: str) -> None:
    """Copy a file as it is at one moment, without copying its blocks.

    The file may be written to meanwhile: the file system keeps writers out.

    :param source: the file.
    :param target: path of the copy, on the same file system.
    :raises oslo_concurrency.processutils.ProcessExecutionError: the file
        system cannot do it.
    """
    processutils.execute('cp', '--reflink=always', '--', source, target)


def shares_blocks(directory: str) -> bool:
    """Return whether a file system can copy a file without copying its blocks.

    :param directory: a directory of the file system.
    """
    with tempfile.TemporaryDirectory(dir=directory, prefix='.try-') as trial:
        original = os.path.join(trial, 'original')
        with open(original, 'wb') as file:
            file.write(bytes(4096))
        try:
            clone(original, os.path.join(trial, 'copy'))
        except processutils.ProcessExecutionError:
            return False
    return True
