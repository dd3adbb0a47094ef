# SPDX-License-Identifier: Apache-2.0
from oslotest import base

from tests.unit.xen import fake
from xen44_driver.xen import capabilities
from xen44_driver.xen import errors
from xen44_driver.xen.guesttype import GuestType

PV, PVH, HVM = GuestType.PV, GuestType.PVH, GuestType.HVM
X86 = (fake.CAPS / 'capabilities.xml').read_text()
ARM = (fake.CAPS / 'capabilities-arm.xml').read_text()


def _domains(*machines):
    return {machine: (fake.CAPS / f'domcapabilities-{machine}.xml'
                      ).read_text() for machine in machines}


class CapabilitiesTest(base.BaseTestCase):
    """Answers of real hosts: Debian 13, Xen 4.20, libvirt 11.3."""

    def test_x86(self):
        self.assertEqual({PV: 'xenpv', PVH: 'xenpvh', HVM: 'xenfv'},
                         capabilities.machines(X86))
        found = capabilities.parse(X86, _domains('xenpv', 'xenpvh', 'xenfv'))
        self.assertEqual('x86_64', found.arch)
        self.assertEqual((PV, PVH, HVM), found.guest_types)
        self.assertEqual('pentium-v1', found.cpu_model)
        self.assertLessEqual({'svm', 'lm', 'sse2'}, found.cpu_features)
        self.assertEqual(
            capabilities.Topology(sockets=1, cores=2, threads=1),
            found.topology)
        self.assertTrue(found.live_migration)
        self.assertEqual({PV: 512, PVH: 512, HVM: 128}, found.max_vcpus)
        self.assertEqual({'xen', 'ide', 'scsi'}, found.disk_buses)
        self.assertEqual({'vga', 'cirrus', 'xen'}, found.video_models)
        self.assertIn('vnc', found.graphics)
        self.assertEqual(('/usr/lib/xen/boot/ovmf.bin',), found.firmware)

    def test_arm(self):
        found = capabilities.parse(ARM, {})
        self.assertEqual('aarch64', found.arch)
        self.assertEqual((PVH,), found.guest_types)
        self.assertIsNone(found.cpu_model)
        self.assertEqual(frozenset(), found.cpu_features)
        self.assertEqual(
            capabilities.Topology(sockets=1, cores=2, threads=1),
            found.topology)
        self.assertFalse(found.live_migration)
        self.assertEqual({}, found.max_vcpus)

    def test_x86_without_hardware_virtualisation(self):
        only_pv = X86.replace('xenfv', 'other').replace('xenpvh<', 'other<')
        found = capabilities.parse(only_pv, _domains('xenpv'))
        self.assertEqual((PV,), found.guest_types)
        self.assertEqual((frozenset(), ()),
                         (found.video_models, found.firmware))

    def test_no_guests_of_xen(self):
        error = self.assertRaises(
            errors.HostUnsupported, capabilities.parse,
            X86.replace("type='xen'", "type='qemu'"), {})
        self.assertIn('none', str(error))

    def test_unknown_architecture(self):
        error = self.assertRaises(
            errors.HostUnsupported, capabilities.parse,
            X86.replace('<arch>x86_64<', '<arch>riscv64<'), {})
        self.assertIn('riscv64', str(error))
        self.assertIn('aarch64, x86_64', str(error))
