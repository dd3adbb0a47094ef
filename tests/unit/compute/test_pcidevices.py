# SPDX-License-Identifier: Apache-2.0
"""PCI devices for instances."""

import json
from unittest import mock

import fixtures
from nova import exception
from nova import objects
from nova.pci import whitelist

from tests.unit import base
from tests.unit.compute import golden
from xen44_driver import privsep
from xen44_driver.compute import pcidevices
from xen44_driver.compute import start
from xen44_driver.xen import domain
from xen44_driver.xen import pci
from xen44_driver.xen.guesttype import GuestType

NIC = '0000:00:10.0'
ALIAS = {'pci_passthrough:alias': 'nic:1'}


class ReportTest(base.TestCase):

    def report(self, **values):
        device = pci.HostDevice(**{
            'address': NIC, 'vendor_id': '8086', 'product_id': '10d3',
            **values})
        with mock.patch.object(pci, 'devices', lambda: iter([device])):
            [found] = json.loads(pcidevices.report())
        return found

    def test_nova_can_choose_it(self):
        for spec, matches in (
                ({'vendor_id': '8086', 'product_id': '10d3'}, True),
                ({'address': NIC}, True), ({'address': '*:00:10.*'}, True),
                ({'vendor_id': '8086', 'product_id': '10d4'}, False),
                ({'address': '0000:00:11.0'}, False)):
            found = whitelist.Whitelist([json.dumps(spec)])
            self.assertEqual(matches, found.device_assignable(
                self.report()) is not None, spec)

    def test_what_it_says(self):
        self.assertEqual({
            'dev_id': 'pci_0000_00_10_0', 'address': NIC,
            'vendor_id': '8086', 'product_id': '10d3', 'numa_node': 1,
            'label': 'label_8086_10d3', 'dev_type': 'type-PCI',
        }, self.report(numa_node=1))

    def test_functions(self):
        self.assertEqual('type-PF', self.report(
            has_functions=True)['dev_type'])
        found = self.report(physical_function='0000:00:0f.0')
        self.assertEqual(('type-VF', '0000:00:0f.0'), (
            found['dev_type'], found['parent_addr']))

    def test_nova_keeps_it(self):
        """It has all that Nova's object needs."""
        made = objects.PciDevice.create('context', {
            **self.report(), 'compute_node_id': 1})
        self.assertEqual(NIC, made.address)


class InstanceTest(base.TestCase):

    def test_none(self):
        self.assertEqual((), pcidevices.of_instance(base.instance()))

    def test_of_the_flavor(self):
        self.assertEqual(
            [NIC, '0001:00:00.0'], self.addresses(base.instance(
                **base.pci_devices('0001:00:00.0', NIC))))

    @staticmethod
    def addresses(instance):
        return [device.address for device
                in pcidevices.of_instance(instance)]

    def test_of_two_flavors(self):
        """While a resize is not confirmed, or after one that failed."""
        old, new = (base.pci_devices(address) for address in (
            NIC, '0001:00:00.0'))
        for one in (new['pci_requests'].requests[0],
                    new['pci_devices'].objects[0]):
            one.request_id = base.PORT
        both = objects.PciDeviceList(objects=[
            new['pci_devices'].objects[0], old['pci_devices'].objects[0]])
        none = objects.InstancePCIRequests(requests=[])
        for requests, addresses in (
                (old['pci_requests'], [NIC]),
                (new['pci_requests'], ['0001:00:00.0']), (none, [])):
            self.assertEqual(addresses, self.addresses(base.instance(
                pci_requests=requests, pci_devices=both)))

    def test_not_managed(self):
        values = base.pci_devices(NIC)
        for said, managed in (('false', False), ('true', True)):
            values['pci_devices'].objects[0].extra_info = {'managed': said}
            [found] = pcidevices.of_instance(base.instance(**values))
            self.assertEqual(managed, found.managed)

    def test_of_a_port(self):
        """os-vif would have to attach those; their ports are refused."""
        self.assertEqual((), pcidevices.of_instance(base.instance(
            **base.pci_devices(NIC, port=True))))


class CheckTest(base.TestCase):

    def check(self, guest_type, *offered, **extra_specs):
        pcidevices.check(
            base.instance(extra_specs=extra_specs).flavor, guest_type,
            offered=offered)

    def test_allowed(self):
        self.check(GuestType.PVH)
        self.check(GuestType.PV, GuestType.HVM, GuestType.PV, **ALIAS)

    def test_refused(self):
        error = self.assertRaises(
            exception.InvalidInput, self.check, GuestType.PVH,
            GuestType.PV, GuestType.HVM, **ALIAS)
        self.assertIn("pci_passthrough:alias 'nic:1'", str(error))
        self.assertIn('guest types that can: hvm, pv', str(error))
        error = self.assertRaises(
            exception.InvalidInput, self.check, GuestType.HVM, **ALIAS)
        self.assertIn('guest types that can: none', str(error))

    def test_at_a_start(self):
        devices = (domain.PciDevice(address=NIC),)
        pcidevices.check_start(devices, GuestType.PV, able=[GuestType.PV])
        pcidevices.check_start((), GuestType.PVH, able=[])
        error = self.assertRaises(
            exception.InvalidInput, pcidevices.check_start, devices,
            GuestType.PV, able=[])
        self.assertIn(f'({NIC})', str(error))
        self.assertIn('guest types that can: none', str(error))

    def test_of_a_host_that_has_lost_its_iommu(self):
        case = golden.CASES['pv_x86_64_grub_pci']
        self.useFixture(fixtures.MockPatchObject(
            privsep, 'passthrough', return_value=[]))
        self.assertRaises(
            exception.InvalidInput, start.describe, base.node(),
            case._instance(), case.machine(), [])

    def test_at_a_spawn(self):
        case = golden.Case(extra_specs={**ALIAS, 'xen44:guest_type': 'pvh'},
                           options={'passthrough': {GuestType.HVM}})
        error = self.assertRaises(exception.InvalidInput, case.machine)
        self.assertIn('pci_passthrough:alias', str(error))


class NodeTest(base.TestCase):
    """Which guests of a host can have some."""

    def setUp(self):
        super().setUp()
        self.node = base.node()
        self.able = self.useFixture(fixtures.MockPatchObject(
            privsep, 'passthrough', return_value=['hvm', 'pv'])).mock

    def test_operator_gives_none(self):
        self.assertEqual(frozenset(), self.node.passthrough)
        self.able.assert_not_called()

    def test_asked_once(self):
        self.flags(device_spec=['{"address": "0000:00:10.0"}'], group='pci')
        for _ in range(2):
            self.assertEqual({GuestType.PV, GuestType.HVM},
                             self.node.passthrough)
        self.able.assert_called_once_with()

    def test_no_iommu(self):
        self.flags(device_spec=['{"address": "0000:00:10.0"}'], group='pci')
        self.able.return_value = []
        self.assertEqual(frozenset(), self.node.passthrough)

    def test_xen_does_not_tell(self):
        self.flags(device_spec=['{"address": "0000:00:10.0"}'], group='pci')
        self.able.side_effect = OSError('not today')
        self.assertEqual(frozenset(), self.node.passthrough)
        self.able.side_effect = None
        self.assertEqual({GuestType.PV, GuestType.HVM},
                         self.node.passthrough)
        # Those that have some can still start without the option.
        self.flags(device_spec=[], group='pci')
        self.assertEqual(frozenset(), self.node.passthrough)
        self.assertEqual({GuestType.PV, GuestType.HVM},
                         self.node.able_to_pass)
