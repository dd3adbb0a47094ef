# SPDX-License-Identifier: Apache-2.0
"""Files that exist only while a snapshot is taken.

They are beside the instances' directories, in ``snapshots/<host>``, so that
hosts that share a file system do not remove each other's. An operator can put
``snapshots`` on another file system.
"""

from __future__ import annotations

from collections.abc import Iterator
import os
import shutil

from oslo_utils import fileutils

from xen44_driver.storage import layout

#: Name of the directory beside those of the instances.
DIRECTORY = 'snapshots'

# What a qcow2 file has besides the data: a part for its tables, and some
# clusters at least.
_TABLES = 1024
_HEADERS = 2 * 1024 ** 2


class NoRoom(OSError):
    """A file system has less free space than an operation may need."""


class Scratch:
    """The file that a snapshot of one instance is written to.

    :param instances: the directory of all instances.
    :param host: name of this host.
    :param uuid: the instance's UUID.
    """

    def __init__(self, instances: str, host: str, uuid: str) -> None:
        self.directory = _directory(instances, host)
        self.path = os.path.join(self.directory, uuid)

    def create(self, size: int, need: int) -> None:
        """Make the file, empty and readable only by its owner.

        :param size: its apparent size, in bytes.
        :param need: the most bytes of data that it will hold.
        :raises NoRoom: the file system has less free space than that.
        """
        for path in (os.path.dirname(self.directory), self.directory):
            os.makedirs(path, mode=0o700, exist_ok=True)
        need += need // _TABLES + _HEADERS
        free = shutil.disk_usage(self.directory).free
        if free < need:
            raise NoRoom(
                f'the snapshot may need {need // 1024 ** 2} MiB, and '
                f'{self.directory} has {free // 1024 ** 2} MiB free')
        layout.create_private(self.path, size)

    def remove(self) -> None:
        """Remove the file; safe to repeat."""
        fileutils.delete_if_exists(self.path)


def leftovers(instances: str, host: str) -> Iterator[tuple[str, Scratch]]:
    """Yield each file that this host has, with its instance's UUID.

    :param instances: the directory of all instances.
    :param host: name of this host.
    """
    try:
        names = os.listdir(_directory(instances, host))
    except FileNotFoundError:
        return
    for name in names:
        yield name, Scratch(instances, host, name)


def _directory(instances: str, host: str) -> str:
    return os.path.join(instances, DIRECTORY, host)
