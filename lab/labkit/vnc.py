# SPDX-License-Identifier: Apache-2.0
"""One picture of a server's VNC console, through nova-novncproxy.

What a browser's noVNC does, as far as one screenshot needs it: a websocket
(RFC 6455), RFB inside it (RFC 6143) with the raw encoding alone, and a PNG.

``python3 -m labkit.vnc URL FILE.png`` takes one; URL is what ``openstack
console url show --novnc SERVER`` prints.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import pathlib
import secrets
import socket
import struct
import sys
import time
import urllib.parse
import zlib

from labkit.util import LabError

#: RFC 6455, section 1.3: what a server proves that it speaks websocket with.
_WEBSOCKET_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
_BINARY, _CLOSE, _PING, _PONG = 0x2, 0x8, 0x9, 0xA

_RFB_VERSION = b'RFB 003.008\n'
_SECURITY_NONE = 1
_RAW = 0
#: 32 bits a pixel, depth 24, little endian, true colour: blue, green, red
#: and an unused byte.
_PIXEL_FORMAT = struct.pack('!BBBBHHHBBB3x', 32, 24, 0, 1,
                            255, 255, 255, 16, 8, 0)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture of ``width`` times ``height`` pixels.

    ``rgb`` holds three bytes for each, row by row from the top left.
    """

    width: int
    height: int
    rgb: bytes

    def colours(self) -> int:
        """How many colours it has; a screen that shows nothing has one."""
        return len(set(zip(self.rgb[0::3], self.rgb[1::3], self.rgb[2::3],
                           strict=True)))

    def png(self) -> bytes:
        """The picture as a PNG file (ISO/IEC 15948)."""
        def chunk(kind: bytes, data: bytes) -> bytes:
            return (struct.pack('!I', len(data)) + kind + data
                    + struct.pack('!I', zlib.crc32(kind + data)))

        row = self.width * 3
        # Each row begins with its filter; 0 is none.
        lines = b''.join(b'\0' + self.rgb[at:at + row]
                         for at in range(0, len(self.rgb), row))
        header = struct.pack('!IIBBBBB', self.width, self.height,
                             8, 2, 0, 0, 0)
        return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header)
                + chunk(b'IDAT', zlib.compress(lines)) + chunk(b'IEND', b''))


class WebSocket:
    """The client's end of a websocket, as a stream of bytes.

    :param address: host and port to connect to.
    :param path: path and query to ask for.
    :param timeout: seconds until the whole of it gives up.
    :raises LabError: nothing listens there, or it is no websocket.
    """

    def __init__(self, address: tuple[str, int], path: str,
                 timeout: float):
        self._deadline = time.monotonic() + timeout
        self._stream = b''
        try:
            self._socket = socket.create_connection(address, timeout)
        except OSError as error:
            raise LabError(f'{address[0]}:{address[1]}: {error}') from None
        try:
            self._handshake('{}:{}'.format(*address), path)
        except BaseException:
            self.close()
            raise

    def _handshake(self, host: str, path: str) -> None:
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        self._socket.sendall(
            (f'GET {path} HTTP/1.1\r\nHost: {host}\r\n'
             f'Origin: http://{host}\r\n'
             'Upgrade: websocket\r\nConnection: Upgrade\r\n'
             f'Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n'
             'Sec-WebSocket-Protocol: binary\r\n\r\n').encode())
        answer = b''
        while not answer.endswith(b'\r\n\r\n'):
            answer += self._receive(1)
        status, *headers = answer.decode('latin-1').split('\r\n')
        proof = base64.b64encode(hashlib.sha1(
            (key + _WEBSOCKET_GUID).encode(),
            usedforsecurity=False).digest()).decode()
        if ' 101 ' not in status or not any(
                line.lower().startswith('sec-websocket-accept:')
                and line.endswith(proof) for line in headers):
            raise LabError(f'{host} opens no websocket: {status}')

    def _receive(self, count: int) -> bytes:
        """Exactly so many bytes from the network."""
        data = b''
        while len(data) < count:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise LabError('the VNC console did not answer in time')
            self._socket.settimeout(left)
            try:
                piece = self._socket.recv(count - len(data))
            except TimeoutError:
                continue
            except OSError as error:
                raise LabError(f'the VNC console: {error}') from None
            if not piece:
                raise LabError('the VNC proxy closed the connection')
            data += piece
        return data

    def _frame(self) -> bytes:
        """The next frame's data; other kinds of frames are dealt with."""
        while True:
            kind, length = self._receive(2)
            if length == 126:
                length, = struct.unpack('!H', self._receive(2))
            elif length == 127:
                length, = struct.unpack('!Q', self._receive(8))
            data = self._receive(length)
            kind &= 0x0f
            if kind == _CLOSE:
                said = data[2:].decode(errors='replace')
                raise LabError(f'the VNC proxy hung up: {said or "?"}')
            if kind == _PING:
                self._send_frame(_PONG, data)
            elif kind != _PONG:
                return data

    def _send_frame(self, kind: int, data: bytes) -> None:
        # A client masks what it sends, with a fresh key for each frame.
        mask = secrets.token_bytes(4)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
        size = (struct.pack('!B', 0x80 | len(data)) if len(data) < 126
                else struct.pack('!BH', 0x80 | 126, len(data)))
        self._socket.sendall(bytes((0x80 | kind,)) + size + mask + masked)

    def read(self, count: int) -> bytes:
        """Exactly ``count`` bytes.

        :raises LabError: they do not come, or not in time.
        """
        pieces = [self._stream]
        have = len(self._stream)
        while have < count:
            pieces.append(self._frame())
            have += len(pieces[-1])
        data = b''.join(pieces)
        self._stream = data[count:]
        return data[:count]

    def write(self, data: bytes) -> None:
        """Send so many bytes (fewer than 64 KiB)."""
        self._send_frame(_BINARY, data)

    def close(self) -> None:
        """Close it; no answer is waited for."""
        self._socket.close()


def _start_session(stream: WebSocket) -> tuple[int, int]:
    """Do RFB's handshake; returns width and height of the screen."""
    version = stream.read(len(_RFB_VERSION))
    if version != _RFB_VERSION:
        raise LabError(f'the console speaks {version!r}, not RFB 3.8')
    stream.write(_RFB_VERSION)
    count, = stream.read(1)
    if count == 0:
        reason = stream.read(struct.unpack('!I', stream.read(4))[0])
        raise LabError(f'the VNC server refuses: {reason.decode()}')
    kinds = stream.read(count)
    if _SECURITY_NONE not in kinds:
        raise LabError(f'the VNC server wants a password: {list(kinds)}')
    stream.write(bytes((_SECURITY_NONE,)))
    if stream.read(4) != b'\0\0\0\0':
        raise LabError('the VNC server refuses us')
    stream.write(b'\x01')  # others may look on
    width, height = struct.unpack('!HH', stream.read(4))
    stream.read(16)  # the server's own pixel format
    stream.read(struct.unpack('!I', stream.read(4))[0])  # its name
    return width, height


def _read_screen(stream: WebSocket, width: int, height: int) -> bytes:
    """Ask for the whole screen; returns four bytes for each pixel."""
    stream.write(struct.pack('!B3x', 0) + _PIXEL_FORMAT)
    stream.write(struct.pack('!BxHi', 2, 1, _RAW))
    stream.write(struct.pack('!BBHHHH', 3, 0, 0, 0, width, height))
    screen = bytearray(width * height * 4)
    seen = 0
    while seen < width * height:
        match stream.read(1)[0]:
            case 0:  # FramebufferUpdate
                count, = struct.unpack('!xH', stream.read(3))
                for _ in range(count):
                    x, y, w, h, encoding = struct.unpack(
                        '!HHHHi', stream.read(12))
                    if encoding != _RAW:
                        raise LabError(f'RFB encoding {encoding}, '
                                       'which was not asked for')
                    pixels = stream.read(w * h * 4)
                    for row in range(h):
                        at = ((y + row) * width + x) * 4
                        screen[at:at + w * 4] = (
                            pixels[row * w * 4:(row + 1) * w * 4])
                    seen += w * h
            case 2:  # Bell
                pass
            case 3:  # ServerCutText
                stream.read(struct.unpack('!3xI', stream.read(7))[0])
            case other:
                raise LabError(f'RFB message {other} is not known')
    return bytes(screen)


def take(url: str, timeout: float = 60) -> Picture:
    """Take a picture of the console behind a noVNC address.

    :param url: what Nova's remote-consoles API answers for novnc.
    :param timeout: seconds for the whole of it.
    :raises LabError: no such console, or it does not behave.
    """
    parts = urllib.parse.urlsplit(url)
    # noVNC's own convention: the websocket's path is a parameter of the page.
    query = urllib.parse.parse_qs(parts.query)
    path = '/' + query.get('path', [f'?{parts.query}'])[0].lstrip('/')
    if not parts.hostname or 'token' not in path:
        raise LabError('a noVNC address has a host and a token')
    stream = WebSocket((parts.hostname, parts.port or 80), path, timeout)
    try:
        width, height = _start_session(stream)
        pixels = _read_screen(stream, width, height)
    finally:
        stream.close()
    rgb = bytearray(width * height * 3)
    for to, source in enumerate((2, 1, 0)):
        rgb[to::3] = pixels[source::4]
    return Picture(width=width, height=height, rgb=bytes(rgb))


def save(url: str, path: os.PathLike[str]) -> Picture:
    """Take a picture as :func:`take` does and write it as PNG.

    :param path: the file; its directory is made.
    """
    picture = take(url)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture.png())
    return picture


def main() -> int:
    """``python3 -m labkit.vnc URL FILE.png``"""
    if len(sys.argv) != 3:
        print('usage: python3 -m labkit.vnc URL FILE.png', file=sys.stderr)
        return 2
    try:
        picture = save(sys.argv[1], pathlib.Path(sys.argv[2]))
    except LabError as error:
        print(f'no picture: {error}', file=sys.stderr)
        return 1
    print(f'{picture.width}x{picture.height}, {picture.colours()} colours')
    return 0


if __name__ == '__main__':
    sys.exit(main())
