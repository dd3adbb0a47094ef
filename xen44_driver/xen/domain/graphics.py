# SPDX-License-Identifier: Apache-2.0
"""``<graphics>``, and the other devices that a screen needs."""

from __future__ import annotations

import dataclasses

from lxml import etree

from xen44_driver.xen import errors
from xen44_driver.xen.domain import check
from xen44_driver.xen.domain import xml
from xen44_driver.xen.guesttype import GuestType


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Vnc:
    """A screen, shown by VNC: emulated VGA for HVM, otherwise a PV one.

    :ivar listen: address or host name that the VNC server listens on.
    :ivar tablet: emulate a USB tablet, which keeps the guest's pointer at the
        position of the viewer's; HVM only. It costs the host some CPU time.
    """

    listen: str
    tablet: bool = False

    def __post_init__(self) -> None:
        check.match('vnc.listen', self.listen, r'[A-Za-z0-9][\w.:-]*|::[\w:]*',
                    'an address or a host name')


def check_guest_type(vnc: Vnc | None, guest_type: GuestType) -> None:
    """Check that a guest type can have this screen.

    :raises SpecError: it cannot.
    """
    if vnc is not None and vnc.tablet and guest_type is not GuestType.HVM:
        raise errors.SpecError('vnc.tablet', True, f'none, for {guest_type}')


def to_xml(devices: etree._Element, vnc: Vnc, guest_type: GuestType) -> None:
    """Write a screen.

    For PV and PVH, libxl adds a PV frame buffer and keyboard. An HVM guest
    also needs a graphics card, or QEMU shows nothing. libvirt chooses a free
    port at each start.
    """
    graphics = xml.add(devices, 'graphics', type='vnc', port='-1',
                       autoport='yes', listen=vnc.listen)
    xml.add(graphics, 'listen', type='address', address=vnc.listen)
    if guest_type is GuestType.HVM:
        video = xml.add(devices, 'video')
        xml.add(video, 'model', type='vga')
        if vnc.tablet:
            xml.add(devices, 'input', type='tablet', bus='usb')


def from_xml(devices: etree._Element) -> Vnc | None:
    """Read the screen.

    :returns: None if the domain has none.
    """
    graphics = devices.find("graphics[@type='vnc']")
    if graphics is None:
        return None
    return Vnc(
        listen=graphics.get('listen', '127.0.0.1'),
        tablet=devices.find("input[@type='tablet'][@bus='usb']") is not None)
