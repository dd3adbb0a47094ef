# SPDX-License-Identifier: Apache-2.0
"""``<metadata>``: Nova's data about a domain, in the driver's own namespace.

The element also distinguishes this driver's domains from others on the host.
"""

from __future__ import annotations

import dataclasses

from lxml import etree

from xen44_driver.xen.domain import check
from xen44_driver.xen.domain import xml

#: XML namespace of the elements; it changes if their meaning changes.
NAMESPACE = 'urn:xen44-driver:instance:1'

_ELEMENT = f'{{{NAMESPACE}}}instance'
_BOOT = f'{{{NAMESPACE}}}boot'
_DIRECT = 'direct'


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class InstanceMetadata:
    """Nova's data about a domain.

    All fields except ``machine`` are free text for people. Characters that XML
    does not allow are removed from them.

    :ivar name: the instance's display name.
    :ivar flavor: the flavor's name.
    :ivar image: UUID of the image; None if it boots from a volume.
    :ivar project: the project that owns the instance.
    :ivar user: the user who created the instance.
    :ivar machine: the record of the instance, as JSON; never modified.
    """

    name: str
    flavor: str
    image: str | None = None
    project: str | None = None
    user: str | None = None
    machine: str | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if field.name == 'machine':
                check.carried('metadata.machine', value)
            else:
                object.__setattr__(self, field.name, check.printable(value))


def to_xml(domain: etree._Element, metadata: InstanceMetadata | None, *,
           mark_direct: bool = False) -> None:
    """Write the metadata, an element for each field.

    :param mark_direct: whether to mark that the domain boots a kernel of the
        host, see :func:`xen44_driver.xen.domain.boot.needs_mark`.
    """
    if metadata is None and not mark_direct:
        return
    outer = xml.add(domain, 'metadata')
    instance = etree.SubElement(outer, _ELEMENT, nsmap={'xen44': NAMESPACE})
    if metadata is not None:
        for field in dataclasses.fields(metadata):
            value = getattr(metadata, field.name)
            if value is not None:
                xml.add(instance, f'{{{NAMESPACE}}}{field.name}', value)
    if mark_direct:
        xml.add(instance, _BOOT, _DIRECT)


def from_xml(domain: etree._Element) -> InstanceMetadata | None:
    """Read the metadata.

    :returns: None if the domain has no metadata of this driver.
    """
    instance = domain.find(f'metadata/{_ELEMENT}')
    if instance is None or instance.find(f'{{{NAMESPACE}}}name') is None:
        return None
    values = {field.name: xml.text(instance, f'{{{NAMESPACE}}}{field.name}')
              for field in dataclasses.fields(InstanceMetadata)}
    return InstanceMetadata(
        name=values.pop('name') or '', flavor=values.pop('flavor') or '',
        **values)


def marks_direct(domain: etree._Element) -> bool:
    """Return whether the metadata marks that a kernel of the host boots."""
    return xml.text(domain, f'metadata/{_ELEMENT}/{_BOOT}') == _DIRECT


def ours(domain: etree._Element) -> bool:
    """Return whether the domain has metadata of this driver."""
    return domain.find(f'metadata/{_ELEMENT}') is not None
