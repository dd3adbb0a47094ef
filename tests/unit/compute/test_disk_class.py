# SPDX-License-Identifier: Apache-2.0
"""Whether QEMU or dom0's kernel serves disks, and what that rules out.

The domains are in test_golden.py.
"""

import dataclasses
from unittest import mock

from nova import exception

from tests.unit import base
from tests.unit.compute import golden
from tests.unit.compute import test_machine
from xen44_driver.compute import disk_class
from xen44_driver.compute import livemigration
from xen44_driver.compute import machine
from xen44_driver.compute import node as compute_node
from xen44_driver.xen import arch
from xen44_driver.xen import errors
from xen44_driver.xen.diskclass import DiskClass
from xen44_driver.xen.guesttype import GuestType

QEMU, KERNEL = DiskClass.QEMU, DiskClass.KERNEL
BY_KERNEL = {'xen44:disk_class': 'kernel'}


class ChooseTest(base.TestCase):

    def choose(self, asked=None, *, offered=(QEMU, KERNEL), default=None):
        specs = {'xen44:disk_class': asked} if asked else {}
        return disk_class.choose(
            base.instance(extra_specs=specs).flavor, offered=offered,
            default=default)

    def test_the_flavor_asks(self):
        for asked in DiskClass:
            self.assertIs(asked, self.choose(asked, default=QEMU))

    def test_nobody_asks(self):
        self.assertIs(QEMU, self.choose())
        self.assertIs(KERNEL, self.choose(offered=(KERNEL,)))
        self.assertIs(KERNEL, self.choose(default=KERNEL))
        self.assertIs(QEMU, self.choose(default=KERNEL, offered=(QEMU,)))

    def test_refused(self):
        for asked, offered in (
                ('QEMU', (QEMU, KERNEL)), ('qemu', (KERNEL,)),
                ('kernel', (QEMU,))):
            raised = self.assertRaises(
                exception.InvalidInput, self.choose, asked, offered=offered)
            self.assertIn(f'{asked!r}; allowed: {", ".join(offered)}',
                          str(raised))


class MachineTest(test_machine.MachineCase):
    """What the record has of it."""

    def by_kernel(self, kind='pvh', **values):
        with mock.patch.object(base, 'instance', self._instance(
                base.instance)):
            return self.decide(kind, **values)

    @staticmethod
    def _instance(instance):
        def made(*, extra_specs=None, **values):
            return instance(
                extra_specs={**(extra_specs or {}), **BY_KERNEL}, **values)
        return made

    def test_raw_whatever_the_host_prefers(self):
        for kind in ('pv', 'pvh'):
            for format in ('qcow2', 'raw'):
                made = self.by_kernel(kind, options={'disk_format': format})
                self.assertEqual(
                    (KERNEL, 'clone', 'raw', 'disk.raw'),
                    (made.disk_class, made.root.kind, made.root.format,
                     made.root.file))

    def test_record(self):
        made = self.by_kernel()
        self.assertEqual(made, machine.Machine.from_json(made.to_json()))
        # An older version of the driver reads it as far as it can.
        text = self.decide('pvh').to_json()
        self.assertNotIn('disk_class', text)
        self.assertIs(QEMU, machine.Machine.from_json(text).disk_class)
        self.assertRaises(
            machine.MachineUnreadable, machine.Machine.from_json,
            made.to_json().replace('"kernel"', '"tapdisk"'))

    def test_adopted(self):
        """Versions without records knew no classes."""
        instance = base.instance(extra_specs={
            'xen44:guest_type': 'pvh', **BY_KERNEL})
        for file in ('disk.qcow2', 'disk.raw'):
            adopted = machine.adopt(
                instance, None, self.options(), present=[file])
            self.assertEqual((QEMU, file),
                             (adopted.disk_class, adopted.root.file))

    def test_hvm(self):
        self.assertIn(
            "xen44:disk_class 'kernel'; allowed for a hvm guest: qemu",
            str(self.assertRaises(
                exception.InvalidInput, self.by_kernel, 'hvm')))

    def test_what_needs_qemu(self):
        for flavor, properties, says in (
                ({'quota:disk_read_iops_sec': '1'}, {}, 'quota:disk_*_sec'),
                ({}, {'hw_qemu_guest_agent': True}, 'hw_qemu_guest_agent')):
            case = golden.Case(
                extra_specs={'xen44:guest_type': 'pvh', **BY_KERNEL,
                             **flavor}, properties=properties)
            raised = self.assertRaises(exception.InvalidInput, case.machine)
            for text in (says, 'class kernel',
                         'allowed: xen44:disk_class=qemu'):
                self.assertIn(text, str(raised))
            self.assertLess(len(str(raised)), 255)
            dataclasses.replace(case, extra_specs={
                **case.extra_specs, 'xen44:disk_class': 'qemu'}).machine()
        # No limit is none.
        golden.Case(extra_specs={
            'xen44:guest_type': 'pvh', **BY_KERNEL,
            'quota:disk_read_iops_sec': '0'}).machine()


class ArmTest(base.TestCase):
    """An ARM host refuses by name, before anything is made."""

    def refuse(self, *says, options=None, **asked):
        case = golden.Case(arch='aarch64', options=options or {}, **asked)
        raised = self.assertRaises(
            (exception.Invalid, errors.SpecError), case.machine)
        for text in says:
            self.assertIn(text, str(raised))

    def test_what_it_runs(self):
        made = golden.Case(arch='aarch64').machine()
        self.assertEqual((GuestType.PVH, KERNEL),
                         (made.guest_type, made.disk_class))
        # What stock images have, as no QEMU is needed for it.
        golden.Case(arch='aarch64', properties={
            'hw_vm_mode': 'xen', 'hw_firmware_type': 'uefi',
            'hw_architecture': 'aarch64'}, extra_specs=BY_KERNEL).machine()

    def test_guest_types(self):
        self.refuse('guest type hvm', 'it can run: pvh',
                    properties={'hw_vm_mode': 'hvm'})
        for kind in ('hvm', 'pv'):
            self.refuse(f'guest type {kind}', 'it can run: pvh',
                        extra_specs={'xen44:guest_type': kind})

    def test_what_needs_qemu(self):
        self.refuse("xen44:disk_class 'qemu'", 'kernel',
                    extra_specs={'xen44:disk_class': 'qemu'})
        self.refuse("hw_video_model 'vga'", 'none',
                    properties={'hw_video_model': 'vga'})
        self.refuse('hw_qemu_guest_agent',
                    properties={'hw_qemu_guest_agent': True})
        self.refuse('quota:disk_*_sec', 'allowed: neither',
                    extra_specs={'quota:disk_total_bytes_sec': '1000'})
        self.refuse('ISO', disk_format='iso')

    def test_boot(self):
        self.refuse('[xen44_aarch64] pvh_loader', 'kernel_id',
                    properties={'hw_firmware_type': 'uefi'},
                    options={'loaders': {GuestType.PVH: None}})
        self.refuse('hw_firmware_type uefi', 'kernel_id',
                    properties={'hw_firmware_type': 'uefi'},
                    instance={'kernel_id': 'k'},
                    options={'image_kernels': True})
        raised = self.assertRaises(
            exception.InvalidInput, machine.check_loader,
            golden.Case(arch='aarch64').machine(), 'aarch64')
        self.assertIn('XEN_EFI.fd', str(raised))

    def test_live_migration(self):
        node = base.node()
        for name, says in (('aarch64', 'aarch64 cannot move the memory'),
                           ('x86_64', 'does not move running instances')):
            with mock.patch.object(
                    compute_node.Node, 'arch', arch.load(name)):
                raised = self.assertRaises(
                    exception.MigrationPreCheckError, livemigration.refuse,
                    node)
            self.assertIn(says, str(raised))
