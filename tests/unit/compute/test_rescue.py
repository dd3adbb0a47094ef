# SPDX-License-Identifier: Apache-2.0
"""What a rescued instance is decided to be."""

import dataclasses
from unittest import mock

import fixtures
from nova import exception
from nova.image import glance as nova_glance

from tests.unit import base
from tests.unit import schema
from tests.unit.compute import golden
from xen44_driver.compute import machine
from xen44_driver.compute import rescue
from xen44_driver.compute import spec
from xen44_driver.storage import kinds
from xen44_driver.storage import layout
from xen44_driver.xen import arch
from xen44_driver.xen import domain
from xen44_driver.xen.guesttype import GuestType

CDROM = {'hw_rescue_device': 'cdrom', 'hw_rescue_bus': 'ide'}


class DecideTest(base.TestCase):

    def decide(self, name, *, disk_format='raw', options=None, kernel=None,
               properties=None):
        """Rescue one of the golden instances.

        :param name: its name.
        :param disk_format: the rescue image's.
        :param options: of the host.
        :param kernel: the rescue image's ``kernel_id``.
        :param properties: the rescue image's.
        """
        case = golden.CASES[name]
        own = case.machine()
        image = base.image(**(properties or {}))
        image.disk_format = disk_format
        made = rescue.decide(
            own, image, case._instance().flavor, machine.Options(
                arch=arch.load(case.arch),
                max_vcpus=dict.fromkeys(GuestType, 128), **{
                    **golden.HOSTS[case.arch], **(options or {}),
                    'default_guest_type': own.guest_type}),
            kernel_id=kernel, ramdisk_id=None)
        self.assertTrue(made.rescue)
        self.assertEqual(made, machine.Machine.from_json(made.to_json()))
        self.made = spec.build(
            made, case._instance(), [base.vif()], arch=arch.load(case.arch),
            files=layout.InstanceFiles(golden.INSTANCES, base.UUID),
            options=spec.Options(shared_cpus=None, nested_feature='svm'))
        schema.assert_valid(
            domain.to_xml(self.made, arch.load(case.arch)))
        return [(disk.kind, disk.target, disk.file, disk.device)
                for disk in made.disks]

    def refuse(self, *says, **asked):
        raised = self.assertRaises(
            exception.InvalidInput, self.decide, **asked)
        for text in says:
            self.assertIn(text, str(raised))
        return str(raised)

    def test_grub(self):
        for name in ('pv_x86_64_grub_disks', 'pvh_x86_64_grub'):
            self.assertEqual(
                [('overlay', 'xvda', 'disk.rescue.qcow2', 'disk'),
                 ('overlay', 'xvdb', 'disk.qcow2', 'disk'),
                 ('config', 'xvdd', 'disk.rescue.config', 'disk')],
                self.decide(name))
            self.assertIsInstance(self.made.boot, domain.GrubBoot)

    def test_firmware(self):
        self.assertEqual(
            [('overlay', 'hda', 'disk.rescue.qcow2', 'disk'),
             ('overlay', 'hdb', 'disk.qcow2', 'disk'),
             ('config', 'hdd', 'disk.rescue.config', 'cdrom')],
            self.decide('hvm_x86_64_firmware_disks'))
        self.assertEqual(('hd',), self.made.boot.devices)

    def test_guest_that_runs_guests(self):
        """As the instance is, not as its flavor or the host say."""
        name = 'hvm_x86_64_firmware_nested'
        self.decide(name, options={'nested_hvm_problem': None})
        self.assertEqual('svm', self.made.nested_hvm)
        own = dataclasses.replace(
            golden.CASES[name].machine(), nested_hvm=False)
        with mock.patch.object(golden.Case, 'machine', lambda _: own):
            self.decide(name, options={'nested_hvm_problem': None})
        self.assertIsNone(self.made.nested_hvm)

    def test_bus_is_the_rescue_images(self):
        scsi = {'hw_disk_bus': 'scsi', 'hw_scsi_model': 'lsilogic'}
        disks = self.decide('hvm_x86_64_firmware', properties=scsi)
        self.assertEqual(['sda', 'sdb', 'hdd'], [disk[1] for disk in disks])
        disks = self.decide('hvm_x86_64_firmware_scsi')
        self.assertEqual(['hda', 'hdb', 'hdd'], [disk[1] for disk in disks])

    def test_no_config_drive(self):
        disks = self.decide('hvm_x86_64_firmware_alone')
        self.assertEqual(['hda', 'hdb'], [disk[1] for disk in disks])

    def test_format_of_each_disk(self):
        disks = self.decide('hvm_x86_64_firmware',
                            options={'disk_format': 'raw'})
        self.assertEqual(
            [('clone', 'hda', 'disk.rescue.raw', 'disk'),
             ('overlay', 'hdb', 'disk.qcow2', 'disk')], disks[:2])
        disks = self.decide('pvh_x86_64_grub_raw')
        self.assertEqual(['disk.rescue.qcow2', 'disk.raw'],
                         [disk[2] for disk in disks[:2]])

    def test_class_of_disks(self):
        """That of the instance, for every disk."""
        for name in ('pv_x86_64_grub_by_kernel', 'pvh_aarch64_loader'):
            self.assertEqual(
                [('clone', 'xvda', 'disk.rescue.raw', 'disk'),
                 ('clone', 'xvdb', 'disk.raw', 'disk'),
                 ('config', 'xvdd', 'disk.rescue.config', 'disk')],
                self.decide(name))
            self.assertTrue(all(disk.by_kernel for disk in self.made.disks))
            self.assertFalse(self.made.monitor)
        self.refuse("xen44:disk_class 'kernel'", 'hvm guest: qemu',
                    name='pv_x86_64_grub_by_kernel',
                    properties={'hw_vm_mode': 'hvm'})
        self.refuse('hw_qemu_guest_agent', name='pv_x86_64_grub_by_kernel',
                    properties={'hw_qemu_guest_agent': True})

    def test_guest_types(self):
        self.decide('hvm_x86_64_firmware', properties={'hw_vm_mode': 'xen'})
        self.assertEqual(GuestType.PV, self.made.guest_type)
        self.refuse('hw_vm_mode=hvm', 'xen44:guest_type=pvh',
                    name='pvh_x86_64_grub', properties={'hw_vm_mode': 'hvm'})

    def test_kernel(self):
        self.refuse('allow_image_kernels', name='pv_x86_64_grub',
                    kernel='k')
        self.decide('pv_x86_64_grub', kernel='k',
                    options={'image_kernels': True})
        self.assertTrue(self.made.boot.kernel.endswith('/kernel.rescue'))
        # The instance's own is not for another disk.
        self.decide('pv_x86_64_kernel')
        self.assertIsInstance(self.made.boot, domain.GrubBoot)

    def test_iso(self):
        self.assertEqual(
            [('cdrom', 'hda', 'disk.rescue.iso', 'cdrom'),
             ('overlay', 'hdb', 'disk.qcow2', 'disk')],
            self.decide('hvm_x86_64_firmware', disk_format='iso')[:2])
        self.assertEqual(('cdrom',), self.made.boot.devices)
        self.refuse('ISO', name='pvh_x86_64_grub', disk_format='iso')

    def test_stable_device(self):
        own = [(disk.kind, disk.target, disk.file, disk.device)
               for disk in golden.CASES['hvm_x86_64_kernel'].machine().disks]
        disks = self.decide('hvm_x86_64_kernel', disk_format='iso',
                            properties=CDROM)
        self.assertEqual(own[0], disks[0])
        self.assertEqual(
            [('config', 'hdd', 'disk.rescue.config', 'cdrom'),
             ('cdrom', 'hdb', 'disk.rescue.iso', 'cdrom')], disks[1:])
        self.assertEqual(('cdrom',), self.made.boot.devices)

    def test_stable_device_before_the_installers_cdrom(self):
        disks = self.decide('hvm_x86_64_iso', disk_format='iso',
                            properties=CDROM)
        self.assertEqual('hdb', disks[-1][1])

    def test_stable_devices_that_cannot_be(self):
        hvm = 'hvm_x86_64_firmware'
        for name, disk_format, properties, says in (
                (hvm, 'iso', {'hw_rescue_bus': 'ide'}, "'disk'"),
                (hvm, 'raw', {'hw_rescue_device': 'disk'}, "'disk'"),
                (hvm, 'iso', {**CDROM, 'hw_rescue_bus': 'usb'}, "'usb'"),
                (hvm, 'raw', CDROM, 'the image is raw'),
                ('pvh_x86_64_grub', 'iso', CDROM, 'cannot boot pvh'),
                ('pvh_aarch64_loader', 'iso', CDROM, 'cannot boot pvh'),
                ('pv_x86_64_grub', 'iso', {**CDROM, 'hw_vm_mode': 'hvm'},
                 'the instance is pv'),
                ('hvm_x86_64_firmware_disks', 'iso', CDROM, 'no place')):
            text = self.refuse(
                says, 'allowed', name=name, disk_format=disk_format,
                properties=properties)
            # Nova shows 255 characters, with about 90 of its own.
            self.assertLess(len(text), 170)

    def test_no_place_behind_the_installers_cdrom(self):
        case = golden.CASES['hvm_x86_64_iso']
        own = case.machine()
        blank = kinds.DiskRecord(
            kind='blank', name='/dev/xvdb', target='hdb', file='disk.eph0')
        own = dataclasses.replace(own, disks=(own.root, blank, *(
            disk for disk in own.disks if disk.kind == 'cdrom')))
        self.assertRaises(exception.InvalidInput, rescue._beside, own.disks)


class KernelTest(base.TestCase):

    def test_kernels_of_others(self):
        # This host may have them, for servers of their owner.
        mine = {'id': base.IMAGE, 'properties': {
            'kernel_id': 'kernel', 'ramdisk_id': 'ramdisk'}}
        case = golden.CASES['pv_x86_64_grub']
        instance = base.instance()
        machine.keep(instance, case.machine())
        node = mock.Mock(machine_options=lambda: machine.Options(
            arch=arch.load('x86_64'), offered=tuple(GuestType),
            default_guest_type=GuestType.PV, image_kernels=True))
        for readable in (), ('kernel',):
            api = mock.Mock()

            def get(context, image_id, readable=readable):
                if image_id in (base.IMAGE, *readable):
                    return mine
                raise exception.ImageNotFound(image_id=image_id)

            api.get.side_effect = get
            self.useFixture(fixtures.MockPatchObject(
                nova_glance, 'API', return_value=api))
            self.assertRaises(
                exception.ImageNotFound, rescue.rescue, node, 'context',
                instance, base.image(), network_info=None,
                admin_password=None, block_device_info=None)
        node.images.store.disk.assert_not_called()
