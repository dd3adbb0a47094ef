# SPDX-License-Identifier: Apache-2.0
"""``<clock>``: the time zone of the guest's hardware clock."""

from __future__ import annotations

from typing import Literal

from lxml import etree

from xen44_driver.xen.domain import xml

#: UTC, or the host's local time, which Windows expects.
Clock = Literal['utc', 'localtime']
CLOCKS: tuple[Clock, ...] = ('utc', 'localtime')


def to_xml(domain: etree._Element, clock: Clock) -> None:
    """Write the clock."""
    xml.add(domain, 'clock', offset=clock)


def from_xml(domain: etree._Element) -> Clock:
    """Read the clock."""
    offset = xml.get(domain, 'clock', 'offset')
    return 'localtime' if offset == 'localtime' else 'utc'
