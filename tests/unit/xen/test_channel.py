# SPDX-License-Identifier: Apache-2.0
"""The channel to a guest agent, in every guest type."""

import dataclasses

from lxml import etree
from oslotest import base

from tests.unit.xen import specs
from xen44_driver.xen import arch
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen import sockets
from xen44_driver.xen.domain import channel

UUID = '5d3f1f0a-8a0e-4b39-9df5-6c1b0e2f7a10'
PATH = sockets.path(UUID, 'agent')


class ChannelTest(base.BaseTestCase):

    def written(self, spec):
        spec = dataclasses.replace(spec, agent_socket=PATH)
        text = domain.to_xml(spec, arch.load('x86_64'))
        self.assertEqual(spec, domain.from_xml(text, arch.load('x86_64')))
        return etree.fromstring(text)

    def test_xens(self):
        for spec in (specs.PV, specs.PVH):
            root = self.written(spec)
            self.assertEqual(PATH, root.find(
                "devices/channel[@type='unix']/source").get('path'))
            self.assertEqual(
                {'type': 'xen', 'name': channel.NAME},
                dict(root.find('devices/channel/target').attrib))

    def test_virtio(self):
        root = self.written(specs.HVM)
        self.assertIsNone(root.find('devices/channel'))
        self.assertIn(f'name={channel.NAME}', etree.tostring(root).decode())

    def test_none(self):
        for spec in (specs.PV, specs.PVH, specs.HVM):
            text = domain.to_xml(spec, arch.load('x86_64'))
            self.assertNotIn(channel.NAME, text)

    def test_not_without_qemu(self):
        spec = dataclasses.replace(
            specs.PVH, arch='aarch64', agent_socket=PATH)
        error = self.assertRaises(
            errors.SpecError, domain.to_xml, spec, arch.load('aarch64'))
        self.assertEqual('agent_socket', error.field)

    def test_other_channels(self):
        devices = etree.fromstring(
            '<devices><channel type="unix"><source mode="bind" path="/x"/>'
            '<target type="xen" name="other"/></channel></devices>')
        self.assertIsNone(channel.from_xml(devices, ('-device', 'x')))
        _, _, *port = channel.arguments(PATH, domain.GuestType.HVM)
        self.assertIsNone(channel.from_xml(devices, port))


class SocketsTest(base.BaseTestCase):

    def test_no_other_paths(self):
        for uuid in ('../x', '', UUID.upper(), f'{UUID}/', f'{UUID}\n'):
            self.assertRaises(ValueError, sockets.path, uuid, 'agent')
        self.assertRaises(ValueError, sockets.path, UUID, '../x')

    def test_short_enough(self):
        # The kernel's limit of a Unix socket's path.
        for kind in sockets.SocketKind:
            self.assertLess(len(sockets.path(UUID, kind)), 108)
