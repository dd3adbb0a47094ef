# SPDX-License-Identifier: Apache-2.0
"""The operator's directory of images, as a source of the store of images."""

from __future__ import annotations

import os
import stat

from oslo_concurrency import processutils

from xen44_driver.storage import images
from xen44_driver.storage import kinds
from xen44_driver.xen import errors

#: Formats that a template may name.
FORMATS = ('raw', 'qcow2', 'vmdk', 'vdi', 'vhd', 'vhdx', 'iso')


class TemplateFile:
    """A file in the directory of images.

    A file that replaces another under the same name is another image: the
    disks that were made from the old one depend on that.

    :param directory: the directory.
    :param name: the file's name, which was checked.
    :param disk_format: its format if the template names one.
    :raises SpecError: there is no such file.
    :ivar id: names the file and what it was when it was looked at.
    """

    def __init__(
        self, directory: str, name: str, disk_format: str | None = None,
    ) -> None:
        self.path = os.path.join(directory, name)
        self._directory, self._name = directory, name
        self._format = disk_format
        try:
            # Not a link: an operator's mistake must not open other files.
            found = os.lstat(self.path)
        except OSError as error:
            raise errors.SpecError(
                'image', name, f'a file in {directory} '
                f'({error.strerror})') from error
        if not stat.S_ISREG(found.st_mode):
            raise errors.SpecError(
                'image', name, f'a regular file in {directory}')
        self._size = found.st_size
        self.id = f'{name}@{found.st_mtime_ns}-{found.st_size}'

    @property
    def disk_format(self) -> str | None:
        """See :class:`images.Source`."""
        return self._format

    @property
    def size(self) -> int | None:
        """See :class:`images.Source`."""
        return self._size

    @property
    def checksum(self) -> tuple[str, str] | None:
        """See :class:`images.Source`."""
        return None

    def fetch(self, path: str) -> None:
        """See :class:`images.Source`.

        :raises xen44_driver.storage.images.ImageRefused: the file changed
            meanwhile: the copy may be of neither the old nor the new one.
        """
        processutils.execute(
            'cp', '--reflink=auto', '--sparse=always', '--', self.path, path)
        if TemplateFile(self._directory, self._name).id != self.id:
            raise images.ImageRefused(
                self.id, 'its file changed while it was copied')


class GoneFile:
    """An image whose file the operator has removed or replaced.

    :ivar id: see :class:`TemplateFile`.
    """

    disk_format = size = checksum = None

    def __init__(self, image_id: str) -> None:
        self.id = image_id

    def fetch(self, path: str) -> None:
        """See :class:`images.Source`.

        :raises FileNotFoundError: always.
        """
        raise FileNotFoundError(
            f'the file {file_name(self.id)} is gone, or is another one')


def file_name(image_id: str) -> str:
    """Return the name of the file that an image came from."""
    return image_id.rpartition('@')[0]


def source_of(directory: str, image_id: str) -> images.Source:
    """Return the source of an image that a disk was made from.

    :param directory: the directory of images.
    :param image_id: the image's id.
    """
    try:
        found = TemplateFile(directory, file_name(image_id))
    except errors.SpecError:
        return GoneFile(image_id)
    return found if found.id == image_id else GoneFile(image_id)


def store(directory: str) -> images.ImageStore:
    """Return the store of images.

    :param directory: the directory of all VMs.
    """
    return images.ImageStore(
        os.path.join(directory, '_base'), instances=directory,
        lock_path=os.path.join(directory, 'locks'), convert=_convert,
        force_raw=lambda format: format != 'qcow2')


def _convert(image_id: str, source: str, target: str, format: str) -> None:
    processutils.execute(
        'qemu-img', 'convert', '-q', '-f', format, '-O', 'raw', source,
        target)


def base_of(image: images.Image) -> kinds.Base:
    """Return the record of an image that a disk is made from."""
    return kinds.Base(id=image.id, format=image.format, size=image.size,
                      virtual_size=image.virtual_size)


def ensure(
    where: images.ImageStore, directory: str, base: kinds.Base,
) -> None:
    """Check an image that a disk depends on.

    :param where: the store.
    :param directory: the directory of images.
    :param base: the image, as it was.
    :raises xen44_driver.storage.images.ImageMissing: it is missing or
        damaged.
    """
    where.ensure(source_of(directory, base.id), images.Image(
        id=base.id, path=where.path(base.id), format=base.format,
        size=base.size, virtual_size=base.virtual_size))
