# SPDX-License-Identifier: Apache-2.0
"""Give guests the weight and the cap on CPUs that their flavors ask for.

Xen's scheduler, credit2, has two numbers for each domain. The *weight* says
how busy CPUs are shared. The *cap* limits the vCPUs of a domain together, in
percent of one CPU of the host. Both end with the domain: they are set again
after each start, also after a reboot by the guest itself.
"""

from __future__ import annotations

import dataclasses
import math

from nova import exception
from nova import objects

from xen44_driver.xen import errors
from xen44_driver.xen import guest as xen_guest

#: The weight of domains that ask for none, which is Xen's default, and what
#: ``quota:cpu_shares`` is for such domains in Linux.
DEFAULT_WEIGHT = 256
DEFAULT_SHARES = 1024

#: The limits of Xen's weights.
MIN_WEIGHT, MAX_WEIGHT = 1, 65535

#: Microseconds in which a guest may use its quota, if the flavor names none.
DEFAULT_PERIOD = 100_000
#: The limits of ``quota:cpu_period`` and the least ``quota:cpu_quota`` that
#: Nova documents, in microseconds.
MIN_PERIOD, MAX_PERIOD = 1_000, 1_000_000
MIN_QUOTA = 1_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits on the CPUs of a guest.

    :ivar weight: its share of busy CPUs; None for Xen's default.
    :ivar cap: the most that all its vCPUs use, in percent of one CPU of the
        host; None for no limit.
    """

    weight: int | None = None
    cap: int | None = None


#: No limits.
NONE = Limits()


def of_flavor(flavor: objects.Flavor) -> Limits:
    """Return the limits that a flavor asks for.

    :raises nova.exception.InvalidInput: a value is not possible; the message
        names the extra spec and what is allowed.
    """
    specs = (flavor.extra_specs if 'extra_specs' in flavor else None) or {}
    return Limits(weight=_weight(_number(specs, 'quota:cpu_shares')),
                  cap=_cap(_number(specs, 'quota:cpu_quota'),
                           _number(specs, 'quota:cpu_period'), flavor.vcpus))


def _number(specs: dict[str, str], name: str) -> int | None:
    value = specs.get(name)
    try:
        return None if value is None else int(value)
    except ValueError:
        raise _refused(name, value, 'whole numbers') from None


def _refused(
    name: str, value: int | str | None, allowed: str,
) -> exception.InvalidInput:
    return exception.InvalidInput(
        reason=f'the flavor asks for {name} {value!r}; allowed: {allowed}')


def _weight(shares: int | None) -> int | None:
    if shares is None:
        return None
    most = MAX_WEIGHT * DEFAULT_SHARES // DEFAULT_WEIGHT
    if not 1 <= shares <= most:
        raise _refused('quota:cpu_shares', shares, f'1 to {most}')
    return max(round(shares * DEFAULT_WEIGHT / DEFAULT_SHARES), MIN_WEIGHT)


def _cap(
    quota: int | None, period: int | None, vcpus: int,
) -> int | None:
    """Return the cap; quota and period are for each vCPU, as in Nova."""
    if period and not MIN_PERIOD <= period <= MAX_PERIOD:
        raise _refused('quota:cpu_period', period,
                       f'0, {MIN_PERIOD} to {MAX_PERIOD}')
    if quota is None or quota <= 0:
        return None
    if quota < MIN_QUOTA:
        raise _refused('quota:cpu_quota', quota,
                       f'{MIN_QUOTA} or more, or -1 for no limit')
    cap = math.ceil(100 * vcpus * quota / (period or DEFAULT_PERIOD))
    return cap if cap < 100 * vcpus else None


def apply(guest: xen_guest.Guest, limits: Limits) -> None:
    """Set a running guest's limits, and see that it has them.

    :raises xen44_driver.xen.errors.OperationFailed: it does not have them.
    """
    if limits == NONE:
        return
    wanted = {'weight': limits.weight or DEFAULT_WEIGHT,
              'cap': limits.cap or 0}
    guest.limit_cpus(**wanted)
    found = guest.cpu_limits()
    if any(found.get(name) != value for name, value in wanted.items()):
        raise errors.OperationFailed(
            'domainSetSchedulerParameters', guest.uuid, None,
            f'the guest was to have {wanted}, and has {dict(found)}')
