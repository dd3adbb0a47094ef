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

_FILE = re.compile(rf'file,id={_ID},path=(?P<log>[^,]+),append=on')
_SOCKET = re.compile(
    rf'socket,id={_ID},path=(?P<socket>[^,]+),server=on,wait=off,'
    r'logfile=(?P<log>[^,]+),logappend=on')


def check_serial(serial_log: str | None, serial_socket: str | None,
                 guest_type: GuestType) -> None:
    """Require paths that QEMU accepts, and a guest with a serial port.

    :param serial_log: path of the log; None for no serial port.
    :param serial_socket: path of the socket; None for output only.
    :raises SpecError: there is no serial port, or a path is not possible.
    """
    if serial_socket is not None and serial_log is None:
        raise errors.SpecError('serial_socket', serial_socket,
                               'none, without a serial_log')
    for field, path in (('serial_log', serial_log),
                        ('serial_socket', serial_socket)):
        if path is None:
            continue
        if guest_type is not GuestType.HVM:
            raise errors.SpecError(field, path, f'none, for {guest_type}')
        # A comma would end the path in QEMU's option.
        check.path(field, path, without=',')


def to_xml(devices: etree._Element, guest_type: GuestType) -> None:
    """Write Xen's console (hvc0) of PV and PVH guests.

    libvirt would add it too. HVM guests have it without any XML.
    """
    if guest_type is not GuestType.HVM:
        console = xml.add(devices, 'console', type='pty')
        xml.add(console, 'target', type='xen', port='0')


def arguments(serial_log: str | None,
              serial_socket: str | None = None) -> tuple[str, ...]:
    """Return QEMU's arguments that append a serial port's output to a file.

    With libvirt's ``<serial type='file'>``, QEMU would empty the file at each
    start, and would go on writing at its old offset after the file was
    shortened. Only the option ``-chardev`` makes QEMU append.

    :param serial_log: path of the file; None for no serial port.
    :param serial_socket: path of a socket on which QEMU also listens for one
        client, whose input the serial port receives; None for output only.
        The file is written whether there is a client or not.
    """
    if serial_log is None:
        return ()
    if serial_socket is not None:
        return ('-chardev', f'socket,id={_ID},path={serial_socket},server=on,'
                f'wait=off,logfile={serial_log},logappend=on', *_SERIAL)
    return ('-chardev', f'file,id={_ID},path={serial_log},append=on', *_SERIAL)


def from_xml(
    devices: etree._Element, qemu: Sequence[str],
) -> tuple[str | None, str | None]:
    """Read the paths of the serial port's file and socket.

    :param devices: ``<devices>``, which has a ``<serial>`` if an older version
        of the driver defined the domain.
    :param qemu: all arguments for QEMU.
    :returns: path of the file, None for no serial port; and path of the
        socket, None for output only.
    """
    if _SERIAL[1] in qemu:
        for argument in qemu:
            if (found := _SOCKET.fullmatch(argument)) is not None:
                return found['log'], found['socket']
            if (found := _FILE.fullmatch(argument)) is not None:
                return found['log'], None
    return xml.get(devices, "serial[@type='file']/source", 'path'), None
