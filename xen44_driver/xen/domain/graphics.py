# SPDX-License-Identifier: Apache-2.0
"""``<graphics>``, and the other devices that a screen needs."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses

from lxml import etree

from xen44_driver.xen import errors
from xen44_driver.xen.domain import check
from xen44_driver.xen.domain import spice as spice_lib
from xen44_driver.xen.domain import xml
from xen44_driver.xen.guesttype import GuestType


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """A screen: emulated VGA for HVM, otherwise a PV one, shown by VNC.

    :ivar vnc: address or host name that its VNC server listens on; None for
        no VNC server.
    :ivar spice: its SPICE server, None for none; HVM only.
    :ivar tablet: emulate a USB tablet, which keeps the guest's pointer at the
        position of the viewer's; HVM only. It costs the host some CPU time.
    """

    vnc: str | None = None
    spice: spice_lib.Spice | None = None
    tablet: bool = False

    def __post_init__(self) -> None:
        if self.vnc is not None:
            check.match('screen.vnc', self.vnc,
                        r'[A-Za-z0-9][\w.:-]*|::[\w:]*',
                        'an address or a host name')
        elif self.spice is None:
            raise errors.SpecError('screen', 'not shown', 'vnc or spice')


def check_guest_type(screen: Screen | None, guest_type: GuestType) -> None:
    """Check that a guest type can have this screen.

    :raises SpecError: it cannot.
    """
    if screen is None or guest_type is GuestType.HVM:
        return
    for field in ('spice', 'tablet'):
        if value := getattr(screen, field):
            raise errors.SpecError(f'screen.{field}', value,
                                   f'none, for {guest_type}')


def to_xml(devices: etree._Element, screen: Screen | None,
           guest_type: GuestType) -> None:
    """Write a screen, but for its SPICE server (:mod:`.spice`).

    For PV and PVH, libxl adds a PV frame buffer and keyboard. An HVM guest
    also needs a graphics card, or QEMU shows nothing. libvirt chooses a free
    port at each start.

    :param screen: None for no screen.
    """
    if screen is None:
        return
    if screen.vnc is not None:
        graphics = xml.add(devices, 'graphics', type='vnc', port='-1',
                           autoport='yes', listen=screen.vnc)
        xml.add(graphics, 'listen', type='address', address=screen.vnc)
    if guest_type is GuestType.HVM:
        video = xml.add(devices, 'video')
        xml.add(video, 'model', type='vga')
        if screen.tablet:
            xml.add(devices, 'input', type='tablet', bus='usb')


def from_xml(devices: etree._Element, qemu: Sequence[str]) -> Screen | None:
    """Read the screen.

    :param devices: ``<devices>``.
    :param qemu: all arguments for QEMU.
    :returns: None if the domain has none.
    """
    graphics = devices.find("graphics[@type='vnc']")
    spice = spice_lib.from_xml(qemu)
    if graphics is None and spice is None:
        return None
    return Screen(
        vnc=None if graphics is None else graphics.get('listen', '127.0.0.1'),
        spice=spice,
        tablet=devices.find("input[@type='tablet'][@bus='usb']") is not None)
