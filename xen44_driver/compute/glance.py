# SPDX-License-Identifier: Apache-2.0
"""Connect the store of images with Glance and with Nova's image cache."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import io
import os
from typing import Any

from nova import conf
from nova import context as nova_context
from nova import exception
from nova import objects
from nova.compute import utils as compute_utils
from nova.image import glance
from nova.privsep import qemu
from nova.virt import imagecache
from nova.virt import images as nova_images
from oslo_utils import units

from xen44_driver.storage import images

CONF = conf.CONF

#: Bytes that are sent to Glance at a time.
UPLOAD_PART = 32 * units.Ki


class GlanceSource:
    """An image in Glance.

    Its metadata is asked of Glance when it is first needed, and only once.

    :param image: the image's id, or its metadata.
    :param trusted_certs: certificates that the user accepts for the image's
        signature.
    """

    def __init__(
        self, context: nova_context.RequestContext,
        image: str | objects.ImageMeta, *,
        trusted_certs: objects.TrustedCerts | None = None,
    ) -> None:
        self._context = context
        self._trusted_certs = trusted_certs
        self._recorded: dict[str, Any] | None = None
        self.id: str = image if isinstance(image, str) else image.id

    @property
    def disk_format(self) -> str | None:
        """See :class:`images.Source`."""
        return self._record().get('disk_format') or None

    @property
    def size(self) -> int | None:
        """See :class:`images.Source`."""
        # None if Glance does not know it; parts of Nova use 0 for that.
        return int(self._record().get('size') or 0) or None

    @property
    def checksum(self) -> tuple[str, str] | None:
        """See :class:`images.Source`."""
        recorded = self._record()
        # Nova puts attributes that it does not know into the properties.
        recorded = {**(recorded.get('properties') or {}), **recorded}
        if recorded.get('os_hash_algo') and recorded.get('os_hash_value'):
            return (str(recorded['os_hash_algo']),
                    str(recorded['os_hash_value']))
        if recorded.get('checksum'):
            return 'md5', str(recorded['checksum'])
        return None

    @property
    def kernel(self) -> tuple[str | None, str | None]:
        """Ids of the images with its kernel and initial ramdisk, or None."""
        named = self._record().get('properties') or {}
        kernel_id = named.get('kernel_id') or None
        if kernel_id == 'nokernel':
            # Nova's word for an image that has none.
            return None, None
        return kernel_id, named.get('ramdisk_id') or None

    def check(self) -> None:
        """Check that the image is there, and that the user may read it.

        :raises nova.exception.ImageNotFound: it is not.
        """
        self._record()

    def fetch(self, path: str) -> None:
        """See :class:`images.Source`.

        :raises nova.exception.NovaException: the download failed, or the
            image's signature is not valid.
        """
        # glanceclient verifies the checksum of what it reads.
        nova_images.fetch(self._context, self.id, path, self._trusted_certs)

    def _record(self) -> dict[str, Any]:
        if self._recorded is None:
            self._recorded = glance.API().get(self._context, self.id)
        return self._recorded


class ImageCache(imagecache.ImageCacheManager):
    """The store of images as Nova's image cache.

    :ivar store: the store of images.
    """

    def __init__(self) -> None:
        super().__init__()
        self.store = images.ImageStore(
            lambda: os.path.join(
                CONF.instances_path, CONF.image_cache.subdirectory_name),
            instances=lambda: CONF.instances_path,
            lock_path=lambda: os.path.join(CONF.instances_path, 'locks'),
            convert=convert_to_raw,
            force_raw=lambda _: CONF.force_raw_images,
            deep_inspection=lambda: not (
                CONF.workarounds.disable_deep_image_inspection))

    def cache(
        self, context: nova_context.RequestContext, image_id: str,
    ) -> bool:
        """Fetch a disk image into the store in advance.

        :param image_id: Glance's id of the image.
        :returns: True if the image was not in the store before.
        :raises nova.exception.NovaException: the image cannot be fetched.
        """
        missing = not self.store.holds(image_id)
        with translated():
            self.store.disk(GlanceSource(context, image_id), limit=None)
        return missing

    def update(
        self, context: nova_context.RequestContext,
        all_instances: objects.InstanceList,
    ) -> None:
        """Remove images that have long been unused (a periodic task).

        :param all_instances: every instance whose disks may be on this host.
        """
        used = self._list_running_instances(
            context, all_instances)['used_images']
        self.store.age(
            used,
            CONF.image_cache.remove_unused_original_minimum_age_seconds,
            remove=self.remove_unused_base_images)

    def get_disk_usage(self) -> int:
        """Return the bytes that images take on the instances' file system.

        :returns: 0 if the images are on another file system.
        """
        try:
            if (os.stat(CONF.instances_path).st_dev
                    != os.stat(self.store.directory).st_dev):
                return 0
        except FileNotFoundError:
            # The directory is made with the first image.
            return 0
        return self.store.usage()


class _Parts(io.BufferedReader):
    """A file that is read in small parts.

    glanceclient sends each part as a chunk of HTTP, and asks for 64 KiB. The
    HTTP server of uwsgi, which may serve Glance, refuses chunks that large:
    "unable to receive chunked part".
    """

    def read(self, size: int | None = -1) -> bytes:
        """Read all, or at most a part."""
        whole = size is None or size < 0
        return super().read(size if whole else min(size or 0, UPLOAD_PART))


def upload(
    context: nova_context.RequestContext, image_id: str, path: str,
    metadata: dict[str, Any],
) -> None:
    """Send a file to Glance as the content of an image.

    :param image_id: an image that has no content yet.
    :param path: path of the file.
    :param metadata: further metadata of the image; its other properties are
        kept.
    :raises nova.exception.ImageNotFound: the image was deleted meanwhile.
    """
    with _Parts(io.FileIO(path)) as file:
        glance.API().update(context, image_id, metadata, file,
                            purge_props=False)


def min_disk(context: nova_context.RequestContext, image_id: str) -> int:
    """Return the size of a disk that an image needs, in GiB.

    :raises nova.exception.ImageNotFound: there is no such image.
    """
    return int(glance.API().get(context, image_id).get('min_disk') or 0)


def convert_to_raw(
    image_id: str, source: str, target: str, format: str,
) -> None:
    """Convert an image to raw, within ``max_concurrent_disk_ops``.

    :param image_id: the image's id.
    :param source: the file to read.
    :param target: the file to write.
    :param format: QEMU's name of the source's format.
    :raises nova.exception.ImageUnacceptable: the image is a VMDK of a kind
        that ``[compute] vmdk_allowed_types`` does not list.
    :raises oslo_concurrency.processutils.ProcessExecutionError: qemu-img
        failed.
    """
    if format == 'vmdk':
        nova_images.check_vmdk_image(
            image_id, nova_images.qemu_img_info(source, format))
    with compute_utils.disk_ops_semaphore:
        qemu.unprivileged_convert_image(
            source, target, format, 'raw', CONF.instances_path, False)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Translate the exceptions of the store of images into Nova's.

    :raises nova.exception.FlavorDiskSmallerThanImage: the disk in the image
        is too large.
    :raises nova.exception.ImageUnacceptable: the image cannot be used.
    :raises nova.exception.ImageNotFound: the base of a disk is missing or
        damaged, and cannot be fetched again; the message names the file.
    """
    try:
        yield
    except images.ImageTooLarge as error:
        raise exception.FlavorDiskSmallerThanImage(
            flavor_size=error.limit, image_size=error.virtual_size
        ) from error
    except images.ImageRefused as error:
        raise exception.ImageUnacceptable(
            image_id=error.image_id, reason=error.reason) from error
    except images.ImageMissing as error:
        raise exception.ImageNotFound(str(error)) from error
