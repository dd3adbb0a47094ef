# SPDX-License-Identifier: Apache-2.0
"""Disable this host's compute service while libvirt cannot be reached.

Every build on this host would fail, and the scheduler would go on choosing a
host that looks empty. So the compute service is disabled, with a reason that
begins with ``AUTO: ``, and enabled when libvirt is back, as Nova's own libvirt
driver does. A service that an operator disabled stays disabled.
"""

from __future__ import annotations

from typing import NamedTuple

from nova import conf
from nova import context as nova_context
from nova import exception
from nova import objects
from nova.virt import virtapi as nova_virtapi
from oslo_log import log as logging

CONF = conf.CONF
LOG = logging.getLogger(__name__)

#: Prefix of the reason if the driver, not an operator, disabled the service.
PREFIX = 'AUTO: '

#: The reason if Nova's API asked for maintenance.
MAINTENANCE = 'maintenance mode'

# Characters that the database's column holds.
_MAX_REASON = 255
# Another thread may change the wanted state while this one writes; then it is
# written again, at most this often.
_ATTEMPTS = 5


class _Wanted(NamedTuple):
    """The wanted state of the service.

    :ivar enabled: whether it takes new instances.
    :ivar reason: why it does not.
    """

    enabled: bool
    reason: str


class Availability:
    """Disables and enables this host's compute service.

    :param virtapi: Nova's interface; it sets the trait of a disabled host.
    """

    def __init__(self, virtapi: nova_virtapi.VirtAPI) -> None:
        self._virtapi = virtapi
        self._wanted: _Wanted | None = None
        self._written: _Wanted | None = None

    def changed(self, connected: bool, reason: str = '') -> None:
        """Disable or enable the service: libvirt was lost or is back.

        This asks Nova's conductor, which may take long. A failure is logged;
        :meth:`settle` tries again.

        :param connected: whether libvirt can be reached.
        :param reason: why libvirt cannot be reached, for the operator.
        """
        self._wanted = _Wanted(connected, reason)
        self.settle()

    def settle(self) -> None:
        """Write to Nova what :meth:`changed` could not write, if anything.

        Call this regularly, or the service might stay disabled for ever.
        """
        for _attempt in range(_ATTEMPTS):
            wanted = self._wanted
            if wanted is None or wanted is self._written:
                return
            if not self._write(wanted):
                return
            if wanted is self._wanted:
                self._written = wanted

    def is_disabled(self) -> bool:
        """Whether the service is disabled, as Nova has it."""
        return bool(_service(nova_context.get_admin_context()).disabled)

    def maintain(self, *, on: bool) -> str | None:
        """Disable or enable the service: somebody asked for it.

        :param on: disable it, whatever its reason was.
        :returns: why it stays as it was, if it does.
        """
        context = nova_context.get_admin_context()
        service = _service(context)
        reason = service.disabled_reason or ''
        # Maintenance may have taken the place of that reason.
        if self._wanted is not None and not self._wanted.enabled:
            reason = PREFIX + self._wanted.reason
        if not on and reason.startswith(PREFIX):
            return f'{CONF.host} cannot be used: {reason}'
        service.disabled = on
        service.disabled_reason = MAINTENANCE if on else None
        service.save()
        self._tell_placement(context, service)
        return None

    def _write(self, wanted: _Wanted) -> bool:
        """Update Nova's record of the service.

        :returns: whether Nova could be reached.
        """
        context = nova_context.get_admin_context()
        try:
            service = _service(context)
            if not _update(service, wanted):
                return True
            service.save()
        except exception.ComputeHostNotFound:
            # This is the first start of nova-compute on this host.
            LOG.debug('Service %s is not registered yet', CONF.host)
            return True
        except Exception as error:  # whatever the conductor raises
            LOG.warning(
                'The compute service could not be %(done)s, which is tried '
                'again: %(error)s',
                {'done': 'enabled' if wanted.enabled else 'disabled',
                 'error': error})
            return False
        self._tell_placement(context, service)
        if wanted.enabled:
            LOG.info('The compute service is enabled again')
        else:
            LOG.warning('The compute service is disabled: %s',
                        service.disabled_reason)
        return True

    def _tell_placement(
        self, context: nova_context.RequestContext, service: objects.Service,
    ) -> None:
        """Set or remove COMPUTE_STATUS_DISABLED; Nova does so each minute."""
        try:
            self._virtapi.update_compute_provider_status(
                context, service.compute_node.uuid,
                enabled=not service.disabled)
        except Exception as error:  # whatever Placement's client raises
            LOG.debug('Placement is not told: %s', error)


def _service(context: nova_context.RequestContext) -> objects.Service:
    return objects.Service.get_by_compute_host(context, CONF.host)


def _update(service: objects.Service, wanted: _Wanted) -> bool:
    """Change a service's record, unless an operator disabled it.

    :returns: whether the record was changed.
    """
    if service.disabled and not (
            service.disabled_reason or '').startswith(PREFIX):
        LOG.debug('The compute service was disabled by an operator')
        return False
    if service.disabled is not wanted.enabled:
        return False
    service.disabled = not wanted.enabled
    service.disabled_reason = (
        None if wanted.enabled
        else (PREFIX + wanted.reason)[:_MAX_REASON])
    return True
