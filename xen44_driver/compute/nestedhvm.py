# SPDX-License-Identifier: Apache-2.0
"""Whether a guest can run guests of its own (nested virtualization).

The flavor asks with ``xen44:nested_hvm``. It needs an HVM guest
(:mod:`xen44_driver.compute.properties` refuses others), and a host where it is
allowed and was seen to work (:mod:`xen44_driver.compute.proof`).
"""

from __future__ import annotations

from nova import exception
from nova import objects
from oslo_utils import strutils

EXTRA_SPEC = 'xen44:nested_hvm'


def asked(flavor: objects.Flavor) -> bool:
    """Return whether a flavor asks for it.

    :raises nova.exception.InvalidInput: the value is not a boolean.
    """
    value = flavor.extra_specs.get(EXTRA_SPEC, 'false')
    try:
        return strutils.bool_from_string(value, strict=True)
    except ValueError as error:
        raise exception.InvalidInput(
            reason=f'the flavor asks for {EXTRA_SPEC} {value[:40]!r}; '
                   'allowed: true, false') from error


def check(flavor: objects.Flavor, *, problem: str | None) -> None:
    """Refuse a flavor that asks for it on a host that does not have it.

    Nova's scheduler also chooses such hosts, unless the flavor requires the
    trait of the others.

    :param problem: why guests of this host cannot have it; None if they can.
    :raises nova.exception.InvalidInput: the message names the extra spec and
        the reason.
    """
    if problem is not None and asked(flavor):
        raise exception.InvalidInput(
            reason=f'the flavor asks for {EXTRA_SPEC}, which is not possible '
                   f'on this host: {problem}')
