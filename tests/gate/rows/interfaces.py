# SPDX-License-Identifier: Apache-2.0
"""Network interfaces that come and go, for classes of GuestCase."""

from __future__ import annotations

from typing import Any
from typing import ClassVar

from labkit import config
from labkit import util
from tests.gate import base
from tests.gate import guest as guest_lib

#: Seconds for Nova, libxl and the guest to add or remove an interface.
TIMEOUT = 300

#: Of the second network: less than of the guest's first.
MTU = 1400


class Interfaces:
    """A second interface is attached to a running guest, and detached.

    :cvar interface_reboots: whether the guest reboots itself while it has it:
        one more boot.
    """

    interface_reboots: ClassVar[bool] = False

    def test_interface_attach_and_detach(self: Any) -> None:
        guest = self.running()
        port = self.second_port()
        self.cloud.compute.create_server_interface(
            guest.id, port_id=port.id, tag='gate-tag')
        self.see_interface(guest, port)
        self.assertEqual(
            str(MTU), self.dom0('cat', f'/sys/class/net/{self.vif(guest, 1)}'
                                       '/mtu').strip())
        # Nova's metadata is cached for 15 s.
        util.wait_for(
            f'the tag of an interface of {guest.name}',
            lambda: 'gate-tag' in guest.ssh(
                f'wget -q -O - {guest_lib.METADATA}', check=False), TIMEOUT,
            interval=5)
        if self.interface_reboots:
            before = guest.boot_id()
            guest.leave('reboot')
            guest.wait_for_reboot(before)
            self.see_interface(guest, port)
        self.cloud.compute.delete_server_interface(port.id, server=guest.id)
        util.wait_for(
            f'an interface of {guest.name} to go',
            lambda: not guest.ssh('ls -d /sys/class/net/eth1', check=False),
            TIMEOUT, interval=2)
        util.wait_for(
            f'port {port.id} to be free',
            lambda: not self.cloud.network.get_port(port.id).device_id,
            TIMEOUT, interval=2)
        self.assertNotIn(port.id[:11], self.dom0('ip', '-br', 'link'))
        self.assertNotIn(port.mac_address, self.dom0(
            'virsh', 'dumpxml', '--inactive', guest.domain))

    @base.slow
    def test_interface_attach_while_stopped(self: Any) -> None:
        """What is attached to a guest that is off is in its definition."""
        guest = self.running()
        self.cloud.compute.stop_server(guest.id)
        guest.wait_for_status('SHUTOFF', guest_lib.STOP_TIMEOUT)
        port = self.second_port()
        self.cloud.compute.create_server_interface(
            guest.id, port_id=port.id)
        self.assertIn(port.mac_address, self.dom0(
            'virsh', 'dumpxml', '--inactive', guest.domain))
        self.cloud.compute.delete_server_interface(port.id, server=guest.id)
        util.wait_for(
            f'port {port.id} to be free',
            lambda: not self.cloud.network.get_port(port.id).device_id,
            TIMEOUT, interval=2)
        self.assertNotIn(port.mac_address, self.dom0(
            'virsh', 'dumpxml', '--inactive', guest.domain))

    def test_interface_is_alone(self: Any) -> None:
        """The guest does not see a PV and an emulated card of one port."""
        guest = self.running()
        self.assertEqual('eth0', guest.ssh(
            'cd /sys/class/net && ls -d eth*'))

    def second_port(self: Any) -> Any:
        """A port on a network of its own, on which nobody answers."""
        network = self.cloud.network.create_network(
            name=self._name('network'), mtu=MTU)
        self.addCleanup(self.cloud.network.delete_network, network.id)
        subnet = self.cloud.network.create_subnet(
            network_id=network.id, ip_version=4, cidr='198.51.100.0/24',
            gateway_ip=None, enable_dhcp=False)
        self.addCleanup(self.cloud.network.delete_subnet, subnet.id)
        port = self.cloud.network.create_port(network_id=network.id)
        self.addCleanup(self.cloud.network.delete_port, port.id)
        return port

    def see_interface(self: Any, guest: guest_lib.Guest, port: Any) -> None:
        """Wait until the guest, Xen and Neutron have a second interface."""
        util.wait_for(
            f'eth1 of {guest.name}', lambda: guest.ssh(
                'cat /sys/class/net/eth1/address',
                check=False) == port.mac_address, TIMEOUT, interval=2)
        util.wait_for(
            f'port {port.id} to be ACTIVE',
            lambda: self.cloud.network.get_port(port.id).status == 'ACTIVE',
            TIMEOUT, interval=2)
        # Number, backend's domain, MAC address, handle, state ...
        listed = [line.split() for line in self.dom0(
            'xl', 'network-list', guest.domain).splitlines()[1:]]
        self.assertIn((port.mac_address, '4'),
                      [(fields[2], fields[4]) for fields in listed])
        # The guest asks for an address: its packets reach Open vSwitch.
        util.wait_for(
            f'packets of {guest.name} on port {port.id}',
            lambda: int(self.dom0(
                'ovs-vsctl', 'get', 'Interface', f'qvo{port.id[:11]}',
                'statistics:rx_packets')), TIMEOUT, interval=2)

    def vif(self: Any, guest: guest_lib.Guest, number: int) -> str:
        """Name in dom0 of a guest's interface."""
        domid = self.dom0('xl', 'domid', guest.domain).strip()
        return f'vif{domid}.{number}'


class SecurityGroups:
    """Neutron's rules hold for a guest that runs.

    That they hold from its first packet is seen in
    :mod:`tests.gate.test_direct_kernel`.
    """

    def test_security_groups(self: Any) -> None:
        guest = self.running()
        network = self.cloud.network
        group = network.create_security_group(
            name=self._name('group'), description='lets nobody in')
        self.addCleanup(network.delete_security_group, group.id)
        port = guest.port()
        self.addCleanup(network.update_port, port.id,
                        security_groups=port.security_group_ids)
        network.update_port(port.id, security_groups=[group.id])
        util.wait_for(f'{guest.name} to be out of reach',
                      lambda: not guest.reachable(), TIMEOUT, interval=2)
        network.create_security_group_rule(
            security_group_id=group.id, direction='ingress',
            ethertype='IPv4', protocol='tcp', port_range_min=22,
            port_range_max=22, remote_ip_prefix=config.LAB_NET_CIDR)
        guest.wait_for_ssh()


#: Extra specs for :class:`InterfaceLimit`; KiB per second.
LIMIT_SPECS = {'quota:vif_outbound_average': '102400'}


class SlowInterfaces(Interfaces):
    """The same, where it takes longest."""

    @base.slow
    def test_interface_attach_and_detach(self: Any) -> None:
        super().test_interface_attach_and_detach()


class InterfaceLimit:
    """A flavor's limit of what a guest sends reaches the backend.

    The class's flavor must have :data:`LIMIT_SPECS`.
    """

    def test_interface_limit(self: Any) -> None:
        guest = self.running()
        domid = self.dom0('xl', 'domid', guest.domain).strip()
        # Bytes in each 50 ms, and the 50 ms.
        self.assertEqual(
            f'{102400 * 1024 // 20},50000',
            self.dom0('xenstore-read', '/local/domain/0/backend/vif/'
                                       f'{domid}/0/rate').strip())
