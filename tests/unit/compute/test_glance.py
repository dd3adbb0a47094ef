# SPDX-License-Identifier: Apache-2.0
"""Glance's images, and the store of images as Nova's image cache."""

import os
import subprocess
from unittest import mock

import fixtures
from nova import exception
from nova.compute import utils as compute_utils
from nova.image import glance as nova_glance
from nova.privsep import qemu
from nova.virt import images as nova_images

from tests.unit import base
from xen44_driver.compute import glance
from xen44_driver.storage import images

MIB = 1024 * 1024


class GlanceCase(base.TestCase):
    """With a double of Nova's client of Glance."""

    def setUp(self):
        super().setUp()
        self.content = bytes(MIB)
        self.recorded = {
            'id': base.IMAGE, 'disk_format': 'raw', 'size': MIB,
            'checksum': 'abc', 'properties': {}}
        self.api = mock.Mock()
        self.api.get.side_effect = lambda context, image_id: self.recorded
        self.api.download.side_effect = self._download
        self._patch(nova_glance, 'API', lambda: self.api)
        self._patch(nova_images, 'IMAGE_API', self.api)

    def _patch(self, *args):
        patcher = mock.patch.object(*args)
        patcher.start()
        self.addCleanup(patcher.stop)

    def _download(self, context, image_id, dest_path, trusted_certs):
        with open(dest_path, 'wb') as file:
            file.write(self.content)

    def qcow2(self, size='3M'):
        path = os.path.join(self.instances, 'image')
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', path,
                        size], check=True)
        with open(path, 'rb') as file:
            return file.read()


class SourceTest(GlanceCase):

    def source(self, **recorded):
        self.recorded.update(recorded)
        return glance.GlanceSource('context', base.IMAGE)

    def test_is_asked_once_when_needed(self):
        source = self.source()
        self.assertEqual(base.IMAGE, source.id)
        self.api.get.assert_not_called()
        self.assertEqual('raw', source.disk_format)
        self.assertEqual(MIB, source.size)
        self.assertEqual(('md5', 'abc'), source.checksum)
        self.api.get.assert_called_once_with('context', base.IMAGE)

    def test_metadata(self):
        self.assertEqual(
            base.IMAGE, glance.GlanceSource(None, base.image()).id)

    def test_not_known(self):
        source = self.source(disk_format='', size=0, checksum=None)
        self.assertIsNone(source.disk_format)
        self.assertIsNone(source.size)
        self.assertIsNone(source.checksum)

    def test_checksum(self):
        values = {'os_hash_algo': 'sha512', 'os_hash_value': 'def'}
        self.assertEqual(('sha512', 'def'), self.source(**values).checksum)
        self.recorded = {'checksum': 'abc', 'properties': values}
        self.assertEqual(('sha512', 'def'), self.source().checksum)

    def test_fetch(self):
        path = os.path.join(self.instances, 'image')
        source = glance.GlanceSource(
            'context', base.IMAGE, trusted_certs='certs')
        source.fetch(path)
        self.api.download.assert_called_once_with(
            'context', base.IMAGE, dest_path=path, trusted_certs='certs')
        self.assertEqual(MIB, os.path.getsize(path))


class CacheTest(GlanceCase):

    def setUp(self):
        super().setUp()
        self.cache = glance.ImageCache()
        self.path = self.cache.store.path(base.IMAGE)

    def fetch(self, **options):
        return self.cache.store.disk(
            glance.GlanceSource(None, base.IMAGE),
            **{'limit': None, **options})

    def age(self, seconds):
        for entry in os.scandir(self.cache.store.directory):
            used = entry.stat().st_mtime - seconds
            os.utime(entry.path, (used, used))

    def update(self, *used):
        with mock.patch.object(
                self.cache, '_list_running_instances',
                return_value={'used_images': dict.fromkeys(used)}):
            self.cache.update(None, [])

    def test_directory(self):
        self.assertEqual(os.path.join(self.instances, '_base'),
                         self.cache.store.directory)
        self.flags(subdirectory_name='_base_xen1', group='image_cache')
        self.assertEqual(os.path.join(self.instances, '_base_xen1'),
                         self.cache.store.directory)

    def test_cache(self):
        self.assertTrue(self.cache.cache(None, base.IMAGE))
        self.assertFalse(self.cache.cache(None, base.IMAGE))
        self.assertEqual(MIB, os.path.getsize(self.path))
        self.assertEqual(1, self.api.download.call_count)

    def test_cache_refuses(self):
        self.content = b''
        raised = self.assertRaises(
            exception.ImageUnacceptable, self.cache.cache, None, base.IMAGE)
        self.assertIn(base.IMAGE, str(raised))

    def test_force_raw(self):
        self.recorded['disk_format'] = 'qcow2'
        self.content = self.qcow2()
        self.flags(force_raw_images=False)
        self.assertEqual('qcow2', self.fetch().format)
        os.unlink(self.path)
        self.flags(force_raw_images=True)
        image = self.fetch()
        self.assertEqual(('raw', 3 * MIB), (image.format, image.size))

    def test_workaround(self):
        self.content = self.qcow2()
        self.assertRaises(images.ImageRefused, self.fetch)
        self.flags(disable_deep_image_inspection=True, group='workarounds')
        self.fetch()

    def test_age(self):
        self.fetch()
        self.age(24 * 3600)
        self.update(base.IMAGE)
        self.assertTrue(os.path.exists(self.path))
        self.update()
        self.assertTrue(os.path.exists(self.path))
        self.age(24 * 3600)
        self.update()
        self.assertFalse(os.path.exists(self.path))

    def test_age_that_is_configured(self):
        self.flags(remove_unused_original_minimum_age_seconds=60,
                   group='image_cache')
        self.fetch()
        self.age(50)
        self.update()
        self.assertTrue(os.path.exists(self.path))
        self.age(20)
        self.update()
        self.assertFalse(os.path.exists(self.path))

    def test_nothing_goes_where_nova_says_so(self):
        self.flags(remove_unused_base_images=False, group='image_cache')
        self.cache = glance.ImageCache()
        self.fetch()
        self.age(10 ** 6)
        self.update()
        self.assertTrue(os.path.exists(self.path))

    def test_disk_usage(self):
        self.assertEqual(0, self.cache.get_disk_usage())
        self.content = b'x' * MIB
        self.fetch()
        self.assertGreaterEqual(self.cache.get_disk_usage(), MIB)
        stat = os.stat

        def another(path):
            found = stat(path)
            if path == self.cache.store.directory:
                return mock.Mock(st_dev=found.st_dev + 1)
            return found

        with mock.patch('os.stat', another):
            self.assertEqual(0, self.cache.get_disk_usage())


class UploadTest(GlanceCase):

    def test_in_small_parts(self):
        """The HTTP server of uwsgi takes no chunk of 64 KiB."""
        path = self.useFixture(fixtures.TempDir()).join('disk')
        content = os.urandom(100_000)
        with open(path, 'wb') as file:
            file.write(content)
        parts = []

        def update(context, image_id, metadata, data, purge_props):
            # As glanceclient reads it.
            while part := data.read(65536):
                parts.append(part)

        self.api.update.side_effect = update
        glance.upload('context', base.IMAGE, path, {})
        self.assertEqual(content, b''.join(parts))
        self.assertLess(max(map(len, parts)), 65536)

    def test_whole(self):
        """As the file object that it is, if nobody says how much."""
        path = self.useFixture(fixtures.TempDir()).join('disk')
        content = os.urandom(100_000)
        with open(path, 'wb') as file:
            file.write(content)

        def update(context, image_id, metadata, data, purge_props):
            for sizes in ((), (None,), (-1,)):
                data.seek(0)
                self.assertEqual(content, data.read(*sizes))

        self.api.update.side_effect = update
        glance.upload('context', base.IMAGE, path, {})
        self.api.update.assert_called_once()


class ConvertTest(GlanceCase):

    def test_waits_for_its_turn(self):
        turn = mock.MagicMock()
        with mock.patch.object(compute_utils, 'disk_ops_semaphore', turn), \
                mock.patch.object(qemu, 'unprivileged_convert_image') as run:
            run.side_effect = lambda *_args: (
                turn.__enter__.assert_called_once_with(),
                turn.__exit__.assert_not_called())
            glance.convert_to_raw(base.IMAGE, '/a', '/b', 'qcow2')
        run.assert_called_once_with(
            '/a', '/b', 'qcow2', 'raw', self.instances, False)
        turn.__exit__.assert_called_once()

    def test_kinds_of_vmdk(self):
        self.flags(vmdk_allowed_types=['streamOptimized'], group='compute')
        path = os.path.join(self.instances, 'image')
        target = os.path.join(self.instances, 'target')
        for kind in ('monolithicSparse', 'streamOptimized'):
            subprocess.run(
                ['qemu-img', 'create', '-q', '-f', 'vmdk', '-o',
                 f'subformat={kind}', path, '3M'], check=True)
            if kind == 'streamOptimized':
                glance.convert_to_raw(base.IMAGE, path, target, 'vmdk')
            else:
                raised = self.assertRaises(
                    exception.ImageUnacceptable, glance.convert_to_raw,
                    base.IMAGE, path, target, 'vmdk')
                self.assertIn(base.IMAGE, str(raised))
        self.assertEqual(3 * MIB, os.path.getsize(target))


class RefusalTest(GlanceCase):

    def raised(self, kind, error):
        def fail():
            with glance.translated():
                raise error
        return str(self.assertRaises(kind, fail))

    def test_translated(self):
        self.assertIn('it is empty', self.raised(
            exception.ImageUnacceptable,
            images.ImageRefused(base.IMAGE, 'it is empty')))
        text = self.raised(exception.FlavorDiskSmallerThanImage,
                           images.ImageTooLarge(base.IMAGE, 20, 10))
        self.assertIn('disk is 10 bytes, image is 20 bytes', text)
        self.assertEqual(
            f'/base, which the disk lies on, is missing, and image '
            f'{base.IMAGE} cannot be fetched again: gone', self.raised(
                exception.ImageNotFound, images.ImageMissing(
                    base.IMAGE, '/base', 'is missing', 'gone')))
        self.raised(OSError, OSError())
