# SPDX-License-Identifier: Apache-2.0
"""Images of servers, through Nova's real API."""

import os
import shutil
import subprocess
import time
from unittest import mock

import fixtures

from tests.functional import base
from tests.functional import test_servers
from xen44_driver.compute import blockjobs
from xen44_driver.compute import snapshot
from xen44_driver.core import monitor
from xen44_driver.storage import scratch
from xen44_driver.xen import blocks
from xen44_driver.xen import domain

CONTENT = b'the root disk of the server'


class SnapshotBase(test_servers.ServersBase):
    """A cloud whose Glance keeps what is uploaded."""

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch(
            'xen44_driver.compute.blockjobs._FIRST_PAUSE', 0.01))
        self.useFixture(base.UploadsFixture())

    def server(self, **options):
        image = base.create_image(
            self.glance, base.raw_image(CONTENT), hw_vm_mode='xen')
        return self.boot(image=image, **options)

    def take(self, server, name='snapshot'):
        """Ask for an image; return its id when Nova has ended."""
        answer = self.api.post_server_action(
            server['id'], {'createImage': {'name': name}})
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None})
        return answer['image_id']

    def content(self, image_id):
        """The first bytes of the disk in an image."""
        path = os.path.join(self.below.instances, 'image')
        with open(path, 'wb') as file:
            file.write(self.glance._imagedata[image_id])
        format = self.glance.images[image_id]['disk_format']
        subprocess.run(['qemu-img', 'convert', '-f', format, '-O', 'raw',
                        path, f'{path}.raw'], check=True)
        with open(f'{path}.raw', 'rb') as file:
            content = file.read(len(CONTENT))
        os.unlink(path)
        os.unlink(f'{path}.raw')
        return content

    def assert_no_trace(self):
        """No scratch file, no job."""
        self.assertEqual([], self._scratch_files())
        self.assertTrue(self.below.qemu.clean())

    def _scratch_files(self):
        return [path for path in self.below.files()
                if path.startswith(scratch.DIRECTORY)]

    def assert_failed(self, server, *fragments):
        """A snapshot fails; the server goes on, and there is no image."""
        before = self.domain(server).xml
        image_id = self.take(server)
        self.assertNotIn(image_id, self.glance.images)
        server = self.api.get_server(server['id'])
        self.assertEqual('ACTIVE', server['status'])
        self.assertEqual(before, self.domain(server).xml)
        self.assert_no_trace()
        events = self.api.get_instance_actions(server['id'])
        self.assertEqual('createImage', events[0]['action'])
        for fragment in fragments:
            self.assertIn(fragment, self.stdlog.logger.output)


class SnapshotTest(SnapshotBase):

    def test_life(self):
        server = self.server()
        domid = self.domain(server).ID()
        image_id = self.take(server)
        image = self.glance.images[image_id]
        self.assertEqual(
            ('snapshot', 'active', 'qcow2', 'bare', 1, 'xen'),
            (image['name'], image['status'], image['disk_format'],
             image['container_format'], image['min_disk'],
             image['properties']['hw_vm_mode']))
        self.assertNotIn('kernel_id', image['properties'])
        self.assertFalse([name for name in image['properties']
                          if 'xen44' in name])
        self.assertEqual(CONTENT, self.content(image_id))
        # Small, though the disk has 1 GiB.
        self.assertLess(image['size'], 2 * 1024 ** 2)
        self.assertEqual(domid, self.domain(server).ID())
        self.assert_no_trace()
        self.assertIn(f'path={self.below.sockets}/{server["id"]}.qmp',
                      self.domain(server).xml)
        self.assertIn('linux', self.domain(self.boot(image=image_id)).xml)

        self.api.post_server_action(server['id'], {'pause': {}})
        self._wait_for_state_change(server, 'PAUSED')
        self.assertEqual(CONTENT, self.content(self.take(server)))
        self.assertEqual(2, self.below.qemu.executed.count('transaction'))
        self.assertEqual('PAUSED', self.api.get_server(
            server['id'])['status'])
        self.api.post_server_action(server['id'], {'unpause': {}})
        self._wait_for_state_change(server, 'ACTIVE')

        self._stop_server(server)
        # Its QEMU still writes.
        there = [True, True, False]
        with mock.patch('xen44_driver.privsep.monitor_is_there',
                        side_effect=lambda uuid: there.pop(0)):
            self.assertEqual(CONTENT, self.content(self.take(server)))
        self.assertEqual([], there)
        self.assertEqual(2, self.below.qemu.executed.count('transaction'))

        # By the operator.
        self.domain(server).undefine()
        self.assertEqual(CONTENT, self.content(self.take(server)))
        self.assert_no_trace()

    @base.slow
    def test_each_format(self):
        for disk_format in ('qcow2', 'raw'):
            for image_format in ('qcow2', 'raw'):
                self.flags(disk_format=disk_format,
                           snapshot_image_format=image_format, group='xen44')
                server = self.server()
                running = self.take(server)
                self._stop_server(server)
                for image_id in (running, self.take(server)):
                    self.assertEqual(
                        image_format,
                        self.glance.images[image_id]['disk_format'])
                    self.assertEqual(CONTENT, self.content(image_id))
        self.assert_no_trace()

    def test_kernel_of_its_own_and_emulated_disk(self):
        kernel = base.create_image(
            self.glance, base.BZIMAGE, disk_format='aki',
            container_format='aki')
        image = base.create_image(
            self.glance, base.raw_image(CONTENT), kernel_id=kernel,
            os_command_line='quiet')
        # Firmware, and systems without PV drivers, write to that one.
        self.below.qemu.emulated = True
        server = self.boot(
            image=image, flavor=self.flavor(xen44_guest_type='hvm'))
        properties = self.glance.images[self.take(server)]['properties']
        self.assertEqual((kernel, 'quiet'), (
            properties['kernel_id'], properties['os_command_line']))
        self.assert_no_trace()
        disk = domain.Disk(
            target='xvda', format='qcow2', source=os.path.join(
                self.below.instances, server['id'], 'disk.qcow2'))
        self.assertEqual(
            {'xvda': blocks.Statistics(
                read_bytes=1024, read_requests=2, write_bytes=512,
                write_requests=1, flush_requests=3)},
            monitor.block_statistics(server['id'], [disk]))

    def test_backups_are_rotated(self):
        server = self.server()
        taken = []
        with mock.patch.object(self.glance, 'detail', self._detail):
            for number in range(3):
                answer = self.api.post_server_action(server['id'], {
                    'createBackup': {'name': f'backup{number}',
                                     'backup_type': 'daily', 'rotation': 2}})
                self._wait_for_server_parameter(
                    server, {'OS-EXT-STS:task_state': None})
                taken.append(answer['image_id'])
        self.assertNotIn(taken[0], self.glance.images)
        for image_id in taken[1:]:
            image = self.glance.images[image_id]
            self.assertEqual(('active', 'qcow2', 'backup'), (
                image['status'], image['disk_format'],
                image['properties']['image_type']))
            self.assertEqual(CONTENT, self.content(image_id))
        self.assert_no_trace()

    def _detail(self, context, **kwargs):
        """Backups, the newest first, as Glance lists them by the filter."""
        return [image for image in reversed(self.glance.images.values())
                if image.get('properties', {}).get('image_type') == 'backup']


class FailureTest(SnapshotBase):

    def setUp(self):
        super().setUp()
        self.guest = self.server()

    def test_each(self):
        qemu = self.below.qemu
        usage = shutil.disk_usage(self.below.instances)._replace(free=1000)
        with mock.patch('shutil.disk_usage', return_value=usage):
            self.assert_failed(self.guest, 'MiB free')
        self.assertNotIn('blockdev-add', qemu.executed)

        qemu.refused['transaction'] = 'Need a root block node'
        self.assert_failed(self.guest, 'Need a root block node')
        qemu.refused.clear()

        qemu.job_error = 'No space left on device'
        self.assert_failed(self.guest, 'No space left on device')
        qemu.job_error = None

        with mock.patch.object(self.glance, 'update',
                               side_effect=OSError('Glance is full')):
            self.assert_failed(self.guest, 'Glance is full')

        qemu.emulated = True
        qemu.on_look = lambda: setattr(qemu, 'emulated', False)
        self.assert_failed(self.guest, 'emulated disk to the PV disk')
        qemu.on_look = lambda: None

        qemu.slow = True
        with mock.patch.object(blockjobs, 'STALLED', -1):
            self.assert_failed(self.guest, 'no progress')

        qemu.on_look = self.domain(self.guest).reboot
        image_id = self.take(self.guest)
        self.assertNotIn(image_id, self.glance.images)
        self.assertTrue(self.domain(self.guest).isActive())
        self.assertIn('stopped or rebooted meanwhile',
                      self.stdlog.logger.output)

    def test_deleted_meanwhile(self):
        self.below.qemu.slow = True
        self.api.post_server_action(
            self.guest['id'], {'createImage': {'name': 'late'}})
        self._delete_server(self.guest)
        for _ in range(100):
            if not self._scratch_files():
                break
            time.sleep(0.1)
        self.below.assert_nothing_left()

    def test_nova_compute_is_killed(self):
        # What is left: a job in QEMU, its target, the file.
        qemu = self.below.qemu
        qemu.slow = True
        with mock.patch.object(snapshot, '_abandon'), mock.patch.object(
                blockjobs, 'wait', side_effect=OSError('killed')), \
                mock.patch.object(scratch.Scratch, 'remove'):
            self.take(self.guest)
        self.assertFalse(qemu.clean())
        self.compute = self.restart_compute_service(self.compute)
        self.assert_no_trace()
        qemu.slow = False
        self.assertEqual(CONTENT, self.content(self.take(self.guest)))
