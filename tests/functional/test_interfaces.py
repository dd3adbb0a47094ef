# SPDX-License-Identifier: Apache-2.0
"""Interfaces that come and go, through Nova's real API."""

import time
from unittest import mock

from lxml import etree
from nova import context as nova_context
from nova import objects
from nova.api.metadata import base as metadata
from nova.tests.functional.api import client as api_client
import os_vif

from tests.functional import test_servers
from xen44_driver.compute import interfaces


class InterfacesBase(test_servers.ServersBase):
    """A cloud whose Neutron has ports to attach."""

    def setUp(self):
        super().setUp()
        # What fails need not be waited for.
        for name in ('CONNECT_TIMEOUT', 'GONE_TIMEOUT'):
            patcher = mock.patch.object(interfaces, name, 0)
            patcher.start()
            self.addCleanup(patcher.stop)

    def port(self, **values):
        """Make a port; returns it as Neutron has it."""
        port = self.neutron.create_port({'port': {
            'network_id': self.neutron.network_1['id']}})['port']
        self.neutron._ports[port['id']].update(values)
        return self.neutron._ports[port['id']]

    def attach(self, server, port, **values):
        """Attach a port; what Nova answers is raised if it is an error."""
        self.api.attach_interface(server['id'], {'interfaceAttachment': {
            'port_id': port['id'], **values}})

    def detach(self, server, port, event='end'):
        """Detach a port, and wait until Nova has."""
        self.notifier.reset()
        self.api.detach_interface(server['id'], port['id'])
        self.notifier.wait_for_versioned_notifications(
            f'instance.interface_detach.{event}')

    def definition(self, server):
        """MAC address and model of each interface, as defined."""
        return self._interfaces(self.domain(server).xml)

    def running(self, server):
        """The same of the running domain."""
        return self._interfaces(self.domain(server).live)

    def wait_until(self, condition):
        """Wait for what Nova does by itself."""
        for _ in range(600):
            if condition():
                return
            time.sleep(0.1)
        self.fail('not in time')

    @staticmethod
    def _interfaces(xml):
        return [(interface.find('mac').get('address'),
                 getattr(interface.find('model'), 'attrib', {}).get('type'))
                for interface in etree.fromstring(xml).iterfind(
                    'devices/interface')]

    def macs(self, server):
        """Number and MAC address of what the running guest has."""
        return self.domain(server).vifs

    def devices(self, server):
        """The devices that metadata service and config drive tell of."""
        # What Nova's metadata service asks for.
        instance = objects.Instance.get_by_uuid(
            nova_context.get_admin_context(), server['id'], expected_attrs=[
                'ec2_ids', 'flavor', 'info_cache', 'metadata',
                'system_metadata', 'security_groups', 'keypairs',
                'device_metadata', 'numa_topology'])
        return metadata.InstanceMetadata(
            instance, network_info=[])._get_device_metadata(
                metadata.OPENSTACK_VERSIONS[-1])

    def without(self, domain, port):
        """A domain's definition without a port."""
        tree = etree.fromstring(domain.xml)
        for mac in tree.iterfind('devices/interface/mac'):
            if mac.get('address') == port['mac_address']:
                mac.getparent().getparent().remove(mac.getparent())
        return etree.tostring(tree, encoding='unicode')


class AttachTest(InterfacesBase):
    """Attach and detach."""

    def test_every_guest_type(self):
        for kind in ('pv', 'pvh', 'hvm'):
            server = self.boot(flavor=self.flavor(xen44_guest_type=kind))
            first, = self.macs(server).values()
            one, two = self.port(), self.port()
            self.attach(server, one)
            self.attach(server, two)
            new = [port['mac_address'] for port in (one, two)]
            self.assertEqual(dict(enumerate([first, *new])),
                             self.macs(server))
            # PV as long as it runs; as all others from the next start on.
            self.assertEqual([(mac, 'netfront') for mac in new],
                             self.running(server)[1:])
            self.assertEqual([(mac, None) for mac in (first, *new)],
                             self.definition(server))
            self.assertEqual(3, len(self.below.plugged))

            self.detach(server, one)
            self.assertEqual({0: first, 2: new[1]}, self.macs(server))
            self.assertEqual([(first, None), (new[1], None)],
                             self.definition(server))
            self.assertNotIn(one['id'], self.below.plugged)
            # A reboot from inside keeps what is defined.
            self.domain(server).reboot()
            self.assertEqual({0: first, 1: new[1]}, self.macs(server))
            self._delete_server(server)
            self.below.assert_nothing_left()

    def test_while_stopped(self):
        server = self._stop_server(self.boot())
        port, gone = self.port(), self.port()
        self.attach(server, port)
        self.attach(server, gone)
        self.detach(server, gone)
        macs = [mac for mac, _model in self.definition(server)]
        self.assertEqual(port['mac_address'], macs[1])
        self.assertEqual(2, len(macs))
        self._start_server(server)
        self.assertEqual(dict(enumerate(macs)), self.macs(server))

    def assert_attach_fails(self, server, port):
        """An attach fails, and leaves what was."""
        before = self.definition(server), self.running(server)
        plugged = list(self.below.plugged)
        self.assertRaises(api_client.OpenStackApiException,
                          self.attach, server, port)
        self.assertEqual(
            before, (self.definition(server), self.running(server)))
        self.assertEqual(1, len(self.macs(server)))
        self.assertEqual(plugged, self.below.plugged)
        self.assertFalse(self.neutron._ports[port['id']]['device_id'])

    def test_libxl_fails(self):
        server = self.boot()
        self.below.host.failures['attach'] = (
            'internal error: libxenlight failed to attach network device')
        self.assert_attach_fails(server, self.port())

    def test_refused_before_anything_is_done(self):
        server = self.boot()
        with mock.patch.object(os_vif, 'plug') as plug:
            self.assert_attach_fails(
                server, self.port(**{'binding:vif_type': 'macvtap'}))
            self.assert_attach_fails(
                server, self.port(mac_address=self.macs(server)[0]))
        plug.assert_not_called()

    def test_detach_without_a_domain(self):
        server = self.boot()
        port = self.port()
        self.attach(server, port)
        self._stop_server(server)
        self.domain(server).undefine()
        self.detach(server, port)
        self.assertEqual(1, len(self.below.plugged))

    def test_a_guest_that_does_not_let_go(self):
        server = self.boot()
        port = self.port()
        self.attach(server, port)
        self.below.host.guests_obey = False
        self.notifier.reset()
        self.api.detach_interface(server['id'], port['id'])
        self._wait_for_action_fail_completion(
            server, 'detach_interface', 'compute_detach_interface')
        # It is all there still, after a reboot too.
        self.assertIn(port['id'], self.below.plugged)
        self.assertIn(port['mac_address'], self.macs(server).values())
        self.assertEqual(port['mac_address'],
                         self.definition(server)[1][0])
        self.below.host.guests_obey = True
        self.detach(server, port)
        self.assertNotIn(port['id'], self.below.plugged)
        self.assertEqual(1, len(self.macs(server)))



class HardRebootTest(InterfacesBase):
    """Nova's list of ports is the truth at every start."""

    def test_port_is_deleted_while_stopped(self):
        server = self.boot()
        port = self.port()
        self.attach(server, port)
        self.neutron.delete_port(port['id'])
        self._reboot_server(server, hard=True)
        self.assertEqual(1, len(self.macs(server)))
        self.assertEqual(1, len(self.definition(server)))

    def test_what_somebody_changed(self):
        server = self.boot()
        port = self.port()
        self.attach(server, port)
        domain = self.domain(server)
        domain.xml = self.without(domain, port)
        os_vif.unplug(mock.Mock(id=port['id']), None)
        self._reboot_server(server, hard=True)
        self.assertEqual(port['mac_address'], self.macs(server)[1])
        self.assertIn(port['id'], self.below.plugged)

    def test_new_address(self):
        server = self.boot()
        port = self.port()
        self.attach(server, port)
        # Neutron allows that of a port that is not bound.
        port['mac_address'] = '52:54:00:00:00:99'
        self._reboot_server(server, hard=True)
        self.assertEqual('52:54:00:00:00:99', self.macs(server)[1])

    def test_port_is_deleted_while_running(self):
        server = self.boot()
        port = self.port()
        self.attach(server, port)
        self.neutron.delete_port(port['id'])
        self.notifier.reset()
        self.api.api_post('/os-server-external-events', {'events': [{
            'name': 'network-vif-deleted', 'server_uuid': server['id'],
            'tag': port['id']}]})
        self.wait_until(lambda: len(self.below.plugged) == 1)
        self.assertEqual(1, len(self.macs(server)))
        self.assertEqual(1, len(self.definition(server)))
        self.assertEqual(1, len(self.below.plugged))


class WiringTest(InterfacesBase):
    """Ports of other kinds, and what a flavor says of interfaces."""

    def boot_with(self, *ports, **options):
        """Boot a server with ports."""
        return self.boot(networks=[
            port if 'port' in port else {'port': port['id']}
            for port in ports], **options)

    def test_tags(self):
        nic, other, later = self.port(), self.port(), self.port()
        server = self.boot_with(
            {'port': nic['id'], 'tag': 'inside'}, other,
            block_device_mapping_v2=[{
                'boot_index': 0, 'uuid': self.image, 'source_type': 'image',
                'destination_type': 'local', 'tag': 'system'}],
            flavor=self.flavor(xen44_guest_type='pvh'))
        disk = {'type': 'disk', 'bus': 'xen', 'address': '51712',
                'path': '/dev/xvda', 'tags': ['system']}
        inside, outside = (
            {'type': 'nic', 'bus': 'xen', 'address': 'none',
             'mac': port['mac_address'], 'tags': [tag], 'vf_trusted': False}
            for port, tag in ((nic, 'inside'), (later, 'outside')))
        self.assertEqual([inside, disk], self.devices(server))

        self.attach(server, later, tag='outside')
        self.assertEqual([inside, outside, disk], self.devices(server))
        self.detach(server, nic)
        self.assertEqual([outside, disk], self.devices(server))

    def test_traits(self):
        traits = self.traits()
        for name in ('NET_ATTACH_INTERFACE', 'DEVICE_TAGGING',
                     'NET_ATTACH_INTERFACE_WITH_TAG'):
            self.assertIn(f'COMPUTE_{name}', traits)

    def test_port_without_security(self):
        # Nothing on the port's own bridge filters, so it is the same bridge:
        # the Open vSwitch agent filters, or does not.
        with mock.patch.object(os_vif, 'plug') as plug:
            for details in (
                    {'port_filter': False}, {'port_filter': True}):
                port = self.port(**{
                    'port_security_enabled': False, 'security_groups': [],
                    'binding:vif_details': details})
                server = self.boot_with(port)
                bridge = f'qbr{port["id"]}'[:14]
                self.assertIn(f'bridge="{bridge}"',
                              self.domain(server).xml.replace("'", '"'))
                self.assertEqual(bridge, plug.call_args.args[0].bridge_name)

    def test_trunk(self):
        # The parent's veth pair ends in the trunk's own bridge.
        port = self.port(**{'binding:vif_details': {
            'bridge_name': 'tbr-0123456-7', 'port_filter': True}})
        with mock.patch.object(os_vif, 'plug') as plug:
            server = self.boot_with(port)
            vif = plug.call_args.args[0]
        self.assertEqual('tbr-0123456-7', vif.network.bridge)
        self.assertEqual(f'qbr{port["id"]}'[:14], vif.bridge_name)
        self.assertIn(vif.bridge_name, self.domain(server).xml)

    def test_mtu(self):
        port = self.port()
        with mock.patch.dict(self.neutron.network_1, mtu=9000), \
                mock.patch.object(os_vif, 'plug') as plug:
            self.neutron._networks[port['network_id']]['mtu'] = 9000
            self.boot_with(port)
            self.assertEqual(9000, plug.call_args.args[0].network.mtu)

    def limit(self, value, **specs):
        """Make a flavor that limits what guests send."""
        return self._create_flavor(
            memory_mb=256, vcpu=1, disk=1, ephemeral=0, swap=0,
            extra_spec={'quota:vif_outbound_average': value, **specs})

    def test_limit(self):
        server = self.boot(flavor=self.limit(
            '2048', **{'xen44:guest_type': 'pvh'}))
        port = self.port()
        self.attach(server, port)
        for xml in (self.domain(server).xml, self.domain(server).live):
            self.assertEqual(['2048', '2048'], [
                outbound.get('average') for outbound in etree.fromstring(
                    xml).iterfind('devices/interface/bandwidth/outbound')])

    def test_limit_of_an_emulated_card(self):
        server = self.boot(flavor=self.limit('2048'), expected='ERROR')
        self.assertIn('hw_vif_model=netfront', server['fault']['message'])
