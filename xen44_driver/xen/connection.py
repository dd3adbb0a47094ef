# SPDX-License-Identifier: Apache-2.0
"""The connection to libvirt, which is opened again after it breaks."""

from __future__ import annotations

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

# Interval in seconds and number of keep-alive messages after which a daemon
# that does not answer is considered lost. libvirtd does not answer while libxl
# builds a domain, for more than a minute on a busy host. If the connection
# were given up then, the start would fail although the domain starts.
_KEEPALIVE_INTERVAL = 5
_KEEPALIVE_COUNT = 24
# Seconds that a caller waits for a connection to open, without and with
# insist=True. A daemon that systemd starts on demand takes a while.
_OPEN_TIMEOUT = 10.0
_INSIST_TIMEOUT = 60.0
_CLOSE_TIMEOUT = 5.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """A lifecycle event, with libvirt's numbers.

    :ivar session: the session that received it.
    :ivar domain: libvirt's ``virDomain``, with the id that the domain had at
        the time of the event.
    """

    session: Session
    domain: Any
    uuid: str
    name: str
    event: int
    detail: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A session was opened."""

    session: Session


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A session broke."""

    session: Session
    reason: str


Message = Lifecycle | Opened | Closed
_Post = Callable[[Message], None]


class _EventLoop:
    """libvirt's event loop: one for the whole process, on a native thread.

    It handles events, keep-alive messages and closed connections.
    """

    _lock = threading.Lock()
    _running = False

    @classmethod
    def ensure(cls) -> None:
        """Start the loop if necessary; call this before connecting."""
        with cls._lock:
            if cls._running:
                return
            # libvirt must not print errors to stderr: they are raised here.
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
                # Polling failed. A native thread must not log. The pause
                # avoids a busy loop if it fails again.
                threads.sleep_native(1)


class Session:
    """One connection, from its opening until it breaks.

    :param uri: libvirt's URI of the host.
    :param post: receives messages. It is called in any thread, including
        native ones, so it must only put the message into a queue.
    :raises ConnectionFailed: the connection cannot be opened.
    :ivar raw: libvirt's ``virConnect``.
    """

    def __init__(self, uri: str, post: _Post) -> None:
        self._uri = uri
        self._post = post
        self._closed = False
        self._domains: dict[str, Any] = {}
        try:
            self.raw = calls.call('connectOpen', libvirt.open, uri, uri=uri)
        except errors.OperationFailed as error:
            # Any other error too, such as a URI that libvirt does not accept.
            raise errors.ConnectionFailed(uri, error.message) from error
        try:
            self.call('connectDomainEventRegisterAny', self._watch)
        except errors.XenError as error:
            self.close()
            raise errors.ConnectionFailed(uri, str(error)) from error

    def _watch(self) -> None:
        with contextlib.suppress(libvirt.libvirtError):
            # A daemon may not support keep-alive. Then a broken socket is
            # still noticed, but a daemon that hangs is not.
            self.raw.setKeepAlive(_KEEPALIVE_INTERVAL, _KEEPALIVE_COUNT)
        self.raw.registerCloseCallback(self._on_close, None)
        self.raw.domainEventRegisterAny(
            None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle,
            None)

    # The next two run in libvirt's event loop, a native thread, so they may
    # only post messages.

    def _on_close(self, _raw: Any, reason: int, _opaque: None) -> None:
        self._break(_CLOSE_REASONS.get(reason, f'reason {reason}'))

    def _on_lifecycle(self, _raw: Any, domain: Any, event: int, detail: int,
                      _opaque: None) -> None:
        self._post(Lifecycle(
            session=self, domain=domain, uuid=domain.UUIDString(),
            name=domain.name(), event=event, detail=detail))

    def _break(self, reason: str) -> None:
        if not self._closed:
            self._closed = True
            self._post(Closed(session=self, reason=reason))

    @property
    def alive(self) -> bool:
        """Whether the connection is not known to be broken.

        This asks libvirt's client library, not the daemon.
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
        """Call libvirt; see :func:`xen44_driver.xen.calls.call`."""
        try:
            return calls.call(operation, function, *args, uri=self._uri,
                              domain=domain)
        except errors.ConnectionFailed as error:
            if not self._survived(error):
                self._break(error.reason)
                raise
            raise errors.OperationFailed(
                operation, domain, None, error.reason) from error

    def _survived(self, error: errors.ConnectionFailed) -> bool:
        """Return whether the connection works in spite of an error.

        If a call fails without an error message, libvirtd answers with an
        error of its transport, as for a broken connection.
        """
        cause = error.__cause__
        return (isinstance(cause, libvirt.libvirtError)
                and cause.get_error_code() == libvirt.VIR_ERR_INTERNAL_ERROR
                and self.alive)

    def lookup(self, uuid: str) -> Any:
        """Look up a domain in libvirt.

        :returns: libvirt's ``virDomain``, with the domain's current id.
        :raises DomainNotFound: there is no such domain.
        """
        found = self.call('domainLookupByUUIDString',
                          self.raw.lookupByUUIDString, uuid, domain=uuid)
        self.keep(uuid, found)
        return found

    def keep(self, uuid: str, domain: Any) -> None:
        """Keep a ``virDomain`` for :meth:`domain`."""
        self._domains[uuid] = domain

    def forget(self, uuid: str) -> None:
        """Drop the ``virDomain`` of a domain that no longer exists."""
        self._domains.pop(uuid, None)

    def domain(self, uuid: str) -> Any:
        """Return a ``virDomain``, which is looked up only once.

        Its id may be outdated. This does not matter for calls, as libvirt
        finds domains by UUID.

        :raises DomainNotFound: there is no such domain.
        """
        return self._domains.get(uuid) or self.lookup(uuid)

    def close(self) -> None:
        """Close the connection, broken or not."""
        self._closed = True
        for step in (self.raw.unregisterCloseCallback, self.raw.close):
            # Errors are expected if the connection is broken.
            with contextlib.suppress(libvirt.libvirtError):
                threads.run(step)


_CLOSE_REASONS = {
    libvirt.VIR_CONNECT_CLOSE_REASON_ERROR: 'an error on its socket',
    libvirt.VIR_CONNECT_CLOSE_REASON_EOF: 'libvirt closed it',
    libvirt.VIR_CONNECT_CLOSE_REASON_KEEPALIVE: 'libvirt did not answer',
    libvirt.VIR_CONNECT_CLOSE_REASON_CLIENT: 'we closed it',
}


class _Attempt:
    """An attempt to open the connection, which runs in a thread."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.session: Session | None = None
        self.reason = 'it was not opened'


class Connection:
    """The connection to a host, made of one session after another.

    :param uri: libvirt's URI of the host, such as ``xen:///system``.
    :param post: see :class:`Session`.
    """

    def __init__(self, uri: str, post: _Post) -> None:
        self.uri = uri
        self._post = post
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._attempt: _Attempt | None = None
        # Why the last attempt failed; None if it succeeded.
        self._failed: str | None = None
        self._wanted = True

    @property
    def connected(self) -> bool:
        """Whether there is a session that is not known to be broken."""
        session = self._session
        return session is not None and session.alive

    def session(self, *, insist: bool = False) -> Session:
        """Return the session; open a new one if it broke.

        If the last attempt to open one failed, this fails at once, until a
        caller with ``insist=True`` succeeds.

        :param insist: try to open one in any case, and wait longer.
        :raises ConnectionFailed: libvirt cannot be reached.
        """
        session = self._session
        if session is not None and session.alive:
            return session
        attempt = self._begin(insist)
        if not attempt.done.wait(
                _INSIST_TIMEOUT if insist else _OPEN_TIMEOUT):
            with self._lock:
                if self._attempt is attempt:
                    self._failed = attempt.reason = 'it does not answer'
        if attempt.session is None:
            raise errors.ConnectionFailed(self.uri, attempt.reason)
        return attempt.session

    def _begin(self, insist: bool) -> _Attempt:
        """Begin an attempt, or return the one that is running."""
        with self._lock:
            session = self._session
            if session is not None and session.alive:
                attempt = _Attempt()
                attempt.session = session
                attempt.done.set()
                return attempt
            if not self._wanted:
                raise errors.ConnectionFailed(self.uri, 'it was closed')
            if self._failed is not None and not insist:
                raise errors.ConnectionFailed(self.uri, self._failed)
            if self._attempt is None:
                self._attempt = _Attempt()
                # In a thread: libvirt's open() never returns if the daemon
                # hangs.
                threads.start(self._open, 'libvirt-open')
            return self._attempt

    def _open(self) -> None:
        attempt, broken = self._attempt, self._session
        if attempt is None:
            return
        session = None
        try:
            if broken is not None:
                broken.close()
            _EventLoop.ensure()
            session = Session(self.uri, self._post)
        except errors.ConnectionFailed as error:
            attempt.reason = error.reason
        except Exception as error:
            LOG.exception('Opening the connection to libvirt failed')
            attempt.reason = str(error)
        with self._lock:
            self._attempt = None
            self._failed = None if session else attempt.reason
            wanted = self._wanted
            if wanted:
                self._session = attempt.session = session
        if session is not None and wanted:
            LOG.debug('Opened a connection to libvirt at %s', self.uri)
            self._post(Opened(session=session))
        elif session is not None:
            session.close()
        attempt.done.set()

    def twice(self, ask: Callable[[Session], T]) -> T:
        """Ask libvirt something; ask once more if the connection broke.

        Use this only for questions. After a broken connection it is unknown
        whether a change was made, so changes must not be repeated.
        """
        session = self.session()
        try:
            return ask(session)
        except errors.ConnectionFailed:
            LOG.debug('The connection to libvirt at %s broke during a '
                      'question; asking again', self.uri)
            return ask(self.session())

    def close(self) -> None:
        """Close the connection for good; do not wait long for libvirt."""
        with self._lock:
            self._wanted = False
            session, self._session = self._session, None
        if session is None:
            return
        closed = threading.Event()

        def close() -> None:
            session.close()
            closed.set()

        threads.start(close, 'libvirt-close')
        closed.wait(_CLOSE_TIMEOUT)
