# SPDX-License-Identifier: Apache-2.0
"""What a host has to give."""

import dataclasses
import json
import os
from unittest import mock

import fixtures
from nova import exception
from nova.compute import provider_tree
from nova.compute import stats as nova_stats
from nova.virt import node as nova_node

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import pcidevices
from xen44_driver.compute import resources
from xen44_driver.compute import traits
from xen44_driver.xen import arch as arch_lib
from xen44_driver.xen import errors
from xen44_driver.xen import host as xen_host
from xen44_driver.xen import overhead
from xen44_driver.xen.guesttype import GuestType

PV, PVH, HVM = GuestType
NODE = '8f4a1f4e-5d5b-4d3d-8f1d-2d2f5d1c9b10'


def memory(total, dom0, free=1024):
    return xen_host.HostMemory(
        total_mib=total, dom0_mib=dom0, free_mib=free)


class MemoryTest(base.TestCase):

    def for_guests(self, host, *kinds):
        return host.total_mib - resources.reserved_memory_mib(host, kinds)

    def assert_fits(self, host, guests, kind, memory_mib, vcpus):
        need = guests * (
            memory_mib + overhead.overhead_mib(kind, memory_mib, vcpus))
        xen = host.total_mib // 128 + 16
        self.assertLessEqual(need, host.total_mib - host.dom0_mib - xen)

    def test_dom0_and_xen_are_reserved(self):
        # Seen on a host of 6143 MiB: 3520 were free beside a dom0 of 2560.
        host = memory(6143, 2560)
        self.assertAlmostEqual(
            6143 - 3520, resources.reserved_memory_mib(host, ()), delta=16)

    def test_full_of_guests(self):
        for total, dom0 in ((6143, 2560), (64 << 10, 4096),
                            (1 << 20, 16384)):
            host = memory(total, dom0)
            for kind in GuestType:
                offered = self.for_guests(host, kind)
                for memory_mib, vcpus in ((512, 1), (1024, 2), (4096, 4)):
                    self.assert_fits(host, offered // memory_mib, kind,
                                     memory_mib, vcpus)
                # One flavor of all the memory that Placement offers.
                self.assert_fits(host, 1, kind, offered, 16)

    def test_not_more_than_needed(self):
        host = memory(1 << 20, 16384)
        all_kinds = self.for_guests(host, *GuestType)
        self.assertEqual(self.for_guests(host, HVM), all_kinds)
        self.assertGreater(self.for_guests(host, PV), all_kinds)
        self.assertGreater(all_kinds, 0.97 * (host.total_mib - 16384))

    def test_configured(self):
        self.flags(reserved_host_memory_mb=4096)
        self.assertEqual(4096, resources.reserved_memory_mib(
            memory(6143, 2560), ()))

    def test_more_than_there_is(self):
        self.flags(reserved_host_memory_mb=8192)
        self.assertEqual(8192, resources.reserved_memory_mib(
            memory(6143, 2560), (HVM,)))

    def test_dom0_without_a_limit(self):
        self.flags(reserved_host_memory_mb=512)
        for dom0 in (6143, 6100):
            host = memory(6143, dom0)
            self.assertTrue(host.dom0_is_unbounded)
            self.assertEqual(512, resources.reserved_memory_mib(host, ()))


class CheckMemoryTest(base.TestCase):

    def check(self, free, *, kind=HVM, dom0=2560):
        node = base.node()
        node.host.memory.return_value = memory(6143, dom0, free)
        resources.check_memory(node, kind, 1024, 2)
        self.assertEqual(1, node.host.memory.call_count)

    def test_enough(self):
        self.check(2048)
        self.check(1024 + overhead.overhead_mib(HVM, 1024, 2))

    def test_too_little(self):
        raised = self.assertRaises(
            exception.ComputeResourcesUnavailable, self.check, 1030)
        need = 1024 + overhead.overhead_mib(HVM, 1024, 2)
        for text in ('1030 MiB of free', 'hvm guest of 1024 MiB',
                     f'needs {need} MiB'):
            self.assertIn(text, str(raised))
        self.check(1030, kind=PV)

    def test_libvirt_takes_it_from_dom0(self):
        self.check(100, dom0=6143)


class AwayTest(base.TestCase):
    """libvirt is away for minutes."""

    def setUp(self):
        super().setUp()
        self.node = base.node()
        host = self.node.host
        host.memory.return_value = memory(8192, 2048)
        host.cpus.return_value = 8
        host.versions.return_value = base.versions(4, 20, 0)
        host.hostname.return_value = 'xen1'
        self.useFixture(fixtures.MockPatchObject(
            nova_node, 'get_local_node_uuid', return_value=NODE))

    def go_away(self):
        for name in ('memory', 'cpus', 'versions', 'capabilities'):
            getattr(self.node.host, name).side_effect = (
                errors.ConnectionFailed('xen:///system', 'refused'))

    def test_what_it_was(self):
        before = resources.available(self.node)
        self.go_away()
        after = resources.available(self.node)
        self.assertEqual({
            'arch': 'x86_64', 'model': 'EPYC',
            'features': ['aes', 'avx512-bf16', 'pni', 'svm'],
            'topology': {'sockets': 1, 'cores': 4, 'threads': 2}},
            json.loads(before['cpu_info']))
        self.assertEqual((8192, 8192 - 1024),
                         (before['memory_mb'], before['memory_mb_used']))
        for found in (before, after):
            del found['stats']  # the load average changes
        self.assertEqual(before, after)
        tree = provider_tree.ProviderTree()
        tree.new_root('xen1', NODE)
        resources.update_provider_tree(
            self.node, tree, 'xen1', allocation_ratios=lambda inv: {
                'VCPU': 4.0, 'MEMORY_MB': 1.0, 'DISK_GB': 1.0})
        self.assertEqual(
            8192, tree.data('xen1').inventory['MEMORY_MB']['total'])

    def test_never_there(self):
        self.go_away()
        self.assertRaises(errors.ConnectionFailed,
                          resources.available, self.node)

    def test_pci_devices(self):
        """Those of the host, if its guests can have some."""
        self.useFixture(fixtures.MockPatchObject(
            pcidevices, 'report', return_value='[{}]'))
        able = self.useFixture(fixtures.MockPatchObject(
            privsep, 'passthrough', return_value=['hvm'])).mock
        self.assertEqual('[]', resources.available(
            self.node)['pci_passthrough_devices'])
        able.assert_not_called()
        self.flags(device_spec=['{"address": "0000:00:10.0"}'], group='pci')
        for _ in range(2):
            self.assertEqual('[{}]', resources.available(
                self.node)['pci_passthrough_devices'])
        able.assert_called_once_with()

    def test_uptime_spares_the_api_an_rpc(self):
        # nova.api.openstack.compute.hypervisors looks for the key.
        stats = nova_stats.Stats()
        stats.digest_stats(resources.available(self.node)['stats'])
        self.assertIn('load average', stats['uptime'])
        json.dumps(stats)


class ProviderTreeTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.node = base.node()
        self.node.host.memory.return_value = memory(8192, 2048)
        self.node.host.cpus.return_value = 8
        self.node.host.versions.return_value = base.versions(4, 20, 0)
        self.tree = provider_tree.ProviderTree()
        self.tree.new_root('xen1', NODE)

    def update(self, ram_ratio=1.0, cpu_ratio=4.0):
        resources.update_provider_tree(
            self.node, self.tree, 'xen1', allocation_ratios=lambda inv: {
                'VCPU': cpu_ratio, 'MEMORY_MB': ram_ratio, 'DISK_GB': 1.0})
        return self.tree.data('xen1')

    def test_memory_promised_twice(self):
        with self.assertNoLogs('xen44_driver', 'WARNING'):
            self.update()
        with self.assertLogs('xen44_driver', 'WARNING') as logs:
            for _minute in range(3):
                self.update(ram_ratio=1.5)
        self.assertEqual(1, len(logs.output))
        self.assertIn('ratio of memory is 1.5', logs.output[0])

    def test_inventory(self):
        self.flags(reserved_host_cpus=1, reserved_host_disk_mb=1025)
        inventory = self.update().inventory
        self.assertEqual((8, 1, 4.0), tuple(
            inventory['VCPU'][name]
            for name in ('total', 'reserved', 'allocation_ratio')))
        reserved = inventory['MEMORY_MB']['reserved']
        self.assertEqual(resources.reserved_memory_mib(
            memory(8192, 2048), GuestType), reserved)
        self.assertGreater(reserved, 2048 + 80)
        self.assertEqual(2, inventory['DISK_GB']['reserved'])

    def test_cpus_of_guests_only(self):
        self.flags(cpu_shared_set='2-4', group='compute')
        inventory = self.update().inventory
        self.assertEqual(3, inventory['VCPU']['total'])
        self.assertNotIn('PCPU', inventory)

    def test_dedicated_cpus(self):
        self.flags(cpu_dedicated_set='4-7', group='compute')
        inventory = self.update().inventory
        self.assertNotIn('VCPU', inventory)
        self.flags(cpu_shared_set='2-3', group='compute')
        inventory = self.update(cpu_ratio=16.0).inventory
        self.assertEqual((2, 16.0), (
            inventory['VCPU']['total'],
            inventory['VCPU']['allocation_ratio']))
        # Never promised twice, whatever the ratio of others.
        self.assertEqual((4, 0, 1.0), tuple(
            inventory['PCPU'][name]
            for name in ('total', 'reserved', 'allocation_ratio')))

    def test_event_channels_of_dom0(self):
        path = os.path.join(self.instances, 'cmdline')
        self.useFixture(fixtures.MockPatchObject(
            resources, '_KERNEL_COMMAND_LINE', path))
        self.addCleanup(resources._dom0_uses_fifo.cache_clear)
        for text, total in ((None, 4095), ('ro quiet', 131071),
                            ('ro xen.fifo_events=0', 4095)):
            resources._dom0_uses_fifo.cache_clear()
            if text is None:
                with self.assertLogs('xen44_driver', 'WARNING') as logs:
                    self.update()
                    had = self.update()
                self.assertEqual(1, len(logs.output))
                self.assertIn('have 4095 event channels', logs.output[0])
            else:
                with open(path, 'w') as file:
                    file.write(text)
                had = self.update()
            found = had.inventory['CUSTOM_XEN_EVENT_CHANNELS']
            self.assertEqual((total, total, 1.0), tuple(
                found[name]
                for name in ('total', 'max_unit', 'allocation_ratio')))
            self.assertIn(found['reserved'], range(256, total))
            self.assertEqual(
                total == 131071,
                'CUSTOM_XEN44_FIFO_EVENT_CHANNELS' in had.traits)

    def test_uefi(self):
        """Where there is a firmware, and guests that could have it."""
        uefi = 'COMPUTE_FIRMWARE_UEFI'
        self.flags(uefi_firmware=os.path.join(self.instances, 'OVMF.fd'),
                   group='xen44_x86_64')
        self.assertNotIn(uefi, self.update().traits)
        self.assertFalse(resources.has_uefi(self.node))
        with open(os.path.join(self.instances, 'OVMF.fd'), 'wb') as file:
            file.write(b'firmware')
        self.assertIn(uefi, self.update().traits)
        self.assertTrue(resources.has_uefi(self.node))
        with mock.patch.object(self.node, 'uefi_refusal',
                               return_value='libvirt is old'):
            self.assertNotIn(uefi, self.update().traits)
        self.flags(uefi_firmware='', group='xen44_x86_64')
        self.assertNotIn(uefi, self.update().traits)

    def test_guests_in_guests(self):
        """Where they were seen, and are allowed."""
        trait = 'CUSTOM_XEN44_NESTED_HVM'
        seen = mock.patch.object(
            resources.compute_node.proof.Proof, 'problem',
            lambda *_: None)
        with seen:
            self.assertNotIn(trait, self.update().traits)
            self.flags(nested_hvm=True, group='xen44_x86_64')
            self.assertIn(trait, self.update().traits)
        # Such as after an update of Xen.
        self.assertNotIn(trait, self.update().traits)

    def test_traits_of_others_stay(self):
        self.tree.update_traits('xen1', [
            'CUSTOM_RACK_7', 'CUSTOM_XEN44_XEN_4_17', 'HW_CPU_X86_AVX'])
        had = self.update().traits
        self.assertIn('CUSTOM_RACK_7', had)
        self.assertNotIn('CUSTOM_XEN44_XEN_4_17', had)
        self.assertNotIn('HW_CPU_X86_AVX', had)
        self.assertIn('CUSTOM_XEN44_XEN_4_20', had)


class TraitsTest(base.TestCase):

    def wanted(self, *kinds, **hvm):
        arch = arch_lib.load('x86_64')
        # What this host's driver has may be less than libvirt's, or more.
        changed = {**arch.profiles, HVM: dataclasses.replace(
            arch.profiles[HVM], **hvm)}
        with mock.patch.object(type(arch), 'profiles', changed):
            return traits.wanted(base.host_capabilities(*kinds),
                                 base.versions(4, 20, 0), arch)

    def test_threads(self):
        """Only where two or more threads share a core."""
        arch = arch_lib.load('x86_64')
        caps = base.host_capabilities(PV)
        for threads, has in ((1, False), (2, True), (4, True)):
            had = traits.wanted(dataclasses.replace(
                caps, topology=dataclasses.replace(
                    caps.topology, threads=threads)),
                base.versions(4, 20, 0), arch)
            self.assertEqual(has, 'HW_CPU_HYPERTHREADING' in had)

    def test_removed_when_the_host_has_lost_them(self):
        """All that a host may have, and none of an operator's."""
        for trait in self.wanted(*GuestType, disk_buses=('xen', 'ide'),
                                 video_models=('vga', 'cirrus')):
            self.assertTrue(traits.managed(trait), trait)
        for trait in ('CUSTOM_RACK_7', 'COMPUTE_NODE', 'STORAGE_DISK_SSD'):
            self.assertFalse(traits.managed(trait), trait)

    def test_guest_types(self):
        had = self.wanted(PV)
        self.assertIn('CUSTOM_XEN44_GUEST_PV', had)
        self.assertNotIn('CUSTOM_XEN44_GUEST_HVM', had)
        self.assertNotIn('COMPUTE_STORAGE_BUS_IDE', had)
        self.assertNotIn('COMPUTE_NET_VIF_MODEL_E1000', had)

    def test_classes_of_disks(self):
        def classes(*kinds):
            return {name for name in self.wanted(*kinds)
                    if name.startswith('CUSTOM_XEN44_DISK_CLASS_')}

        qemu = 'CUSTOM_XEN44_DISK_CLASS_QEMU'
        self.assertEqual({qemu}, classes(HVM))
        self.assertEqual({qemu, 'CUSTOM_XEN44_DISK_CLASS_KERNEL'},
                         classes(PVH, HVM))

    def test_devices_of_driver_and_libvirt(self):
        had = self.wanted(
            disk_buses=('xen', 'ide', 'sata'), video_models=('vga', 'qxl'),
            vif_models=('netfront', 'e1000'))
        self.assertEqual(
            {'COMPUTE_FIRMWARE_BIOS',
             'COMPUTE_STORAGE_BUS_XEN', 'COMPUTE_STORAGE_BUS_IDE',
             'COMPUTE_NET_VIF_MODEL_NETFRONT', 'COMPUTE_NET_VIF_MODEL_E1000',
             'COMPUTE_GRAPHICS_MODEL_VGA'},
            {name for name in had if name.startswith('COMPUTE_')})

    def test_no_screen_is_promised_that_cannot_be_chosen(self):
        for had in (self.wanted(video_models=()), self.wanted(PV, PVH)):
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
        # Where images of hw_vm_mode=xen get PVH.
        self.assertEqual([('aarch64', 'xen', 'xen')],
                         self.supported(PVH, arch='aarch64'))
        self.assertEqual(
            [('aarch64', 'xen', 'xen'), ('armv7l', 'xen', 'xen')],
            self.supported(PVH, arch='aarch64', guest_arches=frozenset(
                {'aarch64', 'armv7l'})))


class VersionTest(base.TestCase):

    def test_as_libvirt_writes_it(self):
        self.assertEqual(4020004, resources.version_number((4, 20, 4)))
