# SPDX-License-Identifier: Apache-2.0
"""Choose whether a guest is PV, PVH or HVM.

The image can ask for a type with ``hw_vm_mode``: ``xen`` is PV, or PVH on a
host without PV; ``hvm`` is HVM. The flavor can ask with ``xen44:guest_type``:
``pv``, ``pvh`` or ``hvm``. If neither asks, the configured default of the
architecture is used. Image and flavor must not ask for different types.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping

from nova import exception
from nova import objects
from nova.objects import fields

from xen44_driver.xen.guesttype import GuestType

EXTRA_SPEC = 'xen44:guest_type'

#: The guest types for each ``hw_vm_mode``, the preferred one first. Nova has
#: no mode for PVH; ``xen`` fits, as both types need a kernel that supports
#: Xen.
_VM_MODES: Mapping[str, tuple[GuestType, ...]] = {
    fields.VMMode.XEN: (GuestType.PV, GuestType.PVH),
    fields.VMMode.HVM: (GuestType.HVM,),
}


def by_mode(mode: str, offered: Collection[GuestType]) -> GuestType:
    """Return the guest type that an image's ``hw_vm_mode`` means on a host.

    :param mode: the property's value.
    :param offered: guest types that the host can run.
    :returns: a type in ``offered``, or the preferred type of the mode if the
        host can run none of its types.
    :raises nova.exception.InvalidInput: the mode is not one of Xen's.
    """
    if mode not in _VM_MODES:
        raise exception.InvalidInput(
            reason=f'the image asks for hw_vm_mode {mode!r}; allowed: '
                   f'{", ".join(_VM_MODES)}')
    meant = _VM_MODES[mode]
    return next((kind for kind in meant if kind in offered), meant[0])


def mode_of(kind: GuestType) -> str:
    """Return the ``hw_vm_mode`` that asks for a guest type.

    :param kind: PV, PVH or HVM.
    """
    return next(mode for mode, meant in _VM_MODES.items() if kind in meant)


def choose(
    image: objects.ImageMeta, flavor: objects.Flavor, *,
    default: GuestType, offered: Collection[GuestType],
) -> GuestType:
    """Choose a guest's type.

    :param image: the instance's image.
    :param flavor: the instance's flavor.
    :param default: the type if neither image nor flavor asks for one.
    :param offered: guest types that this host can run.
    :raises nova.exception.InvalidInput: the host cannot run the type, or image
        and flavor contradict each other; the message names who asks for what,
        and what is allowed.
    """
    mode = image.properties.get('hw_vm_mode')
    by_image = None if mode is None else by_mode(mode, offered)
    by_flavor = _by_flavor(flavor)
    if by_image and by_flavor and by_image != by_flavor:
        raise exception.InvalidInput(
            reason=f'the image asks for guest type {by_image} (hw_vm_mode='
                   f'{mode}), the flavor for '
                   f'{by_flavor} ({EXTRA_SPEC}={by_flavor}); they have to '
                   'agree')
    chosen = by_image or by_flavor or default
    if chosen not in offered:
        why = ('as the image asks' if by_image else
               'as the flavor asks' if by_flavor else
               'the configured default_guest_type')
        raise exception.InvalidInput(
            reason=f'this host cannot run guest type {chosen} ({why}); it '
                   f'can run: {", ".join(sorted(offered))}')
    return chosen


def _by_flavor(flavor: objects.Flavor) -> GuestType | None:
    asked = flavor.extra_specs.get(EXTRA_SPEC)
    if asked is None:
        return None
    try:
        return GuestType(asked)
    except ValueError as error:
        raise exception.InvalidInput(
            reason=f'the flavor asks for {EXTRA_SPEC} {asked!r}; allowed: '
                   f'{", ".join(GuestType)}') from error
