# SPDX-License-Identifier: Apache-2.0
"""The paths of an instance's files."""

from __future__ import annotations

import errno
import os
import shutil

from oslo_log import log as logging
from oslo_utils import fileutils

from xen44_driver import faultpoints

LOG = logging.getLogger(__name__)


#: Added to the name of an instance's directory from before a resize.
BEFORE_RESIZE = '_resize'
#: Part of the names of all files of a rescue.
RESCUE = '.rescue'


class InstanceFiles:
    """The directory of one instance, ``<instances>/<uuid>``.

    While an instance is resized, ``<uuid>_resize`` is its directory from
    before, and ``<uuid>_part`` the new one until it is complete. So either
    ``<uuid>`` is complete, or it does not exist.

    :param instances: the directory of all instances.
    :param uuid: the instance's UUID.
    """

    def __init__(self, instances: str, uuid: str) -> None:
        self.directory = os.path.join(instances, uuid)
        #: The directory from before a resize.
        self.before_resize = f'{self.directory}{BEFORE_RESIZE}'
        #: The directory that is being made for a resize.
        self.part = f'{self.directory}_part'
        self.kernel = self.path('kernel')
        self.ramdisk = self.path('ramdisk')
        self.rescue_kernel = self.path(f'kernel{RESCUE}')
        self.rescue_ramdisk = self.path(f'ramdisk{RESCUE}')
        #: Output of the emulated serial port.
        self.serial_log = self.path('console.log')
        #: A copy of the root disk that shares its blocks, for a snapshot.
        self.clone = self.path('clone')
        #: Marks a guest whose file systems may be frozen.
        self.frozen = self.path('frozen')

    def path(self, name: str) -> str:
        """Return the path of a file of the instance."""
        return os.path.join(self.directory, name)

    def names(self) -> list[str]:
        """Return the names of the files in the directory."""
        try:
            return os.listdir(self.directory)
        except FileNotFoundError:
            return []

    def exist(self) -> bool:
        """Return whether the directory exists and can be written."""
        return os.access(self.directory, os.W_OK | os.X_OK)

    def create(self) -> None:
        """Make the directory, readable only by its owner."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)

    def delete(self) -> bool:
        """Remove all directories of the instance; safe to repeat.

        :returns: whether everything was removed.
        """
        removed = [_remove(path) for path in (
            self.directory, self.part, self.before_resize)]
        return all(removed)

    def delete_rescue(self) -> None:
        """Remove the files of a rescue; safe to repeat."""
        for name in self.names():
            if RESCUE in name:
                fileutils.delete_if_exists(self.path(name))

    # A resize

    def set_aside(self) -> None:
        """Make the directory the one from before a resize."""
        os.rename(self.directory, self.before_resize)

    def create_part(self) -> None:
        """Make an empty directory for the files after a resize."""
        shutil.rmtree(self.part, ignore_errors=True)
        os.mkdir(self.part, mode=0o700)

    def complete(self) -> None:
        """Make the directory that was made for a resize the instance's."""
        os.rename(self.part, self.directory)

    def was_set_aside(self) -> bool:
        """Return whether there is a directory from before a resize."""
        return os.path.isdir(self.before_resize)

    def bring_back(self) -> None:
        """Put the directory from before a resize back.

        :raises OSError: the directory from after it cannot be removed.
        """
        _must_remove(self.part)
        _must_remove(self.directory)
        os.rename(self.before_resize, self.directory)

    def forget_before_resize(self) -> None:
        """Remove the directory from before a resize; safe to repeat.

        :raises OSError: it cannot be removed.
        """
        _must_remove(self.before_resize)


def _must_remove(directory: str) -> None:
    """Remove a directory.

    :raises OSError: something of it is left.
    """
    if not _remove(directory):
        raise OSError(
            errno.EIO, 'it cannot be removed, see the log', directory)


def _remove(directory: str) -> bool:
    """Remove a directory and all files in it.

    The directory is renamed first, so that a partly deleted one is never taken
    for an instance. A later call completes an interrupted one.

    :returns: whether everything was removed.
    """
    doomed = f'{directory}_del'
    if os.path.isdir(directory):
        # The rest of an interrupted call would prevent the renaming.
        shutil.rmtree(doomed, ignore_errors=True)
        os.rename(directory, doomed)
        faultpoints.reached('files: put aside')
    try:
        shutil.rmtree(doomed)
    except FileNotFoundError:
        return True
    except OSError as error:
        LOG.error('Cannot remove %(path)s: %(error)s',
                  {'path': doomed, 'error': error})
        return False
    return True


def create_private(path: str, size: int = 0) -> None:
    """Make an empty, sparse file that only its owner and root can read.

    :param path: path of the file; an existing one is emptied.
    :param size: apparent size, in bytes.
    """
    descriptor = os.open(
        path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, 'wb') as out:
        out.truncate(size)
