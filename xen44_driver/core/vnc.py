# SPDX-License-Identifier: Apache-2.0
"""Connect to the VNC servers of guests' screens."""

from __future__ import annotations

from collections.abc import Callable
import os
import socket

from xen44_driver.xen import errors as xen_errors
from xen44_driver.xen import host as xen_host

#: Seconds that a QEMU has to accept a connection to its VNC server, and for
#: each answer of its handshake.
TIMEOUT = 5


def connect(
    host: xen_host.Host, uuid: str,
    greet: Callable[[socket.socket], None] = lambda connection: None,
) -> int | None:
    """Connect to the VNC server of a guest.

    :param host: its host.
    :param uuid: the domain's UUID.
    :param greet: is called with the connection, which has a timeout.
    :returns: a file descriptor; None if the guest is off or has no screen.
    :raises OSError: the server cannot be reached.
    """
    domid = domid_of(host, uuid)
    if domid is None:
        return None
    address = host.guest(uuid).vnc_address()
    if address is None:
        return None
    with socket.create_connection(address, TIMEOUT) as connection:
        # If the guest has ended in between, the port may be another guest's.
        if (host.guest(uuid).vnc_address() != address
                or domid_of(host, uuid) != domid):
            return None
        greet(connection)
        return os.dup(connection.fileno())


def domid_of(host: xen_host.Host, uuid: str) -> int | None:
    """Return Xen's number of a guest, or None if it does not run.

    :param host: its host.
    :param uuid: the domain's UUID.
    """
    try:
        return host.record(uuid).id
    except xen_errors.DomainNotFound:
        return None
