# SPDX-License-Identifier: Apache-2.0
"""What happens to domains, and what they are in."""

import dataclasses
import enum

import libvirt


class DomainState(enum.Enum):
    """What a domain is doing.

    ``SHUTDOWN`` is off. ``CRASHED`` is off too, because its guest crashed,
    until it is started again. ``SUSPENDED`` is a sleep that the guest itself
    went into.
    """

    NOSTATE = 'nostate'
    RUNNING = 'running'
    PAUSED = 'paused'
    SHUTDOWN = 'shutdown'
    CRASHED = 'crashed'
    SUSPENDED = 'suspended'

    @property
    def is_off(self) -> bool:
        """Whether Xen has no such domain now."""
        return self in OFF


#: The states in which Xen has no such domain.
OFF = frozenset({DomainState.SHUTDOWN, DomainState.CRASHED})


class EventKind(enum.Enum):
    """What happened to a domain."""

    DEFINED = 'defined'
    UNDEFINED = 'undefined'
    STARTED = 'started'
    STOPPED = 'stopped'
    CRASHED = 'crashed'
    PAUSED = 'paused'
    RESUMED = 'resumed'


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DomainRecord:
    """What is known of a domain.

    :param uuid: as libvirt writes it, lower case.
    :param name: libvirt's name.
    :param state: what it is doing.
    :param id: Xen's number of it, None when it is off. A new one at each
        start and at each reboot.
    """

    uuid: str
    name: str
    state: DomainState
    id: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DomainEvent:
    """Something that happened, and what the domain is doing since.

    :param uuid: whose.
    :param name: libvirt's name of it.
    :param kind: what happened.
    :param state: asked after it happened; ``NOSTATE`` if the domain is gone.
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
    """libvirt's state and reason (``virDomainGetState``) in our words."""
    if (state == libvirt.VIR_DOMAIN_SHUTOFF
            and reason == libvirt.VIR_DOMAIN_SHUTOFF_CRASHED):
        return DomainState.CRASHED
    return _STATES.get(state, DomainState.NOSTATE)


def kind_of(event: int, detail: int) -> EventKind | None:
    """libvirt's lifecycle event in our words; None for those of no use."""
    if (event == libvirt.VIR_DOMAIN_EVENT_STOPPED
            and detail == libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED):
        return EventKind.CRASHED
    return _KINDS.get(event)


#: What a domain may be doing while an event is still true of it; None: gone.
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
    """Whether an event is still true of a domain.

    libxl's events come late, and in an order of their own: a reboot is
    STARTED, then STOPPED, while the guest runs; STOPPED comes seconds after
    the end, when the next start may be over already.

    :param state: what the domain is doing now, None if it is gone.
    """
    return state in _TRUE_WHILE[kind]


def between(before: DomainRecord | None,
            after: DomainRecord | None) -> tuple[EventKind, ...]:
    """What must have happened, where nobody was told."""
    kinds = []
    was_on = before is not None and not before.state.is_off
    is_on = after is not None and not after.state.is_off
    if before is None and after is not None:
        kinds.append(EventKind.DEFINED)
    if was_on and not is_on:
        crashed = after is not None and after.state is DomainState.CRASHED
        kinds.append(EventKind.CRASHED if crashed else EventKind.STOPPED)
    elif is_on and not was_on:
        kinds.append(EventKind.STARTED)
    if (before is not None and after is not None and was_on and is_on
            and before.state is not after.state):
        kinds.append(EventKind.RESUMED
                     if after.state is DomainState.RUNNING
                     else EventKind.PAUSED)
    if before is not None and after is None:
        kinds.append(EventKind.UNDEFINED)
    return tuple(kinds)
