# SPDX-License-Identifier: Apache-2.0
"""What happens to a domain, told to Nova."""

from collections.abc import Callable

from nova.virt import event as virtevent
from oslo_log import log as logging

from xen44_driver.xen import events as xen_events

LOG = logging.getLogger(__name__)

#: Xen's events in Nova's words. A crashed guest has stopped, for Nova; that
#: a domain was defined or forgotten is no event for it.
TRANSITIONS = {
    xen_events.EventKind.STARTED: virtevent.EVENT_LIFECYCLE_STARTED,
    xen_events.EventKind.STOPPED: virtevent.EVENT_LIFECYCLE_STOPPED,
    xen_events.EventKind.CRASHED: virtevent.EVENT_LIFECYCLE_STOPPED,
    xen_events.EventKind.PAUSED: virtevent.EVENT_LIFECYCLE_PAUSED,
    xen_events.EventKind.RESUMED: virtevent.EVENT_LIFECYCLE_RESUMED,
}


def forwarder(
    emit: Callable[[virtevent.Event], None],
) -> Callable[[xen_events.DomainEvent], None]:
    """A callback for the Xen host that tells Nova.

    :param emit: ``ComputeDriver.emit_event``
    """
    def forward(event: xen_events.DomainEvent) -> None:
        transition = TRANSITIONS.get(event.kind)
        if transition is None:
            LOG.debug('Nothing to tell Nova of %s', event)
            return
        emit(virtevent.LifecycleEvent(event.uuid, transition))

    return forward
