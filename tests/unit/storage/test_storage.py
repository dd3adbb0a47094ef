# SPDX-License-Identifier: Apache-2.0
"""Disks of real files, made by the real programs."""

import contextlib
import errno
import os
import stat
from unittest import mock

from oslo_concurrency import processutils
from oslo_serialization import jsonutils

from tests.unit import base
from xen44_driver.compute import disks
from xen44_driver.storage import header
from xen44_driver.storage import kinds
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
        files = layout.InstanceFiles(self.instances, base.UUID)
        self.assertFalse(files.exist())
        self.assertEqual([], files.names())
        files.create()
        files.create()
        self.assertTrue(files.exist())
        self.assertEqual(0o700, stat.S_IMODE(
            os.stat(files.directory).st_mode))
        self.assertEqual([], files.names())
        layout.create_private(files.path('disk.raw'), 5)
        self.assert_private(files.path('disk.raw'))
        self.assertEqual(['disk.raw'], files.names())
        self.assertTrue(files.delete())
        self.assertTrue(files.delete())
        self.assertEqual([], os.listdir(self.instances))

    def test_interrupted_delete(self):
        files = layout.InstanceFiles(self.instances, base.UUID)
        os.makedirs(f'{files.directory}_del/left')
        files.create()
        self.assertTrue(files.delete())
        self.assertEqual([], os.listdir(self.instances))


class KindCase(StorageCase):

    def setUp(self):
        super().setUp()
        self.bases = {}

    def base(self, format, size=2 * MIB):
        """Make an image with something in it."""
        path = self.path(f'base.{format}')
        raw = self.write('content', b'content' + bytes(size - 7))
        processutils.execute(
            'qemu-img', 'convert', '-f', 'raw', '-O', format, raw, path)
        self.bases[base.IMAGE] = path
        return kinds.Base(id=base.IMAGE, format=format, virtual_size=size,
                          size=os.path.getsize(path))

    def tools(self, **values):
        return kinds.Tools(**{
            'image_path': self.bases.__getitem__,
            'copying': contextlib.nullcontext(),
            'make_file_system': self.fail, 'write_config_drive': self.fail,
            **values})

    def make(self, kind, *, tools=None, **values):
        """Make a disk; returns its file."""
        disk = kinds.load(kinds.DiskRecord(**{
            'kind': kind, 'name': '/dev/xvda', 'target': 'xvda',
            'file': 'disk', **values}), self.instances)
        disk.prepare(tools or self.tools())
        return disk


class ImageKindsTest(KindCase):

    def test_overlay(self):
        for format in ('raw', 'qcow2'):
            image = self.base(format)
            disk = self.make('overlay', format='qcow2', size=8 * MIB,
                             base=image)
            self.assert_private(disk.path)
            found = info(disk.path)
            self.assertEqual('qcow2', found['format'])
            self.assertEqual(8 * MIB, found['virtual-size'])
            self.assertEqual(self.bases[image.id], found['backing-filename'])
            self.assertEqual(format, found['backing-filename-format'])
            self.assertEqual(8 * MIB, header.virtual_size(disk.path))
            self.assertEqual('qcow2', disk.spec().format)

    def test_clone(self):
        for format in ('raw', 'qcow2'):
            disk = self.make('clone', size=8 * MIB, base=self.base(format))
            self.assert_private(disk.path)
            self.assertEqual('raw', info(disk.path)['format'])
            self.assertEqual(8 * MIB, os.path.getsize(disk.path))
            self.assertLess(os.stat(disk.path).st_blocks * 512, MIB)
            with open(disk.path, 'rb') as file:
                self.assertEqual(b'content', file.read(7))

    def test_size_of_the_image(self):
        image = self.base('raw')
        self.assertEqual(2 * MIB, os.path.getsize(
            self.make('clone', base=image).path))
        self.assertEqual(2 * MIB, header.virtual_size(
            self.make('overlay', format='qcow2', base=image).path))

    def test_big_copies_wait_for_their_turn(self):
        turn = mock.MagicMock()
        self.make('clone', base=self.base('qcow2'),
                  tools=self.tools(copying=turn))
        turn.__enter__.assert_called_once_with()
        turn.__exit__.assert_called_once()

    def test_nothing_is_left_of_a_failed_copy(self):
        image = self.base('qcow2')
        os.truncate(self.bases[image.id], 100)
        self.assertRaises(processutils.ProcessExecutionError, self.make,
                          'clone', base=image)
        self.assertFalse(os.path.exists(self.path('disk')))

    def test_remove(self):
        disk = self.make('clone', base=self.base('raw'))
        disk.remove()
        disk.remove()
        self.assertFalse(os.path.exists(disk.path))

    def test_no_image(self):
        self.assertRaises(ValueError, self.make, 'overlay')

    def test_kind_of_a_newer_version(self):
        self.assertRaises(KeyError, self.make, 'hologram')


class CdromTest(KindCase):

    def cdrom(self, **values):
        return self.make('cdrom', device='cdrom', target='hdc',
                         base=self.base('raw'), **values)

    def test_shares_the_image(self):
        disk = self.cdrom()
        self.assertTrue(os.path.samefile(
            disk.path, self.bases[base.IMAGE]))
        self.assertTrue(disk.spec().readonly)
        # The image may leave the store; what a guest sees stays.
        os.unlink(self.bases[base.IMAGE])
        self.assertEqual(2 * MIB, os.path.getsize(disk.path))

    def test_again(self):
        self.cdrom()
        disk = self.cdrom()
        self.assertTrue(os.path.samefile(
            disk.path, self.bases[base.IMAGE]))

    def test_store_on_another_file_system(self):
        with mock.patch('os.link', side_effect=OSError(errno.EXDEV, 'no')):
            disk = self.cdrom()
        self.assertEqual(2 * MIB, os.path.getsize(disk.path))
        with mock.patch('os.link', side_effect=OSError(errno.ENOSPC, 'no')):
            self.assertRaises(OSError, self.cdrom)


class BlankTest(KindCase):

    def blank(self, size=MIB, **values):
        tools = self.tools(make_file_system=disks._file_system_maker(
            base.instance()))
        return self.make('blank', tools=tools, size=size, **values).path

    def test_empty(self):
        disk = self.blank()
        self.assertEqual(MIB, os.path.getsize(disk))
        self.assertEqual(0, os.stat(disk).st_blocks)
        self.assert_private(disk)

    def test_swap(self):
        disk = self.blank(file_system='swap')
        with open(disk, 'rb') as file:
            self.assertIn(b'SWAPSPACE2', file.read(4096))
        self.assertEqual(MIB, os.path.getsize(disk))
        self.assert_private(disk)

    def test_ephemeral(self):
        disk = self.blank(8 * MIB, file_system='ext4', label='ephemeral0')
        with open(disk, 'rb') as file:
            self.assertIn(b'ephemeral0', file.read(4096))
        self.assert_private(disk)

    def test_default_file_system(self):
        self.flags(default_ephemeral_format='ext3')
        with mock.patch('nova.privsep.fs.unprivileged_mkfs') as mkfs:
            self.blank(file_system='default', label='ephemeral0')
        mkfs.assert_called_once_with('ext3', self.path('disk'), 'ephemeral0')

    def test_nothing_is_left_of_a_failure(self):
        with mock.patch('nova.privsep.fs.unprivileged_mkfs',
                        side_effect=processutils.ProcessExecutionError()):
            self.assertRaises(processutils.ProcessExecutionError,
                              self.blank, file_system='swap')
        self.assertEqual([], os.listdir(self.instances))


class ConfigDriveTest(KindCase):

    def test_is_private_before_it_is_written(self):
        def write(path):
            self.assert_private(path)
            with open(path, 'wb') as file:
                file.write(b'drive')

        disk = self.make('config', tools=self.tools(write_config_drive=write))
        self.assertEqual(5, os.path.getsize(disk.path))

    def test_nothing_is_left_of_a_failure(self):
        self.assertRaises(
            OSError, self.make, 'config', tools=self.tools(
                write_config_drive=mock.Mock(side_effect=OSError)))
        self.assertEqual([], os.listdir(self.instances))


class UsageTest(StorageCase):

    def test_promised(self):
        self.assertEqual(0, usage.measure(self.instances).promised)
        files = layout.InstanceFiles(self.instances, base.UUID)
        files.create()
        layout.create_private(files.path('disk.swap'), 4 * MIB)
        processutils.execute('qemu-img', 'create', '-q', '-f', 'qcow2',
                             files.path('disk.qcow2'), '16M')
        # What a raw disk says of itself is the guest's word.
        with open(files.path('disk.eph0'), 'wb') as disk:
            disk.write(b'QFI\xfb' + b'\xff' * 28)
        promised = usage.measure(self.instances).promised
        self.assertLessEqual(promised, 20 * MIB)
        self.assertGreater(promised, 19 * MIB)
