# SPDX-License-Identifier: Apache-2.0
"""Keep the states of all domains up to date and report their events."""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import threading
import time
from typing import Any

import libvirt
from oslo_log import log as logging

from xen44_driver.xen import cache
from xen44_driver.xen import errors
from xen44_driver.xen import events
from xen44_driver.xen import teller
from xen44_driver.xen import threads
from xen44_driver.xen.connection import Closed
from xen44_driver.xen.connection import Connection
from xen44_driver.xen.connection import Lifecycle
from xen44_driver.xen.connection import Opened
from xen44_driver.xen.connection import Session
from xen44_driver.xen.domain import metadata
from xen44_driver.xen.events import DomainEvent
from xen44_driver.xen.events import DomainRecord
from xen44_driver.xen.events import DomainState
from xen44_driver.xen.events import EventKind

LOG = logging.getLogger(__name__)

# Seconds between attempts to reach libvirt again: the first pause, which is
# doubled each time, and the longest.
_RETRY_FIRST = 1.0
_RETRY_LAST = 10.0
# How often to ask again if another thread stored an answer meanwhile; then
# that answer is used.
_OBSERVE_ATTEMPTS = 5
# Seconds after which a domain that may be rebooting is asked about again, and
# after which it is assumed to be off. A reboot takes up to 20 s on slow hosts.
_AGAIN_INTERVAL = 1.0
_AGAIN_LAST = 120.0
# Seconds that libvirt has to close a connection.
_CLOSE_TIMEOUT = 5.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Between:
    """A domain that may be rebooting.

    :ivar before: its record before.
    :ivar again: when to ask about it again.
    :ivar last: when to assume that it is off.
    """

    before: DomainRecord | None
    again: float
    last: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Finished:
    """An operation on a domain has ended."""

    uuid: str


_Message = Lifecycle | Opened | Closed | _Finished


class Watch:
    """Connects to libvirt, caches domains' states and reports events.

    One thread keeps the cache up to date; it waits only for libvirt. Another
    one calls the callbacks, see :class:`teller.Teller`.

    A domain that reboots must not be taken for off. During a reboot, libvirt's
    libxl driver destroys the domain and creates it again; for these seconds it
    reports the domain as off. A libvirt job runs on the domain all this time,
    and the STOPPED event comes only when the job has ended, after a reboot as
    well as after a shutdown. So a domain that was on is off only if libvirt
    says so and no job runs.

    :param uri: libvirt's URI of the host, such as ``xen:///system``.
    :param event_callback: see :class:`xen44_driver.xen.host.Host`.
    :param connection_callback: see :class:`xen44_driver.xen.host.Host`.
    :param owner: see :class:`xen44_driver.xen.host.Host`.
    :ivar connection: the connection to libvirt.
    """

    def __init__(self, uri: str, *,
                 event_callback: Callable[[DomainEvent], None] | None,
                 connection_callback: Callable[[bool, str], None] | None,
                 owner: metadata.Owner = metadata.Owner.NOVA) -> None:
        self._owner = owner
        self._mailbox: threads.Mailbox[_Message | None] = threads.Mailbox()
        self.connection = Connection(uri, self._mailbox.put)
        self._cache = cache.StateCache()
        self._teller = teller.Teller(event_callback, connection_callback)
        self._thread: threading.Thread | None = None
        self._closing = False
        self._known = False
        # By UUID: operations that are running, own definitions whose events
        # have not come yet, and domains that may be rebooting.
        self._lock = threading.Lock()
        self._operations: collections.Counter[str] = collections.Counter()
        self._definitions: collections.Counter[str] = collections.Counter()
        self._between: dict[str, _Between] = {}
        # Used only by the thread: the session in which all domains were asked
        # for, whether the loss of the connection was reported, when to try
        # again and after which delay, the last problem, and events that wait
        # for the end of an operation.
        self._seen: Session | None = None
        self._lost = False
        self._retry_at: float | None = None
        self._delay = 0.0
        self._problem = ''
        self._deferred: dict[str, list[Lifecycle]] = {}

    def start(self) -> None:
        """Open the connection and ask for the states of all domains.

        From now on, the connection is opened again whenever it breaks.

        :raises ConnectionFailed: libvirt cannot be reached now.
        """
        session = self.connection.session(insist=True)
        self._refresh()
        self._seen = session
        self._known = True
        LOG.info('Connected to libvirt at %s', self.connection.uri)
        if self._thread is None:
            self._thread = threads.start(self._run, 'xen-watch')

    def close(self) -> None:
        """Close the connection for good; report no more events.

        This does not wait for libvirt if it hangs, as nova-compute must be
        able to end.
        """
        self._closing = True
        self._known = False
        self._mailbox.put(None)  # wakes the thread
        self._teller.close()
        closer = threads.start(self.connection.close, 'libvirt-close')
        closer.join(_CLOSE_TIMEOUT)
        if closer.is_alive():
            LOG.warning('libvirt at %s did not let go of the connection '
                        'within %s s', self.connection.uri, _CLOSE_TIMEOUT)

    # The cache

    def all(self) -> Mapping[str, DomainRecord]:
        """Return the records of all domains, by UUID.

        :raises ConnectionFailed: libvirt has never been asked, so nothing is
            known. Nova must not take this for a host without domains.
        """
        self._check_known()
        return self._cache.all()

    def get(self, uuid: str) -> DomainRecord | None:
        """Return the record of a domain, or None if there is none.

        :raises ConnectionFailed: see :meth:`all`.
        """
        self._check_known()
        return self._cache.get(uuid)

    def _check_known(self) -> None:
        if not self._known:
            raise errors.ConnectionFailed(
                self.connection.uri, 'it is closed, or not opened yet')

    # Operations

    @contextlib.contextmanager
    def operation(self, uuid: str) -> Iterator[int]:
        """Run the block, an operation on a domain with a known result.

        The domain's events wait until the operation has ended. Most of them
        then agree with the cache, which saves asking libvirt.

        :returns: a ticket from before the operation, for :meth:`learn`.
        """
        with self._lock:
            self._operations[uuid] += 1
        try:
            yield self._cache.ticket()
        finally:
            with self._lock:
                self._operations[uuid] -= 1
                if not self._operations[uuid]:
                    del self._operations[uuid]
            self._mailbox.put(_Finished(uuid=uuid))

    @contextlib.contextmanager
    def definition(self, uuid: str) -> Iterator[int]:
        """Run the block, an :meth:`operation` that defines a domain.

        When its event comes, the domain's metadata need not be asked for.
        """
        with self.operation(uuid) as ticket:
            self._count_definition(uuid, 1)
            try:
                yield ticket
            except BaseException:
                self._count_definition(uuid, -1)
                raise

    def _count_definition(self, uuid: str, number: int) -> bool:
        """Count own definitions whose events have not come yet.

        :param number: 1 for a definition, -1 for its event.
        :returns: False for an event without an own definition.
        """
        with self._lock:
            before = self._definitions[uuid]
            self._definitions[uuid] = max(before + number, 0)
            if not self._definitions[uuid]:
                del self._definitions[uuid]
            return before > 0

    def learn(self, uuid: str, record: DomainRecord | None,
              ticket: int) -> None:
        """Store the result of an operation in the cache.

        :param ticket: a ticket from before the operation. If the domain's
            record was updated since, libvirt is asked instead.
        """
        if (not self._cache.offer(uuid, record, ticket)
                and self._cache.get(uuid) != record):
            self.observe(uuid)

    # Questions to libvirt

    def observe(self, uuid: str, *, believe: bool = False
                ) -> DomainRecord | None:
        """Ask libvirt about a domain and store the answer.

        :param believe: believe that the domain is off if libvirt says so, even
            if a job runs.
        :returns: the domain's record; None if there is no such domain.
        """
        return self._learn(uuid, lambda: self.connection.twice(
            lambda session: self._ask(
                session, uuid, lambda: session.lookup(uuid), believe)))

    def _learn(self, uuid: str, ask: Callable[[], DomainRecord | None]
               ) -> DomainRecord | None:
        """Ask and store the answer; repeat if another was stored meanwhile."""
        for _attempt in range(_OBSERVE_ATTEMPTS):
            ticket = self._cache.ticket()
            record = ask()
            if self._cache.offer(uuid, record, ticket):
                return record
        return self._cache.get(uuid)

    def _ask(self, session: Session, uuid: str,
             find: Callable[[], Any], believe: bool = False
             ) -> DomainRecord | None:
        try:
            return self._ask_domain(session, find(), believe)
        except errors.DomainNotFound:
            session.forget(uuid)
            return None

    def _ask_domain(self, session: Session, domain: Any,
                    believe: bool = False) -> DomainRecord:
        """Ask for a domain's state.

        :param domain: libvirt's ``virDomain`` with the domain's current id.
        """
        uuid = domain.UUIDString()
        before = self._cache.get(uuid)
        state = events.state_of(*session.call(
            'domainGetState', domain.state, 0, domain=uuid))
        id_ = domain.ID() if domain.ID() > 0 else None
        if state.is_off:
            was_on = before is None or not before.state.is_off
            between = not believe and (id_ is not None or (
                was_on and self._has_job(session, domain)))
            if between:
                self._ask_later(uuid, before)
                if before is not None and was_on:
                    return before
                state = DomainState.RUNNING
            else:
                id_ = None
        return DomainRecord(
            uuid=uuid, name=domain.name(), state=state, id=id_,
            ours=(before.ours if before is not None
                  else self._is_ours(session, domain)))

    def _ask_later(self, uuid: str, before: DomainRecord | None) -> None:
        LOG.debug('Domain %s is between off and on', uuid)
        now = time.monotonic()
        with self._lock:
            self._between.setdefault(uuid, _Between(
                before=before, again=now + _AGAIN_INTERVAL,
                last=now + _AGAIN_LAST))
        self._mailbox.put(None)  # wakes the thread, which asks again in time

    def _has_job(self, session: Session, domain: Any) -> bool:
        try:
            job = session.call('domainGetJobInfo', domain.jobInfo,
                               domain=domain.UUIDString())
        except errors.NotSupported:
            return False
        return bool(job[0] != libvirt.VIR_DOMAIN_JOB_NONE)

    def _is_ours(self, session: Session, domain: Any) -> bool:
        """Ask whether a domain has this driver's metadata."""
        try:
            session.call('domainGetMetadata', domain.metadata,
                         libvirt.VIR_DOMAIN_METADATA_ELEMENT,
                         self._owner.value, 0, domain=domain.UUIDString())
        except errors.OperationFailed as error:
            if error.code == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
                return False
            LOG.warning('%s; it is taken for one of ours', error)
        return True

    def _refresh(self) -> Mapping[str, DomainRecord | None]:
        """Ask libvirt about all domains and store the answers.

        :returns: the old records of the domains that changed, by UUID.
        """
        ticket = self._cache.ticket()
        return self._cache.offer_all(
            self.connection.twice(self._ask_all), ticket)

    def _ask_all(self, session: Session) -> list[DomainRecord]:
        domains = session.call('connectListAllDomains',
                               session.raw.listAllDomains, 0)
        records = []
        for domain in domains:
            if domain.ID() == 0:
                continue  # dom0 is not a guest
            session.keep(domain.UUIDString(), domain)
            try:
                records.append(self._ask_domain(session, domain))
            except errors.DomainNotFound:
                continue  # it was undefined meanwhile
            except errors.OperationFailed as error:
                # The failure for one domain must not affect the others.
                LOG.warning('%s', error)
                uuid = domain.UUIDString()
                records.append(self._cache.get(uuid) or DomainRecord(
                    uuid=uuid, name=domain.name(), state=DomainState.NOSTATE,
                    ours=self._is_ours(session, domain)))
        return records

    # The thread that keeps the cache

    def _run(self) -> None:
        while True:
            message = self._mailbox.get(self._time_left())
            if self._closing:
                return
            try:
                self._take(message)
                self._take_due()
            except errors.ConnectionFailed as error:
                self._lose(error.reason)
                self._try_later()
            except Exception as error:
                # The thread must not end, whatever happened, and the cache
                # must become correct again: ask about all domains.
                self._seen = None
                if str(error) != self._problem:
                    self._problem = str(error)
                    LOG.warning(
                        'Watching domains failed, trying again: %s', error,
                        exc_info=not isinstance(error, errors.XenError))
                self._try_later()

    def _time_left(self) -> float | None:
        """Return the seconds until something is due, or None."""
        with self._lock:
            due = [between.again for between in self._between.values()]
        if self._retry_at is not None:
            due.append(self._retry_at)
        return max(min(due) - time.monotonic(), 0) if due else None

    def _try_later(self) -> None:
        self._delay = min(max(self._delay * 2, _RETRY_FIRST), _RETRY_LAST)
        self._retry_at = time.monotonic() + self._delay

    def _take(self, message: _Message | None) -> None:
        match message:
            case Lifecycle():
                with self._lock:
                    wait = message.uuid in self._operations
                if wait:
                    self._deferred.setdefault(message.uuid, []).append(message)
                else:
                    self._handle(message)
            case _Finished():
                with self._lock:
                    wait = message.uuid in self._operations
                if not wait:
                    for event in self._deferred.pop(message.uuid, ()):
                        self._handle(event)
            case Closed():
                seen = self._seen
                if seen is None or seen is message.session or not seen.alive:
                    self._lose(message.reason)
                    self._try_later()
            case Opened():
                self._catch_up()

    def _take_due(self) -> None:
        now = time.monotonic()
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            self._catch_up()
        with self._lock:
            due = {uuid: between for uuid, between in self._between.items()
                   if now >= between.again}
            for uuid in due:
                del self._between[uuid]
        for uuid, between in due.items():
            self._ask_again(uuid, between)

    def _ask_again(self, uuid: str, between: _Between) -> None:
        """Ask again about a domain that may be rebooting."""
        after = self.observe(uuid, believe=time.monotonic() >= between.last)
        with self._lock:
            if uuid in self._between:  # it may still be rebooting
                self._between[uuid] = dataclasses.replace(
                    between, again=time.monotonic() + _AGAIN_INTERVAL)
                return
        self._tell_between(between.before, after)

    def _lose(self, reason: str) -> None:
        if self._lost:
            return
        self._lost = True
        LOG.warning('Lost the connection to libvirt at %s: %s. It is opened '
                    'again as soon as libvirt answers', self.connection.uri,
                    reason)
        self._teller.connection(False, reason)

    def _catch_up(self) -> None:
        """Open the connection if necessary; report what was missed."""
        session = self.connection.session(insist=True)
        if session is not self._seen:
            with self._lock:
                # Their events will not come through this session.
                self._definitions.clear()
            for uuid, before in self._refresh().items():
                self._tell_between(before, self._cache.get(uuid), missed=True)
            self._seen = session
        self._retry_at, self._delay, self._problem = None, 0.0, ''
        if self._lost:
            self._lost = False
            LOG.info('The connection to libvirt at %s is back',
                     self.connection.uri)
            self._teller.connection(True, '')

    def _handle(self, message: Lifecycle) -> None:
        """Update the cache after an event; report the event if it is true."""
        kind = events.kind_of(message.event, message.detail)
        if kind is None:
            return
        uuid = message.uuid
        before = self._cache.get(uuid)
        own = kind is EventKind.DEFINED and self._count_definition(uuid, -1)
        if kind is EventKind.DEFINED and before is not None:
            after: DomainRecord | None = (
                before if own else self._ask_owner(message, before))
        elif _is_known(kind, message.domain.ID(), before):
            after = before
        else:
            after = self.observe(uuid)
        if events.agrees(kind, after.state if after else None):
            with self._lock:
                self._between.pop(uuid, None)
            self._tell(kind, after, before)
        else:
            LOG.debug('Domain %s: %s came late, it is %s', uuid,
                      kind.value, after.state.value if after else 'gone')

    def _ask_owner(self, message: Lifecycle,
                   before: DomainRecord) -> DomainRecord | None:
        """Ask whether a redefined domain has this driver's metadata.

        The event DEFINED says nothing about the domain's state.
        """
        uuid = message.uuid

        def ask(session: Session) -> DomainRecord | None:
            known = self._cache.get(uuid) or before
            try:
                return dataclasses.replace(known, ours=self._is_ours(
                    session, session.domain(uuid)))
            except errors.DomainNotFound:
                return None

        return self._learn(uuid, lambda: self.connection.twice(ask))

    def _tell_between(self, before: DomainRecord | None,
                      after: DomainRecord | None, *,
                      missed: bool = False) -> None:
        for kind in events.between(before, after, missed=missed):
            self._tell(kind, after, before)

    def _tell(self, kind: EventKind, after: DomainRecord | None,
              before: DomainRecord | None) -> None:
        record = after or before
        if record is None or not record.ours:
            return
        event = DomainEvent(
            uuid=record.uuid, name=record.name, kind=kind,
            state=after.state if after else DomainState.NOSTATE)
        LOG.debug('Domain %s (%s): %s, now %s', event.uuid, event.name,
                  kind.value, event.state.value)
        self._teller.event(event, gone=after is None)


def _is_known(kind: EventKind, id_: int, record: DomainRecord | None) -> bool:
    """Return whether an event agrees with the record, so nothing is asked.

    Later changes of the domain have events of their own.

    :param id_: the domain's id at the time of the event.
    """
    if not events.agrees(kind, record.state if record else None):
        return False
    return record is None or record.state.is_off or (
        record.state is not DomainState.NOSTATE and record.id == id_)
