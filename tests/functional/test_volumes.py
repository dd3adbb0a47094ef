# SPDX-License-Identifier: Apache-2.0
"""Volumes through Nova's real API, with doubles of Cinder and os-brick."""

import os
import time
from unittest import mock
import uuid

import fixtures
from lxml import etree
from nova import context as nova_context
from nova import objects
from nova.tests import fixtures as nova_fixtures
from nova.tests.functional.api import client
from nova.volume import cinder
from oslo_serialization import jsonutils

from tests.functional import base
from tests.functional import fakebrick
from tests.functional import test_servers
from xen44_driver.compute import attachments
from xen44_driver.compute import volumeswap
from xen44_driver.xen import qmp
from xen44_driver.xen import sockets


class VolumesBase(test_servers.ServersBase):
    """A cloud with Cinder.

    :ivar connection: what Cinder says of the connection of every volume.
    """

    def setUp(self):
        super().setUp()
        self.cinder = self.useFixture(nova_fixtures.CinderFixture(self))
        self.brick = self.useFixture(fakebrick.FakeBrickFixture())
        self.connection = {'driver_volume_type': 'iscsi',
                           'data': {'auth_password': 'secret'}}
        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.CinderFixture._find_connection_info',
            lambda _double, *names: self._connection(*names)))
        for name in ('GONE_TIMEOUT', 'EXTEND_TIMEOUT'):
            self.useFixture(fixtures.MockPatchObject(attachments, name, 0))

    def _connection(self, volume_id, attachment_id):
        return {**self.connection,
                'data': {**self.connection['data'], 'volume_id': volume_id,
                         'attachment_id': attachment_id}}

    def volume(self):
        """The id of a new volume."""
        return str(uuid.uuid4())

    def attach(self, server, volume, **values):
        """Attach a volume, and wait until Nova has, or has failed."""
        self.notifier.reset()
        self.api.post_server_volume(server['id'], {'volumeAttachment': {
            'volumeId': volume, **values}})
        return self.wait_for('instance.volume_attach')

    def detach(self, server, volume):
        """Detach a volume, and wait until Nova has, or has failed."""
        self.notifier.reset()
        self.api.delete_server_volume(server['id'], volume)
        return self.wait_for('instance.volume_detach')

    def wait_for(self, event):
        """Wait for the end of what Nova does; return its error, or None."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            for notice in self.notifier.versioned_notifications:
                if notice['event_type'] == f'{event}.end':
                    return None
                if notice['event_type'] == f'{event}.error':
                    return notice['payload']['nova_object.data']['fault'][
                        'nova_object.data']['exception_message']
            time.sleep(0.05)
        return 'not in time'

    def boot_volume(self, volume=None, *, expected='ACTIVE', **options):
        """Boot a server from a volume."""
        server = self._build_server(networks='auto',
                                    flavor_id=options.pop('flavor', None)
                                    or self.flavor(xen44_guest_type='pvh'))
        server.pop('imageRef', None)
        server['block_device_mapping_v2'] = [{
            'boot_index': 0, 'uuid': volume or self.volume(),
            'source_type': 'volume', 'destination_type': 'volume'},
            *options.pop('more', ())]
        server = self.api.post_server({'server': {**server, **options}})
        return self._wait_for_state_change(server, expected)

    def link(self, server, volume):
        """The link of a server to a volume."""
        return os.path.join(
            sockets.DIRECTORY, 'volumes', server['id'], volume)

    def definition(self, server):
        """Target, kind and serial of each disk, as defined."""
        return self._disks(self.domain(server).xml)

    def running(self, server):
        """The same of the running domain."""
        return self._disks(self.domain(server).live)

    @staticmethod
    def _disks(xml):
        return [(disk.find('target').get('dev'), disk.get('type'),
                 disk.findtext('serial'))
                for disk in etree.fromstring(xml).iterfind('devices/disk')]

    def attachments(self, volume):
        """Cinder's attachments of a volume."""
        return self.cinder.volume_to_attachment[volume]

    def assert_free(self, server, volume):
        """Nothing of a volume is left on this host."""
        self.assertNotIn(volume, self.brick.connected)
        self.assertNotIn(volume, self.brick.opened)
        self.assertFalse(os.path.lexists(self.link(server, volume)))


class AttachTest(VolumesBase):
    """Attach and detach."""

    def test_every_guest_type(self):
        for kind, target in (('pv', 'xvdb'), ('pvh', 'xvdb'),
                             ('hvm', 'xvde')):
            server = self.boot(flavor=self.flavor(xen44_guest_type=kind))
            volume = self.volume()
            self.assertIsNone(self.attach(server, volume))
            mine = (target, 'block', volume)
            self.assertIn(mine, self.definition(server))
            self.assertIn(mine, self.running(server))
            self.assertEqual('block', self.domain(server).disks[target])
            self.assertEqual(self.brick.connected[volume],
                             os.readlink(self.link(server, volume)))
            self.assertIn(f'dev="{self.link(server, volume)}"',
                          self.domain(server).xml.replace("'", '"'))
            self.assertNotIn('secret', self.domain(server).xml)

            self.assertIsNone(self.detach(server, volume))
            self.assertNotIn(mine, self.definition(server))
            self.assertNotIn(mine, self.running(server))
            self.assertNotIn(target, self.domain(server).disks)
            self.assert_free(server, volume)
            self.assertEqual([False], self.brick.forced)
            self.brick.forced.clear()
            self._delete_server(server)
        self.below.assert_nothing_left()

    @base.slow
    def test_while_stopped(self):
        server = self._stop_server(self.boot())
        volume, other = self.volume(), self.volume()
        self.assertIsNone(self.attach(server, volume))
        self.assertIsNone(self.attach(server, other))
        self.assertIsNone(self.detach(server, other))
        # The target forgets this host meanwhile.
        del self.brick.connected[volume]
        self._start_server(server)
        self.assertIn(('xvde', 'block', volume), self.running(server))
        self.assertEqual(self.brick.connected[volume],
                         os.readlink(self.link(server, volume)))
        self._delete_server(server)
        self.assert_free(server, volume)
        self.below.assert_nothing_left()

    @base.slow
    def test_every_start_connects_anew(self):
        server = self.boot()
        volume = self.volume()
        self.attach(server, volume)
        link = self.link(server, volume)
        for hard in (False, True):
            self.brick.connected.clear()
            self._reboot_server(server, hard=hard)
            self.assertEqual(self.brick.connected[volume], os.readlink(link))
            self.assertIn(('xvde', 'block', volume), self.running(server))

    @base.slow
    def test_ceph(self):
        """dom0's kernel has it open a moment longer than the guest."""
        self.connection = {'driver_volume_type': 'rbd', 'data': {}}
        server = self.boot()
        volume = self.volume()
        self.assertIsNone(self.attach(server, volume))
        self.assertEqual(['RBD'], self.brick.protocols)
        self.assertIn(('xvde', 'block', volume), self.running(server))
        self.brick.busy = 1
        self.assertIsNone(self.detach(server, volume))
        self.assertEqual(0, self.brick.busy)
        self.assert_free(server, volume)

    @base.slow
    def test_file(self):
        for format in ('raw', 'qcow2'):
            self.connection = {'driver_volume_type': 'nfs',
                               'data': {'format': format}}
            server = self.boot(flavor=self.flavor(xen44_guest_type='pvh'))
            volume = self.volume()
            if format == 'qcow2':
                with open(self.brick.content(volume), 'wb') as file:
                    file.write(base.qcow2_image(
                        '1M', self.below.console_logs))
                os.unlink(os.path.join(
                    self.below.console_logs, 'image.qcow2'))
            self.assertIsNone(self.attach(server, volume))
            self.assertIn(('xvdb', 'file', volume), self.running(server))
            self.assertIn(f'type="{format}"', self.domain(server).xml.replace(
                "'", '"').split('xvdb')[0].rpartition('<disk')[2])
            self.assertIsNone(self.detach(server, volume))
            self.assert_free(server, volume)
            self._delete_server(server)

    def test_file_by_kernel(self):
        server = self.boot(flavor=self.flavor(
            xen44_guest_type='pvh', xen44_disk_class='kernel'))
        self.connection = {'driver_volume_type': 'nfs',
                           'data': {'format': 'qcow2'}}
        self.assertIn('disks of class kernel: raw',
                      self.attach(server, self.volume()))
        self.connection['data']['format'] = 'raw'
        volume = self.volume()
        self.assertIsNone(self.attach(server, volume))
        self.assertIn(('xvdb', 'file', volume), self.running(server))
        self.assertEqual('block', self.domain(server).disks['xvdb'])
        self._reboot_server(server, hard=True)
        self.assertEqual('block', self.domain(server).disks['xvdb'])
        self.assertIsNone(self.detach(server, volume))
        self.assert_free(server, volume)

    def test_encrypted(self):
        self.connection['data']['encrypted'] = True
        encryption = {'provider': 'luks2', 'control_location': 'front-end',
                      'encryption_key_id': 'key'}
        self.useFixture(fixtures.MonkeyPatch(
            'nova.volume.cinder.API.get_volume_encryption_metadata',
            lambda *args: encryption))
        server = self.boot()
        volume = self.volume()
        self.assertIsNone(self.attach(server, volume))
        self.assertEqual(encryption, self.brick.opened[volume])
        self._reboot_server(server, hard=True)
        self.assertEqual(encryption, self.brick.opened[volume])
        self.assertIsNone(self.detach(server, volume))
        self.assert_free(server, volume)

        # Ciphertext never reaches a guest.
        for wrong in ({**encryption, 'provider': 'veracrypt'},
                      {**encryption, 'control_location': 'back-end'}, {}):
            with mock.patch('nova.volume.cinder.API.'
                            'get_volume_encryption_metadata',
                            return_value=wrong):
                self.assertIn('luks', self.attach(server, self.volume()))
        self.assertEqual({}, self.brick.connected)

    @base.slow
    def test_limits(self):
        """Cinder's QoS specs, of a volume that QEMU serves."""
        self.connection = {'driver_volume_type': 'nfs', 'data': {
            'qos_specs': {'total_iops_sec': '9'}}}
        server = self.boot(flavor=self.flavor(xen44_guest_type='pvh'))
        self.assertIsNone(self.attach(server, self.volume()))
        self.assertEqual([9], self.limits(server))
        self._reboot_server(server, hard=True)
        self.assertEqual([9], self.limits(server))
        self.connection['data']['qos_specs'] = {'total_iops_sec': 'many'}
        self.assertIn("'many'; allowed", self.attach(server, self.volume()))

    def limits(self, server):
        """The limits on requests of all disks that have any."""
        qemu = self.below.qemu.qemus[self.domain(server).ID()]
        return [limits['iops'] for limits in qemu.throttles.values()
                if limits]

    @base.slow
    def test_tagged(self):
        server = self.boot()
        volume = self.volume()
        self.attach(server, volume, tag='database')
        device, = self.metadata(server)
        self.assertEqual((['database'], volume, '/dev/xvde'), (
            device['tags'], device['serial'], device['path']))
        self.detach(server, volume)
        # Nova forgets the tag a moment later.
        self._wait_for_instance_action_event(
            server, 'detach_volume', 'compute_detach_volume', 'Success')
        self.assertEqual([], self.metadata(server))

    def metadata(self, server):
        """The devices that the metadata service tells of."""
        instance = objects.Instance.get_by_uuid(
            nova_context.get_admin_context(), server['id'],
            expected_attrs=['device_metadata'])
        found = instance.device_metadata
        return [{'tags': device.tags, 'serial': device.serial,
                 'path': device.path}
                for device in (found.devices if found else ())]

    def test_guest_that_does_not_let_go(self):
        """libxl takes the disk away; libvirt has to be asked twice."""
        server = self.boot()
        volume = self.volume()
        self.attach(server, volume)
        self.below.host.guests_obey = False
        self.assertIsNone(self.detach(server, volume))
        self.assertNotIn(('xvde', 'block', volume), self.running(server))
        self.assert_free(server, volume)
        self.below.host.guests_obey = True

    @base.slow
    def test_detach_that_fails(self):
        server = self.boot()
        volume = self.volume()
        self.attach(server, volume)
        self.below.host.failures['detach'] = 'libxenlight failed'
        with mock.patch('xen44_driver.privsep.detach_disk',
                        side_effect=OSError('xl failed')):
            self.api.delete_server_volume(server['id'], volume)
            self._wait_for_instance_action_event(
                server, 'detach_volume', 'compute_detach_volume', 'Error')
        self.assertIn(('xvde', 'block', volume), self.definition(server))
        self.assertIn(volume, self.brick.connected)
        self.below.host.failures.clear()
        self.assertIsNone(self.detach(server, volume))
        self.assert_free(server, volume)

    def test_attach_that_fails(self):
        server = self.boot()
        before = self.definition(server), self.running(server)
        for failure in ('connect', 'libvirt', 'xenstore', 'open'):
            volume = self.volume()
            self.connection['driver_volume_type'] = 'iscsi'
            if failure == 'libvirt':
                self.below.host.failures['attach'] = 'libxenlight failed'
            elif failure == 'xenstore':
                self.below.xenstore.vbd['hotplug-error'] = 'in use by 3'
            elif failure == 'open':
                self.connection = {'driver_volume_type': 'nfs',
                                   'data': {'format': 'qcow2'}}
            else:
                self.brick.failures.add(failure)
            self.assertTrue(self.attach(server, volume), failure)
            self.assertEqual({}, self.brick.connected)
            self.assert_free(server, volume)
            self.assertEqual({}, self.attachments(volume))
            self.assertEqual(
                before, (self.definition(server), self.running(server)))
            self.below.host.failures.clear()
            self.below.xenstore.vbd.pop('hotplug-error', None)
            self.brick.failures.clear()
            # Nova forgets the volume a moment later.
            self.assertEqual([], self.api.get_server_volumes(server['id']))

    def test_unsupported(self):
        server = self.boot()
        for info, says in (
                ({'driver_volume_type': 'vmdk', 'data': {}},
                 ('vmdk', 'iscsi', 'rbd')),
                ({'driver_volume_type': 'nfs', 'data': {'format': 'vhd'}},
                 ('vhd', 'qcow2')),
                ({'driver_volume_type': 'nfs', 'data': {
                    'format': 'raw', 'access_mode': 'ro'}}, ('block device',)),
                ({'driver_volume_type': 'iscsi', 'data': {
                    'access_mode': 'append'}}, ('append',))):
            self.connection = info
            error = self.attach(server, self.volume())
            for text in says:
                self.assertIn(text, error)
        self.assertEqual([], self.brick.protocols)

    @base.slow
    def test_readonly(self):
        self.connection['data']['access_mode'] = 'ro'
        server = self.boot()
        self.assertIsNone(self.attach(server, self.volume()))
        self.assertIn('<readonly/>', self.domain(server).live)


class DeleteTest(VolumesBase):
    """A server that goes."""

    def test_target_is_away(self):
        server = self.boot()
        volume = self.volume()
        self.attach(server, volume)
        self.brick.failures.add('disconnect')
        self._delete_server(server)
        self.assertEqual([True], self.brick.forced)
        self.assert_free(server, volume)
        self.below.assert_nothing_left()

    @base.slow
    def test_domain_is_gone(self):
        """An operator undefined it."""
        server = self.boot()
        volume = self.volume()
        self.attach(server, volume)
        self.domain(server).destroy()
        self.domain(server).undefine()
        self.assertIsNone(self.detach(server, volume))
        self.assert_free(server, volume)


class BootTest(VolumesBase):
    """Servers that boot from volumes."""

    def test_boot(self):
        for kind, target, more in (
                ('pv', 'xvda', 'xvdb'), ('pvh', 'xvda', 'xvdb'),
                ('hvm', 'hda', 'xvde')):
            root, data = self.volume(), self.volume()
            server = self.boot_volume(
                root, flavor=self.flavor(xen44_guest_type=kind), more=[{
                    'boot_index': 1, 'uuid': data, 'source_type': 'volume',
                    'destination_type': 'volume'}])
            self.assertEqual([(target, 'block', root), (more, 'block', data)],
                             self.running(server))
            self.assertEqual([], [
                path for path in self.below.files() if 'disk' in path])
            for hard in (False, True):
                self.brick.connected.clear()
                self._reboot_server(server, hard=hard)
                self.assertEqual({root, data}, set(self.brick.connected))
            self._delete_server(server)
            self.assert_free(server, root)
            self.below.assert_nothing_left()

    @base.slow
    def test_local_root_and_volume(self):
        self.flags(default_ephemeral_format='ext4')
        volume = self.volume()
        server = self.boot(
            flavor=self.flavor(ephemeral=1, xen44_guest_type='pvh'),
            block_device_mapping_v2=[
                {'boot_index': 0, 'uuid': self.image, 'source_type': 'image',
                 'destination_type': 'local'},
                {'boot_index': 1, 'uuid': volume, 'source_type': 'volume',
                 'destination_type': 'volume'},
                {'source_type': 'blank', 'destination_type': 'local',
                 'boot_index': -1, 'volume_size': 1}])
        self.assertEqual({('xvda', 'file', None), ('xvdb', 'file', None),
                          ('xvdc', 'block', volume)},
                         set(self.running(server)))

    @base.slow
    def test_cannot_connect(self):
        self.brick.failures.add('connect')
        self.boot_volume(expected='ERROR')
        self.assertEqual({}, self.brick.connected)
        self.below.assert_nothing_left()

    @base.slow
    def test_suspend_and_shelve(self):
        volume = self.volume()
        server = self.boot_volume(volume)
        self.api.post_server_action(server['id'], {'suspend': {}})
        self._wait_for_state_change(server, 'SUSPENDED')
        self.brick.connected.clear()
        self.api.post_server_action(server['id'], {'resume': {}})
        server = self._wait_for_state_change(server, 'ACTIVE')
        self.assertIn(volume, self.brick.connected)
        self.flags(shelved_offload_time=0)
        self._shelve_server(server, expected_state='SHELVED_OFFLOADED')
        self.assert_free(server, volume)
        self.below.assert_nothing_left()
        self._unshelve_server(server)
        self.assertEqual([('xvda', 'block', volume)], self.running(server))

    @base.slow
    def test_resize(self):
        volume, data = self.volume(), self.volume()
        server = self.boot_volume(volume)
        self.attach(server, data)
        self.flags(allow_resize_to_same_host=True)
        bigger = self.flavor(memory_mb=512, xen44_guest_type='pvh')
        for revert in (True, False):
            server = self._resize_server(server, bigger)
            self.assertEqual([('xvda', 'block', volume),
                              ('xvdb', 'block', data)], self.running(server))
            if revert:
                server = self._revert_resize(server)
            else:
                server = self._confirm_resize(server)
            self.assertEqual({volume, data}, set(self.brick.connected))
            self.assertEqual([('xvda', 'block', volume),
                              ('xvdb', 'block', data)], self.running(server))
        self._delete_server(server)
        self.below.assert_nothing_left()

    @base.slow
    def test_rescue_beside_a_volume(self):
        server = self.boot(flavor=self.flavor(xen44_guest_type='pvh'))
        volume = self.volume()
        self.attach(server, volume)
        self.api.post_server_action(server['id'], {'rescue': {
            'rescue_image_ref': self.image}})
        server = self._wait_for_state_change(server, 'RESCUE')
        self.assertNotIn(('xvdb', 'block', volume), self.running(server))
        self.brick.connected.clear()
        self.api.post_server_action(server['id'], {'unrescue': None})
        server = self._wait_for_state_change(server, 'ACTIVE')
        self.assertIn(('xvdb', 'block', volume), self.running(server))
        self.assertIn(volume, self.brick.connected)

    @base.slow
    def test_rebuild(self):
        server = self.boot(flavor=self.flavor(xen44_guest_type='pvh'))
        volume = self.volume()
        self.attach(server, volume)
        server = self._rebuild_server(server, self.image)
        self.assertEqual([('xvda', 'file', None), ('xvdb', 'block', volume)],
                         self.running(server))
        self._delete_server(server)
        self.below.assert_nothing_left()


    @base.slow
    def test_rebuild_of_the_volume_that_it_boots_from(self):
        """Cinder writes the image to it while this host is not connected."""
        root, data = self.volume(), self.volume()
        server = self.boot_volume(root)
        self.attach(server, data)
        other = base.create_image(self.glance, base.raw_image(b'other'))
        asked = []

        def write(_api, _context, volume, image, reimage_reserved):
            asked.append((volume, image, dict(self.brick.connected)))
            self.api.create_server_external_events([{
                'name': 'volume-reimaged', 'server_uuid': server['id'],
                'tag': volume}])

        self.useFixture(fixtures.MonkeyPatch(
            'nova.volume.cinder.API.reimage_volume', write))
        server = self._rebuild_server(server, other)
        self.assertEqual([(root, other, {})], asked)
        self.assertEqual([('xvda', 'block', root), ('xvdb', 'block', data)],
                         self.running(server))
        self._delete_server(server)
        self.assert_free(server, root)
        self.below.assert_nothing_left()

    @base.slow
    def test_only_disks(self):
        server = self.boot_volume(expected='ERROR', more=[{
            'boot_index': 1, 'uuid': self.volume(), 'source_type': 'volume',
            'destination_type': 'volume', 'device_type': 'cdrom'}])
        self.assertIn("'cdrom'; allowed: disk", str(
            self.api.get_server(server['id'])['fault']))
        self.assertEqual({}, self.brick.connected)


class MultiattachTest(VolumesBase):
    """A volume of two servers on this host."""

    def setUp(self):
        super().setUp()
        self.mapper = self.useFixture(fixtures.TempDir()).path
        self.useFixture(fixtures.MonkeyPatch(
            'xen44_driver.compute.sharing._MAPPER', self.mapper))
        self.useFixture(fixtures.MonkeyPatch(
            'os_brick.privileged.rootwrap.execute_root', self.execute))

    def execute(self, program, *arguments):
        """What root runs; a device of dm-linear is a link."""
        if program == 'blockdev':
            return '2048\n', ''
        path = os.path.join(self.mapper, arguments[-1])
        if arguments[0] == 'create':
            name, _, table = arguments[1:]
            os.symlink(table.split()[3], os.path.join(self.mapper, name))
        else:
            os.unlink(path)
        return '', ''

    def test_multiattach(self):
        volume = nova_fixtures.CinderFixture.MULTIATTACH_VOL
        one, two = self.boot(), self.boot()
        self.assertIsNone(self.attach(one, volume))
        self.assertIsNone(self.attach(two, volume))
        for server in (one, two):
            self.assertEqual(
                os.path.join(self.mapper, f'xen44-{server["id"]}-{volume}'),
                os.readlink(self.link(server, volume)))
        self.assertIsNone(self.detach(one, volume))
        self.assertFalse(os.path.lexists(self.link(one, volume)))
        self.assertIn(volume, self.brick.connected)
        self.assertIn(('xvde', 'block', volume), self.running(two))
        self._delete_server(two)
        self.assert_free(two, volume)
        self.assertEqual([], os.listdir(self.mapper))


class ExtendTest(VolumesBase):
    """A volume that becomes larger."""

    def extend(self, server, volume, result='Success'):
        self.cinder.volumes[volume] = {
            'id': volume, 'size': 2, 'status': 'in-use',
            'multiattach': False, 'attachments': {}}
        self.api.create_server_external_events([{
            'name': 'volume-extended', 'server_uuid': server['id'],
            'tag': volume}])
        self._wait_for_instance_action_event(
            server, 'extend_volume', 'compute_extend_volume', result)

    def test_block(self):
        server = self.boot()
        volume = self.volume()
        self.attach(server, volume)
        self.brick.size = 2 * 1024 ** 3
        self.below.xenstore.vbd['sectors'] = str(2 ** 22)
        self.extend(server, volume)

    @base.slow
    def test_block_that_does_not_grow(self):
        server = self.boot()
        volume = self.volume()
        self.attach(server, volume)
        self.brick.size = 2 * 1024 ** 3
        self.extend(server, volume, 'Error')

    @base.slow
    def test_file(self):
        self.connection = {'driver_volume_type': 'nfs',
                           'data': {'format': 'raw'}}
        server = self.boot(flavor=self.flavor(xen44_guest_type='pvh'))
        volume = self.volume()
        self.attach(server, volume)
        self.extend(server, volume)
        self.assertEqual(2 * 1024 ** 3, os.path.getsize(
            self.brick.connected[volume]))

    @base.slow
    def test_file_while_stopped(self):
        self.connection = {'driver_volume_type': 'nfs',
                           'data': {'format': 'raw'}}
        server = self.boot(flavor=self.flavor(xen44_guest_type='pvh'))
        volume = self.volume()
        self.attach(server, volume)
        self._stop_server(server)
        self.extend(server, volume)
        self.assertEqual(2 * 1024 ** 3, os.path.getsize(
            self.brick.connected[volume]))


class SwapTest(VolumesBase):
    """Cinder moves a volume that a running server has."""

    def setUp(self):
        super().setUp()
        self.connection = {'driver_volume_type': 'nfs',
                           'data': {'format': 'raw'}}
        self.brick.size = 1 << 20
        self.server = self.boot(flavor=self.flavor(xen44_guest_type='pvh'))
        self.old, self.new = self.volume(), self.volume()
        self.migrating = 'migrating'
        get = cinder.API.get
        self.useFixture(fixtures.MonkeyPatch(
            'nova.volume.cinder.API.get', lambda _api, *args, **values: {
                **get(*args, **values), 'migration_status': self.migrating}))
        self.useFixture(fixtures.MonkeyPatch(
            'nova.volume.cinder.API.migrate_volume_completion',
            self.completion))
        self.assertIsNone(self.attach(self.server, self.old))
        with open(self.brick.content(self.old), 'r+b') as file:
            file.write(b'written')

    def completion(self, _context, old, new, error=False):
        """Cinder gives the new volume the id of the old one."""
        if not error:
            # Its file keeps its name.
            os.unlink(self.brick.content(old))
            os.symlink(self.brick.content(new), self.brick.content(old))
            self.brick.connected[old] = self.brick.connected.pop(new)
            self.cinder.volume_to_attachment[old] = (
                self.cinder.volume_to_attachment.pop(new))
        return {'save_volume_id': new if error else old}

    def swap(self):
        """Swap them, as Cinder asks for; return Nova's error, or None."""
        self.notifier.reset()
        self.admin_api.put_server_volume(
            self.server['id'], self.old, self.new)
        return self.wait_for('instance.volume_swap')

    def has(self):
        """The node of the disk in the server's QEMU."""
        return self.below.qemu.qemus[
            self.domain(self.server).ID()].roots.get('xvdb')

    def assert_as_before(self):
        self.assertIsNone(self.has())
        self.assertTrue(self.below.qemu.clean())
        self.assertEqual(self.brick.connected[self.old],
                         os.readlink(self.link(self.server, self.old)))
        self.assert_free(self.server, self.new)
        end = time.monotonic() + 10
        while self.attachments(self.new) and time.monotonic() < end:
            time.sleep(0.05)
        self.assertEqual({}, self.attachments(self.new))

    def test_swap(self):
        before = self.definition(self.server), self.running(self.server)
        self.assertIsNone(self.swap())
        self.assertEqual(f'swap-xvdb-{self.new[:8]}', self.has())
        self.assertTrue(self.below.qemu.clean())
        self.assertFalse(os.path.lexists(self.link(self.server, self.new)))
        self.assertEqual(self.brick.connected[self.old],
                         os.readlink(self.link(self.server, self.old)))
        with open(self.link(self.server, self.old), 'rb') as file:
            self.assertEqual(b'written', file.read(7))
        # It is the same volume.
        self.assertEqual(before, (
            self.definition(self.server), self.running(self.server)))

        # Once more, and back.
        self.new = self.volume()
        self.assertIsNone(self.swap())
        self.assertEqual(f'swap-xvdb-{self.new[:8]}', self.has())
        self.assertTrue(self.below.qemu.clean())

        self.assertIsNone(self.detach(self.server, self.old))
        self.assertEqual({}, self.below.qemu.qemus[
            self.domain(self.server).ID()].nodes)
        self.assert_free(self.server, self.old)

    @base.slow
    def test_limits_of_the_new_type(self):
        self.connection['data']['qos_specs'] = {'total_iops_sec': '100'}
        self.assertIsNone(self.swap())
        self.assertIn(100, [
            limits.get('iops') for limits in self.below.qemu.qemus[
                self.domain(self.server).ID()].throttles.values()])
        # Those of a start, too.
        self._reboot_server(self.server, hard=True)
        self.assertIn(100, [
            limits.get('iops') for limits in self.below.qemu.qemus[
                self.domain(self.server).ID()].throttles.values()])

    @base.slow
    def test_refused(self):
        self.migrating = ''
        error = self.assertRaises(
            client.OpenStackApiException, self.swap)
        self.assertIn('is not migrating', str(error))
        self.migrating = 'migrating'
        self.connection['data']['format'] = 'qcow2'
        self.assertIn('it is raw, and the other one qcow2', self.swap())
        self.connection = {'driver_volume_type': 'iscsi', 'data': {}}
        self.assertIn('allowed: from a file to a file', self.swap())
        self.assert_as_before()

    @base.slow
    def test_old_nova_does_not_ask(self):
        self.useFixture(fixtures.MonkeyPatch(
            'nova.api.openstack.compute.volume_attachments.'
            'VolumeAttachmentController._update_volume_swap',
            lambda controller, request, instance, volume, body:
            controller.compute_api.swap_volume(
                request.environ['nova.context'], instance,
                controller.volume_api.get(None, volume),
                controller.volume_api.get(
                    None, body['volumeAttachment']['volumeId']))))
        self.migrating = None
        self.assertIn("migration_status is None; allowed: 'migrating'",
                      self.swap())
        self.assert_as_before()

    @base.slow
    def test_no_room(self):
        self.below.qemu.job_error = 'No space left on device'
        self.assertIn('No space left on device', self.swap())
        self.assert_as_before()

    @base.slow
    def test_guest_reboots_meanwhile(self):
        def reboot():
            if self.below.qemu.clean():
                # It has not begun.
                return
            self.below.qemu.on_look = lambda: None
            self.domain(self.server).reboot()
            self.below.qemu.qemus.clear()

        self.below.qemu.slow = True
        self.below.qemu.on_look = reboot
        self.assertIn('stopped or rebooted meanwhile', self.swap())
        self.assert_as_before()

    @base.slow
    def test_qemu_does_not_leave_the_old_one(self):
        before = self.noted()
        self.below.qemu.refused['job-complete'] = 'not now'
        self.assertIn('not now', self.swap())
        self.below.qemu.refused.clear()
        self.assert_as_before()
        self.assertEqual(before, self.noted())

    @base.slow
    def test_qemu_does_so_and_does_not_say(self):
        def hang():
            self.below.qemu.on_complete = lambda: None
            raise qmp.MonitorUnavailable('did not answer')

        self.below.qemu.on_complete = hang
        self.assertIsNone(self.swap())
        self.assertEqual(f'swap-xvdb-{self.new[:8]}', self.has())
        self.assertTrue(self.below.qemu.clean())

    @base.slow
    def test_guest_reboots_at_the_end(self):
        """It comes back with the new one, and Nova has that."""
        def reboot():
            self.below.qemu.on_complete = lambda: None
            self.domain(self.server).reboot()
            self.below.qemu.qemus.clear()

        self.below.qemu.on_complete = reboot
        self.assertIsNone(self.swap())
        self.assertIsNone(self.has())
        self.assertEqual(self.brick.connected[self.old],
                         os.readlink(self.link(self.server, self.old)))

    @base.slow
    def test_guest_reboots_before_the_end(self):
        """Its new QEMU knows of no job."""
        def at(point):
            if point == 'swap volume: noted':
                self.domain(self.server).reboot()
                self.below.qemu.qemus.clear()

        self.useFixture(fixtures.MonkeyPatch(
            'xen44_driver.faultpoints._action', at))
        self.assertIsNone(self.swap())
        self.assertIsNone(self.has())
        self.assertEqual(self.brick.connected[self.old], self.noted())
        self.assertEqual(self.brick.connected[self.old],
                         os.readlink(self.link(self.server, self.old)))

    @base.slow
    def test_nobody_sees_the_end(self):
        """Both are equal then, and Nova has the new one."""
        def hang():
            self.below.qemu.refused = dict.fromkeys(
                ('query-jobs', 'query-block', 'query-named-block-nodes'), '')
            raise qmp.MonitorUnavailable('did not answer')

        self.useFixture(fixtures.MockPatchObject(
            volumeswap, 'COMPLETE_TIMEOUT', 0.1))
        self.below.qemu.on_complete = hang
        self.assertIsNone(self.swap())
        self.assertEqual(self.brick.connected[self.old], self.noted())

    @base.slow
    def test_nothing_fails_once_it_is_swapped(self):
        """Cinder would delete the volume that the guest has."""
        self.connection['data']['qos_specs'] = {'total_iops_sec': '100'}
        self.useFixture(fixtures.MonkeyPatch(
            'xen44_driver.compute.attachments.remember',
            mock.Mock(side_effect=OSError('no database'))))
        self.below.qemu.refused['job-dismiss'] = 'not now'
        self.assertIsNone(self.swap())
        self.below.qemu.refused.clear()
        self.assertEqual(f'swap-xvdb-{self.new[:8]}', self.has())

        # The next one removes what is left.
        self.new = self.volume()
        self.assertIsNone(self.swap())
        self.assertTrue(self.below.qemu.clean())

    @base.slow
    def test_root_disk_and_what_follows(self):
        other, self.old = self.volume(), self.volume()
        self.server = server = self.boot_volume(self.old)
        self.assertIsNone(self.attach(server, other))
        self.connection['data']['qos_specs'] = {'total_iops_sec': '100'}
        self.assertIsNone(self.swap())
        # It is the root disk still, and the other one can go.
        self.assertIsNone(self.detach(server, other))
        self.assertEqual(
            [('xvda', 'file', self.old)], self.running(server))
        self.compute.manager._poll_volume_usage(
            nova_context.get_admin_context())
        self._reboot_server(server, hard=True)
        self.assertEqual(
            [('xvda', 'file', self.old)], self.running(server))

    def noted(self):
        """The file of the volume in what Nova keeps."""
        return jsonutils.loads(
            objects.BlockDeviceMapping.get_by_volume_and_instance(
                nova_context.get_admin_context(), self.old,
                self.server['id']).connection_info)['data']['device_path']

    @base.slow
    def test_every_fault(self):
        points = []
        self.fault = None

        def at(point):
            points.append(point)
            if point == self.fault:
                raise OSError(point)

        self.useFixture(fixtures.MonkeyPatch(
            'xen44_driver.faultpoints._action', at))
        before = self.noted()
        for self.fault in ('volume: connected', 'swap volume: connected',
                           'swap volume: copied', 'swap volume: link changed',
                           'swap volume: noted'):
            self.assertIn(self.fault, self.swap())
            self.assert_as_before()
            self.assertEqual(before, self.noted())
            self.new = self.volume()
        points.clear()
        self.fault = None
        self.assertIsNone(self.swap())
        self.assertEqual(
            ['volume: connected', 'swap volume: connected',
             'swap volume: copied', 'swap volume: link changed',
             'swap volume: noted', 'swap volume: swapped'], points)


class UsageTest(VolumesBase):
    """What servers read and write."""

    @base.slow
    def test_usage(self):
        self.flags(volume_usage_poll_interval=1)
        server = self.boot()
        volume = self.volume()
        self.attach(server, volume)
        self.notifier.reset()
        self.compute.manager._poll_volume_usage(
            nova_context.get_admin_context())
        notice, = self.notifier.wait_for_versioned_notifications(
            'volume.usage')
        usage = notice['payload']['nova_object.data']
        self.assertEqual((volume, 3, 4096, 2, 1024), (
            usage['volume_id'], usage['reads'], usage['read_bytes'],
            usage['writes'], usage['write_bytes']))
        self.assertIsNone(self.detach(server, volume))


class FaultTest(VolumesBase):
    """Operations that fail at each of their named points."""

    def setUp(self):
        super().setUp()
        self.reached = []
        self.fault = None
        self.useFixture(fixtures.MonkeyPatch(
            'xen44_driver.faultpoints._action', self.at))

    def at(self, point):
        self.reached.append(point)
        if point == self.fault:
            self.fault = None
            raise OSError(point)

    @base.slow
    def test_attach_and_detach(self):
        server = self.boot()
        before = self.definition(server), self.running(server)
        volume = self.volume()
        self.reached.clear()
        self.attach(server, volume)
        attach, self.reached = self.reached, []
        self.assertEqual(
            ['volume: connected', 'attach volume: recorded',
             'attach volume: defined', 'attach volume: attached'], attach)
        self.detach(server, volume)
        detach, self.reached = self.reached, []
        self.assertEqual(
            ['detach volume: undefined', 'detach volume: detached',
             'detach volume: forgotten', 'volume: link removed'], detach)
        for self.fault in attach:
            point, volume = self.fault, self.volume()
            self.assertIn(point, self.attach(server, volume))
            self.assert_free(server, volume)
            self.assertEqual({}, self.attachments(volume))
            self.assertEqual(
                before, (self.definition(server), self.running(server)))
        volume = self.volume()
        self.attach(server, volume)
        for self.fault in detach:
            self.api.delete_server_volume(server['id'], volume)
            self._wait_for_instance_action_event(
                server, 'detach_volume', 'compute_detach_volume', 'Error')
        # The user asks once more.
        self.assertIsNone(self.detach(server, volume))
        self.assert_free(server, volume)
        self.assertEqual(
            before, (self.definition(server), self.running(server)))
        self._delete_server(server)
        self.below.assert_nothing_left()
