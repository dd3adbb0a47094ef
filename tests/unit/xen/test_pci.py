# SPDX-License-Identifier: Apache-2.0
"""The host's PCI devices, in a directory like sysfs."""

import dataclasses
import pathlib

import fixtures

from tests.unit import base
from tests.unit.xen import specs
from xen44_driver.xen import domain
from xen44_driver.xen import pci
from xen44_driver.xen.arch import load
from xen44_driver.xen.errors import SpecError

NIC = '0000:00:10.0'


class DevicesTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)

    def add(self, address, **files):
        directory = self.root / address
        directory.mkdir()
        for name, text in {'class': '0x020000', 'vendor': '0x8086',
                           'device': '0x10d3', **files}.items():
            (directory / name).write_text(f'{text}\n')
        return directory

    def devices(self):
        return list(pci.devices(str(self.root)))

    def test_plain(self):
        self.add(NIC, numa_node='-1')
        self.add('0000:00:0f.0', numa_node='1', device='0x00a0')
        self.assertEqual([
            pci.HostDevice(address='0000:00:0f.0', vendor_id='8086',
                           product_id='00a0', numa_node=1),
            pci.HostDevice(address=NIC, vendor_id='8086', product_id='10d3'),
        ], self.devices())

    def test_bridges_are_the_hosts(self):
        self.add('0000:00:01.0', **{'class': '0x060400'})
        self.assertEqual([], self.devices())

    def test_virtual_functions(self):
        self.add(NIC, sriov_totalvfs='8')
        (self.add('0000:00:10.1') / 'physfn').symlink_to(f'../{NIC}')
        physical, virtual = self.devices()
        self.assertEqual((True, None), (
            physical.has_functions, physical.physical_function))
        self.assertEqual((False, NIC), (
            virtual.has_functions, virtual.physical_function))

    def test_unplugged_meanwhile(self):
        (self.add(NIC) / 'vendor').unlink()
        self.assertEqual([], self.devices())


class SpecTest(base.TestCase):

    def test_addresses(self):
        for wrong in ('', '00:10.0', '0000:00:20.0', '0000:00:10.8',
                      '0000:00:10.0\n', '0000:00:1G.0'):
            self.assertRaises(SpecError, domain.PciDevice, address=wrong)

    def test_guest_types(self):
        arch = load('x86_64')
        for plain in (specs.PV, specs.HVM):
            spec = dataclasses.replace(
                plain, pci_devices=(
                    domain.PciDevice(address=NIC), domain.PciDevice(
                        address='0001:ff:1f.7', managed=False)))
            self.assertEqual(spec, domain.from_xml(
                domain.to_xml(spec, arch), arch))
        error = self.assertRaises(
            SpecError, domain.to_xml,
            dataclasses.replace(specs.PVH, pci_devices=(
                domain.PciDevice(address=NIC),)), arch)
        self.assertIn(NIC, str(error))
