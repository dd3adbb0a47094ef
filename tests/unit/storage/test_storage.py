# SPDX-License-Identifier: Apache-2.0
"""Disks of real files, made by the real programs."""

import contextlib
import errno
import os
import shutil
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
from xen44_driver.xen import domain

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


class ResizeLayoutTest(StorageCase):
    """The directory of an instance that is resized."""

    def setUp(self):
        super().setUp()
        self.files = layout.InstanceFiles(self.instances, base.UUID)
        self.mark('old')

    def mark(self, name):
        self.files.create()
        self.write(f'{base.UUID}/{name}', b'')

    def finish(self):
        self.files.set_aside()
        self.files.create_part()
        self.files.complete()
        self.mark('new')

    def test_confirmed(self):
        self.finish()
        self.files.forget_before_resize()
        self.files.forget_before_resize()
        self.assertEqual(['new'], self.files.names())
        self.assertEqual([base.UUID], os.listdir(self.instances))

    def test_reverted(self):
        self.finish()
        self.assertTrue(self.files.was_set_aside())
        self.files.bring_back()
        self.assertFalse(self.files.was_set_aside())
        self.assertEqual(['old'], self.files.names())
        self.assertEqual([base.UUID], os.listdir(self.instances))

    def test_interrupted(self):
        self.files.set_aside()
        self.files.create_part()
        self.files.create_part()
        self.assertFalse(self.files.exist())
        self.files.bring_back()
        self.assertEqual([base.UUID], os.listdir(self.instances))
        self.assertEqual(['old'], self.files.names())

    def stubborn(self):
        """Let the directory stay, once it was renamed."""
        rmtree = shutil.rmtree

        def remove(path, ignore_errors=False):
            if path != f'{self.files.directory}_del':
                rmtree(path, ignore_errors=ignore_errors)
            elif not ignore_errors:
                raise OSError(errno.EBUSY, 'busy')

        return mock.patch('shutil.rmtree', remove)

    def test_old_one_is_kept_where_the_new_one_stays(self):
        self.finish()
        with self.stubborn():
            self.assertRaises(OSError, self.files.bring_back)
        self.assertTrue(self.files.was_set_aside())
        self.files.bring_back()
        self.assertEqual(['old'], self.files.names())
        self.assertEqual([base.UUID], os.listdir(self.instances))

    def test_deleted(self):
        self.finish()
        self.files.create_part()
        self.assertTrue(self.files.delete())
        self.assertEqual([], os.listdir(self.instances))

    def test_one_that_stays_is_named(self):
        with mock.patch.object(layout, '_remove', return_value=False):
            raised = self.assertRaises(
                OSError, self.files.forget_before_resize)
        self.assertEqual(
            (errno.EIO, self.files.before_resize),
            (raised.errno, raised.filename))

    def test_one_that_stays_does_not_keep_the_others(self):
        self.finish()
        with self.stubborn():
            self.assertFalse(self.files.delete())
        self.assertEqual([f'{base.UUID}_del'], os.listdir(self.instances))

    def test_rescue(self):
        for name in ('disk.rescue.qcow2', 'kernel.rescue', 'disk.qcow2'):
            self.mark(name)
        self.files.delete_rescue()
        self.assertEqual(['disk.qcow2', 'old'], sorted(self.files.names()))


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

    def test_grow(self):
        for kind, format in (('clone', 'raw'), ('overlay', 'qcow2')):
            disk = self.make(kind, format=format, base=self.base('raw'))
            disk.grow(8 * MIB)
            self.assertEqual(8 * MIB, disk.measure())

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


class VolumeTest(KindCase):

    def test_spec(self):
        for block, format in ((True, 'raw'), (False, 'qcow2')):
            self.assertEqual(domain.Disk(
                target='xvdb', source='/run/volume', format=format,
                type='block' if block else 'file', readonly=True,
                serial=base.VOLUME), kinds.load(kinds.DiskRecord(
                    kind='volume', name='/dev/xvdb', target='xvdb',
                    file='/run/volume', format=format, block=block,
                    readonly=True, volume_id=base.VOLUME),
                    self.instances).spec())


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


class InheritTest(KindCase):
    """Disks with the content of older ones, which stay as they are."""

    def setUp(self):
        super().setUp()
        for name in ('old', 'new', 'newer'):
            os.mkdir(self.path(name))

    def disk(self, directory, **values):
        return kinds.load(kinds.DiskRecord(**{
            'name': '/dev/xvda', 'target': 'xvda', 'file': 'disk',
            **values}), self.path(directory))

    def content(self, disk, offset=0):
        """What a guest reads at an offset."""
        out, _err = processutils.execute(
            'qemu-io', '-r', '-f', disk.record.format, '-c',
            f'read -v {offset} 512', disk.path)
        return out.splitlines()[0].split()[1:17]

    def fill(self, disk, byte, offset=0):
        processutils.execute(
            'qemu-io', '-f', disk.record.format, '-c',
            f'write -q -P {byte} {offset} 512', disk.path)

    def test_overlay(self):
        values = {'kind': 'overlay', 'format': 'qcow2',
                  'base': self.base('raw')}
        old = self.disk('old', size=4 * MIB, **values)
        old.prepare(self.tools())
        self.fill(old, 1)
        before = self.read(old.path)
        new = self.disk('new', size=8 * MIB, **values)
        new.inherit(old, self.tools())
        self.assert_private(new.path)
        self.assertEqual(8 * MIB, new.measure())
        self.assertEqual(['01'] * 16, self.content(new))
        self.fill(new, 2)
        self.fill(new, 3, 7 * MIB)
        self.assertEqual(['01'] * 16, self.content(old))
        # The directory gets its name when it is complete.
        os.rename(self.path('new'), self.path('named'))
        new = self.disk('named', size=8 * MIB, **values)
        self.assertEqual(['02'] * 16, self.content(new))
        self.assertEqual(before, self.read(old.path))
        self.assertGreater(new.inherited_bytes(), 0)

        # The next resize, when this one was confirmed.
        os.unlink(old.path)
        self.assertTrue(new.settle(self.tools()))
        self.assertFalse(new.settle(self.tools()))
        self.assertEqual(['disk'], os.listdir(self.path('named')))
        self.assertEqual(['02'] * 16, self.content(new))
        self.assertEqual(['03'] * 16, self.content(new, 7 * MIB))
        self.assertEqual(8 * MIB, new.measure())
        self.assertEqual(0, new.inherited_bytes())
        self.assertEqual(self.bases[base.IMAGE],
                         header.read_qcow2(new.path).backing_file)

    def read(self, path):
        with open(path, 'rb') as file:
            return file.read()

    def test_overlay_without_a_size(self):
        values = {'kind': 'overlay', 'format': 'qcow2',
                  'base': self.base('raw')}
        old = self.disk('old', **values)
        old.prepare(self.tools())
        new = self.disk('new', **values)
        new.inherit(old, self.tools())
        self.assertEqual(2 * MIB, new.measure())

    def test_settle_is_interrupted(self):
        """Between the merge and the renaming."""
        values = {'kind': 'overlay', 'format': 'qcow2',
                  'base': self.base('raw')}
        old = self.disk('old', size=4 * MIB, **values)
        old.prepare(self.tools())
        new = self.disk('new', size=8 * MIB, **values)
        new.inherit(old, self.tools())
        self.fill(new, 2)
        with mock.patch('os.rename', side_effect=KeyboardInterrupt):
            self.assertRaises(
                KeyboardInterrupt, new.settle, self.tools())
        self.assertEqual(['02'] * 16, self.content(new))
        self.assertTrue(new.settle(self.tools()))
        self.assertEqual(['02'] * 16, self.content(new))

    def test_overlay_that_is_none(self):
        disk = self.disk('old', kind='overlay', format='qcow2')
        self.write('old/disk', bytes(4096))
        self.assertRaises(OSError, disk.measure)

    def test_raw(self):
        for kind, values in (('clone', {}), ('blank', {}),
                             ('blank', {'file_system': 'ext4'})):
            old = self.disk('old', kind=kind, size=MIB, **values)
            self.write('old/disk', b'content'.ljust(MIB, b'\0'))
            new = self.disk('new', kind=kind, size=4 * MIB, **values)
            new.inherit(old, self.tools())
            self.assert_private(new.path)
            self.assertEqual(4 * MIB, new.measure())
            self.assertEqual(b'content', self.read(new.path)[:7])
            self.assertFalse(os.path.samefile(old.path, new.path))
            self.assertGreater(old.inherited_bytes(), 0)
            self.assertLess(os.stat(new.path).st_blocks * 512, MIB)
            self.assertFalse(new.settle(self.tools()))

    def test_swap(self):
        tools = self.tools(make_file_system=disks._file_system_maker(
            base.instance()))
        old = self.disk('old', kind='blank', size=MIB, file_system='swap')
        self.write('old/disk', b'secret'.ljust(MIB, b'\0'))
        new = self.disk('new', kind='blank', size=MIB // 2,
                        file_system='swap')
        new.inherit(old, tools)
        self.assertEqual(MIB // 2, new.measure())
        self.assertNotIn(b'secret', self.read(new.path))
        self.assertEqual(0, old.inherited_bytes())

    def test_cdrom(self):
        values = {'kind': 'cdrom', 'device': 'cdrom', 'target': 'hdc'}
        old = self.disk('old', **values)
        self.write('old/disk', b'iso')
        new = self.disk('new', **values)
        new.inherit(old, self.tools())
        self.assertTrue(os.path.samefile(old.path, new.path))
        self.assertEqual(0, old.inherited_bytes())

    def test_config_drive_is_made_anew(self):
        written = []
        new = self.disk('new', kind='config')
        new.inherit(self.disk('old', kind='config'), self.tools(
            write_config_drive=written.append))
        self.assertEqual([new.path], written)


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

    def test_snapshots(self):
        """After each, a guest can write all of its disk anew."""
        directory = os.path.join(self.instances, 'uuid')
        os.mkdir(directory)
        full = os.path.join(directory, 'full')
        with open(full, 'wb') as file:
            file.write(os.urandom(8 * MIB))
        path = os.path.join(directory, 'disk.qcow2')
        processutils.execute('qemu-img', 'convert', '-f', 'raw', '-O',
                             'qcow2', full, path)
        processutils.execute('qemu-img', 'resize', '-q', path, '12M')
        # As far as it is not allocated yet.
        self.assertLessEqual(usage.growth(path), 4 * MIB)
        self.assertEqual(12 * MIB, usage.growth(path, more_snapshots=1))
        processutils.execute('qemu-img', 'snapshot', '-c', 'one', path)
        self.assertEqual(1, header.read_qcow2(path).snapshots)
        self.assertEqual(12 * MIB, usage.growth(path))
        self.assertEqual(12 * MIB, usage.measure(self.instances).promised)

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

    def test_disks_from_before_a_resize_grow_no_more(self):
        files = layout.InstanceFiles(self.instances, base.UUID)
        files.create()
        layout.create_private(files.path('disk.eph0'), 4 * MIB)
        files.set_aside()
        self.assertEqual(0, usage.measure(self.instances).promised)

    def test_require(self):
        usage.require(self.instances, 1, 'a disk')
        raised = self.assertRaises(
            OSError, usage.require, self.instances, 2 ** 62, 'a disk')
        self.assertEqual(errno.ENOSPC, raised.errno)
        self.assertIn(f'a disk needs {2 ** 62} bytes', str(raised))

    def test_shares_blocks(self):
        self.assertIn(usage.shares_blocks(self.instances), (True, False))
        for error, answer in (
                (None, True),
                (processutils.ProcessExecutionError(), False)):
            with mock.patch.object(processutils, 'execute',
                                   side_effect=error):
                self.assertIs(answer, usage.shares_blocks(self.instances))
        self.assertEqual([], os.listdir(self.instances))
