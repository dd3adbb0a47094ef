# SPDX-License-Identifier: Apache-2.0
"""What instances are decided to be, kept, and read as domains."""

import dataclasses
import json
import os
from unittest import mock

from nova import exception
from nova.compute import utils as compute_utils

from tests.unit import base
from xen44_driver.compute import machine
from xen44_driver.compute import spec
from xen44_driver.storage import kinds
from xen44_driver.storage import layout
from xen44_driver.xen import arch
from xen44_driver.xen import bootfile
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen.guesttype import GuestType

EPHEMERALS = [{'device_name': '/dev/xvdb', 'size': 2, 'guest_format': None}]
SWAP = {'device_name': '/dev/xvdc', 'swap_size': 64}
BASE = kinds.Base(id=base.IMAGE, format='raw', virtual_size=1024 ** 2,
                  size=4096)
UEFI = {'uefi': bootfile.BootFile(path='/ovmf', sha256='ab')}
ASKS_UEFI = {'hw_firmware_type': 'uefi'}
ISO = {'system_metadata': {'image_disk_format': 'iso'}}


OTHER = '2c7a1f0e-6d3b-4e8a-9b57-0d1e2f3a4b5c'


def volume_mapping(name, volume=base.VOLUME):
    """What Nova tells of a volume."""
    return {'mount_device': name,
            'connection_info': base.connection_info(volume)}


class MachineCase(base.TestCase):

    def setUp(self):
        super().setUp()
        self.loader = os.path.join(self.instances, 'grub')
        with open(self.loader, 'w') as file:
            file.write('grub')

    def options(self, **values):
        return machine.Options(**{
            'arch': arch.load('x86_64'), 'offered': tuple(GuestType),
            'default_guest_type': GuestType.HVM,
            'max_vcpus': dict.fromkeys(GuestType, 128),
            'loaders': dict.fromkeys(
                (GuestType.PV, GuestType.PVH), bootfile.look(self.loader)),
            'config_drive': False, **values})

    def decide(self, kind=None, *, disks=None, properties=None, options=None,
               disk_format='qcow2', **values):
        specs = {'xen44:guest_type': kind} if kind else None
        image = base.image(**(properties or {}))
        image.disk_format = disk_format
        return machine.decide(
            base.instance(extra_specs=specs, **values), image, disks,
            self.options(**(options or {})))

    def build(self, *args, vifs=(), serial_console=False, **values):
        return spec.build(
            self.decide(*args, **values), base.instance(), vifs,
            arch=arch.load('x86_64'),
            files=layout.InstanceFiles('/instances', base.UUID),
            options=spec.Options(
                shared_cpus=None, serial_console=serial_console))

    def refuse(self, *says, error=exception.InvalidInput, **asked):
        raised = self.assertRaises(error, self.decide, **asked)
        for text in says:
            self.assertIn(text, str(raised))


class EmulatedTest(MachineCase):

    def test_by_guest_type(self):
        """Of what it is going to be, if it can be anything."""
        for kind, letters in (('hvm', 'abc'), ('pvh', ''), ('kvm', ''),
                              (None, 'abc')):
            specs = {'xen44:guest_type': kind} if kind else None
            self.assertEqual(letters, machine.emulated_disks(
                base.instance(extra_specs=specs), self.options()), kind)


class RecordsTest(MachineCase):
    """An instance can have several records."""

    KEYS = (machine.KEY, machine.RESCUE, machine.BEFORE_RESIZE)

    def test_each_by_itself(self):
        instance = base.instance(system_metadata={'image_os_type': 'linux'})
        made = {key: self.decide(kind) for key, kind in zip(
            self.KEYS, GuestType, strict=True)}
        for key, record in made.items():
            machine.keep(instance, record, key)
        for key in self.KEYS:
            self.assertEqual(made.get(key), machine.recall(instance, key))
            self.assertTrue(machine.forget(instance, key))
            self.assertFalse(machine.forget(instance, key))
            self.assertIsNone(machine.recall(instance, key))
        self.assertEqual({'image_os_type': 'linux'},
                         instance.system_metadata)

    def test_no_image_inherits_them(self):
        for key in self.KEYS:
            self.assertTrue(key.startswith(tuple(
                compute_utils.NON_INHERITABLE_IMAGE_NAMESPACES)), key)

    def test_names_of_disks(self):
        instance = base.instance()
        self.assertEqual([], machine.disk_names(instance))
        machine.keep(instance, self.decide(disks={'ephemerals': EPHEMERALS}))
        self.assertEqual(['/dev/xvda', '/dev/xvdb'],
                         machine.disk_names(instance))


class DecideTest(MachineCase):

    def test_vcpus(self):
        self.refuse('2 vCPUs', 'hvm guest can have 1',
                    options={'max_vcpus': {GuestType.HVM: 1}})
        # The limit itself is allowed.
        self.decide(options={'max_vcpus': {GuestType.HVM: 2}})

    def test_boot_from_volume(self):
        for kind, target in (('pvh', 'xvda'), ('hvm', 'hda')):
            decided = self.decide(kind, image_ref='', disks={
                'ephemerals': EPHEMERALS, 'block_device_mapping': [
                    volume_mapping('/dev/xvda'),
                    volume_mapping('/dev/xvdf', OTHER)]})
            self.assertEqual(
                [(target, 'volume', base.VOLUME),
                 ('hdb' if kind == 'hvm' else 'xvdb', 'blank', None),
                 ('xvdf', 'volume', OTHER)],
                [(disk.target, disk.kind, disk.volume_id)
                 for disk in decided.disks])
            self.assertEqual(
                decided, machine.Machine.from_json(decided.to_json()))
            root, *_ = decided.devices('/instances/x')
            self.assertEqual(
                ('block', f'/run/xen44/volumes/{base.UUID}/{base.VOLUME}'),
                (root.type, root.source))

    def test_monitor(self):
        """Where QEMU has a disk open, which is waited for."""
        volume = {'block_device_mapping': [volume_mapping('/dev/xvda')]}
        for kind, monitor in (('pvh', False), ('hvm', True)):
            self.assertEqual(
                monitor, self.build(kind, disks=volume).monitor)
            self.assertTrue(self.build(kind).monitor)

    def test_volume_made_of_an_iso_image(self):
        decided = self.decide('pvh', disk_format='iso', disks={
            'block_device_mapping': [volume_mapping('/dev/xvda')]})
        self.assertEqual(['volume'], [disk.kind for disk in decided.disks])

    def test_volumes_that_nova_tells_of(self):
        decided = self.decide('pvh', disks={
            'block_device_mapping': [volume_mapping('/dev/xvdb')]})

        def told(machine_, *mappings):
            return [disk.volume_id for disk in machine.with_volumes(
                machine_, base.instance(), {'block_device_mapping': mappings},
                arch.load('x86_64')).disks]

        self.assertEqual([None], told(decided))
        self.assertEqual([None, base.VOLUME, OTHER], told(
            decided, volume_mapping('/dev/xvdc', OTHER),
            volume_mapping('/dev/xvdb')))
        # One that is being attached has no connection yet.
        self.assertEqual([None], told(decided, {
            **volume_mapping('/dev/xvdb'), 'connection_info': {}}))
        root = self.decide('pvh', disks={
            'block_device_mapping': [volume_mapping('/dev/xvda')]})
        self.assertRaises(exception.DiskNotFound, told, root)

    def test_file_system(self):
        self.refuse("'reiserfs'", 'ext4', disks={'ephemerals': [
            {**EPHEMERALS[0], 'guest_format': 'reiserfs'}]})

    def test_no_loader_is_configured(self):
        self.refuse('[xen44_x86_64] pvh_loader', 'kernel_id', kind='pvh',
                    options={'loaders': {}})

    def test_loader_is_missing(self):
        decided = {kind: self.decide(kind) for kind in GuestType}
        for made in decided.values():
            machine.check_loader(made, 'x86_64')
        os.unlink(self.loader)
        for kind in ('pv', 'pvh'):
            raised = self.assertRaises(
                exception.InvalidInput, machine.check_loader, decided[kind],
                'x86_64')
            self.assertIn(self.loader, str(raised))
            self.assertIn(f'[xen44_x86_64] {kind}_loader', str(raised))
        # Neither needs it.
        machine.check_loader(decided['hvm'], 'x86_64')
        machine.check_loader(self.decide(
            'pv', kernel_id='k', options={'image_kernels': True}), 'x86_64')

    def test_uefi(self):
        for kind in ('pv', 'pvh'):
            self.refuse("hw_firmware_type 'uefi'", 'bios', kind=kind,
                        options=UEFI, properties=ASKS_UEFI)
        self.refuse('[xen44_x86_64] uefi_firmware', 'allowed: bios',
                    kind='hvm', properties=ASKS_UEFI)
        self.refuse('hw_firmware_type uefi', 'a-kernel', kind='hvm',
                    kernel_id='a-kernel', properties=ASKS_UEFI,
                    options={**UEFI, 'image_kernels': True})
        self.refuse('hw_firmware_stateless', 'hw_firmware_type=uefi',
                    kind='hvm', options=UEFI,
                    properties={'hw_firmware_stateless': True})
        self.refuse('os_secure_boot', 'no Secure Boot', kind='hvm',
                    options=UEFI,
                    properties={**ASKS_UEFI, 'os_secure_boot': 'required'})
        self.refuse('hw_firmware_type uefi', 'libvirt is old',
                    'allowed: bios', kind='hvm', properties=ASKS_UEFI,
                    options={**UEFI, 'uefi_problem': 'libvirt is old'})
        made = self.decide('hvm', options=UEFI, properties={
            **ASKS_UEFI, 'hw_firmware_stateless': True})
        self.assertEqual(('/ovmf', 'ab'), (made.loader, made.loader_sha256))
        raised = self.assertRaises(
            exception.InvalidInput, machine.check_loader, made, 'x86_64')
        self.assertIn('no file /ovmf, which was [xen44_x86_64] uefi_firmware',
                      str(raised))

    def test_loader_has_changed(self):
        """It is used all the same: it may be an update."""
        made = self.decide('pv')
        self.assertEqual(bootfile.look(self.loader).sha256, made.loader_sha256)
        self.assertIsNone(self.decide('hvm').loader_sha256)
        with open(self.loader, 'w') as file:
            file.write('a newer grub')
        with self.assertLogs('xen44_driver.compute.machine') as logs:
            machine.check_loader(made, 'x86_64')
        self.assertIn(made.loader_sha256, logs.output[0])
        with self.assertNoLogs('xen44_driver.compute.machine'):
            machine.check_loader(self.decide('pv'), 'x86_64')
            # A record of an older version has none.
            machine.check_loader(
                dataclasses.replace(made, loader_sha256=None), 'x86_64')

    def test_kernel(self):
        self.refuse('a-kernel', 'allow_image_kernels', kernel_id='a-kernel')
        self.refuse('a-ramdisk', 'kernel_id', ramdisk_id='a-ramdisk')

    def test_config_drive(self):
        def has(**values):
            return 'config' in [disk.kind
                                for disk in self.decide(**values).disks]

        self.assertFalse(has())
        self.assertTrue(has(config_drive='True'))
        self.assertTrue(has(system_metadata={
            'image_img_config_drive': 'mandatory'}))
        default = {'options': {'config_drive': True}}
        self.assertTrue(has(**default))
        self.assertFalse(has(
            properties={'img_config_drive': 'optional'}, **default))

    def test_iso(self):
        made = self.decide('hvm', disk_format='iso')
        self.assertEqual(
            [('blank', 'hda', 'disk', 'raw'),
             ('cdrom', 'hdc', 'cdrom', 'raw')],
            [(disk.kind, disk.target, disk.device, disk.format)
             for disk in made.disks])
        self.assertEqual(1024 ** 3, made.root.size)
        for kind in ('pv', 'pvh'):
            self.refuse('ISO', 'hw_vm_mode=hvm', kind=kind,
                        disk_format='iso')
        self.refuse('ISO', 'root disk', kind='hvm', disk_format='iso',
                    root_gb=0)

    def test_iso_where_its_name_is_taken(self):
        self.refuse('/dev/xvdc', 'ISO', kind='hvm', disk_format='iso',
                    disks={'swap': SWAP})

    def test_windows(self):
        made = self.decide(properties={'os_type': 'windows'})
        self.assertEqual('localtime', made.clock)
        made = self.decide(properties={'os_type': 'linux'})
        self.assertEqual('utc', made.clock)

    def test_screen(self):
        pointer = {'hw_pointer_model': 'usbtablet'}
        made = self.decide('hvm', properties=pointer)
        self.assertTrue(made.screen and made.tablet)
        self.assertFalse(self.decide('pvh').screen)
        self.assertFalse(self.decide('hvm', options={'screen': False}).screen)
        self.assertFalse(made.spice or made.spice_agent)

    def test_spice(self):
        for screen in (True, False):
            options = {'screen': screen, 'spice': True}
            made = self.decide('hvm', options=options)
            self.assertEqual(screen, made.screen)
            self.assertTrue(made.spice and made.spice_agent and made.tablet)
            self.assertFalse(self.decide('hvm', options={
                **options, 'spice_agent': False}).spice_agent)
            for kind in ('pv', 'pvh'):
                made = self.decide(kind, options=options)
                self.assertFalse(
                    made.spice or made.spice_agent or made.tablet)


class RecordTest(MachineCase):

    def every(self):
        for kind in GuestType:
            for kernel in (None, 'a-kernel'):
                yield self.decide(
                    kind, kernel_id=kernel, config_drive='True',
                    properties={'os_command_line': ''},
                    disks={'ephemerals': EPHEMERALS, 'swap': SWAP},
                    options={'image_kernels': True, 'max_grant_frames': 64},
                ).with_base(BASE)

    def test_is_read_as_it_was_written(self):
        for made in self.every():
            instance = base.instance(system_metadata={'other': 'kept'})
            machine.keep(instance, made)
            self.assertEqual(made, machine.recall(instance))
            self.assertEqual('kept', instance.system_metadata['other'])
            # What Nova's database can hold.
            self.assertTrue(all(
                len(value) <= 255
                for value in instance.system_metadata.values()))

    def test_a_shorter_record_replaces_a_longer_one(self):
        long, short = next(self.every()), self.decide('pvh')
        instance = base.instance()
        machine.keep(instance, long)
        machine.keep(instance, short)
        self.assertEqual(short, machine.recall(instance))

    def test_it_stays_out_of_images_made_of_the_instance(self):
        instance = base.instance()
        machine.keep(instance, self.decide())
        made = compute_utils.initialize_instance_snapshot_metadata(
            mock.Mock(project_id=instance.project_id), instance, 'snapshot')
        self.assertNotIn('machine', str(made))

    def test_none(self):
        self.assertIsNone(machine.recall(base.instance()))

    def test_a_newer_version_is_refused(self):
        values = json.loads(self.decide().to_json())
        values['version'] += 1
        raised = self.assertRaises(
            machine.MachineUnreadable, machine.Machine.from_json,
            json.dumps(values))
        self.assertIn('version is 2', str(raised))

    def test_a_record_from_before_spice(self):
        text = ('{"version":1,"guest_type":"hvm","disks":[{"kind":"overlay",'
                '"name":"/dev/xvda","target":"hda","file":"disk.qcow2",'
                '"format":"qcow2"}],"screen":true,"tablet":true}')
        read = machine.Machine.from_json(text)
        self.assertTrue(read.screen and not read.spice)
        # It is written as it was, so an older driver can read it again.
        self.assertEqual(json.loads(text), json.loads(read.to_json()))

    def test_damaged(self):
        for text in ('{', '[]', '{}', '{"version": 1}',
                     '{"version": 1, "guest_type": "pv", "disks": [3]}',
                     '{"version": 1, "guest_type": "pv", "disks": []}',
                     '{"version": 1, "guest_type": "pv", "disks": [{"kind": '
                     '"floppy", "name": "a", "target": "b", "file": "c"}]}',
                     '{"version": 1, "guest_type": "pv", "disks": [], '
                     '"colour": "red"}'):
            self.assertRaises(machine.MachineUnreadable,
                              machine.Machine.from_json, text)

    def test_options_of_tomorrow_change_nothing(self):
        instance = base.instance(extra_specs={'xen44:guest_type': 'pvh'})
        made = machine.decide(
            instance, base.image(), None, self.options())
        machine.keep(instance, made)
        instance.flavor.extra_specs = {'xen44:guest_type': 'hvm'}
        self.assertEqual(GuestType.PVH, machine.recall(instance).guest_type)


class AdoptTest(MachineCase):
    """Instances of a version of the driver that kept no record."""

    def adopt(self, *present, **values):
        return machine.adopt(
            base.instance(**values), {'swap': SWAP}, self.options(
                config_drive=True), present=present)

    def test_disks_are_those_that_are_there(self):
        made = self.adopt('disk.raw', 'disk.swap', 'console.log')
        self.assertEqual(['disk.raw', 'disk.swap'],
                         [disk.file for disk in made.disks])
        self.assertEqual('raw', made.root.format)
        made = self.adopt('disk.qcow2', 'disk.config')
        self.assertEqual(['disk.qcow2', 'disk.config'],
                         [disk.file for disk in made.disks])

    def test_a_kernel_of_its_own_goes_on(self):
        made = self.adopt('disk.qcow2', 'kernel', kernel_id='a-kernel')
        self.assertEqual('a-kernel', made.kernel_id)

    def test_spice_is_not_added(self):
        made = machine.adopt(
            base.instance(extra_specs={'xen44:guest_type': 'hvm'}), None,
            self.options(spice=True), present=['disk.qcow2'])
        self.assertTrue(made.screen)
        self.assertFalse(made.spice or made.spice_agent)

    def test_what_is_refused_today_goes_on(self):
        made = self.adopt('disk.qcow2', system_metadata={
            'image_hw_qemu_guest_agent': 'yes'})
        self.assertEqual('overlay', made.root.kind)

    def test_an_iso_image_was_a_root_disk(self):
        for kind in GuestType:
            made = self.adopt(
                'disk.qcow2', **ISO,
                extra_specs={'xen44:guest_type': str(kind)})
            self.assertEqual([('overlay', 'disk.qcow2')], [
                (disk.kind, disk.file) for disk in made.disks])

    def test_an_empty_command_line_was_the_default(self):
        made = self.adopt('disk.qcow2', 'kernel', kernel_id='a-kernel',
                          system_metadata={'image_os_command_line': ''})
        self.assertEqual('root=/dev/xvda ro console=hvc0', made.cmdline)

    def test_no_root_disk(self):
        self.assertRaises(exception.DiskNotFound, self.adopt, 'console.log')


class SpecTest(MachineCase):

    def test_every_kind_can_be_written(self):
        for kind in GuestType:
            for kernel in (None, 'a-kernel'):
                built = self.build(
                    kind, kernel_id=kernel, vifs=[base.vif()],
                    config_drive='True', options={'image_kernels': True},
                    disks={'ephemerals': EPHEMERALS, 'swap': SWAP})
                text = domain.to_xml(built, arch.load('x86_64'))
                self.assertIn('Käse &lt;&amp;&gt;', text)
                self.assertEqual(4, len(built.disks))
                # The record comes back from libvirt as it was.
                read = domain.from_xml(text, arch.load('x86_64'))
                self.assertEqual(kind, machine.Machine.from_json(
                    read.metadata.machine).guest_type)

    def test_boot(self):
        self.assertEqual(domain.FirmwareBoot(), self.build('hvm').boot)
        self.assertEqual(domain.FirmwareBoot(), self.build(
            'hvm', options=UEFI).boot)
        self.assertEqual(
            domain.FirmwareBoot(uefi='/ovmf'),
            self.build('hvm', options=UEFI, properties=ASKS_UEFI).boot)
        self.assertEqual(domain.GrubBoot(loader=self.loader),
                         self.build('pv').boot)
        self.assertEqual(
            ('hd', 'cdrom'),
            self.build('hvm', disk_format='iso').boot.devices)

    def direct(self, **properties):
        return self.build(
            'pvh', kernel_id='k', ramdisk_id='r', properties=properties,
            options={'image_kernels': True}).boot

    def test_direct_boot(self):
        boot = self.direct()
        self.assertEqual('root=/dev/xvda ro console=hvc0', boot.cmdline)
        self.assertEqual(f'/instances/{base.UUID}/kernel', boot.kernel)
        self.assertEqual('quiet', self.direct(os_command_line='quiet').cmdline)
        # None at all is a wish too.
        self.assertEqual('', self.direct(os_command_line='').cmdline)
        self.assertRaises(errors.SpecError, self.direct,
                          os_command_line='quiet\n<init/>')

    def test_root_disk(self):
        (disk,) = self.build('pv').disks
        self.assertEqual(('xvda', 'qcow2'), (disk.target, disk.format))
        self.assertEqual(
            f'/instances/{base.UUID}/disk.qcow2', disk.source)

    def test_bus_of_disks(self):
        built = self.build('hvm', disks={'ephemerals': EPHEMERALS},
                           properties={'hw_disk_bus': 'scsi'})
        self.assertEqual([('sda', 'scsi'), ('sdb', 'scsi')],
                         [(disk.target, disk.bus) for disk in built.disks])

    def test_config_drive(self):
        for kind, format, target, device in (
                ('pv', 'iso9660', 'xvdd', 'disk'),
                ('hvm', 'iso9660', 'hdd', 'cdrom'),
                ('hvm', 'vfat', 'xvdz', 'disk')):
            drive = self.build(
                kind, config_drive='True',
                options={'config_drive_format': format}).disks[-1]
            self.assertEqual((target, device), (drive.target, drive.device))
            # QEMU's xen-disk refuses what is read-only.
            self.assertEqual(device == 'cdrom', drive.readonly)

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
        self.assertEqual('127.0.0.1', self.build('hvm').screen.vnc)
        self.assertIsNone(self.build('pvh').screen)

    def test_spice(self):
        self.assertIsNone(self.build('hvm').screen.spice)
        # Nothing of dom0's network listens for it.
        expected = domain.Spice(
            socket=f'/run/xen44/{base.UUID}.spice', agent=True)
        options = {'spice': True}
        self.assertEqual(
            domain.Screen(vnc='127.0.0.1', spice=expected, tablet=True),
            self.build('hvm', options=options).screen)
        self.assertEqual(
            domain.Screen(spice=expected, tablet=True),
            self.build('hvm', options={**options, 'screen': False}).screen)
        self.assertIsNone(self.build('pvh', options=options).screen)

    def test_tablet(self):
        def tablet(model, **properties):
            return self.build('hvm', options={'pointer_model': model},
                              properties=properties).screen.tablet

        self.assertTrue(tablet('usbtablet'))
        self.assertTrue(tablet(None, hw_pointer_model='usbtablet'))
        self.assertFalse(tablet('ps2mouse'))
        self.assertFalse(tablet(None))
        for values in ({'kind': 'pvh'}, {'options': {'screen': False}}):
            self.assertFalse(self.decide(**values).tablet)

    def test_agent(self):
        self.assertIsNone(self.build().agent_socket)
        for kind in ('pv', 'pvh', 'hvm'):
            built = self.build(
                kind, properties={'hw_qemu_guest_agent': True})
            self.assertEqual(f'/run/xen44/{base.UUID}.agent',
                             built.agent_socket)

    def test_serial_console(self):
        self.assertIsNone(self.build('hvm').serial_socket)
        self.assertEqual(f'/run/xen44/{base.UUID}.serial', self.build(
            'hvm', serial_console=True).serial_socket)
        # Theirs is Xen's.
        self.assertIsNone(
            self.build('pvh', serial_console=True).serial_socket)

    def test_limits(self):
        self.assertIsNone(self.build().max_event_channels)
        built = self.build(options={'max_event_channels': 4096,
                                    'max_grant_frames': 64})
        self.assertEqual((4096, 64), (built.max_event_channels,
                                      built.max_grant_frames))

    def test_limits_of_older_records_stay(self):
        old = self.decide('hvm')
        flavor = base.instance(extra_specs={
            'xen44:max_event_channels': '2500'})
        flavor.flavor.vcpus = 128
        built = spec.build(
            machine.Machine.from_json(old.to_json()), flavor, (),
            arch=arch.load('x86_64'),
            files=layout.InstanceFiles('/instances', base.UUID),
            options=spec.Options(shared_cpus=None))
        self.assertEqual((None, None), (built.max_event_channels,
                                        built.max_grant_frames))

    def test_with_base(self):
        made = self.decide('hvm', disk_format='iso',
                           disks={'ephemerals': EPHEMERALS})
        based = made.with_base(BASE)
        self.assertEqual([None, None, BASE],
                         [disk.base for disk in based.disks])
        self.assertEqual(made, dataclasses.replace(based, disks=made.disks))
