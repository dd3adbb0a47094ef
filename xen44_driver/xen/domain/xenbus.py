# SPDX-License-Identifier: Apache-2.0
"""``<controller type='xenbus'>``: limits of event channels and grants."""

from __future__ import annotations

from lxml import etree

from xen44_driver.xen.domain import check
from xen44_driver.xen.domain import xml


def check_limits(max_event_channels: int | None,
                 max_grant_frames: int | None) -> None:
    """Check that Xen can have these limits.

    :raises SpecError: it cannot.
    """
    # The FIFO ABI has 2^17 event channels.
    if max_event_channels is not None:
        check.within('max_event_channels', max_event_channels, 1, 2 ** 17)
    if max_grant_frames is not None:
        check.within('max_grant_frames', max_grant_frames, 1, 2 ** 20)


def to_xml(devices: etree._Element, max_event_channels: int | None,
           max_grant_frames: int | None) -> None:
    """Write the limits; write nothing if Xen's defaults are wanted."""
    if max_event_channels is None and max_grant_frames is None:
        return
    controller = xml.add(devices, 'controller', type='xenbus', index='0')
    if max_grant_frames is not None:
        controller.set('maxGrantFrames', str(max_grant_frames))
    if max_event_channels is not None:
        controller.set('maxEventChannels', str(max_event_channels))


def from_xml(devices: etree._Element) -> tuple[int | None, int | None]:
    """Read the limits.

    :returns: the limits of event channels and of grant frames.
    """
    path = "controller[@type='xenbus']"
    events = xml.get(devices, path, 'maxEventChannels')
    grants = xml.get(devices, path, 'maxGrantFrames')
    return (None if events is None else int(events),
            None if grants is None else int(grants))
