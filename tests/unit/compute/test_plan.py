# SPDX-License-Identifier: Apache-2.0
"""What instances are made of, and how that reads in Xen's words."""

import os

from nova import exception

from tests.unit import base
from xen44_driver.compute import plan
from xen44_driver.compute import spec
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen.domain import spec as xen_spec
from xen44_driver.xen.guesttype import GuestType

EPHEMERALS = [{'device_name': '/dev/xvdb', 'size': 2, 'guest_format': None}]
SWAP = {'device_name': '/dev/xvdc', 'swap_size': 64}


class PlanCase(base.TestCase):

    def setUp(self):
        super().setUp()
        self.loader = os.path.join(self.instances, 'grub')
        with open(self.loader, 'w') as file:
            file.write('grub')
        self.flags(pv_loader=self.loader, pvh_loader=self.loader,
                   group='xen44_x86_64')
        self.node = base.node()

    def plan(self, kind=None, *, vifs=(), disks=None, properties=None,
             **values):
        specs = {'xen44:guest_type': kind} if kind else None
        return plan.make(
            self.node, base.instance(extra_specs=specs, **values),
            base.image(**(properties or {})),
            network_info=list(vifs), block_device_info=disks)

    def build(self, *args, **values):
        return spec.build(
            self.plan(*args, **values), self.node.arch,
            root_format='qcow2')


class PlanTest(PlanCase):

    def refuse(self, *says, error=exception.InvalidInput, **asked):
        raised = self.assertRaises(error, self.plan, **asked)
        for text in says:
            self.assertIn(text, str(raised))

    def test_properties(self):
        for name, value, guest, allowed in (
            ('hw_vif_model', 'virtio', 'hvm', 'netfront, e1000, rtl8139'),
            ('hw_vif_model', 'e1000', 'pv', 'netfront'),
            ('hw_disk_bus', 'virtio', 'hvm', 'xen, ide, scsi'),
            ('hw_disk_bus', 'ide', 'pvh', 'xen'),
            ('hw_disk_bus', 'scsi', 'pv', 'xen'),
            ('hw_scsi_model', 'virtio-scsi', 'hvm', 'lsilogic'),
            ('hw_firmware_type', 'uefi', 'hvm', 'bios'),
        ):
            raised = self.assertRaises(
                exception.InvalidInput, self.plan, guest,
                properties={'hw_disk_bus': 'scsi', name: value})
            self.assertIn(f'{name} {value!r}', str(raised))
            self.assertIn(f'a {guest} guest: {allowed}', str(raised))

    def test_vcpus(self):
        server = base.instance()
        server.flavor.vcpus = 129
        raised = self.assertRaises(
            exception.InvalidInput, plan.make, self.node, server,
            base.image(), network_info=None, block_device_info=None)
        self.assertIn('129', str(raised))
        self.assertIn('128', str(raised))

    def test_ports(self):
        self.refuse('macvtap', 'ovs', vifs=[base.vif(type='macvtap')])
        self.refuse('not bound', base.PORT,
                    vifs=[base.vif(type='binding_failed')])
        self.refuse("'direct'", 'normal',
                    vifs=[base.vif(vnic_type='direct')])

    def test_volumes(self):
        self.refuse('a-volume', error=exception.InvalidBDM, disks={
            'block_device_mapping': [{'volume_id': 'a-volume'}]})

    def test_file_system(self):
        self.refuse("'reiserfs'", 'ext4', disks={'ephemerals': [
            {**EPHEMERALS[0], 'guest_format': 'reiserfs'}]})

    def test_loader(self):
        os.unlink(self.loader)
        for kind in ('pv', 'pvh'):
            raised = self.assertRaises(
                exception.InvalidInput, self.plan, kind)
            self.assertIn(f'[xen44_x86_64] {kind}_loader', str(raised))
            self.assertIn(self.loader, str(raised))
        # Neither needs it.
        self.assertIsNone(self.plan('hvm').loader)
        self.assertIsNone(self.plan('pv', kernel_id='a-kernel').loader)

    def test_ramdisk_alone(self):
        self.refuse('a-ramdisk', 'kernel_id', ramdisk_id='a-ramdisk')

    def test_config_drive(self):
        self.assertFalse(self.plan().config_drive)
        self.assertTrue(self.plan(config_drive='True').config_drive)
        self.assertTrue(self.plan(system_metadata={
            'image_img_config_drive': 'mandatory'}).config_drive)


class SpecTest(PlanCase):

    def test_every_kind_can_be_written(self):
        for kind in GuestType:
            for kernel in (None, 'a-kernel'):
                built = self.build(
                    kind, kernel_id=kernel, vifs=[base.vif()],
                    config_drive='True',
                    disks={'ephemerals': EPHEMERALS, 'swap': SWAP})
                self.assertIn('Käse &lt;&amp;&gt;',
                              domain.to_xml(built, self.node.arch))
                self.assertEqual(4, len(built.disks))

    def test_boot(self):
        self.assertEqual(xen_spec.FirmwareBoot(), self.build('hvm').boot)
        self.assertEqual(xen_spec.GrubBoot(loader=self.loader),
                         self.build('pv').boot)
        direct = self.build('pvh', kernel_id='k', ramdisk_id='r').boot
        self.assertEqual('root=/dev/xvda ro console=hvc0', direct.cmdline)
        self.assertEqual(
            os.path.join(self.instances, base.UUID, 'kernel'),
            direct.kernel)
        self.assertEqual('quiet', self.build(
            'pvh', kernel_id='k',
            properties={'os_command_line': 'quiet'}).boot.cmdline)
        self.assertRaises(
            errors.SpecError, self.build, 'pvh', kernel_id='k',
            properties={'os_command_line': 'quiet\n<init/>'})

    def test_root_disk(self):
        (disk,) = self.build('pv').disks
        self.assertEqual(('xvda', 'qcow2'), (disk.target, disk.format))
        self.assertEqual(os.path.join(
            self.instances, base.UUID, 'disk.qcow2'), disk.source)

    def test_bus_of_disks(self):
        built = self.build('hvm', disks={'ephemerals': EPHEMERALS},
                           properties={'hw_disk_bus': 'scsi'})
        self.assertEqual([('sda', 'scsi'), ('sdb', 'scsi')],
                         [(disk.target, disk.bus) for disk in built.disks])

    def test_interface(self):
        (interface,) = self.build(
            'pv', vifs=[base.vif()]).interfaces
        self.assertEqual('fa:16:3e:00:00:01', interface.mac)
        self.assertEqual('qbr51a9642b-14', interface.bridge)
        self.assertEqual(1450, interface.mtu)
        self.assertIsNone(interface.model)

    def test_serial_is_for_hvm(self):
        self.assertIsNone(self.build('pv').serial_log)
        self.assertTrue(self.build('hvm').serial_log)

    def test_vnc(self):
        self.flags(enabled=True, server_listen='192.0.2.1', group='vnc')
        self.assertEqual('192.0.2.1', self.build('hvm').vnc.listen)
        self.assertIsNone(self.build('pvh').vnc)
        self.flags(enabled=False, group='vnc')
        self.assertIsNone(self.build('hvm').vnc)

    def test_limits(self):
        self.assertIsNone(self.build().max_event_channels)
        self.flags(max_event_channels=4096, max_grant_frames=64,
                   group='xen44')
        built = self.build()
        self.assertEqual((4096, 64), (built.max_event_channels,
                                      built.max_grant_frames))
