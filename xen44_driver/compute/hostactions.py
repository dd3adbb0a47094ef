# SPDX-License-Identifier: Apache-2.0
"""What Nova's API ``os-hosts`` asks of this host.

It ended with microversion 2.42; ``xen44-host`` does more, and needs no
option. What stands against an action is in the API's answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping

from nova import conf
from nova import exception

from xen44_driver import privsep
from xen44_driver.compute import service as service_lib

CONF = conf.CONF

#: Nova's name of an action: systemctl's. Nobody here could turn the host on.
_ACTIONS: Mapping[str, str] = {'reboot': 'reboot', 'shutdown': 'poweroff'}


def power(availability: service_lib.Availability, action: str) -> str:
    """Reboot or shut down this host, if nothing runs on it.

    :param availability: this host's compute service.
    :param action: ``reboot`` or ``shutdown``.
    :returns: the action; it has begun.
    :raises NotImplementedError: it is another action, or the operator has not
        allowed them.
    :raises nova.exception.ComputeServiceUnavailable: guests run, or the
        service is enabled: the message says which.
    """
    if action not in _ACTIONS or not CONF.xen44.allow_host_power_actions:
        raise NotImplementedError
    reasons = []
    if not availability.is_disabled():
        reasons.append('its compute service is enabled, disable it first')
    # Last: Nova's answer may have taken a while.
    reasons += _running()
    if reasons:
        # Of Nova's errors this one is shown to who asked.
        raise exception.ComputeServiceUnavailable(
            f'{CONF.host} is in use: {"; ".join(reasons)}')
    privsep.host_power(_ACTIONS[action])
    return action


def maintain(availability: service_lib.Availability, *, on: bool) -> str:
    """Take this host out of use, if nothing runs on it, or into use again.

    :param availability: this host's compute service.
    :param on: out of use.
    :returns: Nova's word for what it is now, or else why it stays as it was.
    """
    if on and (reasons := [*_running()]):
        return f'{CONF.host} is in use: {"; ".join(reasons)}'
    return (availability.maintain(on=on)
            or ('on_maintenance' if on else 'off_maintenance'))


def _running() -> Iterator[str]:
    """Yield which guests Xen runs, if any, whoever's they are."""
    names = sorted(name or uuid for uuid, name
                   in privsep.running_guests().items())
    if names:
        yield f'Xen runs guests ({", ".join(names)}), stop or move them first'
