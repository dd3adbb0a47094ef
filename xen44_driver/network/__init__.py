# SPDX-License-Identifier: Apache-2.0
"""Connect the network interfaces of guests to Neutron ports.

Neutron's OVS agent finds a port by the ``iface-id`` of an Open vSwitch
interface. libxl's hotplug scripts do not set this id. The guest's interface in
dom0 is named ``vifD.N``, where D is the domain's id, so its name changes
whenever the guest starts or reboots. An HVM guest has a second interface,
``vifD.N-emu``, until its PV driver takes over; Neutron has one port for both.

So every port is plugged in the way that os-vif calls *hybrid*::

    vifD.N ----+
               +-- qbrXXXXXXXXXXX -- qvbXXXXXXXXXXX == qvoXXXXXXXXXXX -- br-int
    vifD.N-emu +   Linux bridge      veth pair         iface-id, MAC

os-vif makes the bridge, the veth pair and the port on br-int before the
domain exists; Xen's own ``vif-bridge`` script adds the domain's interfaces to
the bridge. Therefore

* the port becomes ACTIVE, with its security groups in place, before the guest
  runs: the domain need not be started paused to wait for it;
* a reboot of the guest, which gets a new vifD.N, does not affect the port;
* the emulated and the PV interface share one port;
* the driver needs no hotplug script of its own;
* the guest has the network's MTU: the bridge takes the MTU of the veth pair,
  and vif-bridge passes it to the guest.

The price is one more hop, the veth pair, for each packet.

The port's detail ``ovs_hybrid_plug`` is true if the agent has the firewall
driver ``iptables_hybrid``. Such ports are refused: the rules of that driver
match devices named ``tapXXXXXXXXXXX``, which Xen guests do not have, so they
would filter nothing. The firewall driver ``openvswitch`` filters on qvoXXX as
on any other port.
"""
