# SPDX-License-Identifier: Apache-2.0
"""Both ends of a screen's relay: a console proxy, and a double of QEMU.

The handshake is that of RFC 6143, 7.1 and 7.2.
"""

from __future__ import annotations

import contextlib
import socket
import threading

from cryptography.hazmat.decrepit.ciphers import algorithms
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers import modes

VERSION = b'RFB 003.008\n'


def read(end: socket.socket, count: int) -> bytes:
    """Read a number of bytes."""
    data = b''
    while len(data) < count:
        part = end.recv(count - len(data))
        assert part, f'the connection was closed after {data!r}'
        data += part
    return data


def respond(challenge: bytes, password: str) -> bytes:
    """Encrypt a challenge by a password."""
    # DES, with each byte of the key from its lowest bit on.
    key = bytes(int(f'{byte:08b}'[::-1], 2)
                for byte in password.encode().ljust(8, b'\0'))
    cipher = Cipher(algorithms.TripleDES(key * 3),
                    modes.ECB())  # noqa: S305 - that is VNC's
    return cipher.encryptor().update(challenge)


def authenticate(screen: socket.socket, password: str) -> str | None:
    """Give a VNC server its password.

    :returns: why it does not take it; None if it does.
    """
    assert read(screen, 12) == VERSION
    screen.sendall(VERSION)
    kinds = read(screen, read(screen, 1)[0])
    # No other than by password.
    assert kinds == b'\2', kinds
    screen.sendall(b'\2')
    screen.sendall(respond(read(screen, 16), password))
    if read(screen, 4) == bytes(4):
        return None
    return read(screen, int.from_bytes(read(screen, 4), 'big')).decode()


class Qemu:
    """A double of QEMU's VNC server, which then repeats what it is told.

    :param port: its port of 127.0.0.1; 0 for any.
    :param kinds: the security types that it offers.
    :ivar address: address and port.
    """

    def __init__(self, port: int = 0, kinds: bytes = b'\1\x13') -> None:
        self._kinds = kinds
        self._server = socket.create_server(('127.0.0.1', port))
        self.address = self._server.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no further clients."""
        # close() alone does not end the thread's accept().
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(
                    target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, AssertionError):
            client.sendall(VERSION)
            assert read(client, 12) == VERSION
            client.sendall(bytes((len(self._kinds),)) + self._kinds)
            assert read(client, 1) == b'\1'
            client.sendall(bytes(4))
            while data := client.recv(4096):
                client.sendall(data)
