# SPDX-License-Identifier: Apache-2.0
"""Every port is plugged the hybrid way."""

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
                        {'ovs_hybrid_plug': True},
                        {'ovs_create_tap': True}, None):
            port = base.vif(details=details)
            converted = vif.convert(port)
            self.assertIsInstance(converted, objects.vif.VIFBridge)
            self.assertEqual('ovs', converted.plugin)
            self.assertEqual('qbr51a9642b-14', converted.bridge_name)
            self.assertEqual(
                base.PORT, converted.port_profile.interface_id)
            self.assertEqual(1450, converted.network.mtu)
            # Nova's own is left as it was.
            self.assertEqual(details or {}, port['details'])

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

    def test_plug_refuses_in_novas_words(self):
        # nova-compute plugs every port at its start, and goes on after this.
        for kind in ('bridge', 'binding_failed'):
            self.assertRaises(
                exception.VirtualInterfacePlugException, vif.plug,
                base.instance(), base.vif(type=kind))

    def test_unplug(self):
        with mock.patch.object(os_vif, 'unplug') as unplug:
            vif.unplug(base.instance(), base.vif(type='binding_failed'))
            unplug.assert_not_called()
            vif.unplug(base.instance(), base.vif())
            unplug.assert_called_once()
            unplug.side_effect = os_vif_exception.UnplugException(
                vif='', err='no ovsdb')
            self.assertRaises(
                exception.VirtualInterfaceUnplugException, vif.unplug,
                base.instance(), base.vif())
