# SPDX-License-Identifier: Apache-2.0
"""Helpers to write and read XML with lxml."""

from __future__ import annotations

from lxml import etree

from xen44_driver.xen import errors


def add(parent: etree._Element, tag: str, text: str | None = None,
        **attributes: str | None) -> etree._Element:
    """Append a child to an element.

    :param text: the child's text.
    :param attributes: the child's attributes; those that are None are omitted.
    :returns: the child.
    """
    child = etree.SubElement(parent, tag)
    child.text = text
    for name, value in attributes.items():
        if value is not None:
            child.set(name, value)
    return child


def parse(text: str) -> etree._Element:
    """Parse XML from outside, without entities and network access.

    :raises SpecError: the XML is not well-formed.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True,
                             remove_comments=True, remove_pis=True)
    try:
        return etree.fromstring(text, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise errors.SpecError('xml', text[:80],
                               f'well-formed XML ({error})') from error


def get(element: etree._Element, path: str, attribute: str) -> str | None:
    """Return the attribute of the first element at a path, or None."""
    found = element.find(path)
    return None if found is None else found.get(attribute)


def text(element: etree._Element, path: str) -> str | None:
    """Return the text of the first element at a path, or None."""
    return element.findtext(path)


def cpus(text: str) -> frozenset[int]:
    """Parse libvirt's list of CPUs, numbers and ranges such as ``0,4-7``."""
    numbers: set[int] = set()
    for part in text.split(','):
        first, _, last = part.partition('-')
        numbers.update(range(int(first), int(last or first) + 1))
    return frozenset(numbers)


def need(element: etree._Element, path: str,
         attribute: str | None = None) -> str:
    """Return the text, or an attribute, of an element that must exist.

    :raises SpecError: the element or the attribute does not exist.
    """
    value = (text(element, path) if attribute is None
             else get(element, path, attribute))
    if value is None:
        raise errors.SpecError(
            'xml', element.tag,
            f'with {path}' + (f'/@{attribute}' if attribute else ''))
    return value
