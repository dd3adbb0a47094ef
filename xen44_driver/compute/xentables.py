# SPDX-License-Identifier: Apache-2.0
"""Give guests the event channels and grant frames that they need.

A flavor can ask for numbers (:data:`EVENT_CHANNELS`, :data:`GRANT_FRAMES`), or
the host's options can. If neither does, a guest whose vCPUs and devices need
more than the defaults of libxl and Xen gets what they need.
"""

from __future__ import annotations

import dataclasses

from nova import exception
from nova import objects

from xen44_driver.xen import eventchannels
from xen44_driver.xen.guesttype import GuestType

#: The extra specs of flavors. Fewer than the defaults are not allowed: they
#: would save nothing, as Xen's memory is taken by what is used.
EVENT_CHANNELS = 'xen44:max_event_channels'
GRANT_FRAMES = 'xen44:max_grant_frames'


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The sizes of a guest's tables.

    :ivar max_event_channels: None for libxl's default.
    :ivar max_grant_frames: None for Xen's default.
    """

    max_event_channels: int | None
    max_grant_frames: int | None


def of_flavor(flavor: objects.Flavor) -> Limits:
    """Return what a flavor asks for; None where it does not.

    :raises nova.exception.InvalidInput: a value is not possible; the message
        names the extra spec and what is allowed.
    """
    return Limits(
        max_event_channels=_number(
            flavor, EVENT_CHANNELS, eventchannels.DEFAULT_EVENT_CHANNELS,
            eventchannels.MAX_FIFO),
        max_grant_frames=_number(
            flavor, GRANT_FRAMES, eventchannels.DEFAULT_GRANT_FRAMES,
            eventchannels.MAX_GRANT_FRAMES))


def decide(
    flavor: objects.Flavor, kind: GuestType, *, disks: int, host: Limits,
    most_grant_frames: int | None = None,
) -> Limits:
    """Decide how large a guest's tables are.

    A guest that needs more grant frames than Xen gives to any has as many as
    there are: they are for devices that it may never have.

    :param flavor: the instance's flavor.
    :param kind: the guest's type.
    :param disks: the number of disks that it starts with.
    :param host: what the host's options ask for.
    :param most_grant_frames: the most that Xen gives to a guest; None for any
        number.
    :raises nova.exception.InvalidInput: see :func:`of_flavor`; or the flavor
        or the host asks for more grant frames than Xen gives.
    """
    asked = of_flavor(flavor)
    need = eventchannels.of_guest(kind, vcpus=flavor.vcpus, disks=disks)
    frames = asked.max_grant_frames or host.max_grant_frames
    if most_grant_frames is not None and (frames or 0) > most_grant_frames:
        asks = (f'the flavor asks for {GRANT_FRAMES}'
                if asked.max_grant_frames else
                'this host asks for [xen44] max_grant_frames')
        raise exception.InvalidInput(
            reason=f'{asks} {frames}; allowed: at most {most_grant_frames}, '
                   'the gnttab_max_frames of this Xen (any number from Xen '
                   '4.18 on)')
    return Limits(
        max_event_channels=(
            asked.max_event_channels or host.max_event_channels
            or _above(need.event_channels,
                      eventchannels.DEFAULT_EVENT_CHANNELS)),
        # Without a number, such a Xen gives the most that it can.
        max_grant_frames=frames or (
            _above(need.grant_frames, eventchannels.DEFAULT_GRANT_FRAMES)
            if most_grant_frames is None else None))


def _above(need: int, default: int) -> int | None:
    """Return what is needed if the default is too small."""
    return need if need > default else None


def _number(
    flavor: objects.Flavor, name: str, least: int, most: int,
) -> int | None:
    specs = flavor.extra_specs if 'extra_specs' in flavor else None
    text = (specs or {}).get(name)
    if text is None:
        return None
    number = int(text) if text.isascii() and text.isdigit() else 0
    if not least <= number <= most:
        raise exception.InvalidInput(
            reason=f'the flavor asks for {name} {text[:40]!r}; allowed: '
                   f'{least} to {most}')
    return number
