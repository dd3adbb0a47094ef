# SPDX-License-Identifier: Apache-2.0
import re

import libvirt
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
        self.assertEqual((capabilities.Cell(
            id=0, memory_mib=7168, cpus=frozenset({0, 1}),
            siblings=(frozenset({0}), frozenset({1})), socket=0),),
            found.cells)
        self.assertEqual({PV: 512, PVH: 512, HVM: 128}, found.max_vcpus)
        self.assertEqual({'xen', 'ide', 'scsi'}, found.disk_buses)
        self.assertEqual({'vga', 'cirrus', 'xen'}, found.video_models)

    def test_features_of_a_model_as_libvirt_knows_it(self):
        # libvirt's own CPU map, through its driver for tests.
        text = X86.replace('pentium-v1', 'Skylake-Client')
        answer = libvirt.open('test:///default').baselineCPU(
            [capabilities.host_cpu(text)],
            libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES)
        implied = capabilities.cpu_features(answer)
        found = capabilities.parse(
            text, _domains('xenpv', 'xenpvh', 'xenfv'), implied)
        self.assertLessEqual({'avx2', 'sse4.2', 'aes', 'svm'},
                             found.cpu_features)

    def test_arm(self):
        found = capabilities.parse(ARM, {})
        self.assertEqual('aarch64', found.arch)
        self.assertEqual({'aarch64', 'armv7l'}, found.guest_arches)
        self.assertEqual((PVH,), found.guest_types)
        self.assertIsNone(found.cpu_model)
        self.assertIsNone(capabilities.host_cpu(ARM))
        self.assertEqual(frozenset(), found.cpu_features)
        self.assertEqual(
            capabilities.Topology(sockets=1, cores=2, threads=1),
            found.topology)
        self.assertEqual({}, found.max_vcpus)

    def test_topology_that_is_told_in_part(self):
        found = capabilities.parse(
            re.sub('<topology .*/>', '<topology cores="3"/>', X86),
            _domains('xenpv', 'xenpvh', 'xenfv'))
        self.assertEqual(
            capabilities.Topology(sockets=1, cores=3, threads=1),
            found.topology)

    def test_numa_nodes(self):
        nodes = """<cells num='2'>
          <cell id='0'><memory unit='KiB'>4194304</memory><cpus num='4'>
            <cpu id='0' socket_id='0' core_id='0' siblings='0,2'/>
            <cpu id='1' socket_id='1' core_id='1' siblings='1,3'/>
            <cpu id='2' socket_id='0' core_id='0' siblings='0,2'/>
            <cpu id='3' socket_id='1' core_id='1' siblings='1,3'/>
          </cpus></cell>
          <cell id='1'><memory unit='KiB'>2097152</memory></cell>
        </cells>"""
        found = capabilities.parse(
            re.sub('<cells .*</cells>', nodes, X86, flags=re.S),
            _domains('xenpv', 'xenpvh', 'xenfv'))
        self.assertEqual((
            capabilities.Cell(
                id=0, memory_mib=4096, cpus=frozenset(range(4)),
                siblings=(frozenset({0, 2}), frozenset({1, 3})), socket=None),
            capabilities.Cell(
                id=1, memory_mib=2048, cpus=frozenset(), siblings=(),
                socket=None)), found.cells)

    def test_x86_without_hardware_virtualisation(self):
        only_pv = X86.replace('xenfv', 'other').replace('xenpvh<', 'other<')
        found = capabilities.parse(only_pv, _domains('xenpv'))
        self.assertEqual((PV,), found.guest_types)
        self.assertEqual(frozenset(), found.video_models)

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
