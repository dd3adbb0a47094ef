# SPDX-License-Identifier: Apache-2.0
"""Whether a guest is PV, PVH or HVM: a choice with a reason.

The image may ask (``hw_vm_mode``: ``xen`` is PV, ``hvm`` is HVM), the flavor
may (``xen44:guest_type``: ``pv``, ``pvh`` or ``hvm``); where neither does, the
architecture's configured default holds. Image and flavor must not ask for
different things.
"""

from __future__ import annotations

from collections.abc import Collection

from nova import exception
from nova import objects
from nova.objects import fields

from xen44_driver.xen.guesttype import GuestType

EXTRA_SPEC = 'xen44:guest_type'

#: The image property ``hw_vm_mode`` -> guest type.
VM_MODES = {
    fields.VMMode.XEN: GuestType.PV,
    fields.VMMode.HVM: GuestType.HVM,
}


def choose(
    image: objects.ImageMeta, flavor: objects.Flavor, *,
    default: GuestType, offered: Collection[GuestType],
) -> GuestType:
    """Choose a guest's type.

    :param image: its image
    :param flavor: its flavor
    :param default: where neither asks for one
    :param offered: what this host can run
    :raises nova.exception.InvalidInput: names what was asked, by whom, and
        what is allowed
    """
    hypervisor = image.properties.get('img_hv_type')
    if hypervisor and hypervisor != fields.HVType.XEN:
        raise exception.InvalidInput(
            reason=f'the image is for another hypervisor: img_hv_type is '
                   f'{hypervisor!r}; allowed: {fields.HVType.XEN}')

    by_image = _by_image(image)
    by_flavor = _by_flavor(flavor)
    if by_image and by_flavor and by_image != by_flavor:
        raise exception.InvalidInput(
            reason=f'the image asks for guest type {by_image} (hw_vm_mode='
                   f'{image.properties.hw_vm_mode}), the flavor for '
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


def _by_image(image: objects.ImageMeta) -> GuestType | None:
    mode = image.properties.get('hw_vm_mode')
    if mode is None:
        return None
    if mode not in VM_MODES:
        raise exception.InvalidInput(
            reason=f'the image asks for hw_vm_mode {mode!r}; allowed: '
                   f'{", ".join(VM_MODES)}')
    return VM_MODES[mode]


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
