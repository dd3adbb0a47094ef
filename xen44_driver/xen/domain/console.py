# SPDX-License-Identifier: Apache-2.0
"""``<console>`` and ``<serial>``"""

from lxml import etree

from xen44_driver.xen.domain import xml
from xen44_driver.xen.guesttype import GuestType


def to_xml(devices: etree._Element, guest_type: GuestType,
           serial_log: str | None) -> None:
    """Write the consoles.

    PV and PVH guests have Xen's console (hvc0); libvirt would add it by
    itself. HVM guests have it too without any XML, and a serial port if its
    output is wanted: QEMU writes the file, and begins it anew at each start.
    """
    if guest_type is not GuestType.HVM:
        console = xml.add(devices, 'console', type='pty')
        xml.add(console, 'target', type='xen', port='0')
        return
    if serial_log is None:
        return
    serial = xml.add(devices, 'serial', type='file')
    xml.add(serial, 'source', path=serial_log)
    xml.add(serial, 'target', port='0')
    console = xml.add(devices, 'console', type='file')
    xml.add(console, 'source', path=serial_log)
    xml.add(console, 'target', type='serial', port='0')


def from_xml(devices: etree._Element) -> str | None:
    """Read the serial port's file, None if there is none."""
    return xml.get(devices, "serial[@type='file']/source", 'path')
