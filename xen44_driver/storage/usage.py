# SPDX-License-Identifier: Apache-2.0
"""How much room instances' disks have and may still ask for."""

import dataclasses
import os
import shutil

from nova import conf
from oslo_log import log as logging

from xen44_driver.storage import header

CONF = conf.CONF
LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Of the file system with the instances, in bytes.

    :ivar total: its size
    :ivar used: what is taken
    :ivar free: what is not
    :ivar promised: what sparse disks may still grow by
    """

    total: int
    used: int
    free: int
    promised: int


def measure() -> Usage:
    """Look at ``instances_path``."""
    total, used, free = shutil.disk_usage(CONF.instances_path)
    return Usage(total=total, used=used, free=free, promised=_promised())


def _promised() -> int:
    """What the disks of all instances may still grow by."""
    promised = 0
    path: str = CONF.instances_path
    for directory in os.scandir(path):
        if not directory.is_dir(follow_symlinks=False):
            continue
        try:
            for entry in os.scandir(directory.path):
                if entry.name.startswith('disk.'):
                    promised += _growth(entry)
        except OSError as error:
            # Deleted while we looked, or not ours.
            LOG.debug('Not counting %(path)s: %(error)s',
                      {'path': directory.path, 'error': error})
    return promised


def _growth(entry: os.DirEntry[str]) -> int:
    status = entry.stat(follow_symlinks=False)
    size = status.st_size
    # By its name: a guest decides what a raw disk begins with.
    if entry.name.endswith('.qcow2'):
        size = header.virtual_size(entry.path) or size
    return max(0, size - status.st_blocks * 512)
