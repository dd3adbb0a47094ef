# SPDX-License-Identifier: Apache-2.0
"""``<interface>``: a network interface."""

from __future__ import annotations

from collections.abc import Iterable
import dataclasses

from lxml import etree

from xen44_driver.xen import errors
from xen44_driver.xen.domain import check
from xen44_driver.xen.domain import xml
from xen44_driver.xen.guesttype import GuestType

#: The highest limit of what a guest sends, in KiB per second: 1 TiB. libvirt
#: multiplies it by 1024 and by 50,000, in 64 bits.
MAX_OUTBOUND_KIB = 2 ** 30


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface on a bridge of the host.

    Xen names it ``vifDOMID.N`` and plugs it with its script ``vif-bridge``, or
    ``vif-openvswitch`` for a bridge of Open vSwitch.

    :ivar mac: the guest's MAC address, such as ``00:16:3e:00:00:01``.
    :ivar bridge: name of the bridge.
    :ivar ovs: whether it is a bridge of Open vSwitch, instead of Linux's.
    :ivar vlan: tag of the port in a bridge of Open vSwitch, 1 to 4094; None
        for none.
    :ivar model: ``netfront`` for a PV interface only, or an emulated card that
        an HVM guest also gets (``e1000``, ``rtl8139``); None for libvirt's
        default: at a start, HVM guests also get an emulated ``rtl8139``. There
        is no emulated card without a PV interface.
    :ivar mtu: MTU in bytes. libvirt's libxl driver (11.3) keeps it in the XML
        but does not pass it to Xen; the hotplug script sets the MTU.
    :ivar outbound_kib: the most that the guest may send through the PV
        interface, in KiB per second on average; None for no limit. An emulated
        card has no limit. libvirt's libxl driver knows no other limits.
    """

    mac: str
    bridge: str
    ovs: bool = False
    vlan: int | None = None
    model: str | None = None
    mtu: int | None = None
    outbound_kib: int | None = None

    def __post_init__(self) -> None:
        # libvirt refuses multicast addresses: the lowest bit of the first
        # octet.
        check.match('interface.mac', self.mac,
                    r'[0-9a-f][02468ace](:[0-9a-f]{2}){5}',
                    'a unicast address, lower case, such as 00:16:3e:00:00:01')
        # The kernel's limit for names (IFNAMSIZ - 1).
        check.match('interface.bridge', self.bridge, r'[\w.+@-]{1,15}',
                    '1 to 15 letters, digits and ._+@-')
        if self.vlan is not None:
            check.within('interface.vlan', self.vlan, 1, 4094)
            if not self.ovs:
                raise errors.SpecError('interface.vlan', self.vlan,
                                       'none, on a Linux bridge')
        if self.model is not None:
            check.match('interface.model', self.model, r'[a-z0-9-]+',
                        'netfront, e1000, rtl8139 or another of QEMU\'s')
        if self.mtu is not None:
            check.within('interface.mtu', self.mtu, 68, 65535)
        if self.outbound_kib is not None:
            check.within('interface.outbound_kib', self.outbound_kib, 1,
                         MAX_OUTBOUND_KIB)


def check_guest_type(interfaces: Iterable[Interface],
                     guest_type: GuestType) -> None:
    """Check that a guest type can have these interfaces.

    :raises SpecError: it cannot.
    """
    for i, interface in enumerate(interfaces):
        if (guest_type is not GuestType.HVM
                and interface.model not in (None, 'netfront')):
            raise errors.SpecError(
                f'interfaces[{i}].model', interface.model,
                f'netfront, for {guest_type}')


def to_xml(devices: etree._Element, interface: Interface) -> None:
    """Write one interface."""
    element = xml.add(devices, 'interface', type='bridge')
    xml.add(element, 'mac', address=interface.mac)
    xml.add(element, 'source', bridge=interface.bridge)
    if interface.ovs:
        xml.add(element, 'virtualport', type='openvswitch')
    if interface.vlan is not None:
        xml.add(xml.add(element, 'vlan'), 'tag', id=str(interface.vlan))
    if interface.model is not None:
        xml.add(element, 'model', type=interface.model)
    if interface.mtu is not None:
        xml.add(element, 'mtu', size=str(interface.mtu))
    if interface.outbound_kib is not None:
        xml.add(xml.add(element, 'bandwidth'), 'outbound',
                average=str(interface.outbound_kib))


def device_xml(interface: Interface) -> str:
    """Return an interface alone, to attach it to a domain or detach it."""
    devices = etree.Element('devices')
    to_xml(devices, interface)
    return etree.tostring(devices[0], encoding='unicode')


def from_xml(element: etree._Element) -> Interface | None:
    """Read one interface.

    :returns: None for types that are never written.
    """
    if element.get('type') != 'bridge':
        return None
    mtu = xml.get(element, 'mtu', 'size')
    vlan = xml.get(element, 'vlan/tag', 'id')
    outbound = xml.get(element, 'bandwidth/outbound', 'average')
    return Interface(mac=xml.need(element, 'mac', 'address'),
                     bridge=xml.need(element, 'source', 'bridge'),
                     ovs=xml.get(element, 'virtualport', 'type')
                     == 'openvswitch',
                     vlan=None if vlan is None else int(vlan),
                     model=xml.get(element, 'model', 'type'),
                     mtu=None if mtu is None else int(mtu),
                     outbound_kib=None if outbound is None else int(outbound))
