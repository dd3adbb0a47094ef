# SPDX-License-Identifier: Apache-2.0
"""One domain of the host, and what can be done to it."""

from collections.abc import Callable
from collections.abc import Collection
import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeVar

import libvirt

from xen44_driver.xen import errors
from xen44_driver.xen.connection import Connection
from xen44_driver.xen.connection import Session
from xen44_driver.xen.domain import xml
from xen44_driver.xen.events import DomainRecord
from xen44_driver.xen.events import DomainState

if TYPE_CHECKING:
    from xen44_driver.xen.host import Host

T = TypeVar('T')

# How often a waiting thread looks into the cache, and how often it asks
# libvirt, should an event have been lost. In seconds.
_LOOK_INTERVAL = 0.1
_ASK_INTERVAL = 5.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VncAddress:
    """Where a guest's VNC server listens."""

    host: str
    port: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GuestInfo:
    """What a guest uses.

    :param memory_mib: what it has now, in MiB.
    :param max_memory_mib: what it may have, in MiB.
    :param vcpus: how many it has now.
    :param cpu_time_ns: used since its start, in nanoseconds; 0 when off.
    """

    memory_mib: int
    max_memory_mib: int
    vcpus: int
    cpu_time_ns: int


class Guest:
    """One domain. Made by :class:`xen44_driver.xen.host.Host`.

    Cheap and stateless: what is known of the domain is in the host's cache,
    which has the new state when one of these methods returns.

    Every method raises :class:`DomainNotFound` once the domain is undefined,
    :class:`ConnectionFailed` without libvirt, and :class:`OperationFailed` if
    libvirt or Xen cannot do it.
    """

    def __init__(self, host: 'Host', connection: Connection, uuid: str,
                 name: str) -> None:
        self.uuid = uuid
        self.name = name
        self._host = host
        self._connection = connection
        self._handle: tuple[Session, Any] | None = None

    def __repr__(self) -> str:
        return f'Guest({self.uuid}, {self.name})'

    def start(self, *, paused: bool = False) -> None:
        """Boot it. libxl returns when its devices are there.

        :param paused: do not let it run yet; :meth:`resume` does.
        """
        flags = libvirt.VIR_DOMAIN_START_PAUSED if paused else 0
        ticket = self._host.ticket()
        domain = self._change('domainCreate',
                              lambda domain: domain.createWithFlags(flags))
        state = DomainState.PAUSED if paused else DomainState.RUNNING
        # libvirt's client learns the new id with the answer: no call.
        self._now(state, domain.ID(), ticket)

    def resume(self) -> None:
        """Let it run again after :meth:`suspend`."""
        ticket = self._host.ticket()
        domain = self._change('domainResume', lambda domain: domain.resume())
        self._now(DomainState.RUNNING, domain.ID(), ticket)

    def suspend(self) -> None:
        """Stop it where it is; it keeps its memory."""
        ticket = self._host.ticket()
        domain = self._change('domainSuspend', lambda domain: domain.suspend())
        self._now(DomainState.PAUSED, domain.ID(), ticket)

    def shutdown(self) -> None:
        """Ask it to shut down. Does not wait, and it may not listen."""
        self._change('domainShutdown', lambda domain: domain.shutdown())

    def reboot(self) -> None:
        """Ask it to reboot. Does not wait, and it may not listen."""
        self._change('domainReboot', lambda domain: domain.reboot(0))

    def destroy(self) -> None:
        """Take its power away. Fine if it is off already."""
        ticket = self._host.ticket()
        try:
            self._change('domainDestroy', lambda domain: domain.destroy())
        except errors.OperationFailed as error:
            # "domain is not running"
            if error.code != libvirt.VIR_ERR_OPERATION_INVALID:
                raise
        self._now(DomainState.SHUTDOWN, None, ticket)

    def undefine(self) -> None:
        """Forget it, and what was saved of its memory. Fine if done already.

        A domain that runs goes on until it stops: destroy it first.
        """
        ticket = self._host.ticket()
        with contextlib.suppress(errors.DomainNotFound):
            self._change(
                'domainUndefine', lambda domain: domain.undefineFlags(
                    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE))
        self._host.learn(self.uuid, self._unless_running(), ticket)

    def _unless_running(self) -> DomainRecord | None:
        record = self._host.cached(self.uuid)
        return None if record is None or record.state.is_off else record

    def state(self) -> DomainState:
        """Ask libvirt what it is doing, past the cache.

        :raises DomainNotFound: it is gone.
        """
        record = self._host.observe(self.uuid)
        if record is None:
            raise errors.DomainNotFound(self.uuid)
        return record.state

    def xml(self, *, inactive: bool = False) -> str:
        """libvirt's XML of it.

        :param inactive: as it will be at its next start, not as it is.
        """
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE if inactive else 0
        return str(self._ask('domainGetXMLDesc',
                             lambda domain: domain.XMLDesc(flags)))

    def vnc(self) -> VncAddress | None:
        """Where its screen is to be seen; None if it has none, or is off."""
        domain = xml.parse(self.xml())
        graphics = domain.find("devices/graphics[@type='vnc']")
        # A domain without an id does not run.
        if graphics is None or domain.get('id') is None:
            return None
        port = int(graphics.get('port', '-1'))
        if port < 0:
            return None
        return VncAddress(host=graphics.get('listen', '127.0.0.1'), port=port)

    def info(self) -> GuestInfo:
        """Ask what it uses."""
        _state, max_kib, kib, vcpus, cpu_time_ns = self._ask(
            'domainGetInfo', lambda domain: domain.info())
        return GuestInfo(memory_mib=kib // 1024,
                         max_memory_mib=max_kib // 1024, vcpus=vcpus,
                         cpu_time_ns=cpu_time_ns)

    def wait_for(self, states: Collection[DomainState],
                 timeout: float) -> bool:
        """Wait until it is in one of some states.

        Looks into the cache, which events fill, and asks libvirt every few
        seconds and at the end.

        :param states: such as :data:`xen44_driver.xen.events.OFF`.
        :param timeout: in seconds.
        :returns: whether it got there in time.
        :raises DomainNotFound: it was undefined meanwhile.
        """
        end = time.monotonic() + timeout
        ask_at = time.monotonic() + _ASK_INTERVAL
        while self._host.record(self.uuid).state not in states:
            now = time.monotonic()
            if now >= end:
                return self.state() in states
            if now >= ask_at:
                self.state()
                ask_at = now + _ASK_INTERVAL
            time.sleep(min(_LOOK_INTERVAL, max(end - now, 0)))
        return True

    # libvirt's handle of a domain belongs to a session, so a new session
    # needs a new one.

    def _domain(self, session: Session) -> Any:
        if self._handle is None or self._handle[0] is not session:
            self._handle = session, session.lookup(self.uuid)
        return self._handle[1]

    def _change(self, operation: str,
                function: Callable[[Any], object]) -> Any:
        """Do something to it, once.

        :returns: libvirt's handle.
        """
        session = self._connection.session()
        domain = self._domain(session)
        session.call(operation, function, domain, domain=self.uuid)
        return domain

    def _ask(self, operation: str, function: Callable[[Any], T]) -> T:
        """Ask something of it."""
        return self._connection.twice(lambda session: session.call(
            operation, function, self._domain(session), domain=self.uuid))

    def _now(self, state: DomainState, id_: int | None, ticket: int) -> None:
        if id_ is not None and id_ < 0:
            id_ = None
        self._host.learn(self.uuid, DomainRecord(
            uuid=self.uuid, name=self.name, state=state, id=id_), ticket)
