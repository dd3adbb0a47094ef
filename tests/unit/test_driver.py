# SPDX-License-Identifier: Apache-2.0
"""The driver with a real Host over a libvirt that goes away."""

from unittest import mock
import uuid

import libvirt
from nova.compute import provider_tree
from nova.virt import node as nova_node
import os_vif

from tests.unit import base
from tests.unit.xen import fake
from xen44_driver import driver
from xen44_driver.xen import connection

NODE = '8f4a1f4e-5d5b-4d3d-8f1d-2d2f5d1c9b10'


class HostTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.libvirt = fake.Libvirt()
        self.patch(connection, 'libvirt', self.libvirt)
        # Its name is kept by its URI as long as the process lives.
        self.flags(connection_uri=f'xen:///{uuid.uuid4()}', group='xen44')
        # Its plugins take seconds to import.
        self.patch(os_vif, 'initialize', lambda: None)
        self.patch(nova_node, 'get_local_node_uuid', lambda: NODE)
        self.driver = driver.Xen44Driver(mock.MagicMock())
        self.addCleanup(self.driver._node.host.close)
        self.driver._node.host.connect()

    def names(self):
        resource = self.driver.get_available_resource('xenhost')
        return {*self.driver.get_available_nodes(),
                resource['hypervisor_hostname']}

    def go_away(self):
        self.libvirt.down = fake.error(
            libvirt.VIR_ERR_SYSTEM_ERROR, 'refused', libvirt.VIR_FROM_RPC)
        self.libvirt.drop()

    def test_first_name_holds(self):
        # Nova would delete the node, its provider and its allocations.
        self.assertEqual({'xenhost'}, self.names())
        self.libvirt.hostname = 'localhost'
        self.libvirt.drop()
        self.assertEqual({'xenhost'}, self.names())
        # Nova closes the driver at SIGHUP, and goes on with it.
        self.driver.cleanup_host('xen1')
        self.addCleanup(self.driver._node.host.close)
        self.driver._node.host.connect()
        self.assertEqual({'xenhost'}, self.names())

    def test_periodic_tasks_while_libvirt_is_away(self):
        tree = provider_tree.ProviderTree()
        tree.new_root('xenhost', NODE)
        self.driver.get_available_resource('xenhost')
        self.driver.update_provider_tree(tree, 'xenhost')
        before = tree.data('xenhost')
        self.go_away()
        self.assertEqual({'xenhost'}, self.names())
        self.driver.update_provider_tree(tree, 'xenhost')
        self.assertFalse(tree.has_inventory_changed(
            'xenhost', before.inventory))
        self.assertEqual(before.traits, tree.data('xenhost').traits)
