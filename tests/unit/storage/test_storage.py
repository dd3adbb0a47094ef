# SPDX-License-Identifier: Apache-2.0
"""Disks of real files, made by the real programs."""

import os
import stat
from unittest import mock

from nova import exception
from nova.virt import images
from oslo_concurrency import processutils
from oslo_serialization import jsonutils

from tests.unit import base
from xen44_driver.storage import backend
from xen44_driver.storage import blank
from xen44_driver.storage import header
from xen44_driver.storage import imagecache
from xen44_driver.storage import kernel
from xen44_driver.storage import layout
from xen44_driver.storage import usage

MIB = 1024 * 1024


def info(path):
    """What qemu-img says of a file."""
    out, _err = processutils.execute(
        'qemu-img', 'info', '--output=json', path)
    return jsonutils.loads(out)


class StorageCase(base.TestCase):

    def path(self, name):
        return os.path.join(self.instances, name)

    def write(self, name, content):
        path = self.path(name)
        with open(path, 'wb') as file:
            file.write(content)
        return path

    def assert_private(self, path):
        self.assertEqual(0o600, stat.S_IMODE(os.stat(path).st_mode))


class LayoutTest(StorageCase):

    def test_life(self):
        files = layout.InstanceFiles(base.UUID)
        self.assertFalse(files.exist())
        files.create()
        files.create()
        self.assertTrue(files.exist())
        self.assertEqual(0o700, stat.S_IMODE(
            os.stat(files.directory).st_mode))
        self.assertIsNone(files.root_format(['qcow2', 'raw']))
        layout.create_private(files.root('raw'), 5)
        self.assert_private(files.root('raw'))
        self.assertEqual('raw', files.root_format(['qcow2', 'raw']))
        self.assertTrue(files.delete())
        self.assertTrue(files.delete())
        self.assertEqual([], os.listdir(self.instances))

    def test_interrupted_delete(self):
        files = layout.InstanceFiles(base.UUID)
        os.makedirs(f'{files.directory}_del/left')
        files.create()
        self.assertTrue(files.delete())
        self.assertEqual([], os.listdir(self.instances))


class BackendTest(StorageCase):

    def base(self, format, size=2 * MIB):
        path = self.path(f'base.{format}')
        processutils.execute(
            'qemu-img', 'create', '-q', '-f', format, path, str(size))
        return imagecache.CachedImage(
            path=path, format=format, virtual_size=size)

    def test_qcow2(self):
        for base_format in ('raw', 'qcow2'):
            image = self.base(base_format)
            disk = self.path('disk')
            backend.load('qcow2').create(image, disk, 8 * MIB)
            self.assert_private(disk)
            found = info(disk)
            self.assertEqual('qcow2', found['format'])
            self.assertEqual(8 * MIB, found['virtual-size'])
            self.assertEqual(image.path, found['backing-filename'])
            self.assertEqual(base_format, found['backing-filename-format'])
            self.assertEqual(8 * MIB, header.virtual_size(disk))

    def test_raw(self):
        for base_format in ('raw', 'qcow2'):
            disk = self.path('disk')
            backend.load('raw').create(self.base(base_format), disk, 8 * MIB)
            self.assert_private(disk)
            self.assertEqual('raw', info(disk)['format'])
            self.assertEqual(8 * MIB, os.path.getsize(disk))
            self.assertLess(os.stat(disk).st_blocks * 512, MIB)

    def test_unknown(self):
        raised = self.assertRaises(
            backend.UnknownBackend, backend.load, 'vhd')
        self.assertIn("'vhd'", str(raised))
        self.assertIn('qcow2, raw', str(raised))


class BlankTest(StorageCase):

    def test_swap(self):
        disk = self.path('swap')
        blank.create_swap(disk, MIB)
        with open(disk, 'rb') as file:
            self.assertIn(b'SWAPSPACE2', file.read(4096))
        self.assertEqual(MIB, os.path.getsize(disk))
        self.assert_private(disk)

    def test_ephemeral(self):
        disk = self.path('ephemeral')
        blank.create_ephemeral(disk, 8 * MIB, label='ephemeral0',
                               os_type=None, file_system='ext4')
        with open(disk, 'rb') as file:
            self.assertIn(b'ephemeral0', file.read(4096))
        self.assert_private(disk)

    def test_nothing_is_left_of_a_failure(self):
        with mock.patch('nova.privsep.fs.unprivileged_mkfs',
                        side_effect=processutils.ProcessExecutionError()):
            self.assertRaises(processutils.ProcessExecutionError,
                              blank.create_swap, self.path('swap'), MIB)
        self.assertEqual([], os.listdir(self.instances))


class KernelTest(StorageCase):

    def copy(self, content):
        cache = mock.Mock()
        cache.fetch_file.return_value = self.write('image', content)
        kernel.copy_kernel(cache, None, base.IMAGE, self.path('kernel'))

    def test_kernels(self):
        for content in (bytes(0x202) + b'HdrS', b'\x7fELF', b'\x1f\x8b\x08',
                        bytes(0x38) + b'ARM\x64'):
            self.copy(content)
            self.assert_private(self.path('kernel'))

    def test_no_kernels(self):
        for content in (b'', b'MZ', b'HdrS', b'#!/bin/sh\n' * 100):
            raised = self.assertRaises(
                exception.ImageUnacceptable, self.copy, content)
            self.assertIn('Linux bzImage', str(raised))
            self.assertIn(base.IMAGE, str(raised))


class ImageCacheTest(StorageCase):

    def setUp(self):
        super().setUp()
        self.cache = imagecache.ImageCache()
        self.fetched = []
        patcher = mock.patch.object(images, 'fetch_to_raw', self._fetch)
        patcher.start()
        self.addCleanup(patcher.stop)
        self.command = ['truncate', '-s', str(MIB + 1)]

    def _fetch(self, context, image_id, path):
        self.fetched.append(image_id)
        processutils.execute(*self.command, path)

    def age(self, path, seconds):
        now = os.stat(path).st_mtime
        os.utime(path, (now - seconds, now - seconds))

    def test_once(self):
        for _ in range(2):
            image = self.cache.fetch_disk(None, base.IMAGE)
            self.assertEqual('raw', image.format)
            self.assertEqual(MIB + 512, image.virtual_size)
        self.assertEqual([base.IMAGE], self.fetched)
        self.assert_private(image.path)
        self.assertFalse(self.cache.cache(None, base.IMAGE))
        self.assertGreaterEqual(self.cache.get_disk_usage(), 0)

    def test_qcow2(self):
        self.command = ['truncate', '-s', '0']

        def fetch(context, image_id, path):
            processutils.execute('qemu-img', 'create', '-q', '-f', 'qcow2',
                                 path, '3M')

        with mock.patch.object(images, 'fetch_to_raw', fetch):
            image = self.cache.fetch_disk(None, base.IMAGE)
        self.assertEqual(('qcow2', 3 * MIB),
                         (image.format, image.virtual_size))

    def test_other_formats(self):
        def fetch(context, image_id, path):
            processutils.execute('qemu-img', 'create', '-q', '-f', 'vmdk',
                                 path, '3M')

        with mock.patch.object(images, 'fetch_to_raw', fetch):
            raised = self.assertRaises(
                exception.ImageUnacceptable, self.cache.fetch_disk, None,
                base.IMAGE)
        self.assertIn('vmdk', str(raised))
        self.assertIn('raw and qcow2', str(raised))
        self.assertEqual([], os.listdir(self.cache.directory))

    def test_failed_download_leaves_nothing(self):
        self.command = ['false']
        self.assertRaises(processutils.ProcessExecutionError,
                          self.cache.fetch_disk, None, base.IMAGE)
        self.assertEqual([], os.listdir(self.cache.directory))

    def update(self, *used):
        with mock.patch.object(
                self.cache, '_list_running_instances',
                return_value={'used_images': dict.fromkeys(used)}):
            self.cache.update(None, [])

    def test_only_old_unused_images_go(self):
        for name in ('old', 'young', 'used'):
            self.cache.fetch_disk(None, name)
        for name in ('old', 'used'):
            self.age(self.cache.path(name), 2 * 24 * 3600)
        self.update('used')
        self.assertFalse(os.path.exists(self.cache.path('old')))
        self.assertTrue(os.path.exists(self.cache.path('young')))
        # It counts from when it was used last.
        self.update()
        self.assertTrue(os.path.exists(self.cache.path('used')))

    def test_nothing_goes_where_nova_says_so(self):
        self.flags(remove_unused_base_images=False, group='image_cache')
        self.cache = imagecache.ImageCache()
        self.cache.fetch_disk(None, 'old')
        self.age(self.cache.path('old'), 10 ** 6)
        self.update()
        self.assertTrue(os.path.exists(self.cache.path('old')))


class UsageTest(StorageCase):

    def test_promised(self):
        self.assertEqual(0, usage.measure().promised)
        files = layout.InstanceFiles(base.UUID)
        files.create()
        layout.create_private(files.swap, 4 * MIB)
        processutils.execute('qemu-img', 'create', '-q', '-f', 'qcow2',
                             files.root('qcow2'), '16M')
        # What a raw disk says of itself is the guest's word.
        with open(files.ephemeral(0), 'wb') as disk:
            disk.write(b'QFI\xfb' + b'\xff' * 28)
        promised = usage.measure().promised
        self.assertLessEqual(promised, 20 * MIB)
        self.assertGreater(promised, 19 * MIB)
