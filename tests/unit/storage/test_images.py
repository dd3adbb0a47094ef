# SPDX-License-Identifier: Apache-2.0
"""The store of images: real files, real qemu-img, a source that is a file."""

import dataclasses
import errno
import functools
import hashlib
import io
import os
import stat
import subprocess
import tarfile
import tempfile
import threading
from unittest import mock

import fixtures
from oslo_concurrency import lockutils
from oslo_concurrency import processutils
from oslo_serialization import jsonutils
from oslotest import base

from xen44_driver.storage import header
from xen44_driver.storage import images
from xen44_driver.storage import kernel

MIB = 1024 * 1024
IMAGE = '0dd9d7a3-70a8-4e4b-9a54-3d2f6a5a2b1c'
KERNEL = bytes(0x202) + b'HdrS' + bytes(4096)


class Gone(Exception):
    """The image service does not have it."""


@dataclasses.dataclass
class Source:
    """An image in an image service."""

    content: bytes | None
    disk_format: str | None = 'raw'
    id: str = IMAGE
    checksum: tuple[str, str] | None = None
    fetched: int = 0

    @property
    def size(self):
        if self.content is None:
            raise Gone('no such image')
        return len(self.content)

    def fetch(self, path):
        self.fetched += 1
        if self.content is None:
            raise Gone('no such image')
        with open(path, 'wb') as file:
            file.write(self.content)


def stem(image_id):
    return hashlib.sha1(image_id.encode(), usedforsecurity=False).hexdigest()


def gpt(size=MIB):
    """A disk with a protective MBR."""
    entry = bytes([0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0])
    sector = bytes(446) + entry + bytes([0xff] * 4) + bytes(48) + b'\x55\xaa'
    return sector + bytes(size - len(sector))


def iso(size=MIB, head=b''):
    """The least that makes an ISO image."""
    before = head + bytes(0x8000 - len(head))
    return before + b'\x01CD001\x01' + bytes(size - len(before) - 7)


@functools.cache
def made(format, size, *options):
    """Have qemu-img make an image."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(
            ['qemu-img', 'create', '-q', '-f', format, *options, 'image',
             size], check=True, cwd=directory)
        with open(os.path.join(directory, 'image'), 'rb') as file:
            return file.read()


class ImagesCase(base.BaseTestCase):
    """A store in an empty directory."""

    def setUp(self):
        super().setUp()
        self.instances = self.useFixture(fixtures.TempDir()).path
        self.directory = os.path.join(self.instances, '_base')
        self.force_raw = False
        self.deep = True
        self.converted = []
        self.store = images.ImageStore(
            self.directory, instances=self.instances,
            lock_path=lambda: os.path.join(self.instances, 'locks'),
            convert=self.convert, force_raw=lambda _: self.force_raw,
            deep_inspection=lambda: self.deep)
        self.path = os.path.join(
            self.directory, stem(IMAGE))

    def convert(self, image_id, source, target, format):
        self.converted.append((image_id, format))
        processutils.execute('qemu-img', 'convert', '-f', format, '-O',
                             'raw', source, target)

    def made(self, format, size='3M', *options):
        """An image that qemu-img makes."""
        return made(format, size, *options)

    def stolen(self):
        """A qcow2 image that shows a file of the host."""
        return made('qcow2', '3M', '-u', '-b', '/etc/shadow', '-F', 'raw')

    def overlay(self, name='disk.qcow2', format='raw'):
        """A guest's disk on the image."""
        directory = os.path.join(self.instances, 'uuid')
        os.makedirs(directory, exist_ok=True)
        path = os.path.join(directory, name)
        subprocess.run(
            ['qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-b',
             self.path, '-F', format, path, '4M'], check=True)
        return path

    def write(self, content, path=None):
        """Put a file where an older version keeps its images."""
        os.makedirs(self.directory, exist_ok=True)
        with open(path or self.path, 'wb') as file:
            file.write(content)

    def read(self, path=None):
        with open(path or self.path, 'rb') as file:
            return file.read()

    def names(self):
        """Suffixes of the files in the store."""
        if not os.path.isdir(self.directory):
            return []
        return sorted(name[40:] for name in os.listdir(self.directory))

    def refused(self, content, disk_format='raw', *, limit=None):
        """Have an image refused, and see that nothing of it is kept."""
        raised = self.assertRaises(
            images.ImageRefused, self.store.disk,
            Source(content, disk_format), limit=limit)
        self.assertEqual(IMAGE, raised.image_id)
        self.assertIn(IMAGE, str(raised))
        self.assertEqual([], self.names())
        return raised.reason

    def age(self, seconds, path=None):
        path = path or self.path
        now = os.stat(path).st_mtime
        os.utime(path, (now - seconds, now - seconds))

    def age_all(self, seconds):
        for name in os.listdir(self.directory):
            self.age(seconds, os.path.join(self.directory, name))


class DiskTest(ImagesCase):

    def test_raw(self):
        for content in (bytes(MIB), gpt(), b'x' * (MIB - 100)):
            source = Source(content, checksum=('sha512', 'abc'))
            image = self.store.disk(source, limit=MIB)
            self.assertEqual(images.Image(
                id=IMAGE, path=self.path, format='raw', virtual_size=MIB,
                size=len(content)), image)
            self.assertEqual(content, self.read())
            self.assertEqual(['', '.json'], self.names())
            for name in os.listdir(self.directory):
                path = os.path.join(self.directory, name)
                self.assertEqual(0o600, stat.S_IMODE(os.stat(path).st_mode))
            self.assertEqual(image, self.store.disk(source, limit=MIB))
            self.assertEqual(1, source.fetched)
            os.unlink(self.path)
        self.assertEqual(0o700, stat.S_IMODE(
            os.stat(self.directory).st_mode))

    def test_record(self):
        content = gpt()
        self.store.disk(
            Source(content, checksum=('sha512', 'abc')), limit=None)
        self.assertEqual({
            'version': 1, 'id': IMAGE, 'format': 'raw', 'size': MIB,
            'virtual_size': MIB, 'checksum': ['sha512', 'abc'],
            'head': hashlib.sha256(content[:65536]).hexdigest(),
        }, jsonutils.loads(self.read(f'{self.path}.json')))

    def test_qcow2(self):
        content = self.made('qcow2')
        image = self.store.disk(Source(content, 'qcow2'), limit=3 * MIB)
        self.assertEqual(('qcow2', 3 * MIB, len(content)),
                         (image.format, image.virtual_size, image.size))
        self.assertEqual(content, self.read())
        self.assertEqual([], self.converted)

    def test_iso(self):
        # Also one that can be put on a USB stick.
        for content in (iso(), iso(head=gpt(512))):
            image = self.store.disk(Source(content, 'iso'), limit=1)
            self.assertEqual('iso', image.format)
            self.assertEqual(MIB, image.virtual_size)
            self.assertEqual('iso', self.store.disk(
                Source(content, 'iso'), limit=1).format)
            os.unlink(self.path)

    def test_ami(self):
        self.assertEqual('raw', self.store.disk(
            Source(bytes(MIB), 'ami'), limit=None).format)

    def test_no_recorded_format(self):
        self.assertEqual('qcow2', self.store.disk(
            Source(self.made('qcow2'), None), limit=None).format)

    def test_force_raw(self):
        self.force_raw = True
        image = self.store.disk(
            Source(self.made('qcow2'), 'qcow2'), limit=3 * MIB)
        self.assertEqual(('raw', 3 * MIB, 3 * MIB),
                         (image.format, image.virtual_size, image.size))
        self.assertEqual([(IMAGE, 'qcow2')], self.converted)
        self.assertEqual(bytes(3 * MIB), self.read())
        self.assertEqual(['', '.json'], self.names())
        self.assertEqual(0o600, stat.S_IMODE(os.stat(self.path).st_mode))

    def test_other_formats_are_converted(self):
        self.force_raw = True
        for name, disk_format in (
                ('vmdk', 'vmdk'), ('vdi', 'vdi'), ('vhdx', 'vhdx'),
                ('vpc', 'vhd')):
            image = self.store.disk(
                Source(self.made(name, '8M'), disk_format), limit=9 * MIB)
            self.assertEqual('raw', image.format)
            self.assertGreaterEqual(image.virtual_size, 8 * MIB)
            self.assertEqual((IMAGE, name), self.converted[-1])
            os.unlink(self.path)

    def test_other_formats_are_refused(self):
        for name, disk_format in (
                ('vmdk', 'vmdk'), ('vdi', 'vdi'), ('vhdx', 'vhdx'),
                ('vpc', 'vhd')):
            reason = self.refused(self.made(name), disk_format)
            self.assertIn(f'its format is {disk_format}', reason)
            self.assertIn('raw, qcow2 and iso', reason)

    def test_raw_and_iso_are_never_converted(self):
        self.force_raw = True
        self.store.disk(Source(gpt()), limit=None)
        os.unlink(self.path)
        self.store.disk(Source(iso(), 'iso'), limit=None)
        self.assertEqual([], self.converted)

    def test_only_the_beginning_is_read(self):
        with open(self.useFixture(fixtures.TempDir()).join('x'), 'wb') as f:
            f.truncate(1 << 40)
        self.assertEqual('raw', header.examine(f.name).name)


class RefusalTest(ImagesCase):
    """What is not a disk, or shows more than its own content."""

    def test_backing_file(self):
        for disk_format in ('qcow2', 'raw', 'ami', None):
            self.refused(self.stolen(), disk_format)
        self.assertIn('backing file', self.refused(self.stolen(), 'qcow2'))

    def test_data_file(self):
        content = self.made('qcow2', '3M', '-o', 'data_file=data')
        self.assertIn('data_file', self.refused(content, 'qcow2'))

    def test_unknown_features(self):
        content = bytearray(self.made('qcow2'))
        content[0x48] = 0x80
        self.assertIn('Unknown', self.refused(bytes(content), 'qcow2'))

    def test_encrypted(self):
        content = bytearray(self.made('qcow2'))
        content[35] = 1
        self.assertIn('encrypted', self.refused(bytes(content), 'qcow2'))

    def test_workaround_does_not_open_the_host(self):
        self.deep = False
        self.refused(self.stolen(), 'qcow2')
        self.refused(self.stolen(), 'raw')
        # But Glance may be wrong about a format.
        self.assertEqual('qcow2', self.store.disk(
            Source(self.made('qcow2'), 'raw'), limit=None).format)

    def test_kernels_are_not_disks(self):
        for disk_format in ('aki', 'ari'):
            source = Source(gpt(), disk_format)
            raised = self.assertRaises(
                images.ImageRefused, self.store.disk, source, limit=None)
            self.assertIn(f'({disk_format})', raised.reason)
            self.assertEqual(0, source.fetched)

    def test_empty(self):
        self.assertIn('0 bytes', self.refused(b''))
        self.assertIn('0 bytes', self.refused(b'', 'qcow2'))

    def test_archives(self):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode='w') as tar:
            member = tarfile.TarInfo('image.vhd')
            member.size = MIB
            tar.addfile(member, io.BytesIO(b'conectix' + bytes(MIB - 8)))
        for disk_format in ('vhd', 'raw'):
            self.assertIn('tar archive',
                          self.refused(out.getvalue(), disk_format))
        for name, magic in (('gzip', b'\x1f\x8b\x08'), ('zip', b'PK\x03\x04'),
                            ('xz', b'\xfd7zXZ\x00')):
            content = magic + bytes(MIB)
            self.assertIn(f'{name} archive', self.refused(content))
            self.assertIn(f'{name} archive', self.refused(content, None))

    def test_mismatch(self):
        for content, disk_format, found in (
                (self.made('qcow2'), 'raw', 'qcow2'),
                (gpt(), 'qcow2', 'gpt'),
                (iso(), 'raw', 'iso'),
                (gpt(), 'iso', 'gpt'),
                (self.made('vdi'), 'qcow2', 'vdi')):
            self.assertEqual(
                f'it is recorded as {disk_format}, and its content is '
                f'{found}', self.refused(content, disk_format))

    def test_two_formats_at_once(self):
        content = self.made('qcow2')
        content = iso(head=content[:0x8000])
        for disk_format in ('qcow2', 'iso', 'raw'):
            self.assertIn('cannot be inspected',
                          self.refused(content, disk_format))

    def test_headers_that_are_cut_short(self):
        # qemu-img takes it for qcow2.
        for content in (self.stolen()[:300], b'QED\x00', b'KDMV',
                        b'vhdxfile'):
            self.refused(content)

    def test_other_disks(self):
        self.refused(b'LUKS\xba\xbe' + bytes(MIB), None)
        self.refused(self.made('qed'), None)

    def test_too_large(self):
        raised = self.assertRaises(
            images.ImageTooLarge, self.store.disk,
            Source(self.made('qcow2', '2T'), 'qcow2'), limit=MIB)
        self.assertEqual((2 << 40, MIB), (raised.virtual_size, raised.limit))
        self.assertEqual([], self.names())
        self.assertRaises(images.ImageTooLarge, self.store.disk,
                          Source(bytes(MIB + 1)), limit=MIB)

    def test_too_large_is_not_converted(self):
        self.force_raw = True
        for name, disk_format in (('qcow2', 'qcow2'), ('vdi', 'vdi'),
                                  ('vmdk', 'vmdk'), ('vhdx', 'vhdx')):
            self.refused(self.made(name, '20G'), disk_format, limit=MIB)
        self.assertEqual([], self.converted)

    def test_header_that_lies_about_the_size(self):
        self.force_raw = True

        def convert(image_id, source, target, format):
            os.truncate(target, 5 * MIB)

        self.store._convert = convert
        self.refused(self.made('qcow2'), 'qcow2', limit=4 * MIB)

    def test_too_large_for_another_flavor(self):
        source = Source(bytes(MIB))
        self.store.disk(source, limit=None)
        self.assertRaises(images.ImageTooLarge, self.store.disk, source,
                          limit=MIB - 512)
        self.store.disk(source, limit=MIB)
        self.assertEqual(1, source.fetched)

    def test_disk_in_a_disk(self):
        self.force_raw = True
        directory = self.useFixture(fixtures.TempDir())
        inner, outer = directory.join('inner'), directory.join('outer')
        with open(inner, 'wb') as file:
            file.write(self.stolen())
        subprocess.run(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2',
                        inner, outer], check=True)
        self.assertIn('qcow2 itself', self.refused(self.read(outer), 'qcow2'))

    def test_conversion_fails(self):
        self.force_raw = True

        def convert(*_args):
            raise processutils.ProcessExecutionError(stderr='bad cluster')

        self.store._convert = convert
        self.assertIn('bad cluster',
                      self.refused(self.made('qcow2'), 'qcow2'))


class SpaceTest(ImagesCase):

    def test_disk_full(self):
        def fetch(path):
            with open(path, 'wb') as file:
                file.write(bytes(MIB))
            raise OSError(errno.ENOSPC, 'No space left on device')

        source = Source(bytes(MIB))
        source.fetch = fetch
        raised = self.assertRaises(
            OSError, self.store.disk, source, limit=None)
        self.assertEqual(errno.ENOSPC, raised.errno)
        for part in (IMAGE, 'No space left', self.directory):
            self.assertIn(part, str(raised))
        self.assertEqual([], self.names())

    def test_disk_full_in_conversion(self):
        self.force_raw = True

        def convert(*_args):
            raise processutils.ProcessExecutionError(
                stderr='error while writing: No space left on device')

        self.store._convert = convert
        raised = self.assertRaises(
            OSError, self.store.disk, Source(self.made('qcow2'), 'qcow2'),
            limit=None)
        self.assertEqual(errno.ENOSPC, raised.errno)
        self.assertIn(IMAGE, str(raised))
        self.assertEqual([], self.names())

    def test_too_large_for_the_disk(self):
        source = Source(bytes(MIB))
        with mock.patch('shutil.disk_usage') as usage:
            usage.return_value.free = MIB - 1
            raised = self.assertRaises(
                OSError, self.store.disk, source, limit=None)
        self.assertEqual(errno.ENOSPC, raised.errno)
        self.assertIn(f'{MIB} bytes', str(raised))
        self.assertEqual(0, source.fetched)

    def test_failed_download_leaves_nothing(self):
        source = Source(None)
        with mock.patch.object(Source, 'size', None):
            self.assertRaises(Gone, self.store.disk, source, limit=None)
        self.assertEqual([], self.names())

    def test_interrupted_download(self):
        for suffix in ('.part', '.raw.part', '.json.part'):
            self.write(b'left', f'{self.path}{suffix}')
        self.store.disk(Source(gpt()), limit=None)
        self.assertEqual(['', '.json'], self.names())
        self.assertEqual(gpt(), self.read())


class WholeTest(ImagesCase):
    """A file has its name when it is whole, and on the disk."""

    def test_name_appears_last(self):
        names = []

        class Watched(Source):
            def fetch(watched, path):
                with open(path, 'wb') as file:
                    file.write(bytes(MIB))
                    names.append(self.names())
                    self.assertEqual(
                        0o600, stat.S_IMODE(os.fstat(file.fileno()).st_mode))

        self.store.disk(Watched(bytes(MIB)), limit=None)
        self.assertEqual([['.part']], names)

    def test_content_is_on_the_disk_before_its_name(self):
        for content, disk_format in (
                (gpt(), 'raw'), (self.made('qcow2'), 'qcow2')):
            self._order(lambda c=content, d=disk_format:
                        self.store.disk(Source(c, d), limit=None), '')
        self._order(lambda: self.store.file(Source(KERNEL), lambda _: None),
                    '.file')

    def test_converted_content_is_on_the_disk_before_its_name(self):
        self.force_raw = True
        content = self.made('qcow2')
        self._order(lambda: self.store.disk(
            Source(content, 'qcow2'), limit=None), '')

    def _order(self, action, suffix):
        events = []
        fsync, rename = os.fsync, os.rename

        def spy_fsync(descriptor):
            path = os.readlink(f'/proc/self/fd/{descriptor}')
            events.append(('fsync', os.stat(path).st_ino))
            fsync(descriptor)

        def spy_rename(old, new):
            events.append(('rename', os.stat(old).st_ino, new))
            rename(old, new)

        with mock.patch('os.fsync', spy_fsync), \
                mock.patch('os.rename', spy_rename):
            action()
        path = f'{self.path}{suffix}'
        inode = os.stat(path).st_ino
        record = os.stat(f'{path}.json').st_ino
        self.assertEqual([
            ('fsync', inode),
            ('rename', inode, path),
            ('fsync', record),
            ('rename', record, f'{path}.json'),
            ('fsync', os.stat(self.directory).st_ino),
        ], events)
        os.unlink(path)
        os.unlink(f'{path}.json')

    def test_no_record_of_what_was_there_before(self):
        """Power fails between the two names: the image is inspected."""
        self.store.disk(Source(gpt()), limit=None)
        os.truncate(self.path, 5)
        rename = os.rename

        def fail(old, new):
            rename(old, new)
            raise OSError('power')

        source = Source(gpt(2 * MIB))
        with mock.patch('os.rename', fail):
            self.assertRaises(OSError, self.store.disk, source, limit=None)
        self.assertEqual([''], self.names())
        image = self.store.disk(source, limit=None)
        self.assertEqual(2 * MIB, image.size)
        self.assertEqual(1, source.fetched)

    def test_one_download_at_a_time(self):
        started = threading.Event()
        go_on = threading.Event()

        class Slow(Source):
            def fetch(slow, path):
                started.set()
                go_on.wait(10)
                super().fetch(path)

        source = Slow(gpt())
        found = []
        threads = [threading.Thread(target=lambda: found.append(
            self.store.disk(source, limit=None))) for _ in range(3)]
        for thread in threads:
            thread.start()
        self.assertTrue(started.wait(10))
        # Another image does not wait for this one.
        other = Source(gpt(), id='other')
        self.store.disk(other, limit=None)
        go_on.set()
        for thread in threads:
            thread.join(10)
        self.assertEqual(3, len(found))
        self.assertEqual(1, source.fetched)


class DamageTest(ImagesCase):
    """A base that is not what it was when it came."""

    def setUp(self):
        super().setUp()
        self.content = b'boot' + gpt()[4:]
        self.source = Source(self.content)
        self.image = self.store.disk(self.source, limit=None)

    def damages(self):
        yield lambda: os.unlink(self.path)
        yield lambda: os.truncate(self.path, MIB // 2)
        yield lambda: os.truncate(self.path, 0)
        yield lambda: self.write(bytes(MIB))
        yield lambda: self.write(self.stolen())
        yield lambda: (os.unlink(self.path), os.mkdir(self.path),
                       os.rmdir(self.path))
        yield lambda: (os.unlink(self.path),
                       os.symlink('/etc/hostname', self.path))

    def test_new_disk(self):
        for number, damage in enumerate(self.damages(), 2):
            damage()
            self.assertEqual(
                self.image, self.store.disk(self.source, limit=None))
            self.assertEqual(self.content, self.read())
            self.assertEqual(number, self.source.fetched)

    def test_start(self):
        self.store.ensure(self.source, self.image)
        for number, damage in enumerate(self.damages(), 2):
            damage()
            self.assertEqual(
                self.image, self.store.ensure(self.source, self.image))
            self.assertEqual(self.content, self.read())
            self.assertEqual(number, self.source.fetched)

    def test_gone_from_the_image_service(self):
        self.source.content = None
        # Nothing is wrong with what is here.
        self.store.ensure(self.source, self.image)
        os.truncate(self.path, 5)
        raised = self.assertRaises(
            images.ImageMissing, self.store.ensure, self.source, self.image)
        self.assertEqual(
            f'{self.path}, which the disk lies on, has 5 bytes instead of '
            f'{MIB}, and image {IMAGE} cannot be fetched again: no such '
            'image', str(raised))
        os.unlink(self.path)
        raised = self.assertRaises(
            images.ImageMissing, self.store.ensure, self.source, self.image)
        self.assertIn('is missing', str(raised))

    def test_other_content_in_the_image_service(self):
        os.unlink(self.path)
        self.source.content = gpt(2 * MIB)
        raised = self.assertRaises(
            images.ImageMissing, self.store.ensure, self.source, self.image)
        self.assertIn(f'size {2 * MIB} instead of {MIB}', str(raised))
        self.assertFalse(os.path.exists(self.path))

    def test_other_image_than_was_recorded(self):
        recorded = dataclasses.replace(self.image, size=5)
        raised = self.assertRaises(
            images.ImageMissing, self.store.ensure, self.source, recorded)
        self.assertIn(f'size {MIB} instead of 5', str(raised))

    def test_format_stays(self):
        """Overlays name the format of their base."""
        content = self.made('qcow2')
        for first in (True, False):
            self.force_raw = first
            source = Source(content, 'qcow2', id=f'image{first}')
            image = self.store.disk(source, limit=None)
            self.force_raw = not first
            os.unlink(image.path)
            self.assertEqual(image, self.store.ensure(source, image))

    def test_format_stays_under_overlays(self):
        content = self.made('qcow2')
        source = Source(content, 'qcow2')
        for format in ('raw', 'qcow2'):
            self.overlay(format=format)
            os.unlink(self.path)
            self.force_raw = format == 'qcow2'
            self.assertEqual(
                format, self.store.disk(source, limit=None).format)

    def test_damaged_record(self):
        for text in (b'', b'[]', b'{}', b'{"version": 2}', b'{"version": 1}',
                     b'\xff', b'null',
                     b'{"version": 1, "checksum": null, "other": 1}'):
            self.write(text, f'{self.path}.json')
            self.assertEqual(
                self.image, self.store.disk(self.source, limit=None))
        self.assertEqual(1, self.source.fetched)

    def test_endless_record(self):
        """No more is read of it than a record can have."""
        record = self.read(f'{self.path}.json')
        self.write(b' ' * header.HEAD + record, f'{self.path}.json')
        self.assertIsNone(images._Slot(self.path).read_record())
        self.write(b' ' + record, f'{self.path}.json')
        self.assertEqual(
            self.image.id, images._Slot(self.path).read_record().id)

    def test_use_is_noted(self):
        for use in (lambda: self.store.disk(self.source, limit=None),
                    lambda: self.store.ensure(self.source, self.image)):
            self.age(10 ** 6)
            before = os.stat(self.path).st_mtime
            use()
            self.assertGreater(os.stat(self.path).st_mtime, before + 10 ** 5)


class OlderVersionTest(ImagesCase):
    """Files without a record: nobody knows whether they were inspected."""

    def test_good(self):
        for content, disk_format, found in (
                (gpt(), 'raw', 'raw'), (self.made('qcow2'), 'qcow2', 'qcow2'),
                (gpt(), 'qcow2', 'raw'), (iso(), 'iso', 'iso'),
                (iso(), 'qcow2', 'raw'), (gpt(), 'vmdk', 'raw')):
            self.write(content)
            source = Source(content, disk_format)
            if found != disk_format:
                # It was converted when it came.
                source.content = b'x'
            for _ in range(2):
                image = self.store.disk(source, limit=None)
                self.assertEqual((found, len(content)),
                                 (image.format, image.size))
            self.assertEqual(0, source.fetched)
            self.assertEqual(['', '.json'], self.names())
            os.unlink(f'{self.path}.json')

    def test_unsafe_kernel(self):
        """A file that was refused as a kernel does not become a disk."""
        for disk_format in ('aki', 'ari', 'raw', 'qcow2', 'ami'):
            self.write(self.stolen())
            raised = self.assertRaises(
                images.ImageRefused, self.store.disk,
                Source(self.stolen(), disk_format), limit=None)
            self.assertEqual(IMAGE, raised.image_id)
            self.assertEqual([], self.names())

    def test_truncated(self):
        self.write(self.made('qcow2')[:70000])
        source = Source(self.made('qcow2'), 'qcow2')
        self.store.disk(source, limit=None)
        self.assertEqual(1, source.fetched)
        self.assertEqual(source.content, self.read())

    def test_image_service_has_forgotten_it(self):
        self.write(gpt())
        image = images.Image(id=IMAGE, path=self.path, format='raw',
                             virtual_size=MIB, size=MIB)
        self.assertEqual(image, self.store.ensure(Source(None), image))

    def test_unsafe_under_a_disk(self):
        """It is not taken from under a disk, and not used again."""
        self.write(self.stolen())
        self.overlay()
        self.assertRaises(images.ImageRefused, self.store.disk,
                          Source(self.stolen(), 'qcow2'), limit=None)
        self.assertEqual([''], self.names())


class FileTest(ImagesCase):
    """Kernels and ramdisks."""

    def file(self, content, check=lambda head: None, **options):
        source = Source(content, 'aki')
        return self.store.file(source, check, **options), source

    def test_once(self):
        source = Source(KERNEL, 'aki')
        for _ in range(2):
            path = self.store.file(source, kernel.check_kernel)
            self.assertEqual(KERNEL, self.read(path))
        self.assertEqual(1, source.fetched)
        self.assertEqual(['.file', '.file.json'], self.names())
        self.assertEqual(0o600, stat.S_IMODE(os.stat(path).st_mode))

    def test_never_a_disk(self):
        """A qcow2 image as a kernel or ramdisk, and then as a disk."""
        for check in (kernel.check_kernel, kernel.check_ramdisk):
            for disk_format in ('aki', 'ari', 'ami', 'raw', 'qcow2', None):
                source = Source(self.stolen(), disk_format)
                try:
                    path = self.store.file(source, check)
                    self.assertNotEqual(self.path, path)
                except images.ImageRefused:
                    self.assertEqual([], self.names())
                self.assertRaises(
                    images.ImageRefused, self.store.disk, source, limit=None)
                self.assertFalse(os.path.exists(self.path))

    def test_disk_and_file(self):
        source = Source(gpt())
        disk = self.store.disk(source, limit=None)
        self.assertNotEqual(
            disk.path, self.store.file(source, lambda head: None))
        self.assertEqual(2, source.fetched)

    def test_refused(self):
        source = Source(b'MZ', 'aki')
        raised = self.assertRaises(
            images.ImageRefused, self.store.file, source,
            kernel.check_kernel)
        self.assertIn('not a kernel', raised.reason)
        self.assertEqual([], self.names())

    def test_checked_at_every_use(self):
        """What was a good ramdisk is not a kernel for that."""
        source = Source(b'070701', 'ari')
        self.store.file(source, kernel.check_ramdisk)
        self.assertRaises(images.ImageRefused, self.store.file, source,
                          kernel.check_kernel)

    def test_empty(self):
        self.assertRaises(images.ImageRefused, self.file, b'')
        with mock.patch.object(Source, 'size', None):
            self.assertRaises(images.ImageRefused, self.file, b'')
        self.assertEqual([], self.names())

    def test_too_large(self):
        for size in (None, 11):
            with mock.patch.object(Source, 'size', size):
                raised = self.assertRaises(
                    images.ImageRefused, self.file, bytes(11), limit=10)
            self.assertIn('11 bytes', raised.reason)
            self.assertEqual([], self.names())
        self.file(bytes(10), limit=10)

    def test_too_large_is_not_fetched(self):
        source = Source(bytes(11))
        self.assertRaises(images.ImageRefused, self.store.file, source,
                          lambda head: None, limit=10)
        self.assertEqual(0, source.fetched)

    def test_damaged(self):
        path, source = self.file(KERNEL)
        for number, content in enumerate((b'', KERNEL[:-1], KERNEL[::-1]), 2):
            self.write(content, path)
            self.store.file(source, kernel.check_kernel)
            self.assertEqual(KERNEL, self.read(path))
            self.assertEqual(number, source.fetched)


class AgeTest(ImagesCase):

    DAY = 24 * 3600

    def update(self, *used, remove=True):
        self.store.age(used, self.DAY, remove=remove)

    def fetch(self, *ids):
        for image_id in ids:
            self.store.disk(Source(gpt(), id=image_id), limit=None)

    def held(self, *ids):
        return [image_id for image_id in ids if self.store.holds(image_id)]

    def test_only_old_unused_images_go(self):
        self.fetch('old', 'used')
        self.store.file(Source(KERNEL, id='kernel'), lambda head: None)
        self.write(b'', f'{self.store.path("left")}.part')
        self.age_all(2 * self.DAY)
        self.fetch('young')
        self.update('used')
        self.assertEqual(['used', 'young'], self.held('old', 'used', 'young'))
        self.assertEqual(['', '', '.json', '.json'], self.names())
        # It counts from when it was used last.
        self.update()
        self.assertEqual(['used', 'young'], self.held('used', 'young'))

    def test_limit_is_exact(self):
        self.fetch('old')
        self.age_all(self.DAY - 60)
        self.update()
        self.assertEqual(['old'], self.held('old'))
        self.age_all(61)
        self.update()
        self.assertEqual([], self.held('old'))

    def test_nothing_goes_where_that_is_asked(self):
        self.fetch('old')
        self.age_all(2 * self.DAY)
        self.update(remove=False)
        self.assertEqual(['old'], self.held('old'))

    def test_overlay_keeps_its_base(self):
        """Whatever image Nova takes the instance to be made of."""
        self.fetch(IMAGE, 'old')
        self.age_all(2 * self.DAY)
        path = self.overlay()
        self.update()
        self.assertEqual([IMAGE], self.held(IMAGE, 'old'))
        os.unlink(path)
        self.update()
        self.assertEqual([IMAGE], self.held(IMAGE))
        self.age_all(2 * self.DAY)
        self.update()
        self.assertEqual([], self.held(IMAGE))

    def test_overlay_of_a_resize(self):
        self.fetch(IMAGE)
        self.age_all(2 * self.DAY)
        self.overlay('disk.rescue.qcow2')
        os.rename(os.path.join(self.instances, 'uuid'),
                  os.path.join(self.instances, 'uuid_resize'))
        self.update()
        self.assertEqual([IMAGE], self.held(IMAGE))

    def test_raw_disk_names_no_base(self):
        """A guest writes what it likes to a raw disk."""
        self.fetch(IMAGE)
        self.age_all(2 * self.DAY)
        self.overlay('disk.raw')
        self.update()
        self.assertEqual([], self.held(IMAGE))

    def test_disks_that_are_being_made_or_removed(self):
        self.fetch('old')
        self.age_all(2 * self.DAY)
        directory = os.path.join(self.instances, 'uuid')
        os.mkdir(directory)
        with open(os.path.join(directory, 'disk.qcow2'), 'wb'):
            pass
        self.update()
        self.assertEqual([], self.held('old'))

    def test_nothing_goes_where_disks_cannot_be_seen(self):
        self.fetch('old')
        self.age_all(2 * self.DAY)
        self.overlay()
        with mock.patch.object(header, 'read_qcow2',
                               side_effect=PermissionError()):
            self.update()
        self.assertEqual(['old'], self.held('old'))

    def test_second_look_sees_a_use(self):
        """Somebody uses the image while its lock is waited for."""
        self.fetch('old')
        self.age_all(2 * self.DAY)
        lock = lockutils.lock

        def used(*args, **options):
            os.utime(self.store.path('old'))
            return lock(*args, **options)

        with mock.patch.object(lockutils, 'lock', used):
            self.update()
        self.assertEqual(['old'], self.held('old'))

    def test_second_look_sees_a_new_overlay(self):
        self.fetch(IMAGE)
        self.age_all(2 * self.DAY)
        lock = lockutils.lock

        def used(*args, **options):
            self.overlay()
            return lock(*args, **options)

        with mock.patch.object(lockutils, 'lock', used):
            self.update()
        self.assertEqual([IMAGE], self.held(IMAGE))

    def test_does_not_wait_for_a_download(self):
        self.fetch('old')
        self.age_all(2 * self.DAY)
        slot = images._Slot(self.store.path('old'))
        with self.store._locked(slot):
            thread = threading.Thread(target=self.update)
            thread.start()
            thread.join(10)
            self.assertFalse(thread.is_alive())
            self.assertEqual(['old'], self.held('old'))
        self.update()
        self.assertEqual([], self.held('old'))

    def test_others_files_stay(self):
        os.makedirs(self.directory)
        for name in ('swap_512', f'{"a" * 40}_20', 'README'):
            path = os.path.join(self.directory, name)
            self.write(b'', path)
            self.age(10 ** 6, path)
        self.update()
        self.assertEqual(3, len(os.listdir(self.directory)))

    def test_no_images_yet(self):
        self.update()
        self.assertEqual(0, self.store.usage())

    def test_usage(self):
        self.store.disk(Source(b'x' * MIB), limit=None)
        self.store.file(Source(b'x' * MIB), lambda head: None)
        self.assertGreaterEqual(self.store.usage(), 2 * MIB)
        self.assertLess(self.store.usage(), 2 * MIB + 65536)


class KernelTest(ImagesCase):

    def copy(self, content, copy=kernel.copy_kernel):
        source = Source(content, 'aki', id=stem(repr(content)))
        path = os.path.join(self.instances, 'kernel')
        copy(self.store, source, path)
        self.assertEqual(content, self.read(path))
        self.assertEqual(0o600, stat.S_IMODE(os.stat(path).st_mode))

    def test_kernels(self):
        for content in (bytes(0x202) + b'HdrS', b'\x7fELF', b'\x1f\x8b\x08',
                        bytes(0x38) + b'ARM\x64',
                        bytes(0x24) + b'\x18\x28\x6f\x01'):
            self.copy(content)
        self.copy(b'anything', kernel.copy_ramdisk)

    def test_no_kernels(self):
        for content in (b'', b'MZ', b'HdrS', b'#!/bin/sh\n' * 100,
                        bytes(0x203) + b'HdrS'):
            raised = self.assertRaises(
                images.ImageRefused, self.copy, content)
            if content:
                self.assertIn('Linux bzImage', raised.reason)
        self.assertEqual([], self.names())

    def test_nothing_is_left_of_a_copy_that_fails(self):
        with mock.patch('shutil.copyfile', side_effect=OSError()):
            self.assertRaises(OSError, self.copy, KERNEL)
        self.assertNotIn('kernel', os.listdir(self.instances))


class HeaderTest(ImagesCase):

    def test_overlay(self):
        self.write(bytes(MIB))
        for version in ('0.10', '1.1'):
            path = self.overlay()
            subprocess.run(['qemu-img', 'amend', '-f', 'qcow2', '-o',
                            f'compat={version}', path], check=True)
            self.assertEqual(header.Qcow2(
                virtual_size=4 * MIB, backing_file=self.path,
                backing_format='raw', encrypted=False),
                header.read_qcow2(path))

    def test_no_overlay(self):
        self.write(self.made('qcow2'))
        self.assertEqual(header.Qcow2(
            virtual_size=3 * MIB, backing_file=None, backing_format=None,
            encrypted=False), header.read_qcow2(self.path))
        self.assertEqual(3 * MIB, header.virtual_size(self.path))

    def test_not_qcow2(self):
        for content in (b'', b'QFI\xfb', bytes(100)):
            self.write(content)
            self.assertIsNone(header.read_qcow2(self.path))
            self.assertIsNone(header.virtual_size(self.path))
