# SPDX-License-Identifier: Apache-2.0
"""The sockets on which the QEMU of a guest listens for the driver.

QEMU makes them as root in a directory that only root can enter: whoever can
connect to its monitor can make QEMU, which runs as root, open any file. They
are named by the instance's UUID, so a name of a domain that is used again
never leads to another guest.
"""

from __future__ import annotations

import enum
import os
import re

#: The directory of the sockets. It is on a tmpfs: empty when dom0 boots.
DIRECTORY = '/run/xen44'

#: A UUID as Nova writes it.
UUID = re.compile(r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}')


class SocketKind(enum.StrEnum):
    """What is behind a socket.

    ``AGENT`` is the guest agent; ``SERIAL`` is the serial port of an HVM
    guest; ``SPICE`` is the SPICE server of its screen.
    """

    AGENT = 'agent'
    SERIAL = 'serial'
    SPICE = 'spice'


def path(uuid: str, kind: str) -> str:
    """Return the path of a socket.

    :param uuid: the instance's UUID.
    :param kind: a :class:`SocketKind`.
    :raises ValueError: it is not a UUID, or there is no such kind.
    """
    if not UUID.fullmatch(uuid):
        raise ValueError(f'not the UUID of an instance: {uuid!r}')
    return os.path.join(DIRECTORY, f'{uuid}.{SocketKind(kind)}')


def monitor_path(uuid: str) -> str:
    """Return the path of the socket of the monitor of a domain's QEMU.

    :param uuid: the domain's UUID.
    """
    return os.path.join(DIRECTORY, f'{uuid}.qmp')
