# SPDX-License-Identifier: Apache-2.0
"""Stop a guest, and remove its domain."""

from __future__ import annotations

import math
import time

from oslo_log import log as logging

from xen44_driver import faultpoints
from xen44_driver import privsep
from xen44_driver.core import loopdevices
from xen44_driver.core import monitor
from xen44_driver.core import undo
from xen44_driver.xen import errors as xen_errors
from xen44_driver.xen import guest as xen_guest
from xen44_driver.xen import host as xen_host
from xen44_driver.xen.events import OFF

LOG = logging.getLogger(__name__)


def shut_down(
    guest: xen_guest.Guest, instance: undo.Named, *,
    timeout: float, retry_interval: float,
) -> bool:
    """Ask a guest to shut down.

    Once its kernel has heard that, it is asked again only when half of the
    time is gone: it may have heard it before it could act. At the end of its
    shutdown nothing in it answers, for which libxl waits 60 s before the
    domain can go.

    :param guest: the guest.
    :param instance: the instance or VM.
    :param timeout: seconds that it has.
    :param retry_interval: seconds after which a guest that has not heard it
        is asked again; 0 to ask once.
    :returns: whether it shut down in time.
    """
    if guest.state().is_off:
        return True
    now = ask_at = time.monotonic()
    deadline = now + timeout
    while (left := deadline - now) > 0:
        if now >= ask_at and _ask(guest, instance):
            ask_at = now + timeout / 2
        if guest.wait_for(OFF, timeout=math.ceil(
                min(left, retry_interval or left))):
            LOG.info('The guest shut down', instance=instance)
            return True
        now = time.monotonic()
    return False


def _ask(guest: xen_guest.Guest, instance: undo.Named) -> bool:
    """Ask a guest to shut down once; returns whether its kernel heard it."""
    try:
        guest.shutdown()
        return True
    except xen_errors.OperationFailed as error:
        # The guest is off by now, or nothing in it knows Xen.
        LOG.debug('The guest does not hear that it is to shut down: %s',
                  error, instance=instance)
    try:
        guest.press_power_button()
    except xen_errors.OperationFailed as error:
        LOG.debug('The guest has no power button: %s', error,
                  instance=instance)
    return False


def remove_domain(
    host: xen_host.Host, instance: undo.Named,
) -> None:
    """Stop a domain at once and undefine it, if it exists.

    Then its files can be removed. If its monitor or its loop devices cannot
    be, the error is logged.

    :param host: its host.
    :param instance: the instance or VM.
    :raises xen44_driver.xen.errors.OperationFailed: a domain of this UUID
        runs that was defined by somebody else, such as by hand.
    """
    other = host.foreign().get(instance.uuid)
    if other is not None and not other.state.is_off:
        raise xen_errors.OperationFailed(
            'domainDestroy', instance.uuid, None,
            f'domain {other.name} has this UUID, and not our '
            'metadata: somebody else defined it. Stop it first')
    try:
        guest = host.guest(instance.uuid)
        guest.destroy()
        faultpoints.reached('destroy: domain stopped')
        guest.undefine()
        faultpoints.reached('destroy: domain removed')
    except xen_errors.DomainNotFound:
        LOG.debug('There is no domain to remove', instance=instance)
    undo.attempt(instance, privsep.remove_monitor, instance.uuid)
    # While their files have their names, by which libxl removes them.
    undo.attempt(instance, loopdevices.wait_until_removed, instance.uuid,
                 monitor.CLOSE_TIMEOUT)
