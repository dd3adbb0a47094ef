# SPDX-License-Identifier: Apache-2.0
"""Report lifecycle events of domains to Nova."""

from __future__ import annotations

from collections.abc import Callable

from nova.virt import event as virtevent
from oslo_log import log as logging

from xen44_driver.xen import events as xen_events

LOG = logging.getLogger(__name__)

#: Xen's events and Nova's. A crashed guest is a stopped one for Nova. Nova has
#: no events for defining and undefining a domain.
TRANSITIONS = {
    xen_events.EventKind.STARTED: virtevent.EVENT_LIFECYCLE_STARTED,
    xen_events.EventKind.STOPPED: virtevent.EVENT_LIFECYCLE_STOPPED,
    xen_events.EventKind.CRASHED: virtevent.EVENT_LIFECYCLE_STOPPED,
    xen_events.EventKind.PAUSED: virtevent.EVENT_LIFECYCLE_PAUSED,
    xen_events.EventKind.RESUMED: virtevent.EVENT_LIFECYCLE_RESUMED,
}


def forwarder(
    emit: Callable[[virtevent.Event], None],
    started: Callable[[str], None],
    watch: Callable[[xen_events.DomainEvent], None],
) -> Callable[[xen_events.DomainEvent], None]:
    """Return a callback for the Xen host that reports events to Nova.

    :param emit: ``ComputeDriver.emit_event``.
    :param started: called with the UUID of each domain that has started; never
        waits.
    :param watch: called with each event that Nova is told of; never waits.
    """
    def forward(event: xen_events.DomainEvent) -> None:
        transition = TRANSITIONS.get(event.kind)
        if transition is None:
            LOG.debug('Nothing to tell Nova of %s', event)
            return
        # Nova comes last: it may wait for its conductor, for minutes.
        watch(event)
        if event.kind is xen_events.EventKind.STARTED:
            started(event.uuid)
        emit(virtevent.LifecycleEvent(event.uuid, transition))

    return forward
