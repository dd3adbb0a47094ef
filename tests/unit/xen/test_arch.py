# SPDX-License-Identifier: Apache-2.0
from unittest import mock

from oslotest import base

from xen44_driver.xen import arch
from xen44_driver.xen import errors
from xen44_driver.xen.guesttype import GuestType

PV, PVH, HVM = GuestType.PV, GuestType.PVH, GuestType.HVM


class ArchTest(base.BaseTestCase):

    def test_x86_64(self):
        x86 = arch.load('x86_64')
        self.assertEqual((PV, PVH, HVM), x86.guest_types)
        self.assertEqual(('hvm', 'xenfv', 'x86_64'), x86.os_type(HVM))
        self.assertEqual([HVM], list(filter(x86.screen, x86.guest_types)))
        self.assertIn('root=/dev/xvda1', x86.default_cmdline('/dev/xvda1'))
        self.assertEqual(
            {PV: ('qemu', 'kernel'), PVH: ('qemu', 'kernel'),
             HVM: ('qemu',)},
            {kind: x86.profile(kind).disk_classes
             for kind in x86.guest_types})

    def test_aarch64(self):
        arm = arch.load('aarch64')
        self.assertEqual((PVH,), arm.guest_types)
        self.assertFalse(arm.screen(PVH))
        self.assertEqual(('kernel',), arm.profile(PVH).disk_classes)
        error = self.assertRaises(errors.SpecError, arm.os_type, HVM)
        self.assertEqual(('hvm', 'pvh'), (error.value, error.allowed))

    def test_libvirts_names_and_back(self):
        for name in ('x86_64', 'aarch64'):
            architecture = arch.load(name)
            for guest_type in architecture.guest_types:
                theirs = architecture.os_type(guest_type)
                self.assertIs(guest_type, architecture.guest_type(
                    theirs.type, theirs.machine))
        self.assertIs(PV, arch.load('x86_64').guest_type('xen', None))
        self.assertRaises(errors.SpecError,
                          arch.load('aarch64').guest_type, 'hvm', 'xenfv')

    def test_unknown(self):
        error = self.assertRaises(errors.HostUnsupported, arch.load, 'vax')
        self.assertIn("'vax'", str(error))
        self.assertIn('aarch64, x86_64', str(error))

    def test_a_plugin_that_is_none(self):
        with mock.patch.object(arch.driver, 'DriverManager') as manager:
            manager.return_value.driver = 3
            error = self.assertRaises(errors.HostUnsupported, arch.load,
                                      'three')
        self.assertIn('no Architecture', str(error))
