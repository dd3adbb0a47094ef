# SPDX-License-Identifier: Apache-2.0
"""How a guest's network interface reaches its Neutron port.

Neutron's OVS agent knows a port by ``iface-id`` on an Open vSwitch interface.
libxl's hotplug scripts set no such id, and the guest's end in dom0 is
``vifD.N``, D the domain's id: a new name at every start and every reboot of
the guest. An HVM guest has a second end besides, ``vifD.N-emu``, until its PV
driver takes over, and Neutron's port is one.

So every port is plugged the way os-vif calls *hybrid*::

    vifD.N ----+
               +-- qbrXXXXXXXXXXX -- qvbXXXXXXXXXXX == qvoXXXXXXXXXXX -- br-int
    vifD.N-emu +   Linux bridge      veth pair         iface-id, MAC

os-vif makes the bridge, the veth pair and the port on br-int before the
domain exists; Xen's stock ``vif-bridge`` script puts whatever ends the domain
has into the bridge. Therefore

* the port turns ACTIVE, with its security groups in place, before the guest
  runs: no domain is started paused to wait for it;
* a reboot of the guest, with its new vifD.N, does not touch the port;
* the emulated and the PV interface share the one port;
* the driver ships no hotplug script of its own to install and maintain;
* the MTU is the network's: the bridge has that of its veth, and vif-bridge
  gives the guest the bridge's.

The price is a veth hop for each packet. Neutron says whether *it* needs the
hybrid plug (``ovs_hybrid_plug``, true with the iptables firewall); we plug so
either way. The agent's Open vSwitch firewall works on qvoXXX as on any port.
"""
