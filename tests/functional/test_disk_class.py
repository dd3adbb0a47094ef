# SPDX-License-Identifier: Apache-2.0
"""Servers whose disks dom0's kernel serves, on PCs and on ARM hosts."""

import os
import shutil
from unittest import mock

from lxml import etree
from nova import context as nova_context
from nova import exception
from nova import objects
from nova.tests.functional.api import client

from tests.functional import base
from tests.functional import test_servers
from tests.functional import test_snapshot
from xen44_driver.storage import usage
from xen44_driver.xen import loops

CONTENT = test_snapshot.CONTENT


class DiskClassCase(test_snapshot.SnapshotBase):

    def setUp(self):
        super().setUp()
        self.flags(allow_resize_to_same_host=True,
                   default_ephemeral_format='ext4')

    def server(self, **options):
        return self.boot(image=base.create_image(
            self.glance, base.raw_image(CONTENT)), **options)

    def by_kernel(self, kind='pvh', **values):
        return self.flavor(xen44_guest_type=kind, xen44_disk_class='kernel',
                           **values)

    def act(self, server, action, state, **arguments):
        self.api.post_server_action(
            server['id'], {action: arguments or None})
        return self._wait_for_state_change(server, state)

    def disks(self, server):
        """Target, driver and file name of each disk of a domain."""
        tree = etree.fromstring(self.domain(server).xml)
        return [(disk.find('target').get('dev'),
                 disk.find('driver').get('name'),
                 os.path.basename(disk.find('source').get('file')))
                for disk in tree.iterfind('devices/disk')]

    def loops(self):
        """How many loop devices there are of a server's files."""
        return len(list(loops.found()))

    def head(self, server, file='disk.raw'):
        with open(os.path.join(self.below.instances, server['id'], file),
                  'rb') as disk:
            return disk.read(len(CONTENT))

    def fault(self, server):
        """The fault of an action, which an active server does not show."""
        return objects.InstanceFaultList.get_by_instance_uuids(
            nova_context.get_admin_context(),
            [server['id']])[0].message


class LifeTest(DiskClassCase):

    def test_every_guest_type_that_can(self):
        for kind in ('pv', 'pvh'):
            server = self.server(flavor=self.by_kernel(
                kind, ephemeral=1, swap=64), config_drive=True)
            self.assertEqual(
                [('xvda', 'phy', 'disk.raw'), ('xvdb', 'phy', 'disk.eph0'),
                 ('xvdc', 'phy', 'disk.swap'),
                 ('xvdd', 'phy', 'disk.config')], self.disks(server))
            # There is no QEMU, so there is nothing to tell one.
            self.assertNotIn('commandline', self.domain(server).xml)
            self.assertEqual(CONTENT, self.head(server))
            path = os.path.join(
                self.below.instances, server['id'], 'disk.raw')
            status = os.stat(path)
            self.assertEqual(1024 ** 3, status.st_size)
            self.assertLess(status.st_blocks * 512, 4 * 1024 ** 2)
            self.assertEqual(4, self.loops())
            disk, *_ = self.api.get_server_diagnostics(
                server['id'])['disk_details']
            self.assertEqual(4096, disk['read_bytes'])
            server = self._stop_server(server)
            self.assertEqual(0, self.loops())
            self._start_server(server)
            self._reboot_server(server, hard=True)
            self._reboot_server(server)
            self.assertEqual(4, self.loops())
            self._delete_server(server)
            self.below.assert_nothing_left()

    def test_image_that_is_not_raw(self):
        self.flags(force_raw_images=False)
        image = base.create_image(
            self.glance, base.qcow2_image('2M', self.below.instances),
            disk_format='qcow2', hw_vm_mode='xen')
        server = self.boot(
            image=image, flavor=self.flavor(xen44_disk_class='kernel'))
        self.assertEqual([('xvda', 'phy', 'disk.raw')], self.disks(server))
        self.assertEqual(bytes(len(CONTENT)), self.head(server))

    def test_traits(self):
        for name in ('QEMU', 'KERNEL'):
            self.assertIn(f'CUSTOM_XEN44_DISK_CLASS_{name}', self.traits())
        server = self.boot(flavor=self.by_kernel(**{
            'trait:CUSTOM_XEN44_DISK_CLASS_KERNEL': 'required'}))
        self.assertEqual(1, self.loops())
        self._delete_server(server)

    def test_refused(self):
        for flavor, says in (
                (self.by_kernel('hvm'), 'allowed for a hvm guest: qemu'),
                (self.by_kernel(**{'quota:disk_read_iops_sec': '10'}),
                 'allowed: xen44:disk_class=qemu')):
            server = self.boot(flavor=flavor, expected='ERROR')
            self.assertIn(says, server['fault']['message'])
            self._delete_server(server)
        self.below.assert_nothing_left()

    def test_resize(self):
        server = self.server(flavor=self.by_kernel())
        self.act(server, 'resize', 'VERIFY_RESIZE', flavorRef=self.by_kernel(
            memory_mb=512, disk=2))
        path = os.path.join(self.below.instances, server['id'], 'disk.raw')
        self.assertEqual(2 * 1024 ** 3, os.path.getsize(path))
        self.assertEqual(CONTENT, self.head(server))
        self.act(server, 'revertResize', 'ACTIVE')
        self.assertEqual(1024 ** 3, os.path.getsize(path))
        self.act(server, 'resize', 'VERIFY_RESIZE', flavorRef=self.flavor(
            memory_mb=512, xen44_guest_type='pvh'))
        self.assertEqual([('xvda', 'qemu', 'disk.raw')], self.disks(server))
        self.assertEqual(0, self.loops())
        self.act(server, 'confirmResize', 'ACTIVE')
        self._delete_server(server)
        self.below.assert_nothing_left()

    def test_resize_of_a_qcow2_disk(self):
        server = self.boot(flavor=self.flavor(xen44_guest_type='pvh'))
        self.api.post_server_action(server['id'], {'resize': {
            'flavorRef': self.by_kernel(memory_mb=512)}})
        self._wait_for_action_fail_completion(
            server, 'resize', 'compute_resize_instance')
        self.assertIn('the root disk is qcow2', self.fault(server))
        self.assertTrue(self.domain(server).isActive())

    def test_rescue(self):
        server = self.server(flavor=self.by_kernel(), config_drive=True)
        rescue = base.create_image(self.glance, base.raw_image(b'rescue'))
        self.act(server, 'rescue', 'RESCUE', rescue_image_ref=rescue)
        self.assertEqual(
            [('xvda', 'phy', 'disk.rescue.raw'), ('xvdb', 'phy', 'disk.raw'),
             ('xvdd', 'phy', 'disk.rescue.config')], self.disks(server))
        self.act(server, 'unrescue', 'ACTIVE')
        self.assertEqual(2, self.loops())
        self._delete_server(server)
        self.below.assert_nothing_left()

    def test_rebuild(self):
        server = self.server(flavor=self.by_kernel())
        image = base.create_image(
            self.glance, base.raw_image(b'another'))
        self._rebuild_server(server, image)
        self.assertEqual(b'another', self.head(server)[:7])
        self.assertEqual(1, self.loops())

    def test_shelve(self):
        server = self.server(flavor=self.by_kernel())
        self.flags(shelved_offload_time=0)
        self.act(server, 'shelve', 'SHELVED_OFFLOADED')
        self.assertEqual(0, self.loops())
        self.act(server, 'unshelve', 'ACTIVE')
        self.assertEqual([('xvda', 'phy', 'disk.raw')], self.disks(server))
        self.assertEqual(CONTENT, self.head(server))

    def test_loop_devices_that_libxl_left(self):
        server = self.server(flavor=self.by_kernel())
        running = self.server(flavor=self.by_kernel())
        self.below.host.removes_loops = False
        self._stop_server(server)
        self.assertEqual(2, self.loops())
        self.compute = self.restart_compute_service(self.compute)
        left, = loops.found()
        self.assertEqual(running['id'], left.uuid)


class SnapshotTest(DiskClassCase):

    def assert_no_trace(self, server):
        self.assertNotIn(
            'clone', os.listdir(os.path.join(
                self.below.instances, server['id'])))
        self.assertEqual([], os.listdir(os.path.join(
            self.below.instances, 'snapshots', 'xen1')))

    def test_off_and_paused(self):
        server = self.server(flavor=self.by_kernel())
        self.act(server, 'pause', 'PAUSED')
        self.assertEqual(CONTENT, self.content(self.take(server)))
        self.act(server, 'unpause', 'ACTIVE')
        self._stop_server(server)
        self.assertEqual(CONTENT, self.content(self.take(server)))
        self.assert_no_trace(server)

    def test_running(self):
        server = self.server(flavor=self.by_kernel())
        with mock.patch.object(usage, 'shares_blocks', return_value=False):
            image_id = self.take(server)
        self.assertNotIn(image_id, self.glance.images)
        self.assertIn('stopped or paused', self.fault(server))
        with mock.patch.object(usage, 'shares_blocks', return_value=True), \
                mock.patch.object(usage, 'clone', shutil.copy) as clone:
            self.assertEqual(CONTENT, self.content(self.take(server)))
        self.assertIs(shutil.copy, clone)
        self.assertTrue(self.domain(server).isActive())
        self.assert_no_trace(server)


class ArmTest(test_servers.ServersBase):
    """A host as Debian has it: without a QEMU for Xen."""

    def setUp(self):
        super().setUp()
        self.below.host.arch = 'aarch64'
        self.below.host.machines = ['xenpv']
        self.compute = self.restart_compute_service(self.compute)
        self.kernel = base.create_image(
            self.glance, base.BZIMAGE, disk_format='aki',
            container_format='aki')
        self.image = base.create_image(
            self.glance, base.raw_image(CONTENT), kernel_id=self.kernel)

    def test_life(self):
        self.assertEqual(
            {'CUSTOM_XEN44_DISK_CLASS_KERNEL', 'CUSTOM_XEN44_GUEST_PVH'},
            {trait for trait in self.traits() if trait.startswith(
                ('CUSTOM_XEN44_DISK', 'CUSTOM_XEN44_GUEST'))})
        server = self.boot(config_drive=True)
        for text in ('phy', 'disk.raw', 'xenpv'):
            self.assertIn(text, self.domain(server).xml)
        self.assertNotIn('qemu', self.domain(server).xml)
        self._reboot_server(server, hard=True)
        self._delete_server(server)
        self.below.assert_nothing_left()

    def test_refused(self):
        kernel = {'kernel_id': self.kernel}
        for properties, flavor, says in (
                (kernel, {'xen44_guest_type': 'pv'}, 'guest type pv'),
                (kernel, {'xen44_guest_type': 'hvm'}, 'guest type hvm'),
                (kernel, {'xen44_disk_class': 'qemu'}, "disk_class 'qemu'"),
                ({**kernel, 'hw_video_model': 'vga'}, {}, 'hw_video_model'),
                ({'hw_firmware_type': 'uefi'}, {}, 'pvh_loader')):
            image = base.create_image(
                self.glance, base.raw_image(), **properties)
            server = self.boot(image=image, flavor=self.flavor(**flavor),
                               expected='ERROR')
            self.assertIn(says, server['fault']['message'])
            self._delete_server(server)
        self.below.assert_nothing_left()

    def test_refused_of_a_running_server(self):
        server = self.boot()
        xml = self.domain(server).xml
        self.api.post_server_action(server['id'], {'suspend': None})
        self._wait_for_action_fail_completion(
            server, 'suspend', 'compute_suspend_instance')
        raised = self.assertRaises(
            client.OpenStackApiException, self.api.api_post,
            f'/servers/{server["id"]}/remote-consoles',
            {'remote_console': {'protocol': 'vnc', 'type': 'novnc'}})
        self.assertIn('console type vnc', str(raised))
        # As the destination, which Nova asks first.
        raised = self.assertRaises(
            exception.MigrationPreCheckError, self.compute.manager.driver
            .check_can_live_migrate_destination, None, None, None, None)
        self.assertIn('Xen on aarch64 cannot', str(raised))
        server = self.api.get_server(server['id'])
        self.assertEqual('ACTIVE', server['status'])
        self.assertEqual(xml, self.domain(server).xml)
