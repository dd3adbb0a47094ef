# SPDX-License-Identifier: Apache-2.0
"""What a host has to give."""

import dataclasses

from nova.compute import provider_tree

from tests.unit import base
from xen44_driver.compute import resources
from xen44_driver.compute import traits
from xen44_driver.xen import host as xen_host
from xen44_driver.xen.guesttype import GuestType

PV, PVH, HVM = GuestType
NODE = '8f4a1f4e-5d5b-4d3d-8f1d-2d2f5d1c9b10'


def memory(total, dom0, free=1024):
    return xen_host.HostMemory(
        total_mib=total, dom0_mib=dom0, free_mib=free)


class MemoryTest(base.TestCase):

    def test_dom0_and_xen_are_reserved(self):
        # Seen on a host of 6143 MiB: 3520 were free beside a dom0 of 2560.
        host = memory(6143, 2560)
        reserved = resources.reserved_memory_mib(host)
        self.assertAlmostEqual(6143 - 3520, reserved, delta=16)

    def test_configured(self):
        self.flags(reserved_host_memory_mb=4096)
        self.assertEqual(
            4096, resources.reserved_memory_mib(memory(6143, 2560)))

    def test_dom0_without_a_limit(self):
        self.flags(reserved_host_memory_mb=512)
        for dom0 in (6143, 6100):
            host = memory(6143, dom0)
            self.assertTrue(resources.dom0_is_unbounded(host))
            self.assertEqual(512, resources.reserved_memory_mib(host))


class ProviderTreeTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.node = base.node()
        self.node.host.memory.return_value = memory(8192, 2048)
        self.node.host.cpus.return_value = 8
        self.node.host.versions.return_value = base.versions(4, 20, 0)
        self.tree = provider_tree.ProviderTree()
        self.tree.new_root('xen1', NODE)

    def update(self):
        resources.update_provider_tree(
            self.node, self.tree, 'xen1', allocation_ratios=lambda inv: {
                'VCPU': 4.0, 'MEMORY_MB': 1.0, 'DISK_GB': 1.0})
        return self.tree.data('xen1')

    def test_inventory(self):
        self.flags(reserved_host_cpus=1, reserved_host_disk_mb=1025)
        inventory = self.update().inventory
        self.assertEqual((8, 1, 4.0), tuple(
            inventory['VCPU'][name]
            for name in ('total', 'reserved', 'allocation_ratio')))
        self.assertEqual(2048 + 80, inventory['MEMORY_MB']['reserved'])
        self.assertEqual(2, inventory['DISK_GB']['reserved'])

    def test_cpus_of_guests_only(self):
        self.flags(cpu_shared_set='2-4', group='compute')
        self.assertEqual(3, self.update().inventory['VCPU']['total'])

    def test_traits_of_others_stay(self):
        self.tree.update_traits('xen1', [
            'CUSTOM_RACK_7', 'CUSTOM_XEN44_XEN_4_17', 'HW_CPU_X86_AVX'])
        had = self.update().traits
        self.assertIn('CUSTOM_RACK_7', had)
        self.assertNotIn('CUSTOM_XEN44_XEN_4_17', had)
        self.assertNotIn('HW_CPU_X86_AVX', had)
        self.assertIn('CUSTOM_XEN44_XEN_4_20', had)


class TraitsTest(base.TestCase):

    def wanted(self, *kinds):
        return traits.wanted(
            base.host_capabilities(*kinds), base.versions(4, 20, 0))

    def test_guest_types(self):
        had = self.wanted(PV)
        self.assertIn('CUSTOM_XEN44_GUEST_PV', had)
        self.assertNotIn('CUSTOM_XEN44_GUEST_HVM', had)
        self.assertNotIn('COMPUTE_STORAGE_BUS_IDE', had)
        self.assertFalse({
            name for name in had
            if name.startswith('COMPUTE_GRAPHICS_MODEL_')})

    def test_cpu(self):
        had = self.wanted()
        self.assertIn('HW_CPU_X86_SSE3', had)
        self.assertIn('HW_CPU_X86_AESNI', had)
        # Guests do not get it; and no trait is made up.
        self.assertNotIn('HW_CPU_X86_SVM', had)
        self.assertNotIn('HW_CPU_X86_AVX512BF16', had)


class SupportedInstancesTest(base.TestCase):

    def supported(self, *kinds, **changes):
        caps = dataclasses.replace(base.host_capabilities(*kinds), **changes)
        return resources._supported_instances(caps)

    def test_x86(self):
        self.assertEqual([('x86_64', 'xen', 'xen')], self.supported(PV))
        self.assertEqual(
            [('x86_64', 'xen', 'hvm'), ('x86_64', 'xen', 'xen'),
             ('i686', 'xen', 'hvm')], self.supported(PV, PVH, HVM))

    def test_arm(self):
        self.assertEqual([('aarch64', 'xen', 'xen')],
                         self.supported(PVH, arch='aarch64'))


class VersionTest(base.TestCase):

    def test_as_libvirt_writes_it(self):
        self.assertEqual(4020004, resources.version_number((4, 20, 4)))
