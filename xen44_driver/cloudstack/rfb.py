# SPDX-License-Identifier: Apache-2.0
"""The handshake of RFB 3.8, VNC's protocol (RFC 6143, 7.1 and 7.2).

A relay asks its clients for a password, as Debian's QEMU for Xen cannot: it is
built without DES. Towards QEMU, the relay is a client that needs none.
"""

from __future__ import annotations

from collections.abc import Generator
from collections.abc import Iterator
import hmac
import secrets
import socket
import struct

from cryptography.hazmat.decrepit.ciphers import algorithms
from cryptography.hazmat.primitives import ciphers
from cryptography.hazmat.primitives.ciphers import modes

from xen44_driver import relay

_VERSION = b'RFB 003.008\n'
# Security types.
_NONE, _PASSWORD = b'\1', b'\2'
_CHALLENGE_BYTES = 16
# SecurityResult.
_OK = bytes(4)


class PasswordGreeting:
    """Lets clients of a relay in that know a password (security type 2).

    Wrong passwords are not counted. A relay that ended after some would end
    for those who look, too, and a console proxy can be made to give one: that
    of another VM, which had this port before.

    :param password: at most eight ASCII characters, so many random ones that
        nobody can try them all.
    """

    welcome = _OK
    full = b''

    def __init__(self, password: str) -> None:
        # Each byte of the key from its lowest bit on. Three times the same
        # key makes DES of TripleDES.
        key = bytes(int(f'{byte:08b}'[::-1], 2)
                    for byte in password.encode('ascii').ljust(8, b'\0'))
        self._cipher = ciphers.Cipher(
            algorithms.TripleDES(key * 3),
            modes.ECB())  # noqa: S305 - that is VNC's
        self.unavailable = _failed('the VM is off, or has just been stopped')

    def meet(self, received: bytearray) -> Iterator[bytes]:
        """See :class:`xen44_driver.relay.Greeting`."""
        yield _VERSION
        version = yield from _take(received, len(_VERSION))
        if version != _VERSION:
            raise relay.Refused(f'it speaks {version!r}, not {_VERSION!r}')
        yield bytes((1,)) + _PASSWORD
        chosen = yield from _take(received, 1)
        if chosen != _PASSWORD:
            raise relay.Refused(f'it chose the security type {chosen[0]}')
        challenge = secrets.token_bytes(_CHALLENGE_BYTES)
        yield challenge
        answer = yield from _take(received, _CHALLENGE_BYTES)
        if not hmac.compare_digest(
                answer, self._cipher.encryptor().update(challenge)):
            raise relay.Refused('its password is wrong',
                                _failed('Wrong password'))


def _take(
    received: bytearray, count: int,
) -> Generator[bytes, None, bytes]:
    """Wait for a number of bytes, and remove and return them."""
    while len(received) < count:
        yield b''
    taken = bytes(received[:count])
    del received[:count]
    return taken


def _failed(reason: str) -> bytes:
    """Return the SecurityResult of a client that is not let in."""
    return struct.pack('>II', 1, len(reason)) + reason.encode()


def enter(server: socket.socket) -> None:
    """Go through the handshake with a server that asks for no password.

    What follows is ClientInit.

    :param server: a connection to it, with a timeout.
    :raises OSError: it does not answer, or asks for a password.
    """
    version = _read(server, len(_VERSION))
    if version != _VERSION:
        raise ConnectionError(f'the VNC server speaks {version!r}')
    server.sendall(_VERSION)
    offered = _read(server, _read(server, 1)[0])
    if _NONE not in offered:
        raise ConnectionError(
            f'the VNC server offers the security types {[*offered]} only')
    server.sendall(_NONE)
    if _read(server, len(_OK)) != _OK:
        raise ConnectionError('the VNC server refuses the connection')


def _read(server: socket.socket, count: int) -> bytes:
    data = b''
    while len(data) < count:
        part = server.recv(count - len(data))
        if not part:
            raise ConnectionError('the VNC server has closed the connection')
        data += part
    return data
