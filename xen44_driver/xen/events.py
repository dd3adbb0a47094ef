# SPDX-License-Identifier: Apache-2.0
"""The states of domains, and the events that change them."""

from __future__ import annotations

import dataclasses
import enum

import libvirt


class DomainState(enum.Enum):
    """The state of a domain.

    ``SHUTDOWN`` means off. ``CRASHED`` also means off: the guest crashed and
    was not started again. ``SUSPENDED`` means that the guest put itself to
    sleep.
    """

    NOSTATE = 'nostate'
    RUNNING = 'running'
    PAUSED = 'paused'
    SHUTDOWN = 'shutdown'
    CRASHED = 'crashed'
    SUSPENDED = 'suspended'

    @property
    def is_off(self) -> bool:
        """Whether the domain is off, so that Xen does not have it now."""
        return self in OFF


#: The states in which a domain is off.
OFF = frozenset({DomainState.SHUTDOWN, DomainState.CRASHED})


class EventKind(enum.Enum):
    """A kind of event of a domain."""

    DEFINED = 'defined'
    UNDEFINED = 'undefined'
    STARTED = 'started'
    STOPPED = 'stopped'
    CRASHED = 'crashed'
    PAUSED = 'paused'
    RESUMED = 'resumed'


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DomainRecord:
    """What is known about a domain.

    :ivar uuid: its UUID in lower case, as libvirt writes it.
    :ivar name: its name in libvirt.
    :ivar state: its state.
    :ivar id: Xen's number of it; None if it is off. It changes at each start
        and at each reboot.
    :ivar ours: whether it has this driver's metadata. Other domains are not
        touched.
    """

    uuid: str
    name: str
    state: DomainState
    id: int | None = None
    ours: bool = True


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DomainEvent:
    """An event of a domain, and the domain's state after it.

    :ivar uuid: the domain's UUID.
    :ivar name: the domain's name in libvirt.
    :ivar kind: what happened.
    :ivar state: the state after the event; ``NOSTATE`` if the domain no longer
        exists.
    """

    uuid: str
    name: str
    kind: EventKind
    state: DomainState


_STATES = {
    libvirt.VIR_DOMAIN_RUNNING: DomainState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: DomainState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: DomainState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: DomainState.RUNNING,
    libvirt.VIR_DOMAIN_SHUTOFF: DomainState.SHUTDOWN,
    libvirt.VIR_DOMAIN_CRASHED: DomainState.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: DomainState.SUSPENDED,
}
_KINDS = {
    libvirt.VIR_DOMAIN_EVENT_DEFINED: EventKind.DEFINED,
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: EventKind.UNDEFINED,
    libvirt.VIR_DOMAIN_EVENT_STARTED: EventKind.STARTED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED: EventKind.STOPPED,
    libvirt.VIR_DOMAIN_EVENT_CRASHED: EventKind.CRASHED,
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: EventKind.PAUSED,
    libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: EventKind.PAUSED,
    libvirt.VIR_DOMAIN_EVENT_RESUMED: EventKind.RESUMED,
}


def state_of(state: int, reason: int) -> DomainState:
    """Translate libvirt's state and reason (``virDomainGetState``)."""
    if (state == libvirt.VIR_DOMAIN_SHUTOFF
            and reason == libvirt.VIR_DOMAIN_SHUTOFF_CRASHED):
        return DomainState.CRASHED
    return _STATES.get(state, DomainState.NOSTATE)


def kind_of(event: int, detail: int) -> EventKind | None:
    """Translate libvirt's lifecycle event.

    :returns: None for an event that the driver does not need.
    """
    if (event == libvirt.VIR_DOMAIN_EVENT_STOPPED
            and detail == libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED):
        return EventKind.CRASHED
    return _KINDS.get(event)


#: The states in which an event is still true; None if the domain does not
#: exist.
_TRUE_WHILE: dict[EventKind, frozenset[DomainState | None]] = {
    EventKind.DEFINED: frozenset(DomainState),
    EventKind.UNDEFINED: frozenset({None}),
    EventKind.STARTED: frozenset(DomainState) - OFF,
    EventKind.STOPPED: OFF | {None},
    EventKind.CRASHED: OFF | {None},
    EventKind.PAUSED: frozenset({DomainState.PAUSED, DomainState.SUSPENDED}),
    EventKind.RESUMED: frozenset({DomainState.RUNNING}),
}


def agrees(kind: EventKind, state: DomainState | None) -> bool:
    """Return whether an event is still true for a domain.

    Events of libvirt's libxl driver come late and out of order. A reboot is
    STARTED, then STOPPED, while the guest runs. STOPPED comes seconds after
    the guest's end, when it may have been started again.

    :param state: the domain's state now; None if it does not exist.
    """
    return state in _TRUE_WHILE[kind]


def between(
    before: DomainRecord | None, after: DomainRecord | None, *,
    missed: bool = False,
) -> tuple[EventKind, ...]:
    """Return the events that lead from one record of a domain to another.

    :param missed: whether libvirt has not reported the events between them,
        so that a reboot counts too.
    """
    kinds = []
    was_on = before is not None and not before.state.is_off
    is_on = after is not None and not after.state.is_off
    if before is None and after is not None:
        kinds.append(EventKind.DEFINED)
    if was_on and not is_on:
        crashed = after is not None and after.state is DomainState.CRASHED
        kinds.append(EventKind.CRASHED if crashed else EventKind.STOPPED)
    elif is_on and (not was_on or (
            missed and before is not None and after is not None
            and before.id != after.id)):
        kinds.append(EventKind.STARTED)
    if (before is not None and after is not None and was_on and is_on
            and before.state is not after.state):
        kinds.append(EventKind.RESUMED
                     if after.state is DomainState.RUNNING
                     else EventKind.PAUSED)
    if before is not None and after is None:
        kinds.append(EventKind.UNDEFINED)
    return tuple(kinds)
