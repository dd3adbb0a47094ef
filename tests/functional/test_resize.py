# SPDX-License-Identifier: Apache-2.0
"""Resize and cold migration on one host, through Nova's API."""

import os
import threading
import time
from unittest import mock

from lxml import etree
from nova import context as nova_context
from nova import objects
from nova.compute import manager
from nova.compute import task_states

from tests.functional import base
from tests.functional import test_servers
from xen44_driver.compute import machine
from xen44_driver.compute import resize
from xen44_driver.compute import start
from xen44_driver.storage import header

GIB = 1024 ** 3


class ResizeCase(test_servers.ServersBase):

    def setUp(self):
        super().setUp()
        self.flags(allow_resize_to_same_host=True,
                   default_ephemeral_format='ext4')

    def resize(self, server, flavor, expected='VERIFY_RESIZE'):
        self.api.post_server_action(
            server['id'], {'resize': {'flavorRef': flavor}})
        return self._wait_for_state_change(
            server, expected)

    def act(self, server, action, expected='ACTIVE'):
        self.api.post_server_action(server['id'], {action: None})
        return self._wait_for_state_change(
            server, expected)

    def path(self, server, *names):
        return os.path.join(self.below.instances, server['id'], *names)

    def disks(self, server):
        """Target and file name of each disk of a domain."""
        tree = etree.fromstring(self.domain(server).xml)
        return [(disk.find('target').get('dev'),
                 os.path.basename(disk.find('source').get('file')))
                for disk in tree.iterfind('devices/disk')]

    def memory(self, server):
        return etree.fromstring(self.domain(server).xml).findtext('memory')

    def instance(self, server):
        return objects.Instance.get_by_uuid(
            nova_context.get_admin_context(), server['id'],
            expected_attrs=['system_metadata', 'flavor'])

    def larger(self, *, memory_mb=512, disk=2, **values):
        return self.flavor(memory_mb=memory_mb, disk=disk, **values)

    def assert_clean(self, server):
        """No record and no directory of a resize is left."""
        self.assertIsNone(machine.recall(
            self.instance(server), machine.BEFORE_RESIZE))
        self.assertEqual(
            [server['id']], [name for name in os.listdir(self.below.instances)
                             if name.startswith(server['id'])])


class ResizeTest(ResizeCase):
    """What the user sees, and what is on the disk."""

    def test_confirm(self):
        server = self.boot()
        self.resize(server, self.larger())
        self.assertTrue(self.domain(server).isActive())
        self.assertEqual('512', self.memory(server))
        self.assertEqual(
            2 * GIB, header.virtual_size(self.path(server, 'disk.qcow2')))
        self.assertEqual(1, len(self.below.plugged))
        server = self.act(server, 'confirmResize')
        self.assert_clean(server)
        self._reboot_server(server, hard=True)
        # The layers of the first are one before there are more.
        self.resize(server, self.larger(disk=3))
        self.act(server, 'confirmResize')
        self.assert_clean(server)
        layer = header.read_qcow2(self.path(server, 'layer.qcow2'))
        self.assertEqual('_base', os.path.basename(
            os.path.dirname(layer.backing_file)))
        self.assertEqual(
            3 * GIB, header.virtual_size(self.path(server, 'disk.qcow2')))
        self._delete_server(server)
        self.below.assert_nothing_left()

    def test_revert(self):
        flavor = self.flavor(swap=64)
        server = self.boot(flavor=flavor, config_drive=True)
        before = self.domain(server).xml
        inode = os.stat(self.path(server, 'disk.qcow2')).st_ino
        record = machine.recall(self.instance(server))
        self.resize(server, self.larger(
            swap=128, ephemeral=1, xen44_guest_type='pvh'))
        self.assertIn('xenpvh', self.domain(server).xml)
        self.assertEqual(
            [('xvda', 'disk.qcow2'), ('xvdc', 'disk.eph0'),
             ('xvdb', 'disk.swap'), ('xvdd', 'disk.config')],
            self.disks(server))
        self.act(server, 'revertResize')
        self.assertEqual(before, self.domain(server).xml)
        self.assertTrue(self.domain(server).isActive())
        self.assertEqual(
            inode, os.stat(self.path(server, 'disk.qcow2')).st_ino)
        self.assertEqual(record, machine.recall(self.instance(server)))
        self.assertEqual(1, len(self.below.plugged))
        self.assert_clean(server)
        self._delete_server(server)
        self.below.assert_nothing_left()

    def test_stopped(self):
        server = self._stop_server(self.boot())
        self.resize(server, self.larger())
        self.assertFalse(self.domain(server).isActive())
        server = self.act(server, 'confirmResize', 'SHUTOFF')
        self.resize(server, self.larger(disk=3))
        server = self.act(server, 'revertResize', 'SHUTOFF')
        self.assertFalse(self.domain(server).isActive())
        self._start_server(server)
        self.assertEqual(
            2 * GIB, header.virtual_size(self.path(server, 'disk.qcow2')))

    def test_raw_and_ephemeral(self):
        self.flags(disk_format='raw', group='xen44')
        server = self.boot(flavor=self.flavor(swap=64, ephemeral=1))
        self.flags(disk_format='qcow2', group='xen44')
        for name in ('disk.raw', 'disk.eph0', 'disk.swap'):
            with open(self.path(server, name), 'r+b') as disk:
                disk.write(b'before')
        self.resize(server, self.larger(swap=32, ephemeral=2))

        def read(name):
            with open(self.path(server, name), 'rb') as disk:
                return (os.path.getsize(self.path(server, name)),
                        disk.read(6))

        self.assertEqual((2 * GIB, b'before'), read('disk.raw'))
        self.assertEqual((2 * GIB, b'before'), read('disk.eph0'))
        size, content = read('disk.swap')
        self.assertEqual(32 * 1024 ** 2, size)
        self.assertNotEqual(b'before', content)
        for name in ('disk.raw', 'disk.eph0'):
            with open(self.path(server, name), 'r+b') as disk:
                disk.write(b'after!')
        self.act(server, 'revertResize')
        self.assertEqual((GIB, b'before'), read('disk.raw'))
        self.assertEqual((GIB, b'before'), read('disk.eph0'))

    def test_swap_is_removed(self):
        server = self.boot(flavor=self.flavor(swap=64))
        self.resize(server, self.larger())
        self.assertEqual([('hda', 'disk.qcow2')], self.disks(server))
        self.assertFalse(os.path.exists(self.path(server, 'disk.swap')))

    def test_kernel(self):
        kernel = base.create_image(
            self.glance, base.BZIMAGE, disk_format='aki',
            container_format='aki')
        server = self.boot(image=base.create_image(
            self.glance, base.raw_image(), kernel_id=kernel))
        # It has one already.
        self.flags(allow_image_kernels=False, group='xen44')
        self.resize(server, self.larger())
        self.assertTrue(os.path.exists(self.path(server, 'kernel')))
        self.act(server, 'confirmResize')

    def test_cold_migration(self):
        server = self.boot()
        self.admin_api.post_server_action(server['id'], {'migrate': None})
        self._wait_for_state_change(
            server, 'VERIFY_RESIZE')
        self.assertTrue(self.domain(server).isActive())
        self.act(server, 'confirmResize')
        self.assert_clean(server)

    def test_delete_before_the_decision(self):
        server = self.boot()
        self.resize(server, self.larger())
        self._delete_server(server)
        self.below.assert_nothing_left()
        self.assertEqual([], [
            name for name in os.listdir(self.below.instances)
            if name.startswith(server['id'])])


class RefusalTest(ResizeCase):
    """What cannot be is refused while the guest runs."""

    def faults(self, server):
        found = objects.InstanceFaultList.get_by_instance_uuids(
            nova_context.get_admin_context(), [server['id']])
        return {fault.id: fault.message for fault in found}

    def new_fault(self, server, known):
        """Wait for another fault than those that are known."""
        for _ in range(120):
            new = self.faults(server)
            for number in new.keys() - known.keys():
                return new[number]
            time.sleep(0.5)
        self.fail('there is no new fault')

    def refuse(self, server, flavor, *says):
        domain = self.domain(server)
        before = domain.ID(), domain.xml, self.below.files()
        known = self.faults(server)
        self.api.post_server_action(
            server['id'], {'resize': {'flavorRef': flavor}})
        fault = self.new_fault(server, known)
        self._wait_for_server_parameter(server, {
            'status': 'ACTIVE', 'OS-EXT-STS:task_state': None})
        for text in says:
            self.assertIn(text, fault)
        self.assertEqual(
            before, (domain.ID(), domain.xml, self.below.files()))
        self.assertIsNone(machine.recall(
            self.instance(server), machine.BEFORE_RESIZE))

    def test_smaller(self):
        # Nova itself refuses a smaller root disk.
        server = self.boot(flavor=self.flavor(ephemeral=2))
        self.refuse(server, self.larger(ephemeral=1), '/dev/xvdb', 'smaller')
        self.refuse(server, self.larger(), '/dev/xvdb', 'smaller')

    def test_guest_type(self):
        image = base.create_image(
            self.glance, base.raw_image(), hw_vm_mode='xen')
        server = self.boot(image=image)
        self.refuse(server, self.larger(xen44_guest_type='hvm'),
                    'hw_vm_mode=xen', 'xen44:guest_type=hvm')

    def test_memory(self):
        server = self.boot()
        with mock.patch.object(self.below.host, 'getFreeMemory',
                               return_value=100 * 1024 ** 2):
            self.refuse(server, self.larger(), 'MiB of free memory')

    def test_no_room(self):
        self.flags(disk_format='raw', group='xen44')
        server = self.boot()
        with open(self.path(server, 'disk.raw'), 'r+b') as disk:
            disk.write(b'content')
        with mock.patch.object(resize.usage, 'shares_blocks',
                               return_value=False), mock.patch.object(
                resize.usage, 'require',
                side_effect=OSError(28, 'No space left')):
            self.refuse(server, self.larger(), 'No space left')

    def test_another_host(self):
        server = self.boot()
        with mock.patch.object(
                objects.Migration, 'get_by_id_and_instance',
                return_value=objects.Migration(dest_compute='xen2')):
            self.refuse(server, self.larger(), 'another host', 'xen2')


class InterruptedTest(ResizeCase):
    """A resize that fails or is killed half-way."""

    def test_finish_fails(self):
        server = self.boot()
        before = self.domain(server).xml
        with mock.patch.object(start, 'boot', side_effect=OSError('no')):
            server = self.resize(server, self.larger(), 'ERROR')
        self.assertIn('no', server['fault']['message'])
        self.assert_clean(server)
        self._reboot_server(server, hard=True)
        self.assertEqual(before, self.domain(server).xml)
        self.resize(server, self.larger())

    def test_killed_before_the_disks_moved(self):
        """nova-compute was killed; it undoes the resize when it starts."""
        server = self.boot()
        killed = threading.Event()

        def kill(*_args):
            killed.set()
            raise BaseException

        with mock.patch.object(
                manager.ComputeManager, '_terminate_volume_connections',
                side_effect=kill), mock.patch.object(
                    self.compute.manager, '_revert_allocation'):
            self.api.post_server_action(
                server['id'], {'resize': {'flavorRef': self.larger()}})
            self.assertTrue(killed.wait(self.TRIES / 2))
            self._wait_for_server_parameter(
                server, {'OS-EXT-STS:task_state':
                         task_states.RESIZE_MIGRATING})
        self.compute = self.restart_compute_service(self.compute)
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None})
        self.assertTrue(self.domain(server).isActive())
        self.assert_clean(server)

    def test_killed_while_disks_are_made(self):
        server = self.boot()
        instance = self.instance(server)
        resize.before_resize.keep(
            self.driver._node, instance, machine.recall(instance))
        self.driver._node.files(instance).create_part()
        # What an administrator does.
        self.api.post_server_action(
            server['id'], {'os-resetState': {'state': 'error'}})
        self._reboot_server(server, hard=True)
        self.assertTrue(self.domain(server).isActive())
        self.resize(server, self.larger())
        self.act(server, 'revertResize')
        self.assert_clean(server)

    def test_killed_when_they_are_complete(self):
        server = self.boot()
        self.resize(server, self.larger())
        self.api.post_server_action(
            server['id'], {'os-resetState': {'state': 'active'}})
        self._reboot_server(server, hard=True)
        self.assertEqual('512', self.memory(server))
        self.resize(server, self.larger(disk=3))
        self.act(server, 'revertResize')
        self.assertEqual(
            2 * GIB, header.virtual_size(self.path(server, 'disk.qcow2')))
        self.assert_clean(server)
