# SPDX-License-Identifier: Apache-2.0
"""``<interface>``"""

from lxml import etree

from xen44_driver.xen.domain import xml
from xen44_driver.xen.domain.spec import Interface

# Xen's own names, vifDOMID.N: in live XML only, and not ours to keep.
_GENERATED = 'vif'


def to_xml(devices: etree._Element, interface: Interface) -> None:
    """Write one interface."""
    element = xml.add(devices, 'interface', type='bridge')
    xml.add(element, 'mac', address=interface.mac)
    xml.add(element, 'source', bridge=interface.bridge)
    if interface.script is not None:
        xml.add(element, 'script', path=interface.script)
    if interface.target is not None:
        xml.add(element, 'target', dev=interface.target)
    if interface.model is not None:
        xml.add(element, 'model', type=interface.model)
    if interface.mtu is not None:
        xml.add(element, 'mtu', size=str(interface.mtu))


def from_xml(element: etree._Element) -> Interface | None:
    """Read one interface; None for types that we do not write."""
    if element.get('type') != 'bridge':
        return None
    target = xml.get(element, 'target', 'dev')
    if target is not None and target.startswith(_GENERATED):
        target = None
    mtu = xml.get(element, 'mtu', 'size')
    return Interface(mac=xml.need(element, 'mac', 'address'),
                     bridge=xml.need(element, 'source', 'bridge'),
                     script=xml.get(element, 'script', 'path'),
                     model=xml.get(element, 'model', 'type'),
                     target=target,
                     mtu=None if mtu is None else int(mtu))
