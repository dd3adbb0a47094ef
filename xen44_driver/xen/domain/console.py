# SPDX-License-Identifier: Apache-2.0
"""``<console>``, and the serial port, which is written as QEMU arguments."""

from __future__ import annotations

from collections.abc import Sequence
import re

from lxml import etree

from xen44_driver.xen import errors
from xen44_driver.xen.domain import check
from xen44_driver.xen.domain import xml
from xen44_driver.xen.guesttype import GuestType

# The id must not begin with "serial": QEMU's Xen console would take the rest
# for a port's number ("Invalid serial port number") and exit.
_ID = 'xen44-serial'
_SERIAL = ('-serial', f'chardev:{_ID}')


def check_serial_log(serial_log: str | None, guest_type: GuestType) -> None:
    """Require a path that QEMU accepts, and a guest with a serial port."""
    if serial_log is None:
        return
    if guest_type is not GuestType.HVM:
        raise errors.SpecError('serial_log', serial_log,
                               f'none, for {guest_type}')
    # A comma would end the path in QEMU's option.
    check.path('serial_log', serial_log, without=',')


def to_xml(devices: etree._Element, guest_type: GuestType) -> None:
    """Write Xen's console (hvc0) of PV and PVH guests.

    libvirt would add it too. HVM guests have it without any XML.
    """
    if guest_type is not GuestType.HVM:
        console = xml.add(devices, 'console', type='pty')
        xml.add(console, 'target', type='xen', port='0')


def arguments(serial_log: str | None) -> tuple[str, ...]:
    """Return QEMU's arguments that append a serial port's output to a file.

    With libvirt's ``<serial type='file'>``, QEMU would empty the file at each
    start, and would go on writing at its old offset after the file was
    shortened. Only the option ``-chardev`` makes QEMU append.

    :param serial_log: path of the file; None for no serial port.
    """
    if serial_log is None:
        return ()
    return ('-chardev', f'file,id={_ID},path={serial_log},append=on', *_SERIAL)


def from_xml(devices: etree._Element, qemu: Sequence[str]) -> str | None:
    """Read the path of the serial port's file.

    :param devices: ``<devices>``, which has a ``<serial>`` if an older version
        of the driver defined the domain.
    :param qemu: all arguments for QEMU.
    :returns: path of the file; None for no serial port.
    """
    if len(qemu) >= 4 and qemu[0] == '-chardev' and qemu[2:4] == _SERIAL:
        path = re.fullmatch(rf'file,id={_ID},path=([^,]+),append=on', qemu[1])
        if path is not None:
            return path[1]
    return xml.get(devices, "serial[@type='file']/source", 'path')
