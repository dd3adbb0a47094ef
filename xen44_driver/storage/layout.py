# SPDX-License-Identifier: Apache-2.0
"""Where an instance's files are."""

from collections.abc import Iterable
import os
import shutil

from nova import conf
from oslo_log import log as logging

CONF = conf.CONF
LOG = logging.getLogger(__name__)


class InstanceFiles:
    """The directory of one instance, ``<instances_path>/<uuid>``.

    :param uuid: the instance's UUID
    """

    def __init__(self, uuid: str) -> None:
        self.directory = os.path.join(CONF.instances_path, uuid)
        self.swap = self._path('disk.swap')
        self.config_drive = self._path('disk.config')
        self.kernel = self._path('kernel')
        self.ramdisk = self._path('ramdisk')
        #: What an HVM guest writes to its serial port.
        self.serial_log = self._path('console.log')

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def root(self, format: str) -> str:
        """Path of the root disk, stored in that format.

        The name tells the format: a file with a guest's data must never be
        probed for it, as the guest decides what is in a raw one.
        """
        return self._path(f'disk.{format}')

    def root_format(self, formats: Iterable[str]) -> str | None:
        """Format of the root disk that is there.

        :param formats: those that are possible
        :returns: one of them, or None where there is no root disk
        """
        for name in formats:
            if os.path.exists(self.root(name)):
                return name
        return None

    def ephemeral(self, index: int) -> str:
        """Path of the ephemeral disk ``index``, counted from 0."""
        return self._path(f'disk.eph{index}')

    def exist(self) -> bool:
        """Whether the directory is there and ours to write."""
        return os.access(self.directory, os.W_OK | os.X_OK)

    def create(self) -> None:
        """Make the directory, for our eyes only: it holds guests' data."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)

    def delete(self) -> bool:
        """Remove everything.

        The directory is renamed first: nothing half deleted is ever taken
        for an instance, and a later call ends what was interrupted.

        :returns: whether nothing is left
        """
        doomed = f'{self.directory}_del'
        if os.path.isdir(self.directory):
            # What an interrupted delete left would be in the way.
            shutil.rmtree(doomed, ignore_errors=True)
            os.rename(self.directory, doomed)
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
    """Make an empty, sparse file that only we (and root) can read.

    :param path: where; a file already there is emptied
    :param size: bytes it seems to have
    """
    descriptor = os.open(
        path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, 'wb') as out:
        out.truncate(size)
