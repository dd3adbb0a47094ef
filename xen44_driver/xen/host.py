# SPDX-License-Identifier: Apache-2.0
"""The host: a connection to libvirt, and all that is known through it."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import threading
from typing import Any

import libvirt
from oslo_log import log as logging

from xen44_driver.xen import cache
from xen44_driver.xen import capabilities
from xen44_driver.xen import errors
from xen44_driver.xen import events
from xen44_driver.xen import threads
from xen44_driver.xen.connection import Closed
from xen44_driver.xen.connection import Connection
from xen44_driver.xen.connection import Lifecycle
from xen44_driver.xen.connection import Message
from xen44_driver.xen.connection import Opened
from xen44_driver.xen.connection import Session
from xen44_driver.xen.domain import xml
from xen44_driver.xen.events import DomainEvent
from xen44_driver.xen.events import DomainRecord
from xen44_driver.xen.events import DomainState
from xen44_driver.xen.events import EventKind
from xen44_driver.xen.guest import Guest

__all__ = [
    'MIN_LIBVIRT', 'MIN_XEN', 'DomainEvent', 'DomainRecord', 'DomainState',
    'EventKind', 'Host', 'HostMemory', 'HostVersions',
]

LOG = logging.getLogger(__name__)

#: Debian 12's, the oldest whose source was read for this driver. The XML
#: needs 6.3 (maxEventChannels), the event loop nothing newer.
MIN_LIBVIRT = (9, 0, 0)
#: The first Xen with FIFO event channels, which large hosts need. PVH came
#: in 4.10: whether this host has it, its capabilities say.
MIN_XEN = (4, 4, 0)

# Seconds between attempts to reach libvirt again: doubled from the first
# to the last.
_RETRY_FIRST = 1.0
_RETRY_LAST = 10.0
# Another answer can come before ours that often before we take that one.
_OBSERVE_ATTEMPTS = 5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostVersions:
    """What runs there.

    :param libvirt: of the daemon: major, minor, release.
    :param xen: of the hypervisor: major, minor, 0 (libvirt tells no third).
    """

    libvirt: tuple[int, int, int]
    xen: tuple[int, int, int]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostMemory:
    """The host's memory, in MiB.

    :param total_mib: what Xen has to give.
    :param dom0_mib: the most that dom0 may take of it.
    :param free_mib: what nobody has now.
    """

    total_mib: int
    dom0_mib: int
    free_mib: int


class Host:
    """A Xen host.

    What domains there are and what they do is always known here: filled when
    the connection is opened, kept by libvirt's events, filled anew when
    libvirtd comes back. Asking for it costs no call.

    :param uri: such as ``xen:///system``.
    :param event_callback: told of each event of a domain that is still true
        when it arrives, one after the other, in a thread of its own: a native
        one, or a green one under eventlet.
    """

    def __init__(self, uri: str, *, event_callback:
                 Callable[[DomainEvent], None] | None = None) -> None:
        self.uri = uri
        self._callback = event_callback
        self._mailbox: threads.Mailbox[Message | None] = threads.Mailbox()
        self._closing = False
        self._connection = Connection(uri, self._mailbox.put)
        self._cache = cache.StateCache()
        self._dispatcher: threading.Thread | None = None
        # The session in which all domains were asked for.
        self._seen: Session | None = None
        # Facts of the host that hold as long as the session does.
        self._facts: tuple[Session, dict[str, Any]] | None = None

    # The connection

    def connect(self) -> None:
        """Open the connection and learn of every domain.

        From here on the connection is watched, and opened again when libvirt
        comes back.

        :raises ConnectionFailed: libvirt cannot be reached now.
        """
        session = self._connection.session()
        self._refresh()
        self._seen = session
        if self._dispatcher is None:
            self._dispatcher = threads.start(self._dispatch, 'xen-events')

    def close(self) -> None:
        """Close the connection for good; no more events are told."""
        self._closing = True
        self._mailbox.put(None)  # wakes the dispatcher
        self._connection.close()

    @property
    def connected(self) -> bool:
        """Whether libvirt can be reached, as far as anybody noticed."""
        return self._connection.connected

    # The host

    def versions(self) -> HostVersions:
        """What runs there."""
        return HostVersions(
            libvirt=_version(self._once(
                'connectGetLibVersion', lambda raw: raw.getLibVersion())),
            xen=_version(self._once(
                'connectGetVersion', lambda raw: raw.getVersion())))

    def check(self, min_libvirt: tuple[int, ...] = MIN_LIBVIRT,
              min_xen: tuple[int, ...] = MIN_XEN) -> None:
        """Require a host that we can work on.

        :raises HostUnsupported: it is not Xen's, or too old; says what was
            found and what is needed.
        """
        kind = self._once('connectGetType', lambda raw: raw.getType())
        if kind != 'Xen':
            raise errors.HostUnsupported(
                f'libvirt at {self.uri} runs {kind} guests; Xen is needed')
        versions = self.versions()
        for name, found, needed in (('libvirt', versions.libvirt, min_libvirt),
                                    ('Xen', versions.xen, min_xen)):
            if found < needed:
                raise errors.HostUnsupported(
                    f'{name} {_dotted(found)} is too old; '
                    f'{_dotted(needed)} or newer is needed')

    def hostname(self) -> str:
        """The host's name, as libvirt knows it."""
        return str(self._once('connectGetHostname',
                              lambda raw: raw.getHostname()))

    def capabilities(self) -> capabilities.Capabilities:
        """What the host can do. Asked once, and again after a reconnect.

        :raises HostUnsupported: it cannot run guests that we know.
        """
        facts = self._facts_of(self._connection.session())
        if 'capabilities' not in facts:
            text = self._once('connectGetCapabilities',
                              lambda raw: raw.getCapabilities())
            arch = capabilities.host_arch(text)
            facts['capabilities'] = capabilities.parse(text, {
                machine: self._domain_capabilities(arch, machine)
                for machine in capabilities.machines(text).values()})
        found: capabilities.Capabilities = facts['capabilities']
        return found

    def _domain_capabilities(self, arch: str, machine: str) -> str:
        return str(self._connection.twice(lambda session: session.call(
            'connectGetDomainCapabilities', session.raw.getDomainCapabilities,
            None, arch, machine, 'xen', 0)))

    def cpus(self) -> int:
        """How many processors Xen has."""
        return int(self._node_info()[2])

    def memory(self) -> HostMemory:
        """The host's memory. One call, after the first time."""
        free = self._connection.twice(lambda session: session.call(
            'nodeGetFreeMemory', session.raw.getFreeMemory))
        # libvirt's Python module has made MiB of libvirt's KiB.
        total = int(self._node_info()[1])
        _state, max_kib, kib, *_rest = self._once(
            'domainGetInfo', lambda raw: raw.lookupByID(0).info())
        # Without dom0_mem=max: on Xen's command line dom0 has no limit.
        dom0 = max_kib if max_kib // 1024 <= total else kib
        return HostMemory(total_mib=total, dom0_mib=dom0 // 1024,
                          free_mib=int(free) // 1024 ** 2)

    def _node_info(self) -> list[Any]:
        info: list[Any] = self._once('nodeGetInfo', lambda raw: raw.getInfo())
        return info

    def _once(self, operation: str, ask: Callable[[Any], Any]) -> Any:
        """Ask something that does not change while a session lasts."""
        facts = self._facts_of(self._connection.session())
        if operation not in facts:
            facts[operation] = self._connection.twice(
                lambda session: session.call(operation, ask, session.raw))
        return facts[operation]

    def _facts_of(self, session: Session) -> dict[str, Any]:
        if self._facts is None or self._facts[0] is not session:
            self._facts = session, {}
        return self._facts[1]

    # Domains, without asking

    def records(self) -> Mapping[str, DomainRecord]:
        """All that is known of every domain, by UUID. No call."""
        return self._cache.all()

    def record(self, uuid: str) -> DomainRecord:
        """All that is known of a domain. No call.

        :raises DomainNotFound: there is none.
        """
        record = self._cache.get(uuid)
        if record is None:
            raise errors.DomainNotFound(uuid)
        return record

    def states(self) -> Mapping[str, DomainState]:
        """What every domain is doing, by UUID. No call."""
        return {uuid: record.state
                for uuid, record in self._cache.all().items()}

    def state(self, uuid: str) -> DomainState:
        """What a domain is doing. No call.

        :raises DomainNotFound: there is none.
        """
        return self.record(uuid).state

    # Domains, by asking

    def guest(self, uuid: str) -> Guest:
        """A domain, to do something to it. No call if it is known.

        :raises DomainNotFound: there is none.
        """
        record = self._cache.get(uuid) or self.observe(uuid)
        if record is None:
            raise errors.DomainNotFound(uuid)
        return Guest(self, self._connection, uuid, record.name)

    def define(self, text: str) -> Guest:
        """Make a domain known to libvirt, or change how it starts next.

        :param text: its XML.
        :raises DomainExists: its name belongs to another domain.
        :raises OperationFailed: libvirt refuses the XML.
        """
        wanted = xml.parse(text)
        uuid, name = xml.need(wanted, 'uuid'), xml.need(wanted, 'name')
        ticket = self.ticket()
        session = self._connection.session()
        try:
            session.call('domainDefineXML', session.raw.defineXML, text,
                         domain=uuid)
        except errors.OperationFailed as error:
            # libvirt has no code of its own for a name that is taken.
            taken = any(record.name == name and record.uuid != uuid
                        for record in self._cache.all().values())
            if taken and error.code == libvirt.VIR_ERR_OPERATION_FAILED:
                raise errors.DomainExists(error.operation, uuid, error.code,
                                          error.message) from error
            raise
        self.learn(uuid, self._cache.get(uuid) or DomainRecord(
            uuid=uuid, name=name, state=DomainState.SHUTDOWN), ticket)
        return Guest(self, self._connection, uuid, name)

    def _refresh(self) -> Mapping[str, DomainRecord | None]:
        """Ask libvirt of every domain.

        :returns: by UUID, what was known before of those that changed.
        """
        ticket = self.ticket()
        return self._cache.offer_all(
            self._connection.twice(self._ask_all), ticket)

    def _ask_all(self, session: Session) -> list[DomainRecord]:
        domains = session.call('connectListAllDomains',
                               session.raw.listAllDomains, 0)
        records = []
        for domain in domains:
            if domain.ID() == 0:
                continue  # dom0 is no guest
            try:
                records.append(self._ask_state(session, domain))
            except errors.DomainNotFound:
                continue  # it went while we asked
            except errors.OperationFailed as error:
                # One that cannot tell does not keep us from the others.
                LOG.warning('%s', error)
                uuid = domain.UUIDString()
                records.append(self._cache.get(uuid) or DomainRecord(
                    uuid=uuid, name=domain.name(), state=DomainState.NOSTATE))
        return records

    def _ask_state(self, session: Session, domain: Any) -> DomainRecord:
        uuid, id_ = domain.UUIDString(), domain.ID()
        state = events.state_of(*session.call(
            'domainGetState', domain.state, 0, domain=uuid))
        if state.is_off and id_ > 0:
            # libvirt says so when the guest halts or reboots, libxl takes
            # seconds more to be done; only then it is off, or runs again.
            before = self._cache.get(uuid)
            state = (DomainState.RUNNING if before is None
                     or before.state.is_off else before.state)
        return DomainRecord(uuid=uuid, name=domain.name(), state=state,
                            id=id_ if id_ > 0 else None)

    # What guests and the dispatcher tell each other through the cache

    def ticket(self) -> int:
        """A moment before a question, for :meth:`learn`."""
        return self._cache.ticket()

    def cached(self, uuid: str) -> DomainRecord | None:
        """What is known of a domain; None if there is none. No call."""
        return self._cache.get(uuid)

    def learn(self, uuid: str, record: DomainRecord | None,
              ticket: int) -> None:
        """Put into the cache what an operation did.

        :param ticket: from before the operation. If something else was
            learnt since, libvirt is asked who is right.
        """
        # Mostly it was the same, from the operation's own event.
        if (not self._cache.offer(uuid, record, ticket)
                and self._cache.get(uuid) != record):
            self.observe(uuid)

    def observe(self, uuid: str) -> DomainRecord | None:
        """Ask libvirt of a domain.

        :returns: None if there is none.
        """
        for _attempt in range(_OBSERVE_ATTEMPTS):
            ticket = self.ticket()
            record = self._connection.twice(
                lambda session: self._ask_one(session, uuid))
            if self._cache.offer(uuid, record, ticket):
                return record
        return self._cache.get(uuid)

    def _ask_one(self, session: Session, uuid: str) -> DomainRecord | None:
        try:
            return self._ask_state(session, session.lookup(uuid))
        except errors.DomainNotFound:
            return None

    # The dispatcher: one thread, which asks and tells

    def _dispatch(self) -> None:
        delay: float | None = None
        while True:
            message = self._mailbox.get(delay)
            if self._closing:
                return
            try:
                delay = self._take(message, delay)
            except Exception as error:
                # The thread has to live, and the cache has to become true
                # again, whatever it was: so ask for everything.
                delay = (_RETRY_FIRST if delay is None
                         else min(delay * 2, _RETRY_LAST))
                self._seen = None
                LOG.warning(
                    '%s; next attempt in %d s', error, delay,
                    exc_info=not isinstance(error, errors.XenError))

    def _take(self, message: Message | None,
              delay: float | None) -> float | None:
        """Take one message; None is the end of a delay.

        :returns: the next delay in seconds; None waits for ever.
        """
        match message:
            case Lifecycle():
                self._handle(message)
                return delay
            case Closed():
                LOG.warning('The connection to libvirt at %s closed: %s',
                            self.uri, message.reason)
                return _RETRY_FIRST
            case Opened() | None:
                self._catch_up(self._connection.session())
                return None

    def _catch_up(self, session: Session) -> None:
        """Tell what happened while there was no connection."""
        if session is self._seen:
            return
        for uuid, before in self._refresh().items():
            after = self._cache.get(uuid)
            for kind in events.between(before, after):
                self._tell(uuid, kind, after, before)
        self._seen = session

    def _handle(self, message: Lifecycle) -> None:
        kind = events.kind_of(message.event, message.detail)
        if kind is None:
            return
        before = self._cache.get(message.uuid)
        # To define a domain anew changes nothing of what is known of it.
        after = (before if before and kind is EventKind.DEFINED
                 else self.observe(message.uuid))
        if events.agrees(kind, after.state if after else None):
            self._tell(message.uuid, kind, after, before, message.name)
        else:
            LOG.debug('Domain %s: %s came late, it is %s', message.uuid,
                      kind.value, after.state.value if after else 'gone')

    def _tell(self, uuid: str, kind: EventKind, after: DomainRecord | None,
              before: DomainRecord | None, name: str = '') -> None:
        for record in (after, before):
            name = name or (record.name if record else '')
        event = DomainEvent(
            uuid=uuid, name=name, kind=kind,
            state=after.state if after else DomainState.NOSTATE)
        LOG.debug('Domain %s (%s): %s, now %s', uuid, name, kind.value,
                  event.state.value)
        if self._callback is not None:
            try:
                self._callback(event)
            except Exception:
                LOG.exception('Nobody took the event %s', event)


def _version(number: int) -> tuple[int, int, int]:
    """libvirt's number of a version: major * 10^6 + minor * 10^3 + release."""
    return number // 10 ** 6, number // 1000 % 1000, number % 1000


def _dotted(version: tuple[int, ...]) -> str:
    return '.'.join(map(str, version))
