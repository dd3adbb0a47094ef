# SPDX-License-Identifier: Apache-2.0
"""``<disk>``"""

from lxml import etree

from xen44_driver.xen.domain import xml
from xen44_driver.xen.domain.spec import Disk


def to_xml(devices: etree._Element, disk: Disk) -> None:
    """Write one disk.

    The driver is always named: left to itself libvirt serves a file through
    a loop device, which knows no qcow2.
    """
    element = xml.add(devices, 'disk', type=disk.type, device=disk.device)
    if disk.type == 'file':
        xml.add(element, 'driver', name='qemu', type=disk.format)
        xml.add(element, 'source', file=disk.source)
    else:
        xml.add(element, 'driver', name='phy', type='raw')
        xml.add(element, 'source', dev=disk.source)
    xml.add(element, 'target', dev=disk.target, bus=disk.bus)
    if disk.readonly:
        xml.add(element, 'readonly')


def from_xml(element: etree._Element) -> Disk | None:
    """Read one disk.

    :returns: None for an empty drive, and for types that we do not write.
    """
    type_ = element.get('type', 'file')
    source = {'file': 'file', 'block': 'dev'}.get(type_)
    path = source and xml.get(element, 'source', source)
    if not path:
        return None
    return Disk(target=xml.need(element, 'target', 'dev'),
                source=path,
                format=xml.get(element, 'driver', 'type') or 'raw',
                type=type_,
                readonly=element.find('readonly') is not None,
                device=element.get('device', 'disk'))
