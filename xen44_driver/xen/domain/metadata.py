# SPDX-License-Identifier: Apache-2.0
"""``<metadata>``: what the cloud calls the domain, in our own namespace."""

import dataclasses

from lxml import etree

from xen44_driver.xen.domain import xml
from xen44_driver.xen.domain.spec import InstanceMetadata

#: Names our elements; what they mean changes only together with it.
NAMESPACE = 'urn:xen44-driver:instance:1'


def to_xml(domain: etree._Element, metadata: InstanceMetadata) -> None:
    """Write the metadata, an element for each field."""
    outer = xml.add(domain, 'metadata')
    instance = etree.SubElement(outer, f'{{{NAMESPACE}}}instance',
                                nsmap={'xen44': NAMESPACE})
    for field in dataclasses.fields(metadata):
        value = getattr(metadata, field.name)
        if value is not None:
            xml.add(instance, f'{{{NAMESPACE}}}{field.name}', value)


def from_xml(domain: etree._Element) -> InstanceMetadata | None:
    """Read the metadata; None if the domain has none of ours."""
    instance = domain.find(f'metadata/{{{NAMESPACE}}}instance')
    if instance is None:
        return None
    values = {field.name: xml.text(instance, f'{{{NAMESPACE}}}{field.name}')
              for field in dataclasses.fields(InstanceMetadata)}
    return InstanceMetadata(
        name=values.pop('name') or '', flavor=values.pop('flavor') or '',
        **values)
