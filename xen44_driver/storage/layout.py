# SPDX-License-Identifier: Apache-2.0
"""The paths of an instance's files."""

from __future__ import annotations

import os
import shutil

from oslo_log import log as logging

from xen44_driver import faultpoints

LOG = logging.getLogger(__name__)


class InstanceFiles:
    """The directory of one instance, ``<instances>/<uuid>``.

    :param instances: the directory of all instances.
    :param uuid: the instance's UUID.
    """

    def __init__(self, instances: str, uuid: str) -> None:
        self.directory = os.path.join(instances, uuid)
        self.kernel = self.path('kernel')
        self.ramdisk = self.path('ramdisk')
        #: Output of the emulated serial port.
        self.serial_log = self.path('console.log')
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
        """Remove the directory and all files in it.

        The directory is renamed first, so that a partly deleted one is never
        taken for an instance. A later call completes an interrupted one.

        :returns: whether everything was removed.
        """
        doomed = f'{self.directory}_del'
        if os.path.isdir(self.directory):
            # The rest of an interrupted call would prevent the renaming.
            shutil.rmtree(doomed, ignore_errors=True)
            os.rename(self.directory, doomed)
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
