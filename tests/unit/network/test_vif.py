# SPDX-License-Identifier: Apache-2.0
"""Every port is plugged the hybrid way."""

from concurrent import futures
import time
from unittest import mock

from nova import exception
import os_vif
from os_vif import exception as os_vif_exception
from os_vif import objects

from tests.unit import base
from xen44_driver.network import vif


class VifTest(base.TestCase):

    def test_hybrid_whatever_neutron_says(self):
        for details in ({}, {'ovs_hybrid_plug': False},
                        {'ovs_create_tap': True}, None):
            port = base.vif(details=details)
            vif.check(port)
            converted = vif.convert(port)
            self.assertIsInstance(converted, objects.vif.VIFBridge)
            self.assertEqual('ovs', converted.plugin)
            self.assertEqual('qbr51a9642b-14', converted.bridge_name)
            self.assertEqual(
                base.PORT, converted.port_profile.interface_id)
            self.assertEqual(1450, converted.network.mtu)
            # Nova's own is left as it was.
            self.assertEqual(details or {}, port['details'])

    def test_bridge_of_a_port_that_is_unbound_since(self):
        for kind in ('ovs', 'unbound', 'binding_failed'):
            port = base.vif(type=kind, details=None)
            self.assertEqual('qbr51a9642b-14', vif.bridge(port))
            self.assertEqual(kind, port['type'])

    def test_no_tap_whatever_neutron_says(self):
        # os-vif would make a tap for QEMU to use, and a Xen guest has none.
        for details in ({}, {'ovs_create_tap': False},
                        {'ovs_create_tap': True}, None):
            port = base.vif(details=details)
            profile = vif.convert(port).port_profile
            if 'create_tap' in profile.fields:
                self.assertFalse(profile.create_tap)
            with mock.patch.object(
                    vif.os_vif_util, 'nova_to_osvif_vif') as convert:
                vif.convert(port)
            given = convert.call_args.args[0]['details']
            self.assertIs(False, given['ovs_create_tap'])
            self.assertIs(True, given['ovs_hybrid_plug'])

    def test_all_else_that_neutron_says_is_kept(self):
        port = base.vif(details={'datapath_type': 'netdev',
                                 'bridge_name': 'br-other'})
        self.assertEqual(
            'netdev', vif.convert(port).port_profile.datapath_type)

    def test_a_port_without_a_vnic_type_is_normal(self):
        port = base.vif()
        del port['vnic_type']
        vif.check(port)
        port['vnic_type'] = 'direct'
        raised = self.assertRaises(exception.InvalidInput, vif.check, port)
        self.assertIn("'direct'; allowed: normal", str(raised))

    def test_plug(self):
        with mock.patch.object(os_vif, 'plug') as plug:
            vif.plug(base.instance(), base.vif())
            self.assertEqual(base.PORT, plug.call_args.args[0].id)
            self.assertEqual(base.UUID, plug.call_args.args[1].uuid)
            plug.side_effect = os_vif_exception.PlugException(
                vif='', err='no ovsdb')
            raised = self.assertRaises(
                exception.VirtualInterfacePlugException, vif.plug,
                base.instance(), base.vif())
        self.assertIn('no ovsdb', str(raised))
        self.assertIn(base.PORT, str(raised))

    def test_one_at_a_time(self):
        """os-vif looks for a bridge before it makes it."""
        inside, most = 0, 0

        def change(*_):
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            time.sleep(0.02)
            inside -= 1

        with mock.patch.object(os_vif, 'plug', change), \
                mock.patch.object(os_vif, 'unplug', change), \
                futures.ThreadPoolExecutor() as pool:
            done = [pool.submit(function, base.instance(), base.vif())
                    for function in (vif.plug, vif.unplug) * 2]
            for each in done:
                each.result()
        self.assertEqual(1, most)

    def test_plug_refuses_in_novas_words(self):
        # nova-compute plugs every port at its start, and goes on after this.
        for kind in ('bridge', 'binding_failed'):
            self.assertRaises(
                exception.VirtualInterfacePlugException, vif.plug,
                base.instance(), base.vif(type=kind))

    def test_iptables_firewall_is_refused(self):
        # Its rules would match no device of a Xen guest.
        port = base.vif(details={'ovs_hybrid_plug': True})
        raised = self.assertRaises(exception.InvalidInput, vif.check, port)
        for text in (base.PORT, 'iptables_hybrid',
                     'firewall_driver = openvswitch'):
            self.assertIn(text, str(raised))
        with mock.patch.object(os_vif, 'plug') as plug:
            self.assertRaises(exception.VirtualInterfacePlugException,
                              vif.plug, base.instance(), port)
            plug.assert_not_called()
        # What an earlier version plugged can be removed.
        with mock.patch.object(os_vif, 'unplug') as unplug:
            vif.unplug(base.instance(), port)
            unplug.assert_called_once()

    def test_unplug(self):
        with mock.patch.object(os_vif, 'unplug') as unplug:
            vif.unplug(base.instance(), base.vif(type='binding_failed'))
            unplug.assert_not_called()
            vif.unplug(base.instance(), base.vif())
            unplug.assert_called_once()
            self.assertEqual(base.PORT, unplug.call_args.args[0].id)
            self.assertEqual(base.UUID, unplug.call_args.args[1].uuid)
            unplug.side_effect = os_vif_exception.UnplugException(
                vif='', err='no ovsdb')
            raised = self.assertRaises(
                exception.VirtualInterfaceUnplugException, vif.unplug,
                base.instance(), base.vif())
        self.assertIn('no ovsdb', str(raised))
        self.assertIn(base.PORT, str(raised))
