# SPDX-License-Identifier: Apache-2.0
"""Choose whether a QEMU or dom0's kernel serves an instance's disks.

The flavor can ask for a class with ``xen44:disk_class``: ``qemu`` or
``kernel``. If it does not, the first class of the guest type's profile is
used. See :class:`xen44_driver.xen.diskclass.DiskClass`.
"""

from __future__ import annotations

from collections.abc import Sequence

from nova import exception
from nova import objects

from xen44_driver.xen.diskclass import DiskClass

EXTRA_SPEC = 'xen44:disk_class'


def choose(
    flavor: objects.Flavor, *, offered: Sequence[DiskClass],
    default: DiskClass | None = None,
) -> DiskClass:
    """Choose the class of an instance's disks.

    :param flavor: the instance's flavor.
    :param offered: the classes that its guest type can have on this host, the
        preferred one first.
    :param default: the class if the flavor asks for none; None for the
        preferred one.
    :raises nova.exception.InvalidInput: the flavor asks for another class; the
        message names it and those that are allowed.
    """
    asked = flavor.extra_specs.get(EXTRA_SPEC)
    if asked is None:
        return default if default and default in offered else offered[0]
    if asked not in offered:
        raise exception.InvalidInput(
            reason=f'the flavor asks for {EXTRA_SPEC} {asked[:40]!r}; '
                   f'allowed: {", ".join(offered)}')
    return DiskClass(asked)


def check(
    chosen: DiskClass, *, limits: bool, agent: bool,
    offered: Sequence[DiskClass],
) -> None:
    """Refuse what needs a QEMU for an instance that has none.

    :param chosen: the class of the instance's disks.
    :param limits: whether its flavor limits the disks.
    :param agent: whether its image asks for a channel to a guest agent.
    :param offered: the classes that its guest type can have on this host.
    :raises nova.exception.InvalidInput: it needs a QEMU; the message names the
        request and what is allowed.
    """
    if chosen is DiskClass.QEMU:
        return
    requests = [request for request, asked in (
        ('quota:disk_*_sec of the flavor', limits),
        ('hw_qemu_guest_agent of the image', agent)) if asked]
    if requests:
        allowed = (f'{EXTRA_SPEC}={DiskClass.QEMU}'
                   if DiskClass.QEMU in offered else 'neither')
        raise exception.InvalidInput(
            reason=f'{" and ".join(requests)} need a QEMU, and an instance '
                   f'whose disks are of class {chosen} ({EXTRA_SPEC}) has '
                   f'none; allowed: {allowed}')
