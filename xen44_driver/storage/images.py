# SPDX-License-Identifier: Apache-2.0
"""The store of images on this host; images are inspected at each use.

A disk image is the file ``<directory>/<sha1 of its id>``, the name that Nova's
other drivers use. Root disks are overlays on it or copies of it. The record
``<sha1>.json`` beside it states what the file was when it was stored. An image
that is not a disk (a kernel, a ramdisk) is the file ``<sha1>.file``: it was
not inspected as a disk, and no disk is ever made of a file with that name.

A file gets its name when it was inspected and all of it is on the host's disk.
Until then it is named ``<sha1>.part``. It is removed if it is refused or if an
error occurs.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
import contextlib
import dataclasses
import errno
import hashlib
import os
import re
import shutil
import time
from typing import Any
from typing import Protocol

from oslo_concurrency import lockutils
from oslo_concurrency import processutils
from oslo_log import log as logging
from oslo_serialization import jsonutils
from oslo_utils import fileutils
from oslo_utils import units

from xen44_driver.storage import header

LOG = logging.getLogger(__name__)

#: Bytes of the largest kernel or ramdisk. Xen's toolstack reads the whole file
#: into dom0's memory at each start. Distributions' ramdisks are smaller than
#: 200 MiB.
MAX_FILE = 512 * units.Mi

#: Formats that can be converted to raw: Glance's name of each, which is also
#: ours, and QEMU's.
CONVERTIBLE = {
    'qcow2': 'qcow2', 'vmdk': 'vmdk', 'vdi': 'vdi', 'vhd': 'vpc',
    'vhdx': 'vhdx'}

#: The content that an image may have, by its format in the image service. For
#: formats that are not listed, the content must have that very format.
_MATCHING = {
    'raw': ('raw', 'gpt'),
    'ami': ('raw', 'gpt'),
}

#: The content that an image may have after conversion to raw. It is opened as
#: raw in any case; its format is never probed.
_RAW = ('raw', 'gpt', 'iso')

_RECORD_VERSION = 1

#: Names of the store's files. Other files in the directory are left alone.
_OURS = re.compile(r'(?P<stem>[0-9a-f]{40})(\.[a-z.]+)?')


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A disk image in the store.

    :ivar id: the image's id in the image service.
    :ivar path: path of its file.
    :ivar format: ``raw``, ``qcow2`` or ``iso``.
    :ivar virtual_size: bytes of the disk in it, whole sectors.
    :ivar size: bytes of the file.
    """

    id: str
    path: str
    format: str
    virtual_size: int
    size: int


class Source(Protocol):
    """An image in the image service."""

    @property
    def id(self) -> str:
        """The image's id in the image service."""

    @property
    def disk_format(self) -> str | None:
        """The image's format in the image service, or None."""

    @property
    def size(self) -> int | None:
        """The image's size in the image service in bytes, or None."""

    @property
    def checksum(self) -> tuple[str, str] | None:
        """Algorithm and value of the image's checksum, or None."""

    def fetch(self, path: str) -> None:
        """Download the image without converting it.

        :param path: path of an empty file to write to.
        """


#: Converts an image to raw: ``convert(image_id, source, target, format)``,
#: with QEMU's name of the source's format. The target exists and is empty.
Convert = Callable[[str, str, str, str], None]

#: A value, or a function that returns it when it is needed.
Text = Callable[[], str] | str


class ImageRefused(Exception):
    """An image cannot be used.

    :ivar image_id: the image's id.
    :ivar reason: why, as the end of a sentence about the image.
    """

    def __init__(self, image_id: str, reason: str) -> None:
        super().__init__(f'image {image_id} cannot be used: {reason}')
        self.image_id = image_id
        self.reason = reason


class ImageTooLarge(ImageRefused):
    """The disk in an image is larger than the disk it is for.

    :ivar virtual_size: bytes of the disk in the image.
    :ivar limit: bytes that are allowed.
    """

    def __init__(self, image_id: str, virtual_size: int, limit: int) -> None:
        super().__init__(
            image_id, f'the disk in it has {virtual_size} bytes; allowed: '
                      f'{limit}')
        self.virtual_size = virtual_size
        self.limit = limit


class ImageMissing(Exception):
    """A disk's base is missing or damaged, and cannot be fetched again.

    :ivar image_id: the image's id.
    :ivar path: path of the base.
    """

    def __init__(
        self, image_id: str, path: str, problem: str, reason: str,
    ) -> None:
        super().__init__(
            f'{path}, which the disk lies on, {problem}, and image '
            f'{image_id} cannot be fetched again: {reason}')
        self.image_id = image_id
        self.path = path


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What a file in the store was when it was stored.

    :ivar id: the image's id.
    :ivar format: see :class:`Image`; ``file`` if it is not a disk.
    :ivar virtual_size: see :class:`Image`.
    :ivar size: bytes of the file.
    :ivar head: SHA-256 of the first :data:`header.HEAD` bytes.
    :ivar checksum: algorithm and value of the image service's checksum. It is
        of the downloaded file, which may have been converted since.
    """

    id: str
    format: str
    virtual_size: int
    size: int
    head: str
    checksum: tuple[str, str] | None

    def problem(self, path: str) -> str | None:
        """Return how a file visibly differs from this record.

        :param path: the file.
        :returns: the difference, as the end of a sentence about the file, or
            None.
        :raises OSError: the file cannot be read.
        """
        size = os.path.getsize(path)
        if size != self.size:
            return f'has {size} bytes instead of {self.size}'
        if _digest(_head(path)) != self.head:
            return 'does not begin as it did when it came'
        return None

    def to_json(self) -> bytes:
        values = {'version': _RECORD_VERSION, **dataclasses.asdict(self)}
        return bytes(jsonutils.dump_as_bytes(values, sort_keys=True))

    @classmethod
    def from_json(cls, text: bytes) -> _Record | None:
        """Read a record.

        :returns: None if it is damaged or has an unknown version.
        """
        try:
            values: Any = jsonutils.loads(text)
            if values.pop('version') != _RECORD_VERSION:
                return None
            checksum = values.pop('checksum')
            return cls(checksum=tuple(checksum) if checksum else None,
                       **values)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


@dataclasses.dataclass(frozen=True, slots=True)
class _Slot:
    """The paths of an image's files.

    :ivar path: path of the image itself.
    """

    path: str

    @property
    def record(self) -> str:
        return f'{self.path}.json'

    @property
    def part(self) -> str:
        """Path of the image while it is downloaded."""
        return f'{self.path}.part'

    @property
    def converted(self) -> str:
        """Path of the image while it is converted."""
        return f'{self.path}.raw.part'

    def clear(self) -> None:
        """Remove the files that an interrupted download left."""
        for path in (self.part, self.converted):
            fileutils.delete_if_exists(path)

    def remove(self) -> None:
        """Remove the image and its record."""
        # In this order, as a record without a file does no harm.
        fileutils.delete_if_exists(self.path)
        fileutils.delete_if_exists(self.record)

    def read_record(self) -> _Record | None:
        try:
            with open(self.record, 'rb') as file:
                return _Record.from_json(file.read(header.HEAD))
        except FileNotFoundError:
            return None


class ImageStore:
    """The images in one directory of this host.

    :param directory: the directory.
    :param instances: the directory of all instances. ``*.qcow2`` in their own
        directories are overlays on images.
    :param lock_path: directory of the locks between processes.
    :param convert: converts an image to raw.
    :param force_raw: takes the format of an image, of :data:`CONVERTIBLE`, and
        returns whether it is converted to raw when it is stored.
    :param deep_inspection: whether to enforce the safety checks of oslo.utils
        and the format in the image service. A qcow2 image that names other
        files is always refused.
    """

    def __init__(
        self, directory: Text, *, instances: Text, lock_path: Text,
        convert: Convert, force_raw: Callable[[str], bool],
        deep_inspection: Callable[[], bool] = lambda: True,
    ) -> None:
        self._directory = directory
        self._instances = instances
        self._lock_path = lock_path
        self._convert = convert
        self._force_raw = force_raw
        self._deep_inspection = deep_inspection

    @property
    def directory(self) -> str:
        """Path of the directory with the images."""
        return _text(self._directory)

    def path(self, image_id: str) -> str:
        """Return the path of a disk image, which need not exist."""
        return os.path.join(self.directory, _stem(image_id))

    def holds(self, image_id: str) -> bool:
        """Return whether a disk image exists, in whatever state."""
        return os.path.lexists(self.path(image_id))

    def disk(self, source: Source, *, limit: int | None) -> Image:
        """Return an image to make a disk of; fetch it if necessary.

        It is fetched if it is missing or differs from its record. An image
        that an older version of this driver stored without a record is
        inspected like a new one.

        :param source: the image.
        :param limit: the largest size in bytes of the disk in it; None for
            any. Not applied to an ISO image, which is not copied to the disk.
        :raises ImageRefused: the image cannot be used; it is not kept.
        :raises OSError: such as too little space; nothing is kept.
        """
        slot = _Slot(self.path(source.id))
        with self._locked(slot):
            found = self._look(slot, source)
            if isinstance(found, str):
                self._warn_of_damage(slot, found)
                return self._bring(slot, source, limit=limit)
            _check_limit(found, limit)
            os.utime(slot.path)
            return found

    def ensure(self, source: Source, recorded: Image) -> Image:
        """Check the base of an existing disk; fetch it again if necessary.

        It is fetched again if it is missing or damaged.

        :param source: the image, which the image service may no longer have.
        :param recorded: the image that the disk was made of.
        :raises ImageMissing: the base is missing or damaged, and cannot be
            fetched again.
        """
        slot = _Slot(self.path(source.id))
        with self._locked(slot):
            found = self._look(slot, source)
            if isinstance(found, Image):
                problem = _difference(found, recorded)
                if problem is None:
                    os.utime(slot.path)
                    return found
                found = problem
            self._warn_of_damage(slot, found)
            try:
                return self._bring(
                    slot, source, limit=None, expected=recorded)
            except Exception as error:
                # The image service's client may raise anything.
                raise ImageMissing(
                    source.id, slot.path, found, str(error)) from error

    def file(
        self, source: Source, check: Callable[[bytes], str | None], *,
        limit: int = MAX_FILE,
    ) -> str:
        """Return the path of a kernel or ramdisk; fetch it if necessary.

        :param source: the image.
        :param check: takes the beginning of the file, and returns why the file
            cannot be used, or None; called at each use.
        :param limit: the largest size of the file, in bytes.
        :returns: its path; never the path of a disk image.
        :raises ImageRefused: the image cannot be used; it is not kept.
        :raises OSError: such as too little space; nothing is kept.
        """
        slot = _Slot(f'{self.path(source.id)}.file')
        with self._locked(slot):
            problem = self._file_problem(slot)
            if problem is None:
                reason = check(_head(slot.path))
                if reason is not None:
                    raise ImageRefused(source.id, reason)
                os.utime(slot.path)
            else:
                self._warn_of_damage(slot, problem)
                self._bring_file(slot, source, check, limit)
            return slot.path

    def age(
        self, used: Collection[str], minimum_age: float, *, remove: bool,
    ) -> None:
        """Remove images that have long been unused.

        An image is also in use if an overlay on this host needs it, even if
        no instance of Nova does.

        :param used: ids of images in use.
        :param minimum_age: seconds since the last use after which an image
            is removed.
        :param remove: False to only record the time of use of those in use.
        """
        images = self._entries()
        stems = {_stem(image_id) for image_id in used}
        try:
            stems.update(self._overlays())
        except OSError as error:
            LOG.warning('No image is removed, as it cannot be seen which '
                        'are in use: %s', error)
            remove = False
        for stem, paths in images.items():
            if stem in stems:
                for path in paths:
                    with contextlib.suppress(FileNotFoundError):
                        os.utime(path)
            elif remove:
                self._remove_if_old(stem, paths, minimum_age)

    def usage(self) -> int:
        """Return the bytes that the images take on their file system."""
        taken = 0
        for paths in self._entries().values():
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    taken += os.stat(path).st_blocks * 512
        return taken

    # Check what is stored

    def _look(self, slot: _Slot, source: Source) -> Image | str:
        """Inspect a disk image, which may not exist.

        :returns: the image, or what is wrong with its file.
        """
        try:
            content = header.examine(slot.path)
            size = os.path.getsize(slot.path)
        except FileNotFoundError:
            return 'is missing'
        except OSError as error:
            return f'cannot be read ({error.strerror})'
        record = slot.read_record()
        if record is None:
            return self._adopt(slot, source, content, size)
        problem = (record.problem(slot.path)
                   or self._content_problem(record, content))
        return problem or Image(
            id=record.id, path=slot.path, format=record.format,
            virtual_size=record.virtual_size, size=record.size)

    def _content_problem(
        self, record: _Record, content: header.Content,
    ) -> str | None:
        """Return how a file's content differs from its record, or None."""
        allowed = _RAW if record.format == 'raw' else (record.format,)
        if content.name not in allowed:
            return f'is {content.name} instead of {record.format}'
        # A raw disk is opened as raw, whatever its partition table says.
        if content.unsafe and content.name not in _RAW:
            return f'is not safe to use: {content.unsafe}'
        return None

    def _adopt(
        self, slot: _Slot, source: Source, content: header.Content,
        size: int,
    ) -> Image | str:
        """Check a file without a record, from an older version of the driver.

        It may be a kernel, or an image that was refused after the download. A
        file that cannot be used is removed, unless an overlay needs it.

        :returns: the image, which now has a record, or what is wrong with it.
        """
        disk_format, expected_size = _described(source)
        try:
            if content.name in _RAW and disk_format in CONVERTIBLE:
                format = 'raw'
            else:
                self._check(source.id, disk_format, content)
                format = _format(content)
            if format not in {'raw', 'qcow2', 'iso'}:
                raise ImageRefused(source.id, f'it is {content.name}')
            if (format == disk_format and expected_size is not None
                    and size != expected_size):
                raise ImageRefused(
                    source.id,
                    f'it has {size} bytes instead of {expected_size}')
        except ImageRefused as error:
            if not self._lies_on(slot):
                slot.remove()
            return f'was left by an older version, and {error.reason}'
        record = _Record(
            id=source.id, format=format, virtual_size=content.virtual_size,
            size=size, head=_digest(_head(slot.path)), checksum=None)
        _write_record(slot, record)
        return Image(id=source.id, path=slot.path, format=format,
                     virtual_size=content.virtual_size, size=size)

    @staticmethod
    def _file_problem(slot: _Slot) -> str | None:
        """Return what is wrong with a file that is not a disk, or None."""
        try:
            record = slot.read_record()
            return (record.problem(slot.path) if record is not None
                    else 'has no record')
        except FileNotFoundError:
            return 'is missing'

    @staticmethod
    def _warn_of_damage(slot: _Slot, problem: str) -> None:
        if os.path.lexists(slot.path):
            LOG.warning('%(path)s %(problem)s; fetching it again',
                        {'path': slot.path, 'problem': problem})

    # Fetch

    def _bring(
        self, slot: _Slot, source: Source, *, limit: int | None,
        expected: Image | None = None,
    ) -> Image:
        """Fetch a disk image.

        :param slot: paths of its files.
        :param source: the image.
        :param limit: see :meth:`disk`.
        :param expected: the image that the result must equal, or None.
        """
        disk_format = source.disk_format
        _check_kind(source.id, disk_format)
        with self._arrival(slot, source):
            source.fetch(slot.part)
            content = header.examine(slot.part)
            self._check(source.id, disk_format, content)
            format = _format(content)
            size = os.path.getsize(slot.part)
            image = Image(
                id=source.id, path=slot.path, format=format, size=size,
                virtual_size=content.virtual_size)
            # Before the conversion: a small file may unpack to more than the
            # file system holds.
            _check_limit(image, limit)
            whole = slot.part
            raw = format in CONVERTIBLE and (
                expected.format == 'raw' if expected is not None
                else self._raw_wanted(slot, format))
            if format in CONVERTIBLE and (raw or format != 'qcow2'):
                if not raw:
                    raise ImageRefused(
                        source.id,
                        f'its format is {format}; a guest can use raw, '
                        'qcow2 and iso (force_raw_images=True has others '
                        'converted)')
                image = self._converted(slot, image, limit)
                whole = slot.converted
            problem = expected and _difference(image, expected)
            if problem:
                raise ImageRefused(
                    source.id, f'what the image service has now {problem}')
            _publish(whole, slot, _Record(
                id=source.id, format=image.format, size=image.size,
                virtual_size=image.virtual_size,
                head=_digest(_head(whole)), checksum=source.checksum))
        return image

    def _check(
        self, image_id: str, disk_format: str | None,
        content: header.Content,
    ) -> None:
        """Refuse a file that cannot be used as a disk."""
        check_content(image_id, disk_format, content,
                      deep=self._deep_inspection())

    def _raw_wanted(self, slot: _Slot, format: str) -> bool:
        """Return whether to convert an image to raw.

        If overlays need the file that is replaced, the format that they expect
        decides; otherwise the configuration does.
        """
        formats = self._lies_on(slot)
        if formats == {'qcow2'}:
            return False
        return formats == {'raw'} or self._force_raw(format)

    def _lies_on(self, slot: _Slot) -> set[str]:
        """Return the formats that overlays on this host expect an image in."""
        try:
            return self._overlays().get(os.path.basename(slot.path), set())
        except OSError as error:
            LOG.warning('It cannot be seen which disks lie on %(path)s: '
                        '%(error)s', {'path': slot.path, 'error': error})
            return {'unknown'}

    def _converted(
        self, slot: _Slot, image: Image, limit: int | None,
    ) -> Image:
        """Convert a downloaded image to raw."""
        _create_private(slot.converted)
        try:
            self._convert(image.id, slot.part, slot.converted,
                          CONVERTIBLE[image.format])
        except processutils.ProcessExecutionError as error:
            reason = (error.stderr or str(error)).strip()
            if os.strerror(errno.ENOSPC) in reason:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)
                              ) from error
            raise ImageRefused(
                image.id, f'it cannot be converted from {image.format} to '
                          f'raw: {reason}') from error
        os.unlink(slot.part)
        content = header.examine(slot.converted)
        if content.name not in _RAW:
            raise ImageRefused(
                image.id, f'the disk in it is {content.name} itself')
        found = dataclasses.replace(
            image, format='raw', virtual_size=content.virtual_size,
            size=os.path.getsize(slot.converted))
        _check_limit(found, limit)
        return found

    def _bring_file(
        self, slot: _Slot, source: Source,
        check: Callable[[bytes], str | None], limit: int,
    ) -> None:
        """Fetch an image that is not a disk."""
        _check_file_size(source.id, source.size, limit)
        with self._arrival(slot, source):
            source.fetch(slot.part)
            size = os.path.getsize(slot.part)
            _check_file_size(source.id, size, limit)
            head = _head(slot.part)
            reason = check(head)
            if reason is not None:
                raise ImageRefused(source.id, reason)
            _publish(slot.part, slot, _Record(
                id=source.id, format='file', virtual_size=0, size=size,
                head=_digest(head), checksum=source.checksum))

    @contextlib.contextmanager
    def _arrival(self, slot: _Slot, source: Source) -> Iterator[None]:
        """Prepare a download, and remove its temporary files after the block.

        :raises OSError: there is too little space.
        """
        directory = self.directory
        os.makedirs(directory, mode=0o700, exist_ok=True)
        slot.clear()
        size = source.size
        free = shutil.disk_usage(directory).free
        if size is not None and size > free:
            raise OSError(
                errno.ENOSPC, f'{os.strerror(errno.ENOSPC)}: image '
                              f'{source.id} has {size} bytes, and {free} '
                              'are free', directory)
        started = time.monotonic()
        _create_private(slot.part)
        try:
            yield
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise OSError(
                errno.ENOSPC, f'{os.strerror(errno.ENOSPC)} while image '
                              f'{source.id} was fetched', directory
            ) from error
        finally:
            slot.clear()
        LOG.info('Fetched image %(image)s (%(size)d bytes on this host) in '
                 '%(seconds).1f s',
                 {'image': source.id, 'size': os.path.getsize(slot.path),
                  'seconds': time.monotonic() - started})

    # Remove old images

    def _entries(self) -> dict[str, list[str]]:
        """Return the paths of each image's files, by their names' stem."""
        found: dict[str, list[str]] = {}
        try:
            for entry in os.scandir(self.directory):
                match = _OURS.fullmatch(entry.name)
                if match and entry.is_file(follow_symlinks=False):
                    found.setdefault(match['stem'], []).append(entry.path)
        except FileNotFoundError:
            # The directory is made with the first image.
            pass
        return found

    def _overlays(self) -> dict[str, set[str]]:
        """Return which images the overlays on this host need.

        The headers of overlays can be trusted, as guests cannot write them.

        :returns: the formats in which overlays expect an image, by the name of
            the image's file.
        :raises OSError: an overlay cannot be read.
        """
        found: dict[str, set[str]] = {}
        for path in _overlay_paths(_text(self._instances)):
            try:
                overlay = header.read_qcow2(path)
            except FileNotFoundError:
                # It was deleted meanwhile.
                continue
            if overlay is not None and overlay.backing_file:
                formats = found.setdefault(
                    os.path.basename(overlay.backing_file), set())
                formats.add(overlay.backing_format or 'unknown')
        return found

    def _remove_if_old(
        self, stem: str, paths: list[str], minimum_age: float,
    ) -> None:
        if _age(paths) < minimum_age:
            return
        slot = _Slot(os.path.join(self.directory, stem))
        try:
            # If another thread has the lock, it is using the image.
            with self._locked(slot, blocking=False):
                # It may have been used since the list was made.
                paths = self._entries().get(stem, [])
                if _age(paths) < minimum_age or self._lies_on(slot):
                    return
                LOG.info('Removing unused image %s', slot.path)
                for path in paths:
                    fileutils.delete_if_exists(path)
        except lockutils.AcquireLockFailedException:
            LOG.debug('%s is being used', slot.path)

    def _locked(
        self, slot: _Slot, *, blocking: bool = True,
    ) -> contextlib.AbstractContextManager[object]:
        """Lock one image against other processes and threads."""
        stem = os.path.basename(slot.path).partition('.')[0]
        lock: contextlib.AbstractContextManager[object] = lockutils.lock(
            stem, lock_file_prefix='nova-', external=True,
            lock_path=_text(self._lock_path), blocking=blocking)
        return lock


def _text(value: Text) -> str:
    return value if isinstance(value, str) else value()


def _stem(image_id: str) -> str:
    return hashlib.sha1(
        image_id.encode(), usedforsecurity=False).hexdigest()


def _format(content: header.Content) -> str:
    return 'raw' if content.name == 'gpt' else content.name


def check_content(
    image_id: str, disk_format: str | None, content: header.Content, *,
    deep: bool,
) -> None:
    """Refuse a file that cannot be used as a disk.

    :param image_id: the image's id.
    :param disk_format: its format in the image service; None if that has none.
    :param content: what is in the file.
    :param deep: whether to refuse content that is not of that format, or not
        safe.
    :raises ImageRefused: the file cannot be used.
    """
    _check_kind(image_id, disk_format)
    if content.name == 'empty':
        raise ImageRefused(image_id, 'it is empty (0 bytes)')
    if content.unsafe and (deep or content.name == 'qcow2'):
        raise ImageRefused(
            image_id, f'its content is {content.name} and not safe to '
                      f'use: {content.unsafe}')
    matching = _MATCHING.get(disk_format or '', (disk_format,))
    if deep and disk_format is not None and content.name not in matching:
        raise ImageRefused(
            image_id, f'it is recorded as {disk_format}, and its '
                      f'content is {content.name}')
    format = _format(content)
    if format not in {'raw', 'iso', *CONVERTIBLE}:
        raise ImageRefused(
            image_id, f'its content is {content.name}, which is not a '
                      f'disk; allowed: raw, iso, '
                      f'{", ".join(CONVERTIBLE)}')
    if not content.virtual_size:
        raise ImageRefused(
            image_id, f'the disk in it ({content.name}) has no size')


def _check_kind(image_id: str, disk_format: str | None) -> None:
    for kind, name in (('aki', 'kernel'), ('ari', 'ramdisk')):
        if disk_format == kind:
            raise ImageRefused(
                image_id, f'it is recorded as a {name} ({kind}), which is '
                          'not a disk')


def _check_limit(image: Image, limit: int | None) -> None:
    if (limit is not None and image.format != 'iso'
            and image.virtual_size > limit):
        raise ImageTooLarge(image.id, image.virtual_size, limit)


def _check_file_size(image_id: str, size: int | None, limit: int) -> None:
    if size == 0:
        raise ImageRefused(image_id, 'it is empty (0 bytes)')
    if size is not None and size > limit:
        raise ImageRefused(
            image_id, f'it has {size} bytes; a kernel or ramdisk can have '
                      f'{limit}')


def _difference(found: Image, expected: Image) -> str | None:
    """Return how an image differs from the expected one, or None."""
    for name in ('format', 'virtual_size', 'size'):
        value, wanted = getattr(found, name), getattr(expected, name)
        if value != wanted:
            return f'has {name} {value} instead of {wanted}'
    return None


def _described(source: Source) -> tuple[str | None, int | None]:
    """Return an image's format and size in the image service.

    Both are None if the image service does not answer for the image, which may
    have been deleted there.
    """
    try:
        return source.disk_format, source.size
    except Exception as error:
        LOG.info('The image service cannot tell of image %(image)s: '
                 '%(error)s', {'image': source.id, 'error': error})
        return None, None


def _age(paths: Collection[str]) -> float:
    """Return the seconds since the latest use of any of these files."""
    used = 0.0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            used = max(used, os.stat(path).st_mtime)
    return time.time() - used


def _head(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with open(descriptor, 'rb') as file:
        return file.read(header.HEAD)


def _digest(head: bytes) -> str:
    return hashlib.sha256(head).hexdigest()


def _create_private(path: str) -> None:
    """Make an empty file that only this user and root can read."""
    os.close(os.open(
        path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))


def _sync(path: str) -> None:
    """Wait until a file or a directory is written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _publish(whole: str, slot: _Slot, record: _Record) -> None:
    """Give a complete image its final name.

    :param whole: path of its file.
    :param slot: its final paths.
    :param record: its record.
    """
    _sync(whole)
    # If this is interrupted, the image has no record, and is inspected like
    # one of an older version.
    fileutils.delete_if_exists(slot.record)
    os.rename(whole, slot.path)
    _write_record(slot, record)


def _write_record(slot: _Slot, record: _Record) -> None:
    part = f'{slot.record}.part'
    fileutils.delete_if_exists(part)
    _create_private(part)
    with fileutils.remove_path_on_error(part):
        with open(part, 'wb') as file:
            file.write(record.to_json())
            file.flush()
            os.fsync(file.fileno())
        os.rename(part, slot.record)
    _sync(os.path.dirname(slot.path))


def _overlay_paths(instances: str) -> Iterator[str]:
    """Yield the paths of all instances' overlays, recognised by their names.

    The content does not decide: a guest can write anything to a raw disk.
    """
    for directory in os.scandir(instances):
        if not directory.is_dir(follow_symlinks=False):
            continue
        try:
            for entry in os.scandir(directory.path):
                if (entry.name.endswith('.qcow2')
                        and entry.is_file(follow_symlinks=False)):
                    yield entry.path
        except FileNotFoundError:
            # It was deleted meanwhile.
            continue
