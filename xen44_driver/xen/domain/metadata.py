# SPDX-License-Identifier: Apache-2.0
"""``<metadata>``: Nova's or CloudStack's data about a domain.

Each has an element of its own, in a namespace of this driver. It also
distinguishes their domains from each other's, and from others on the host.
"""

from __future__ import annotations

import dataclasses
import enum

from lxml import etree

from xen44_driver.xen.domain import check
from xen44_driver.xen.domain import xml

#: XML namespace of Nova's elements; it changes if their meaning changes.
NAMESPACE = 'urn:xen44-driver:instance:1'

_DIRECT = 'direct'


class Owner(enum.Enum):
    """Who made a domain through this driver; the value is the namespace."""

    NOVA = NAMESPACE
    CLOUDSTACK = 'urn:xen44-driver:cloudstack:1'

    @property
    def _element(self) -> str:
        return self._tag('instance')

    def _tag(self, name: str) -> str:
        return f'{{{self.value}}}{name}'


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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VmMetadata:
    """CloudStack's data about a domain.

    :ivar name: CloudStack's instance name, such as ``i-4-231-VM``.
    """

    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, 'name', check.printable(self.name))


Metadata = InstanceMetadata | VmMetadata


def to_xml(domain: etree._Element, metadata: Metadata | None, *,
           mark_direct: bool = False) -> None:
    """Write the metadata, an element for each field.

    :param mark_direct: whether to mark that the domain boots a kernel of the
        host, see :func:`xen44_driver.xen.domain.boot.needs_mark`.
    """
    if metadata is None and not mark_direct:
        return
    owner = (Owner.CLOUDSTACK if isinstance(metadata, VmMetadata)
             else Owner.NOVA)
    outer = xml.add(domain, 'metadata')
    element = etree.SubElement(
        outer, owner._element, nsmap={'xen44': owner.value})
    if metadata is not None:
        for field in dataclasses.fields(metadata):
            value = getattr(metadata, field.name)
            if value is not None:
                xml.add(element, owner._tag(field.name), value)
    if mark_direct:
        xml.add(element, owner._tag('boot'), _DIRECT)


def from_xml(domain: etree._Element) -> InstanceMetadata | None:
    """Read Nova's metadata.

    :returns: None if the domain has no metadata of Nova's.
    """
    values = _values(domain, Owner.NOVA, InstanceMetadata)
    if values is None:
        return None
    return InstanceMetadata(
        name=values.pop('name') or '', flavor=values.pop('flavor') or '',
        **values)


def any_from_xml(domain: etree._Element) -> Metadata | None:
    """Read the metadata, whoever it is of.

    :returns: None if the domain has no metadata of this driver.
    """
    values = _values(domain, Owner.CLOUDSTACK, VmMetadata)
    return (from_xml(domain) if values is None
            else VmMetadata(name=values['name'] or ''))


def _values(
    domain: etree._Element, owner: Owner, kind: type[Metadata],
) -> dict[str, str | None] | None:
    """Return the text of each field, or None if the name is missing."""
    element = domain.find(f'metadata/{owner._element}')
    if element is None or element.find(owner._tag('name')) is None:
        return None
    return {field.name: xml.text(element, owner._tag(field.name))
            for field in dataclasses.fields(kind)}


def marks_direct(domain: etree._Element) -> bool:
    """Return whether the metadata marks that a kernel of the host boots."""
    return any(xml.text(
        domain, f'metadata/{owner._element}/{owner._tag("boot")}') == _DIRECT
        for owner in Owner)


def ours(domain: etree._Element, owner: Owner = Owner.NOVA) -> bool:
    """Return whether a domain was made by this driver.

    :param owner: for whom.
    """
    return domain.find(f'metadata/{owner._element}') is not None
