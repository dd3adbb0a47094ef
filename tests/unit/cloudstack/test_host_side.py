# SPDX-License-Identifier: Apache-2.0
"""Records, locks, images, seeds and the folder for management servers."""

import dataclasses
import json
import os
import pathlib
import stat
import subprocess
import sys
from unittest import mock

import fixtures
from oslo_concurrency import processutils
from oslotest import base

from tests.unit.cloudstack import test_describe
from xen44_driver.cloudstack import bundle
from xen44_driver.cloudstack import dom0host
from xen44_driver.cloudstack import entrypoint
from xen44_driver.cloudstack import program
from xen44_driver.cloudstack import seed
from xen44_driver.cloudstack import templates
from xen44_driver.cloudstack import vmlock
from xen44_driver.cloudstack import vmrecord
from xen44_driver.storage import images
from xen44_driver.storage import kinds
from xen44_driver.storage import layout
from xen44_driver.xen import errors
from xen44_driver.xen.diskclass import DiskClass

UUID = '7d1f6a52-93b4-4c0e-8a57-0b6f4c2d9e11'


class PlaceTestCase(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.place = pathlib.Path(self.useFixture(fixtures.TempDir()).path)


class RecordTest(PlaceTestCase):

    def setUp(self):
        super().setUp()
        self.files = layout.InstanceFiles(str(self.place), UUID)
        self.files.create()

    def test_kept(self):
        record = test_describe.decide(
            test_describe.payload(kernel='k', ramdisk='r'),
            test_describe.options()).record
        record = record.with_root(kinds.DiskRecord(
            kind='overlay', name='root', target='xvda', file='disk.qcow2',
            format='qcow2', base=kinds.Base(
                id='x@1-2', format='raw', virtual_size=512, size=2)))
        vmrecord.save(self.files, record)
        self.assertEqual(record, vmrecord.load(self.files))
        path = pathlib.Path(self.files.path('vm.json'))
        self.assertEqual(0o600, stat.S_IMODE(path.stat().st_mode))
        self.assertEqual(['vm.json'], self.files.names())

    def test_without_a_class_of_disks(self):
        """As it was before there were classes."""
        path = pathlib.Path(self.files.path('vm.json'))
        values = {'name': 'x', 'guest_type': 'pv', 'version': 1, 'disks': [{
            'kind': 'overlay', 'name': '/dev/xvda', 'target': 'xvda',
            'file': 'disk.qcow2', 'base': None}]}
        path.write_text(json.dumps(values))
        self.assertEqual(
            DiskClass.QEMU, vmrecord.load(self.files).disk_class)
        path.write_text(json.dumps({**values, 'disk_class': 'kernel'}))
        self.assertEqual(
            DiskClass.KERNEL, vmrecord.load(self.files).disk_class)

    def test_unreadable(self):
        path = pathlib.Path(self.files.path('vm.json'))
        for text in (None, '', '[]', '{}', '{"version": 2}',
                     '{"version": 1, "disks": [], "guest_type": "pv"}',
                     '{"version": 1, "disks": [], "guest_type": "kvm"}',
                     '{"version": 1, "disks": [{}], "guest_type": "pv"}'):
            if text is not None:
                path.write_text(text)
            self.assertRaises(
                vmrecord.RecordUnreadable, vmrecord.load, self.files)


class LockTest(PlaceTestCase):

    def held_elsewhere(self, uuid):
        """Whether another process finds it locked."""
        return subprocess.run(
            [sys.executable, '-c',
             'import sys\n'
             'from xen44_driver.cloudstack import vmlock\n'
             f'print(vmlock.is_locked({str(self.place)!r}, {uuid!r}))'],
            check=True, capture_output=True, text=True).stdout.strip()

    def test_locks(self):
        with vmlock.locked(str(self.place), UUID, 0):
            self.assertEqual('True', self.held_elsewhere(UUID))
            self.assertEqual('False', self.held_elsewhere(
                UUID.replace('7d', '8d')))
        self.assertEqual('False', self.held_elsewhere(UUID))

    def test_busy(self):
        holder = subprocess.Popen(
            [sys.executable, '-c',
             'from xen44_driver.cloudstack import vmlock\n'
             f'with vmlock.locked({str(self.place)!r}, {UUID!r}, 0):\n'
             '    print("held", flush=True)\n'
             '    input()\n'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(holder.wait)
        self.addCleanup(holder.communicate)
        self.assertEqual(b'held\n', holder.stdout.readline())

        def lock(timeout):
            with vmlock.locked(str(self.place), UUID, timeout):
                pass

        self.assertRaises(vmlock.VmBusy, lock, 0.3)
        holder.kill()
        holder.wait()
        lock(5)


class TemplatesTest(PlaceTestCase):

    def test_files(self):
        directory = str(self.place)
        for name in ('missing', 'directory', 'link'):
            if name == 'directory':
                os.mkdir(self.place / name)
            if name == 'link':
                os.symlink('/etc/hostname', self.place / name)
            error = self.assertRaises(
                errors.SpecError, templates.TemplateFile, directory, name)
            self.assertIn(repr(name), str(error))
        image = self.place / 'x@y.qcow2'
        image.write_bytes(b'x')
        found = templates.TemplateFile(directory, 'x@y.qcow2')
        self.assertEqual('x@y.qcow2', templates.file_name(found.id))
        self.assertEqual(1, found.size)
        # The same name is another image when the file is another one.
        self.assertIsInstance(
            templates.source_of(directory, found.id), templates.TemplateFile)
        image.write_bytes(b'xy')
        self.assertNotEqual(
            found.id, templates.TemplateFile(directory, 'x@y.qcow2').id)
        self.assertIsInstance(
            templates.source_of(directory, found.id), templates.GoneFile)

    def test_changed_meanwhile(self):
        """What was copied may be a part of it."""
        for directory in ('images', 'vms'):
            (self.place / directory).mkdir()
        image = self.place / 'images/raw'
        image.write_bytes(bytes(4096))
        store = templates.store(str(self.place / 'vms'))

        execute = processutils.execute

        def copy_slowly(*argv):
            execute(*argv)
            with image.open('ab') as file:
                file.write(bytes(4096))

        def disk():
            return store.disk(templates.TemplateFile(
                str(image.parent), image.name), limit=None)

        with mock.patch.object(
                templates.processutils, 'execute', copy_slowly):
            error = self.assertRaises(images.ImageRefused, disk)
        self.assertIn('changed while', str(error))
        self.assertEqual([], os.listdir(self.place / 'vms/_base'))
        self.assertEqual(8192, disk().virtual_size)

    def test_formats(self):
        """What no guest can use is unpacked; qcow2 stays as it is."""
        for directory in ('images', 'vms'):
            (self.place / directory).mkdir()
        store = templates.store(str(self.place / 'vms'))
        for program_, name in (('qcow2', 'qcow2'), ('raw', 'raw'),
                               ('vmdk', 'vmdk'), ('vdi', 'vdi'),
                               ('vpc', 'vhd'), ('vhdx', 'vhdx')):
            subprocess.run(
                ['qemu-img', 'create', '-q', '-f', program_,
                 self.place / 'images' / name, '8M'], check=True)
            image = store.disk(templates.TemplateFile(
                str(self.place / 'images'), name, name), limit=None)
            self.assertEqual('qcow2' if name == 'qcow2' else 'raw',
                             image.format, name)

    def test_store(self):
        (self.place / 'images').mkdir()
        vms = self.place / 'vms'
        vms.mkdir()
        (self.place / 'images/raw').write_bytes(bytes(4096))
        source = templates.TemplateFile(str(self.place / 'images'), 'raw')
        store = templates.store(str(vms))
        image = store.disk(source, limit=None)
        self.assertEqual(('raw', 4096), (image.format, image.virtual_size))
        base_ = templates.base_of(image)
        directory = str(self.place / 'images')
        templates.ensure(store, directory, base_)
        os.unlink(self.place / 'images/raw')
        # The copy is enough, while it is there.
        templates.ensure(store, directory, base_)
        os.unlink(image.path)
        error = self.assertRaises(
            images.ImageMissing, templates.ensure, store, directory, base_)
        self.assertIn('gone', str(error))


class SeedTest(PlaceTestCase):

    def test_contents(self):
        payload = test_describe.payload(lambda values: values[
            'cloudstack.vm.details']['nics'].append(
                {'deviceId': 1, 'mac': '02:01:00:d9:00:0b', 'mtu': 1450}))
        vm = payload.vm()
        self.assertEqual('i-4-231-vm', json.loads(seed.contents(
            dataclasses.replace(vm, name='i_4-231_VM'), (), (), None)[
                'meta-data'])['local-hostname'])
        files = seed.contents(
            vm, payload.hardware().nics, ['ssh-rsa A', 'ssh-rsa B'],
            None)
        self.assertEqual({
            'instance-id': UUID, 'local-hostname': 'i-4-231-vm',
            'public-keys': ['ssh-rsa A', 'ssh-rsa B']},
            json.loads(files['meta-data']))
        ethernets = json.loads(files['network-config'])['ethernets']
        self.assertEqual({
            'match': {'macaddress': '02:01:00:d9:00:0a'},
            'set-name': 'eth0',
            'addresses': ['10.20.0.37/24'],
            'nameservers': {'addresses': ['192.0.2.53', '192.0.2.54']},
            'routes': [{'to': '0.0.0.0/0', 'via': '10.20.0.1'}]},
            ethernets['eth0'])
        self.assertEqual({
            'match': {'macaddress': '02:01:00:d9:00:0b'},
            'set-name': 'eth1', 'mtu': 1450,
            'dhcp4': True, 'optional': True}, ethernets['eth1'])
        self.assertTrue(files['user-data'].startswith(b'#cloud-config'))

    def test_write(self):
        path = self.place / 'disk.config'
        path.touch()
        program_ = self.place / 'mkisofs'
        program_.write_text(
            '#!/bin/sh\nfor tree; do :; done\ncat "$tree"/* > "$3"\n')
        program_.chmod(0o755)
        seed.write(str(path), {'a': b'1', 'b': b'2'}, str(program_))
        self.assertEqual('12', path.read_text())
        self.assertEqual({'disk.config', 'mkisofs'},
                         {*os.listdir(self.place)})


class Dom0HostTest(PlaceTestCase):

    def test_time(self):
        """An action waits no longer than leaves it time for the rest."""
        with mock.patch('time.monotonic', side_effect=[1000, 1010, 1030]):
            dom0 = dom0host.Dom0Host(mock.sentinel.host, 60)
            self.assertIs(mock.sentinel.host, dom0.host)
            self.assertEqual(30, dom0.left(300))
            self.assertEqual(5, dom0.left(5))
        with mock.patch('time.monotonic', return_value=1050):
            self.assertEqual(0, dom0.left(300))

    def test_whether_another_action_works(self):
        dom0 = dom0host.Dom0Host(mock.Mock(), 60)
        dom0host.CONF.set_override(
            'storage_path', str(self.place), 'xen44_cloudstack')
        self.addCleanup(dom0host.CONF.clear_override, 'storage_path',
                        'xen44_cloudstack')
        self.assertFalse(dom0.is_locked(UUID))
        vm = test_describe.payload().vm()
        with dom0.locked(vm), mock.patch.object(
                vmlock.fcntl, 'lockf', side_effect=BlockingIOError):
            self.assertTrue(dom0.is_locked(vm.uuid))

    def test_storage_path(self):
        """Only the directory itself is private."""
        dom0 = dom0host.Dom0Host(mock.Mock(), 60)
        path = self.place / 'lib/xen44/cloudstack'
        dom0host.CONF.set_override(
            'storage_path', f'{path}/', 'xen44_cloudstack')
        self.addCleanup(dom0host.CONF.clear_override, 'storage_path',
                        'xen44_cloudstack')
        self.addCleanup(os.umask, os.umask(0o077))
        self.assertEqual(f'{path}/', dom0.storage_path)
        self.assertEqual([0o700, 0o755, 0o755], [
            stat.S_IMODE(one.stat().st_mode)
            for one in (path, path.parent, path.parent.parent)])
        self.assertEqual(0o077, os.umask(0o077))


class BundleTest(PlaceTestCase):

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch(
            'xen44_driver.cloudstack.bundle.HOST_KEYS',
            str(self.place / 'ssh_host_*_key.pub')))
        self.folder = self.place / 'xen44'

    def make(self, *addresses, port=22, **options):
        return bundle.make(str(self.folder), addresses, port, **options)

    def test_folder(self):
        self.assertRaises(OSError, self.make, '192.0.2.1')
        key = self.place / 'ssh_host_ed25519_key.pub'
        key.write_text('ssh-ed25519 AAAA root@xen-a\n')
        text = self.make('xen-a', '192.0.2.1')
        self.assertEqual(
            {'xen44.py', 'id_ed25519', 'id_ed25519.pub', 'known_hosts'},
            {*os.listdir(self.folder)})
        self.assertEqual(
            pathlib.Path(entrypoint.__file__).read_text(),
            (self.folder / 'xen44.py').read_text())
        self.assertEqual(0o755, stat.S_IMODE(
            (self.folder / 'xen44.py').stat().st_mode))
        self.assertEqual(0o600, stat.S_IMODE(
            (self.folder / 'id_ed25519').stat().st_mode))
        public = (self.folder / 'id_ed25519.pub').read_text().strip()
        self.assertIn(f'serve" {public}\n', text)
        self.assertIn('restrict,command="/', text)
        # Another host adds its keys, once.
        key.write_text('ssh-ed25519 BBBB root@xen-b\n')
        for _ in range(2):
            self.make('xen-b', port=2222)
        self.assertEqual(
            'xen-a,192.0.2.1 ssh-ed25519 AAAA\n'
            '[xen-b]:2222 ssh-ed25519 BBBB\n',
            (self.folder / 'known_hosts').read_text())
        self.assertEqual(
            public, (self.folder / 'id_ed25519.pub').read_text().strip())

    def test_other_configuration(self):
        """The key's command reads the files that this one was given."""
        (self.place / 'ssh_host_ed25519_key.pub').write_text('ssh-rsa AAAA')
        self.assertIn(' --config-file=/etc/a.conf --config-file=/etc/b.conf '
                      'serve" ssh-ed25519 ', self.make(
                          'xen-a', config_files=['/etc/a.conf',
                                                 '/etc/b.conf']))
        self.assertRaises(ValueError, self.make, 'xen-a',
                          config_files=['/etc/"a".conf'])

    def test_refused(self):
        for address in ('', '-x', 'a b', 'a,b', 'a\n'):
            self.assertRaises(ValueError, self.make, address)
        self.assertRaises(ValueError, self.make, 'a', port=0)
        self.folder = self.place / 'Xen 44'
        self.assertRaises(ValueError, self.make, 'a')
        self.assertFalse(self.folder.exists())


class CommandLineTest(base.BaseTestCase):

    def test_help(self):
        text = program.parser().format_help()
        for command in ('serve', 'run', 'bundle'):
            self.assertIn(command, text)
