# SPDX-License-Identifier: Apache-2.0
"""Rescue and unrescue through Nova's API."""

import os
from unittest import mock

import fixtures
import libvirt
from lxml import etree
from nova import context as nova_context
from nova import objects
from nova.privsep import qemu

from tests.functional import base
from tests.functional import test_servers
from xen44_driver import privsep
from xen44_driver.compute import disks
from xen44_driver.compute import machine
from xen44_driver.compute import start


class RescueTest(test_servers.ServersBase):
    """A server that boots from another image."""

    def setUp(self):
        super().setUp()
        self.flags(default_ephemeral_format='ext4')
        self.other = base.create_image(
            self.glance, base.raw_image(b'rescue'))

    def rescue(self, server, image=None, expected='RESCUE', **options):
        """Rescue a server, and wait for what comes of it."""
        body = {'rescue_image_ref': image or self.other, **options}
        self.api.post_server_action(server['id'], {'rescue': body})
        return self._wait_for_state_change(
            server, expected)

    def unrescue(self, server, expected='ACTIVE'):
        self.api.post_server_action(server['id'], {'unrescue': None})
        return self._wait_for_state_change(
            server, expected)

    def refuse(self, server, *says, **options):
        """Ask for a rescue that is refused; the server is as it was."""
        before = self.domain(server).xml, self.below.files()
        server = self.rescue(server, expected='ERROR', **options)
        for text in says:
            self.assertIn(text, server['fault']['message'])
        self.assertEqual(
            before, (self.domain(server).xml, self.below.files()))
        # A hard reboot is what brings it back.
        self._reboot_server(server, hard=True)
        self.assertTrue(self.domain(server).isActive())
        return server

    def disks(self, server):
        """Target and file name of each disk of a domain."""
        tree = etree.fromstring(self.domain(server).xml)
        return [(disk.find('target').get('dev'),
                 os.path.basename(disk.find('source').get('file')))
                for disk in tree.iterfind('devices/disk')]

    def instance(self, server):
        return objects.Instance.get_by_uuid(
            nova_context.get_admin_context(), server['id'],
            expected_attrs=['system_metadata', 'flavor'])

    def content(self, server, name):
        with open(os.path.join(
                self.below.instances, server['id'], name)) as file:
            return file.read()

    def test_rescue_and_unrescue(self):
        for kind, first, second in (('pv', 'xvda', 'xvdb'),
                                    ('pvh', 'xvda', 'xvdb'),
                                    ('hvm', 'hda', 'hdb')):
            server = self.boot(flavor=self.flavor(
                swap=64, ephemeral=1, xen44_guest_type=kind))
            before = self.domain(server).xml
            files = self.below.files()
            self.rescue(server)
            self.assertTrue(self.domain(server).isActive())
            self.assertEqual(
                [(first, 'disk.rescue.qcow2'), (second, 'disk.qcow2')],
                self.disks(server))
            own = machine.recall(self.instance(server))
            self.assertEqual('disk.qcow2', own.root.file)
            self.unrescue(server)
            self.assertTrue(self.domain(server).isActive())
            self.assertEqual(before, self.domain(server).xml)
            self.assertEqual(files, self.below.files())
            self.assertIsNone(machine.recall(
                self.instance(server), machine.RESCUE))
            self._delete_server(server)
        self.below.assert_nothing_left()

    def test_same_image(self):
        """Without a rescue image, Nova takes the instance's own."""
        server = self.boot()
        self.api.post_server_action(server['id'], {'rescue': None})
        self._wait_for_state_change(server, 'RESCUE')
        self.assertEqual([('hda', 'disk.rescue.qcow2'),
                          ('hdb', 'disk.qcow2')], self.disks(server))

    def test_delete(self):
        server = self.rescue(self.boot())
        self._delete_server(server)
        self.below.assert_nothing_left()

    def test_config_drive_has_the_password(self):
        contents = self.useFixture(fixtures.MockPatchObject(
            disks.metadata, 'InstanceMetadata',
            wraps=disks.metadata.InstanceMetadata)).mock
        for kind, target in (('pvh', 'xvdd'), ('hvm', 'hdd')):
            server = self.boot(config_drive=True, flavor=self.flavor(
                xen44_guest_type=kind))
            own = self.content(server, 'disk.config')
            self.rescue(server, adminPass='secret')
            self.assertEqual((target, 'disk.rescue.config'),
                             self.disks(server)[-1])
            self.assertIn('meta_data.json', self.content(
                server, 'disk.rescue.config'))
            self.assertEqual({'admin_pass': 'secret'},
                             contents.call_args.kwargs['extra_md'])
            self.assertEqual(own, self.content(server, 'disk.config'))
            self.unrescue(server)
            self.assertEqual((target, 'disk.config'),
                             self.disks(server)[-1])
            self._delete_server(server)

    def test_another_guest_type(self):
        server = self.boot()
        image = base.create_image(
            self.glance, base.raw_image(), hw_vm_mode='xen')
        self.rescue(server, image)
        self.assertIn('xenpv', self.domain(server).xml)
        self.assertEqual([('xvda', 'disk.rescue.qcow2'),
                          ('xvdb', 'disk.qcow2')], self.disks(server))
        self.unrescue(server)
        self.assertIn('xenfv', self.domain(server).xml)

    def test_guest_type_of_the_instance_is_the_default(self):
        image = base.create_image(
            self.glance, base.raw_image(), hw_vm_mode='xen')
        server = self.rescue(self.boot(image=image))
        self.assertIn('xenpv', self.domain(server).xml)

    def test_kernel_of_the_rescue_image(self):
        kernel = base.create_image(
            self.glance, base.BZIMAGE, disk_format='aki',
            container_format='aki')
        image = base.create_image(
            self.glance, base.raw_image(), kernel_id=kernel)
        server = self.boot()
        self.rescue(server, image)
        self.assertIn(f'{server["id"]}/kernel.rescue</kernel>',
                      self.domain(server).xml)
        self.unrescue(server)
        self.assertNotIn('</kernel>', self.domain(server).xml)
        self._delete_server(server)

        server = self.boot(image=image)
        self.rescue(server)
        self.assertNotIn('</kernel>', self.domain(server).xml)
        self.unrescue(server)
        self.assertIn(f'{server["id"]}/kernel</kernel>',
                      self.domain(server).xml)
        self._delete_server(server)
        self.below.assert_nothing_left()

    def iso(self, **properties):
        return base.create_image(
            self.glance, bytes(0x8001) + b'CD001' + bytes(64 * 1024),
            disk_format='iso', **properties)

    def boot_order(self, server):
        return [boot.get('dev') for boot in etree.fromstring(
            self.domain(server).xml).iterfind('os/boot')]

    def test_iso(self):
        server = self.boot(config_drive=True)
        self.rescue(server, self.iso())
        self.assertEqual([('hda', 'disk.rescue.iso'), ('hdb', 'disk.qcow2'),
                          ('hdd', 'disk.rescue.config')], self.disks(server))
        self.assertEqual(['cdrom'], self.boot_order(server))

    def test_stable_device(self):
        image = self.iso(hw_rescue_device='cdrom', hw_rescue_bus='ide')
        server = self.boot(
            config_drive=True, flavor=self.flavor(swap=64))
        self.rescue(server, image)
        self.assertEqual(
            [('hda', 'disk.qcow2'), ('hdb', 'disk.swap'),
             ('hdd', 'disk.rescue.config'), ('hdc', 'disk.rescue.iso')],
            self.disks(server))
        self.assertEqual(['cdrom'], self.boot_order(server))
        self.unrescue(server)
        self.assertEqual(['hd'], self.boot_order(server))

    def test_stable_devices_that_cannot_be(self):
        server = self.boot()
        cdrom = {'hw_rescue_device': 'cdrom', 'hw_rescue_bus': 'ide'}
        for says, image in (
                ("hw_rescue_device 'disk' on hw_rescue_bus 'xen'",
                 base.create_image(self.glance, base.raw_image(),
                                   hw_rescue_bus='xen')),
                ("hw_rescue_bus 'scsi'",
                 self.iso(hw_rescue_device='cdrom', hw_rescue_bus='scsi')),
                ("'cdrom', and the image is raw", base.create_image(
                    self.glance, base.raw_image(), **cdrom))):
            self.refuse(server, says, 'allowed', image=image)
        self._delete_server(server)
        server = self.boot(flavor=self.flavor(xen44_guest_type='pvh'))
        self.refuse(server, 'cannot boot pvh', image=self.iso(**cdrom))
        self._delete_server(server)
        server = self.boot(config_drive=True, flavor=self.flavor(
            swap=64, ephemeral=1))
        self.refuse(server, 'no place', image=self.iso(**cdrom))

    def test_refused(self):
        server = self.boot(flavor=self.flavor(xen44_guest_type='pvh'))
        for says, image in (
                ('hw_vm_mode=hvm', base.create_image(
                    self.glance, base.raw_image(), hw_vm_mode='hvm')),
                ('ISO', self.iso()),
                ('hw_vif_model', base.create_image(
                    self.glance, base.raw_image(), hw_vif_model='e1000')),
                ('0 bytes', base.create_image(self.glance, b''))):
            self.refuse(server, says, image=image)

    def test_no_room(self):
        server = self.boot()
        image = base.create_image(
            self.glance, base.qcow2_image('16T', self.below.console_logs),
            disk_format='qcow2')
        os.unlink(os.path.join(self.below.console_logs, 'image.qcow2'))
        with mock.patch.object(
                qemu, 'unprivileged_convert_image') as convert:
            self.refuse(server, 'No space left', image=image)
        # It would fill the host's disk.
        convert.assert_not_called()

    def test_failed_start(self):
        server = self.boot()
        with mock.patch.object(start, 'boot', side_effect=OSError('no')):
            before = self.below.files()
            server = self.rescue(server, expected='ERROR')
        self.assertIn('no', server['fault']['message'])
        self.assertEqual(before, self.below.files())
        self.assertEqual([('hda', 'disk.qcow2')], self.disks(server))
        self.assertIsNone(machine.recall(
            self.instance(server), machine.RESCUE))
        self._reboot_server(server, hard=True)
        self.rescue(server)

    def test_failed_unrescue(self):
        server = self.rescue(self.boot())
        with mock.patch.object(start, 'boot', side_effect=OSError('no')):
            self.unrescue(server, expected='ERROR')
        self._reboot_server(server, hard=True)
        self.assertEqual([('hda', 'disk.qcow2')], self.disks(server))
        self.assertFalse([name for name in self.below.files()
                          if 'rescue' in name])

    def test_host_restarts(self):
        """nova-compute and dom0 start anew: it is still rescued."""
        self.flags(resume_guests_state_on_host_boot=True)
        server = self.rescue(self.boot())
        # Without an event: nobody is there to hear of it.
        self.domain(server).running = libvirt.VIR_DOMAIN_SHUTOFF
        self.domain(server).id = -1
        self.compute = self.restart_compute_service(self.compute)
        self.assertTrue(self.domain(server).isActive())
        self.assertEqual([('hda', 'disk.rescue.qcow2'),
                          ('hdb', 'disk.qcow2')], self.disks(server))
        self.unrescue(server)
        self.assertEqual([('hda', 'disk.qcow2')], self.disks(server))

    def test_state_was_reset(self):
        """An administrator's reset-state ends it at the next reboot."""
        server = self.rescue(self.boot())
        self.api.post_server_action(
            server['id'], {'os-resetState': {'state': 'active'}})
        self._reboot_server(server)
        self.assertEqual([('hda', 'disk.qcow2')], self.disks(server))
        self.assertFalse([name for name in self.below.files()
                          if 'rescue' in name])

    def test_lost_record_is_not_taken_from_the_rescue(self):
        server = self.rescue(self.boot())
        instance = self.instance(server)
        machine.forget(instance, machine.KEY)
        instance.save()
        self.unrescue(server)
        self.assertEqual([('hda', 'disk.qcow2')], self.disks(server))

    def test_console_log_goes_on(self):
        server = self.boot(flavor=self.flavor(xen44_guest_type='pvh'))
        self.below.write_console(self.domain(server).name(), 'before')
        self.rescue(server)
        self.assertIn(b'before', privsep.read_console_log(
            self.domain(server).name(), 100))
