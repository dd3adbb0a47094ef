# SPDX-License-Identifier: Apache-2.0
"""Report events to callbacks, which may be slow."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import threading

from oslo_log import log as logging

from xen44_driver.xen import events
from xen44_driver.xen import threads
from xen44_driver.xen.events import DomainEvent
from xen44_driver.xen.events import DomainState

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Connection:
    """The connection was lost, or is back."""

    connected: bool
    reason: str


class Teller:
    """Calls the callbacks, one at a time, in a thread of its own.

    A callback may block for minutes. The queue is bounded meanwhile: a
    domain's events that are no longer true are dropped, and only the last one
    of each kind is kept. If a connection was lost and is back, neither is
    reported. All others are reported in their order.

    :param on_event: receives each event.
    :param on_connection: receives whether there is a connection, and the
        reason if there is none.
    """

    def __init__(self, on_event: Callable[[DomainEvent], None] | None,
                 on_connection: Callable[[bool, str], None] | None) -> None:
        self._on_event = on_event
        self._on_connection = on_connection
        self._waiting: list[DomainEvent | _Connection] = []
        self._wake = threading.Condition()
        self._running = False
        self._closed = False

    def event(self, event: DomainEvent, *, gone: bool) -> None:
        """Queue an event; never wait.

        :param gone: whether the domain no longer exists.
        """
        now: DomainState | None = None if gone else event.state
        with self._wake:
            self._waiting = [
                other for other in self._waiting
                if not isinstance(other, DomainEvent)
                or other.uuid != event.uuid
                or (other.kind is not event.kind
                    and events.agrees(other.kind, now))]
            self._add(event)

    def connection(self, connected: bool, reason: str) -> None:
        """Queue the loss or the return of the connection; never wait."""
        with self._wake:
            untold = [other for other in self._waiting
                      if isinstance(other, _Connection)]
            if untold:
                self._waiting.remove(untold[-1])
            else:
                self._add(_Connection(connected=connected, reason=reason))

    def close(self) -> None:
        """Call no callback any more."""
        with self._wake:
            self._closed = True
            self._waiting.clear()
            self._wake.notify()

    def _add(self, item: DomainEvent | _Connection) -> None:
        if self._closed:
            return
        self._waiting.append(item)
        self._wake.notify()
        if not self._running:
            self._running = True
            threads.start(self._run, 'xen-teller')

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._closed:
                    self._wake.wait()
                if self._closed:
                    return
                item = self._waiting.pop(0)
            try:
                self._tell(item)
            except Exception:
                LOG.exception('A callback failed; %s was not taken', item)

    def _tell(self, item: DomainEvent | _Connection) -> None:
        if isinstance(item, DomainEvent):
            if self._on_event is not None:
                self._on_event(item)
        elif self._on_connection is not None:
            self._on_connection(item.connected, item.reason)
