# SPDX-License-Identifier: Apache-2.0
"""Instances as Nova hands them over, and the domains they become."""

import itertools

from lxml import etree
from nova import exception

from tests.unit import base
from tests.unit import schema
from tests.unit.compute import golden
from xen44_driver.compute import machine
from xen44_driver.xen import arch
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen.guesttype import GuestType


def _boot(spec):
    """Return how a domain boots, in a word."""
    match spec.boot:
        case domain.DirectBoot(cmdline=''):
            return 'unikernel'
        case domain.DirectBoot():
            return 'kernel'
        case domain.GrubBoot():
            return 'loader'
        case domain.FirmwareBoot(uefi=str()):
            return 'uefi'
        case domain.FirmwareBoot(devices=devices):
            return 'iso' if 'cdrom' in devices else 'firmware'


class GoldenTest(base.TestCase):
    """What libvirt is told, as files that a person can read."""

    def test_as_written(self):
        for name, case in golden.CASES.items():
            with self.subTest(name):
                self.assertEqual(
                    golden.path(name).read_text(encoding='utf-8'),
                    case.xml(),
                    'python -m tests.unit.compute.golden writes it anew')

    def test_no_file_without_a_case(self):
        self.assertEqual({golden.path(name) for name in golden.CASES},
                         set(golden.DATA.iterdir()))

    def test_valid_by_libvirts_schema(self):
        for name in golden.CASES:
            with self.subTest(name):
                schema.assert_valid(
                    golden.path(name).read_text(encoding='utf-8'))

    def test_read_back(self):
        for name, case in golden.CASES.items():
            with self.subTest(name):
                read = domain.from_xml(
                    golden.path(name).read_text(encoding='utf-8'),
                    arch.load(case.arch))
                self.assertEqual(case.spec(), read)
                self.assertEqual(
                    case.machine(),
                    machine.Machine.from_json(read.metadata.machine))

    def test_every_way_to_boot_of_every_guest_type(self):
        wanted = set()
        for name in golden.HOSTS:
            architecture = arch.load(name)
            for kind in architecture.guest_types:
                profile = architecture.profile(kind)
                wanted |= {(name, kind, boot)
                           for boot in ('kernel', 'unikernel')}
                wanted.add((name, kind, 'firmware' if profile.firmware
                            else 'loader'))
                if profile.cdrom:
                    wanted.add((name, kind, 'iso'))
                if profile.firmware:
                    wanted.add((name, kind, 'uefi'))
        specs = [case.spec() for case in golden.CASES.values()]
        self.assertEqual(wanted, {
            (spec.arch, spec.guest_type, _boot(spec)) for spec in specs})

    def test_names_say_what_they_are(self):
        for name, case in golden.CASES.items():
            spec = case.spec()
            self.assertTrue(
                name.startswith(f'{spec.guest_type}_{spec.arch}_'), name)

    def test_never_pygrub(self):
        # libvirt runs pygrub for a PV guest without a kernel: XSA-443.
        for name, case in golden.CASES.items():
            if case.spec().guest_type is not GuestType.HVM:
                root = etree.parse(golden.path(name))
                self.assertIsNotNone(root.findtext('os/kernel'), name)
                self.assertIsNone(root.find('bootloader'), name)


class EveryCombinationTest(base.TestCase):
    """What may be asked for together: built, or refused by its name."""

    def built_or_refused(self, case, profile, *refused, **asked):
        """See that a case ends as it should.

        :param profile: of the guest type, None where there is none.
        :param refused: texts that refusals may have; none if it is built.
        :param asked: for the reader of a failure.
        :returns: the root of the XML, None if the case is refused.
        """
        with self.subTest(arch=case.arch, extra_specs=case.extra_specs,
                          **asked):
            if profile is None:
                refused = ('guest type',)
            if refused:
                error = self.assertRaises(
                    (exception.Invalid, errors.SpecError), case.xml)
                self.assertTrue(
                    any(text in str(error) for text in refused), error)
                return None
            text = case.xml()
            schema.assert_valid(text)
            self.assertEqual(
                case.spec(), domain.from_xml(text, arch.load(case.arch)))
            return etree.fromstring(text)

    def guests(self):
        for name in golden.HOSTS:
            for kind in GuestType:
                yield name, kind, arch.load(name).profiles.get(kind)

    def test_devices(self):
        # All that some profile has, and one that none has.
        for (name, kind, profile), *devices in itertools.product(
                self.guests(), (None, 'xen', 'ide', 'scsi', 'virtio'),
                (None, 'netfront', 'e1000', 'rtl8139', 'virtio'),
                (None, 'none', 'vga', 'cirrus'), (None, 'usbtablet')):
            asked = dict(zip(('hw_disk_bus', 'hw_vif_model', 'hw_video_model',
                              'hw_pointer_model'), devices, strict=True))
            refused = [] if profile is None else [
                f'{key} {asked[key]!r}' for key, allowed in (
                    ('hw_disk_bus', profile.disk_buses),
                    ('hw_vif_model', profile.vif_models),
                    ('hw_video_model', profile.video_models),
                    ('hw_pointer_model', profile.pointer_models))
                if asked[key] not in (None, *allowed)]
            root = self.built_or_refused(golden.Case(
                arch=name, extra_specs={'xen44:guest_type': kind},
                properties={key: value for key, value in asked.items()
                            if value}), profile, *refused, **asked)
            if root is not None:
                found = root.find('devices/interface/model')
                self.assertEqual(
                    asked['hw_vif_model'],
                    None if found is None else found.get('type'))

    def test_disks_and_boots(self):
        for ((name, kind, profile), kernel, cmdline, bus, image, disk,
             drive, disk_class) in itertools.product(
                self.guests(), (None, 'a-kernel'),
                (None, '', 'quiet', 'two\nlines'), (None, 'scsi'),
                ('qcow2', 'iso'), ('qcow2', 'raw'),
                ('iso9660', 'vfat'), (None, 'qemu', 'kernel')):
            asked = {'os_command_line': cmdline, 'hw_disk_bus': bus}
            refused = [] if profile is None else [text for text, true in (
                ('hw_disk_bus', bus not in (None, *profile.disk_buses)),
                ('xen44:disk_class', disk_class not in (
                    None, *profile.disk_classes)),
                ('ISO', image == 'iso' and not profile.cdrom),
                ('boot.cmdline', kernel and '\n' in (cmdline or '')),
            ) if true]
            root = self.built_or_refused(
                golden.Case(
                    arch=name, extra_specs={
                        'xen44:guest_type': kind,
                        **({'xen44:disk_class': disk_class} if disk_class
                           else {})},
                    disk_format=image, instance={'kernel_id': kernel},
                    properties={key: value for key, value in asked.items()
                                if value is not None},
                    block_devices={'ephemerals': [
                        {'device_name': '/dev/xvdb', 'size': 1,
                         'guest_format': None}]},
                    options={'image_kernels': True, 'disk_format': disk,
                             'config_drive_format': drive}),
                profile, *refused, kernel=kernel, image=image, disk=disk,
                drive=drive, disk_class=disk_class, **asked)
            if root is not None:
                by_kernel = (disk_class or profile.disk_classes[0]) == 'kernel'
                self.assertEqual(
                    {'phy' if by_kernel else 'qemu'},
                    {driver.get('name') for driver
                     in root.iterfind('devices/disk/driver')})
                self.assertEqual(
                    4 if image == 'iso' else 3,
                    len(root.findall('devices/disk')))
