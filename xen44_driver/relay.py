# SPDX-License-Identifier: Apache-2.0
"""Relay consoles of guests to console proxies.

A relay listens for TCP connections. A client has to know a secret before it is
connected to the guest, by default a path that it has to name (``CONNECT PATH
HTTP/1.1``). Nova's proxies do so if the driver gives them the path ("internal
access path"); nobody else knows it.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import hmac
import os
import secrets
import selectors
import socket
import threading
import time
from typing import Protocol

from oslo_log import log as logging

from xen44_driver.xen import threads

LOG = logging.getLogger(__name__)

#: Seconds that a client has to name the path, and the most bytes it may send
#: for that.
GREETING_TIMEOUT = 10
MAX_GREETING = 4096

#: The most clients of a relay; further ones are turned away.
MAX_CLIENTS = 32

#: Seconds between two attempts to open a device that is not there.
REOPEN_INTERVAL = 1.0

#: The most bytes that wait for a client, and for a device.
MAX_TO_CLIENT = 1024 * 1024
MAX_TO_DEVICE = 64 * 1024

_CHUNK = 64 * 1024
_GREETING_END = b'\r\n\r\n'
_FORBIDDEN = b'HTTP/1.1 403 Forbidden\r\n\r\n'
_TAKEN_OVER = b'\r\n[another session has taken this console over]\r\n'


class NoFreePort(OSError):
    """All ports of a range are in use."""


def listen(host: str, ports: range) -> socket.socket:
    """Listen on the first free port of a range.

    :param host: address or name to listen on.
    :raises NoFreePort: there is none.
    :raises OSError: the host has no such address.
    """
    family, _, _, _, _ = socket.getaddrinfo(
        host, None, type=socket.SOCK_STREAM)[0]
    # An address that is not this host's fails here, not at every port.
    socket.create_server((host, 0), family=family).close()
    for port in ports:
        with contextlib.suppress(OSError):
            return socket.create_server(
                (host, port), family=family,
                # "::" means IPv4 too, as it does for QEMU.
                dualstack_ipv6=family is socket.AF_INET6)
    raise NoFreePort(f'no port of {host} from {ports.start} to '
                     f'{ports.stop - 1} is free')


class Refused(Exception):
    """A client is not let in; the message says why.

    :param words: what the client is told.
    """

    def __init__(self, message: str, words: bytes = b'') -> None:
        super().__init__(message)
        self.words = words


class Greeting(Protocol):
    """Decides which clients of a relay are let in.

    :ivar welcome: what a client is told that is let in.
    :ivar unavailable: what it is told instead if the guest is not there.
    :ivar full: what one is told at once if there are too many.
    """

    welcome: bytes
    unavailable: bytes
    full: bytes

    def meet(self, received: bytearray) -> Iterator[bytes]:
        """Talk with a client; the end means that it is let in.

        :param received: what it has sent. What is understood is removed.
        :returns: what it is told, step by step; nothing to wait until it has
            sent more.
        :raises Refused: it is not let in.
        """


class _PathGreeting:
    """Lets clients in that name a path.

    :param path: the path.
    """

    welcome = b'HTTP/1.1 200 OK\r\n\r\n'
    unavailable = full = b'HTTP/1.1 503 Service Unavailable\r\n\r\n'

    def __init__(self, path: str) -> None:
        self._wanted = f'CONNECT {path} HTTP/1.1'.encode()

    def meet(self, received: bytearray) -> Iterator[bytes]:
        """See :class:`Greeting`."""
        while (end := received.find(_GREETING_END)) < 0:
            if len(received) > MAX_GREETING:
                raise Refused('it says too much')
            yield b''
        greeting = bytes(received[:end])
        del received[:end + len(_GREETING_END)]
        if not hmac.compare_digest(greeting.split(b'\r\n')[0], self._wanted):
            raise Refused('it does not know the path', _FORBIDDEN)


class _Link:
    """A client, and its device once it is let in."""

    def __init__(self, client: socket.socket, greeting: Greeting) -> None:
        self.client = client
        self.device: int | None = None
        self.welcome = False
        self.deadline = time.monotonic() + GREETING_TIMEOUT
        self.reopen_at = 0.0
        self.to_client = bytearray()
        self.to_device = bytearray()
        self.talk = greeting.meet(self.to_device)

    def drop_device(self) -> None:
        """Close the device; what was not written to it is lost."""
        if self.device is not None:
            os.close(self.device)
            self.device = None
        self.to_device.clear()

    def close(self) -> None:
        """Close both ends."""
        self.drop_device()
        self.client.close()


class Relay:
    """Relays the clients of one listener; one thread does all.

    :param listener: a listening socket; the relay closes it.
    :param open_device: returns a descriptor of the guest's end, or None if
        there is none now. The relay closes it.
    :param lasting: whether there is one device, such as a serial port, that
        comes back when the guest has booted again. Then there is one client
        at a time: a new one takes over. A client that is too slow loses
        output, as a guest must never wait for it. Otherwise each client has a
        device of its own, such as a connection to a VNC server, and is
        disconnected when this ends.
    :param greeting: decides who is let in; None for those who name the path.
    :ivar port: the port on which it listens.
    :ivar path: the secret path.
    """

    def __init__(self, listener: socket.socket,
                 open_device: Callable[[], int | None], *,
                 lasting: bool, greeting: Greeting | None = None) -> None:
        self.port: int = listener.getsockname()[1]
        self.path = f'/{secrets.token_urlsafe(32)}'
        self._greeting = greeting or _PathGreeting(self.path)
        self._listener = listener
        self._open_device = open_device
        self._lasting = lasting
        self._links: list[_Link] = []
        self._closing = False
        # Wakes the thread up.
        self._waker, self._wake = socket.socketpair()
        for end in (listener, self._waker, self._wake):
            end.setblocking(False)
        self._thread = threads.start(self._run, f'relay-{self.port}')

    @property
    def alive(self) -> bool:
        """Whether it listens."""
        return not self._closing and self._thread.is_alive()

    @property
    def in_use(self) -> bool:
        """Whether a client has been let in and is there."""
        return any(link.welcome for link in list(self._links))

    def close(self) -> None:
        """Disconnect the clients and release the port."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._waker.send(b'.')
        self._thread.join(timeout=5)

    # The rest runs in the thread.

    def _run(self) -> None:
        try:
            while not self._closing:
                self._round()
        except Exception:
            LOG.exception('The relay on port %s has failed', self.port)
        finally:
            for link in self._links:
                link.close()
            for end in (self._listener, self._waker, self._wake):
                end.close()

    def _round(self) -> None:
        """Wait until something can be done, and do it."""
        for link in list(self._links):
            self._tend(link)
        # Made anew each time: what is waited for changes all the time, and
        # descriptors are closed and used again.
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            for link in self._links:
                for descriptor, events in self._wanted(link):
                    selector.register(descriptor, events, link)
            ready = selector.select(self._timeout())
        for key, events in ready:
            if key.data is None:
                if key.fileobj is self._listener:
                    self._accept()
            elif key.data in self._links:
                self._move(key.data, key.fd, events)

    def _timeout(self) -> float | None:
        """Return the seconds until something is due; None for never."""
        now = time.monotonic()
        due = [link.deadline if not link.welcome else link.reopen_at
               for link in self._links
               if not link.welcome or link.device is None]
        return max(0.0, min(due) - now) if due else None

    def _tend(self, link: _Link) -> None:
        """Do what is due for a client."""
        now = time.monotonic()
        if not link.welcome:
            if now >= link.deadline:
                self._end(link)
        elif link.device is None and now >= link.reopen_at:
            link.device = self._opened()
            link.reopen_at = now + REOPEN_INTERVAL

    def _opened(self) -> int | None:
        try:
            device = self._open_device()
        except Exception as error:
            LOG.warning('The relay on port %(port)s cannot reach its guest: '
                        '%(error)s', {'port': self.port, 'error': error})
            return None
        if device is not None:
            os.set_blocking(device, False)
        return device

    def _wanted(self, link: _Link) -> Iterator[tuple[int, int]]:
        """Yield what to wait for at each end of a link."""
        events = 0
        if len(link.to_device) < MAX_TO_DEVICE:
            events |= selectors.EVENT_READ
        if link.to_client:
            events |= selectors.EVENT_WRITE
        if events:
            yield link.client.fileno(), events
        if link.device is None:
            return
        events = 0
        if self._lasting or len(link.to_client) < MAX_TO_CLIENT:
            events |= selectors.EVENT_READ
        if link.to_device:
            events |= selectors.EVENT_WRITE
        if events:
            yield link.device, events

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            # It has gone again.
            return
        client.setblocking(False)
        if len(self._links) >= MAX_CLIENTS:
            self._say(client, self._greeting.full)
            client.close()
            return
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A proxy that vanished is noticed.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        link = _Link(client, self._greeting)
        self._links.append(link)
        # It may be for us to speak first.
        self._greet(link)

    def _move(self, link: _Link, descriptor: int, events: int) -> None:
        """Move bytes from or to one end of a link."""
        try:
            if descriptor == link.device:
                self._move_device(link, descriptor, events)
            else:
                self._move_client(link, descriptor, events)
        except BlockingIOError:
            LOG.debug('Not ready after all')
        except OSError:
            if descriptor == link.device:
                # The guest has ended: EIO of a terminal.
                self._device_ended(link)
            else:
                self._end(link)

    def _device_ended(self, link: _Link) -> None:
        """Do without a device, or disconnect its client."""
        if not self._lasting:
            self._end(link)
            return
        link.drop_device()
        # Not at once: its successor is not there yet.
        link.reopen_at = time.monotonic() + REOPEN_INTERVAL

    def _move_device(self, link: _Link, device: int, events: int) -> None:
        if events & selectors.EVENT_READ:
            data = os.read(device, _CHUNK)
            if not data:
                raise ConnectionError
            if len(link.to_client) < MAX_TO_CLIENT:
                link.to_client += data
        if events & selectors.EVENT_WRITE:
            del link.to_device[:os.write(device, link.to_device)]

    def _move_client(self, link: _Link, client: int, events: int) -> None:
        if events & selectors.EVENT_READ:
            data = os.read(client, _CHUNK)
            if not data:
                raise ConnectionError
            link.to_device += data
            if not link.welcome:
                self._greet(link)
            elif link.device is None:
                # What is typed while there is no guest is for nobody.
                link.to_device.clear()
        if events & selectors.EVENT_WRITE and link in self._links:
            del link.to_client[:os.write(client, link.to_client)]

    def _greet(self, link: _Link) -> None:
        """Go on with the greeting of a client; let it in at the end."""
        try:
            for words in link.talk:
                if not words:
                    return
                self._say(link.client, words)
        except Refused as refused:
            LOG.warning('A client of the relay on port %(port)s is refused: '
                        '%(reason)s', {'port': self.port, 'reason': refused})
            self._end(link, refused.words)
            return
        if self._lasting:
            for other in [other for other in self._links if other.welcome]:
                self._end(other, _TAKEN_OVER)
        else:
            link.device = self._opened()
            if link.device is None:
                self._end(link, self._greeting.unavailable)
                return
        link.welcome = True
        self._say(link.client, self._greeting.welcome)

    def _end(self, link: _Link, message: bytes = b'') -> None:
        """Disconnect a client.

        :param message: what to tell it.
        """
        self._say(link.client, message)
        self._links.remove(link)
        link.close()

    @staticmethod
    def _say(client: socket.socket, message: bytes) -> None:
        """Tell a client something short, if it listens.

        A proxy that waits for an answer needs one: Nova's would wait for ever
        for that of a closed connection.
        """
        with contextlib.suppress(OSError):
            client.send(message)


class Relays:
    """The relays of a host, by instance and kind."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._relays: dict[tuple[str, str], Relay] = {}

    def get(self, uuid: str, kind: str, make: Callable[[], Relay]) -> Relay:
        """Return the relay of an instance; make it if there is none.

        :param uuid: the instance's UUID.
        :param kind: a word for what it relays.
        :param make: starts it.
        """
        with self._lock:
            relay = self._relays.get((uuid, kind))
            if relay is None or not relay.alive:
                relay = self._relays[uuid, kind] = make()
            return relay

    def close(self, uuid: str | None = None) -> None:
        """Close the relays of an instance.

        :param uuid: the instance's UUID; None for all instances.
        """
        with self._lock:
            doomed = [key for key in self._relays if uuid in (None, key[0])]
            relays = [self._relays.pop(key) for key in doomed]
        for relay in relays:
            relay.close()
