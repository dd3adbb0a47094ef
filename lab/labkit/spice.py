# SPDX-License-Identifier: Apache-2.0
"""The beginning of a SPICE session, as a viewer begins it.

Its main channel is linked, and the server's first message is read. More would
show no more than VNC does (:mod:`labkit.vnc`).
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric import rsa

from labkit.util import LabError

# spice-protocol: spice/protocol.h and spice/enums.h.
_MAGIC = b'REDQ'
_VERSION = (2, 2)
_MAIN_CHANNEL = 1
_OK = 0
#: Of every channel: authentication is selected, by SPICE's ticket, and
#: messages have short headers.
_CAPABILITIES = 1 << 0 | 1 << 1 | 1 << 3
_AUTHENTICATE_BY_TICKET = 1
_KEY_SIZE = 162
_MAIN_INIT = 103

_HEADER = struct.Struct('<4sIII')
#: SpiceLinkMess: connection, channel, its number, words of both kinds of
#: capabilities, and where these begin.
_LINK = struct.Struct('<IBBIII')
#: SpiceLinkReply: error, key, and the same of capabilities.
_REPLY = struct.Struct(f'<I{_KEY_SIZE}sIII')
#: SpiceMsgMainInit.
_INIT = struct.Struct('<8I')


class Stream(Protocol):
    """Bytes in both directions, such as :class:`labkit.vnc.WebSocket`."""

    def read(self, count: int, /) -> bytes:
        """Exactly ``count`` bytes."""

    def write(self, data: bytes, /) -> None:
        """Send all of them."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What a SPICE server says first.

    :ivar id: never 0.
    :ivar displays: how many it has.
    :ivar agent: whether an agent runs in the guest.
    """

    id: int
    displays: int
    agent: bool


def start_session(stream: Stream) -> Session:
    """Link the main channel of a server without a password.

    :param stream: a new connection to it.
    :raises LabError: no SPICE server answers there, or it refuses us.
    """
    stream.write(
        _HEADER.pack(_MAGIC, *_VERSION, _LINK.size + 4)
        + _LINK.pack(0, _MAIN_CHANNEL, 0, 1, 0, _LINK.size)
        + struct.pack('<I', _CAPABILITIES))
    magic, major, _, size = _HEADER.unpack(stream.read(_HEADER.size))
    if (magic, major) != (_MAGIC, _VERSION[0]):
        raise LabError(f'the console says {magic!r} {major}, not SPICE 2')
    if size < _REPLY.size:
        raise LabError(f'the SPICE server refuses us, in {size} bytes')
    error, key, *_ = _REPLY.unpack_from(stream.read(size))
    if error != _OK:
        raise LabError(f'the SPICE server refuses us: error {error}')
    stream.write(struct.pack('<I', _AUTHENTICATE_BY_TICKET) + _ticket(key))
    error, = struct.unpack('<I', stream.read(4))
    if error != _OK:
        raise LabError(f'the SPICE server wants a password: error {error}')
    kind, size = struct.unpack('<HI', stream.read(6))
    if (kind, size) != (_MAIN_INIT, _INIT.size):
        raise LabError(f'the SPICE server begins by message {kind}')
    id_, displays, _, _, agent, *_ = _INIT.unpack(stream.read(size))
    return Session(id=id_, displays=displays, agent=bool(agent))


def _ticket(key: bytes) -> bytes:
    """An empty password for a server with this public key."""
    public = serialization.load_der_public_key(key)
    if not isinstance(public, rsa.RSAPublicKey):
        raise LabError('the SPICE server has no RSA key')
    # SHA-1 is the protocol's.
    return public.encrypt(b'\0', padding.OAEP(
        mgf=padding.MGF1(hashes.SHA1()),  # noqa: S303
        algorithm=hashes.SHA1(), label=None))  # noqa: S303
