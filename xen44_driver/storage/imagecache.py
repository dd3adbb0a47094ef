# SPDX-License-Identifier: Apache-2.0
"""Glance's images on this host, each downloaded and checked once.

An image is kept as ``<instances_path>/_base/<sha1 of its id>``, as Nova's
other drivers name it. Root disks are overlays on it or copies of it. Nova's
periodic task tells which images instances use; others are removed when they
are old enough (``[image_cache]``).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
import dataclasses
import hashlib
import math
import os
import time

from nova import conf
from nova import context as nova_context
from nova import exception
from nova import objects
from nova.virt import imagecache
from nova.virt import images
from oslo_concurrency import lockutils
from oslo_log import log as logging
from oslo_utils import fileutils

from xen44_driver.storage import header

CONF = conf.CONF
LOG = logging.getLogger(__name__)

#: Formats a guest's disk can be an overlay on or a copy of.
FORMATS = ('raw', 'qcow2')


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CachedImage:
    """A disk image in the cache.

    :ivar path: its file
    :ivar format: ``raw`` or ``qcow2``
    :ivar virtual_size: bytes of the disk in it
    """

    path: str
    format: str
    virtual_size: int


class ImageCache(imagecache.ImageCacheManager):
    """Fetches images and removes those nobody uses."""

    @property
    def directory(self) -> str:
        """Where images are kept."""
        return os.path.join(
            CONF.instances_path, CONF.image_cache.subdirectory_name)

    def path(self, image_id: str) -> str:
        """The file of an image, whether it is there or not."""
        return os.path.join(self.directory, _file_name(image_id))

    def fetch_disk(
        self, context: nova_context.RequestContext, image_id: str,
    ) -> CachedImage:
        """Bring a disk image here, unless it is here.

        Nova's own code downloads and inspects it: an image that names
        other files of the host, or is not the format it claims, is
        refused. It is made raw where ``force_raw_images`` says so.

        :param context: of the request that needs it
        :param image_id: Glance's id
        :raises nova.exception.ImageUnacceptable: refused
        """
        self._fetch(context, image_id, _fetch_disk)
        path = self.path(image_id)
        size = header.virtual_size(path)
        if size is not None:
            return CachedImage(path=path, format='qcow2', virtual_size=size)
        # A disk is whole sectors.
        sectors = math.ceil(os.path.getsize(path) / 512)
        return CachedImage(
            path=path, format='raw', virtual_size=sectors * 512)

    def fetch_file(
        self, context: nova_context.RequestContext, image_id: str,
    ) -> str:
        """Bring an image that is no disk (a kernel) here as it is.

        :returns: its path
        """
        self._fetch(context, image_id, images.fetch)
        return self.path(image_id)

    def cache(
        self, context: nova_context.RequestContext, image_id: str,
    ) -> bool:
        """Have a disk image here before anybody asks (Nova's image cache).

        :returns: whether it had to be downloaded
        """
        return self._fetch(context, image_id, _fetch_disk)

    def _fetch(
        self, context: nova_context.RequestContext, image_id: str,
        fetch: Callable[[nova_context.RequestContext, str, str], None],
    ) -> bool:
        path = self.path(image_id)
        if _touch(path):
            return False
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        with self._locked(path):
            if _touch(path):
                return False
            LOG.info('Downloading image %s', image_id)
            started = time.monotonic()
            # The name appears when the file is whole and was checked.
            partial = f'{path}.new'
            with fileutils.remove_path_on_error(partial):
                fetch(context, image_id, partial)
                os.chmod(partial, 0o600)
                os.rename(partial, path)
            LOG.info('Downloaded image %(image)s in %(seconds).1f s',
                     {'image': image_id,
                      'seconds': time.monotonic() - started})
        return True

    def _locked(self, path: str) -> AbstractContextManager[object]:
        """Exclude other processes from one image, and from it only."""
        lock: AbstractContextManager[object] = lockutils.lock(
            os.path.basename(path), lock_file_prefix='nova-', external=True,
            lock_path=os.path.join(CONF.instances_path, 'locks'))
        return lock

    def update(
        self, context: nova_context.RequestContext,
        all_instances: objects.InstanceList,
    ) -> None:
        """Remove images no instance used for long (Nova's periodic task).

        :param context: an admin's
        :param all_instances: every instance whose disks may be here
        """
        if not os.path.isdir(self.directory):
            return
        used = {
            _file_name(image_id) for image_id in
            self._list_running_instances(context, all_instances)[
                'used_images']}
        limit = CONF.image_cache.remove_unused_original_minimum_age_seconds
        for entry in os.scandir(self.directory):
            if not entry.is_file(follow_symlinks=False):
                continue
            if entry.name in used:
                _touch(entry.path)
            elif self.remove_unused_base_images:
                self._remove_if_old(entry.path, limit)

    def _remove_if_old(self, path: str, limit: int) -> None:
        if _age(path) < limit:
            return
        with self._locked(path):
            # Somebody may have begun to use it while we waited.
            if _age(path) >= limit:
                LOG.info('Removing unused image %s', path)
                fileutils.delete_if_exists(path)

    def get_disk_usage(self) -> int:
        """Bytes the cache takes of ``instances_path``'s file system."""
        try:
            if (os.stat(CONF.instances_path).st_dev
                    != os.stat(self.directory).st_dev):
                return 0
            return sum(entry.stat().st_blocks * 512
                       for entry in os.scandir(self.directory)
                       if entry.is_file(follow_symlinks=False))
        except FileNotFoundError:
            # No image yet, or one was removed while we looked.
            return 0


def _fetch_disk(
    context: nova_context.RequestContext, image_id: str, path: str,
) -> None:
    """Download a disk image and see that a guest can use it.

    Nova makes sure that it is what it claims to be; so no raw image begins
    as a qcow2 does, and from here on that tells them apart.
    """
    images.fetch_to_raw(context, image_id, path)
    with fileutils.remove_path_on_error(path):
        found = images.qemu_img_info(path).file_format
        if found not in FORMATS:
            raise exception.ImageUnacceptable(
                image_id=image_id,
                reason=f'its format is {found}; a guest can use '
                       f'{" and ".join(FORMATS)} (force_raw_images=True has '
                       'others converted)')


def _file_name(image_id: str) -> str:
    return hashlib.sha1(
        image_id.encode(), usedforsecurity=False).hexdigest()


def _touch(path: str) -> bool:
    """Say that a file is in use; whether there is one."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _age(path: str) -> float:
    """Seconds since a file was used last; 0 for one that is gone."""
    try:
        return time.time() - os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0
