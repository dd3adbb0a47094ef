# SPDX-License-Identifier: Apache-2.0
"""``<graphics>``, and what a screen needs beside it."""

from lxml import etree

from xen44_driver.xen.domain import xml
from xen44_driver.xen.domain.spec import Vnc
from xen44_driver.xen.guesttype import GuestType


def to_xml(devices: etree._Element, vnc: Vnc, guest_type: GuestType) -> None:
    """Write a screen.

    For PV and PVH libxl makes a PV frame buffer and keyboard of it. An HVM
    guest has a graphics card as well; without one libxl lets QEMU show
    nothing.
    """
    graphics = xml.add(
        devices, 'graphics', type='vnc',
        port='-1' if vnc.port is None else str(vnc.port),
        autoport='yes' if vnc.port is None else 'no',
        listen=vnc.listen, keymap=vnc.keymap)
    xml.add(graphics, 'listen', type='address', address=vnc.listen)
    if guest_type is GuestType.HVM:
        video = xml.add(devices, 'video')
        xml.add(video, 'model', type='vga')
        if vnc.tablet:
            xml.add(devices, 'input', type='tablet', bus='usb')


def from_xml(devices: etree._Element) -> Vnc | None:
    """Read the screen, None if there is none."""
    graphics = devices.find("graphics[@type='vnc']")
    if graphics is None:
        return None
    port, fixed = graphics.get('port'), graphics.get('autoport') != 'yes'
    return Vnc(
        listen=graphics.get('listen', '127.0.0.1'),
        port=int(port) if port is not None and fixed else None,
        keymap=graphics.get('keymap'),
        tablet=devices.find("input[@type='tablet'][@bus='usb']") is not None)
