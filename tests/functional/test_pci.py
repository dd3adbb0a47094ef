# SPDX-License-Identifier: Apache-2.0
"""PCI devices, chosen by Nova's scheduler and resource tracker."""

import pathlib
from unittest import mock

import fixtures
from lxml import etree

from tests.functional import test_resize
from xen44_driver import privsep
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import resize
from xen44_driver.xen import pci

ALIAS = ('{"name": "nic", "vendor_id": "8086", "product_id": "10d3", '
         '"device_type": "type-PCI"}')
SPEC = '{"vendor_id": "8086", "product_id": "10d3"}'
CARDS = ('0000:00:10.0', '0000:00:11.0')
ASKED = {'pci_passthrough:alias': 'nic:1'}


class PciTest(test_resize.ResizeCase):
    """A host with two network cards to give away, and one to keep."""

    def setUp(self):
        root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        for address, product in ((CARDS[0], '10d3'), (CARDS[1], '10d3'),
                                 ('0000:00:12.0', '1000')):
            (root / address).mkdir()
            for name, value in (('class', '0x020000'), ('vendor', '0x8086'),
                                ('device', f'0x{product}')):
                (root / address / name).write_text(f'{value}\n')
        self.useFixture(fixtures.MockPatchObject(
            pci.devices, '__defaults__', (str(root),)))
        self.useFixture(fixtures.MockPatchObject(
            privsep, 'passthrough', return_value=['hvm', 'pv']))
        self.flags(alias=[ALIAS], device_spec=[SPEC], group='pci')
        self.flags(enabled_filters=['ComputeFilter', 'PciPassthroughFilter'],
                   group='filter_scheduler')
        super().setUp()

    def pci(self, server):
        """Addresses of the devices that the domain has."""
        tree = etree.fromstring(self.domain(server).xml)
        return [f'0000:{address.get("bus")[2:]}:{address.get("slot")[2:]}.0'
                for address in tree.iterfind('devices/hostdev/source/address')]

    def hard_reboot(self, server):
        self.api.post_server_action(
            server['id'], {'reboot': {'type': 'HARD'}})
        self._wait_for_state_change(server, 'ACTIVE')

    def test_each_has_one(self):
        servers = [self.boot(flavor=self.flavor(**ASKED))
                   for _number in range(2)]
        self.assertEqual([[CARDS[0]], [CARDS[1]]],
                         sorted(map(self.pci, servers)))
        late = self.boot(flavor=self.flavor(**ASKED), expected='ERROR')
        self.assertIn('No valid host', late['fault']['message'])
        freed = self.pci(servers[0])
        self._delete_server(servers[0])
        self.assertEqual(
            freed, self.pci(self.boot(flavor=self.flavor(**ASKED))))

    def test_resize_there_and_back(self):
        server = self.boot(flavor=self.flavor(**ASKED))
        first, = self.pci(server)
        self.resize(server, self.larger(**ASKED))
        second, = self.pci(server)
        self.assertEqual({*CARDS}, {first, second})
        self.act(server, 'revertResize')
        self.assertEqual([first], self.pci(server))
        self.resize(server, self.larger())
        self.assertEqual([], self.pci(server))
        self.api.post_server_action(server['id'], {'confirmResize': None})
        self._wait_for_state_change(server, 'ACTIVE')
        self.hard_reboot(server)
        self.assertEqual([], self.pci(server))

    def test_resize_that_fails(self):
        """It has what it had, and starts."""
        for before, after in ((ASKED, {}), ({}, ASKED), (ASKED, ASKED)):
            server = self.boot(flavor=self.flavor(**before))
            had = self.pci(server)
            with mock.patch.object(resize, '_make',
                                   side_effect=OSError('no room')):
                self.resize(server, self.larger(**after), 'ERROR')
            self._wait_for_server_parameter(
                server, {'OS-EXT-STS:task_state': None})
            self.hard_reboot(server)
            self.assertEqual(had, self.pci(server))
            self._delete_server(server)

    def test_host_that_has_lost_its_iommu(self):
        server = self.boot(flavor=self.flavor(**ASKED))
        self._stop_server(server)
        self.useFixture(fixtures.MockPatchObject(
            compute_node.Node, 'able_to_pass', frozenset()))
        self.api.post_server_action(server['id'], {'os-start': None})
        event = self._wait_for_action_fail_completion(
            server, 'start', 'compute_start_instance')
        self.assertIn('cannot have any more', event['details'])
        self.assertFalse(self.domain(server).isActive())
