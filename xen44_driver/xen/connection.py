# SPDX-License-Identifier: Apache-2.0
"""The connection to libvirt: opened, watched, and opened again."""

from collections.abc import Callable
import contextlib
import dataclasses
import threading
from typing import Any
from typing import TypeVar

import libvirt
from oslo_log import log as logging

from xen44_driver.xen import calls
from xen44_driver.xen import errors
from xen44_driver.xen import threads

LOG = logging.getLogger(__name__)
T = TypeVar('T')

# A daemon that does not answer for so long is lost: seconds, times.
_KEEPALIVE_INTERVAL = 5
_KEEPALIVE_COUNT = 6


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """A lifecycle event, in libvirt's numbers."""

    uuid: str
    name: str
    event: int
    detail: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A session was opened."""

    session: 'Session'


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A session broke."""

    session: 'Session'
    reason: str


Message = Lifecycle | Opened | Closed


class _EventLoop:
    """libvirt's event loop: one for the whole process, on a native thread.

    It carries events, keep-alives and the news that a connection closed.
    """

    _lock = threading.Lock()
    _running = False

    @classmethod
    def ensure(cls) -> None:
        """Start it if it does not run yet. Before the first connection."""
        with cls._lock:
            if cls._running:
                return
            # Errors are raised and logged by us; no copy of them on stderr.
            libvirt.registerErrorHandler(lambda _context, _error: None, None)
            libvirt.virEventRegisterDefaultImpl()
            threads.start_native(cls._run, 'libvirt-events')
            cls._running = True

    @staticmethod
    def _run() -> None:
        while True:
            try:
                libvirt.virEventRunDefaultImpl()
            except libvirt.libvirtError:
                # It failed to poll. No logging in a native thread; and no
                # spinning, should it go on.
                threads.sleep_native(1)


class Session:
    """One connection, from its opening until it breaks.

    :ivar raw: libvirt's ``virConnect``.
    """

    def __init__(self, uri: str, post: Callable[[Message], None]) -> None:
        self._uri = uri
        self._post = post
        self._closed = False
        try:
            self.raw = calls.call('connectOpen', libvirt.open, uri, uri=uri)
        except errors.OperationFailed as error:
            # Whatever it is, such as a URI that libvirt does not know.
            raise errors.ConnectionFailed(uri, error.message) from error
        try:
            self.call('connectDomainEventRegisterAny', self._watch)
        except errors.XenError as error:
            self.close()
            raise errors.ConnectionFailed(uri, str(error)) from error

    def _watch(self) -> None:
        with contextlib.suppress(libvirt.libvirtError):
            # A daemon may know no keep-alive. Then a broken socket still
            # tells, only a silent daemon does not.
            self.raw.setKeepAlive(_KEEPALIVE_INTERVAL, _KEEPALIVE_COUNT)
        self.raw.registerCloseCallback(self._on_close, None)
        self.raw.domainEventRegisterAny(
            None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle,
            None)

    # These two run in libvirt's event loop, a native thread: they may post
    # and nothing else.

    def _on_close(self, _raw: Any, reason: int, _opaque: None) -> None:
        self._break(_CLOSE_REASONS.get(reason, f'reason {reason}'))

    def _on_lifecycle(self, _raw: Any, domain: Any, event: int, detail: int,
                      _opaque: None) -> None:
        self._post(Lifecycle(uuid=domain.UUIDString(), name=domain.name(),
                             event=event, detail=detail))

    def _break(self, reason: str) -> None:
        if not self._closed:
            self._closed = True
            self._post(Closed(session=self, reason=reason))

    @property
    def alive(self) -> bool:
        """Whether it can be used, as far as anybody noticed.

        Asks libvirt's client library, not the daemon.
        """
        if self._closed:
            return False
        try:
            alive = self.raw.isAlive()
        except libvirt.libvirtError:
            alive = False
        if not alive:
            self._break('it is no longer alive')
        return not self._closed

    def call(self, operation: str, function: Callable[..., T], *args: Any,
             domain: str | None = None) -> T:
        """Call libvirt: see :func:`xen44_driver.xen.calls.call`."""
        try:
            return calls.call(operation, function, *args, uri=self._uri,
                              domain=domain)
        except errors.ConnectionFailed as error:
            self._break(error.reason)
            raise

    def lookup(self, uuid: str) -> Any:
        """Find a domain.

        :returns: libvirt's ``virDomain``, with the id that it has now.
        :raises DomainNotFound: there is none.
        """
        return self.call('domainLookupByUUIDString',
                         self.raw.lookupByUUIDString, uuid, domain=uuid)

    def close(self) -> None:
        """Let go of it, whatever it still is."""
        self._closed = True
        for step in (self.raw.unregisterCloseCallback, self.raw.close):
            # Of a broken connection nothing more is to be had.
            with contextlib.suppress(libvirt.libvirtError):
                threads.run(step)


_CLOSE_REASONS = {
    libvirt.VIR_CONNECT_CLOSE_REASON_ERROR: 'an error on its socket',
    libvirt.VIR_CONNECT_CLOSE_REASON_EOF: 'libvirt closed it',
    libvirt.VIR_CONNECT_CLOSE_REASON_KEEPALIVE: 'libvirt did not answer',
    libvirt.VIR_CONNECT_CLOSE_REASON_CLIENT: 'we closed it',
}


class Connection:
    """Sessions, one after the other.

    :param uri: such as ``xen:///system``.
    :param post: is told of what happens; called from any thread, native ones
        included, so it may only hand over.
    """

    def __init__(self, uri: str, post: Callable[[Message], None]) -> None:
        self.uri = uri
        self._post = post
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._wanted = True

    @property
    def connected(self) -> bool:
        """Whether there is a session, as far as anybody noticed."""
        session = self._session
        return session is not None and session.alive

    def session(self) -> Session:
        """The session; one that broke is opened again, by one attempt.

        :raises ConnectionFailed: libvirt cannot be reached.
        """
        session = self._session
        if session is not None and session.alive:
            return session
        with self._lock:
            session = self._session
            if session is not None and session.alive:
                return session
            if not self._wanted:
                raise errors.ConnectionFailed(self.uri, 'it was closed')
            if session is not None:
                session.close()
            _EventLoop.ensure()
            self._session = Session(self.uri, self._post)
            LOG.info('Connected to libvirt at %s', self.uri)
            self._post(Opened(session=self._session))
            return self._session

    def twice(self, ask: Callable[[Session], T]) -> T:
        """Ask something, and once more if the connection broke meanwhile.

        For questions only: of a change nobody knows whether it was made.
        """
        session = self.session()
        try:
            return ask(session)
        except errors.ConnectionFailed:
            LOG.warning('The connection to libvirt at %s broke during a '
                        'question; asking again', self.uri)
            return ask(self.session())

    def close(self) -> None:
        """Close it for good."""
        with self._lock:
            self._wanted = False
            if self._session is not None:
                self._session.close()
                self._session = None
