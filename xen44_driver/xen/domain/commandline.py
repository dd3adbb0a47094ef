# SPDX-License-Identifier: Apache-2.0
"""``<xen:commandline>``: arguments for a domain's QEMU."""

from __future__ import annotations

from collections.abc import Iterable

from lxml import etree

from xen44_driver.xen.domain import xml

#: libvirt's XML namespace for elements of its libxl driver.
NAMESPACE = 'http://libvirt.org/schemas/domain/xen/1.0'


def to_xml(domain: etree._Element, arguments: Iterable[str]) -> None:
    """Write the arguments in their order; write nothing if there are none."""
    arguments = tuple(arguments)
    if not arguments:
        return
    element = etree.SubElement(domain, f'{{{NAMESPACE}}}commandline',
                               nsmap={'xen': NAMESPACE})
    for argument in arguments:
        xml.add(element, f'{{{NAMESPACE}}}arg', value=argument)


def from_xml(domain: etree._Element) -> tuple[str, ...]:
    """Read the arguments in their order."""
    path = f'{{{NAMESPACE}}}commandline/{{{NAMESPACE}}}arg'
    return tuple(found.get('value', '') for found in domain.iterfind(path))
