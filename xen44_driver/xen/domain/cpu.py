# SPDX-License-Identifier: Apache-2.0
"""``<cpu>``: whether the guest can run guests of its own."""

from __future__ import annotations

from lxml import etree

from xen44_driver.xen import errors
from xen44_driver.xen.domain import check
from xen44_driver.xen.domain import xml
from xen44_driver.xen.guesttype import GuestType

#: libvirt's names of the features that CPUs have for it, AMD's and Intel's.
NESTED_FEATURES = ('svm', 'vmx')


def check_nested(feature: str | None, guest_type: GuestType) -> None:
    """Require a feature that a CPU has for it, and an HVM guest.

    :param feature: None for no nested virtualization.
    :raises SpecError: it is another one, or the guest is PV or PVH.
    """
    if feature is None:
        return
    check.one_of('nested_hvm', feature, NESTED_FEATURES)
    if guest_type is not GuestType.HVM:
        raise errors.SpecError('nested_hvm', feature,
                               f'none, for {guest_type}')


def to_xml(domain: etree._Element, feature: str | None) -> None:
    """Write the CPU of a guest that can run guests of its own.

    libvirt's libxl driver (libxlMakeDomBuildInfo) sets libxl's ``nested_hvm``
    for a CPU of the host that requires a feature which the host's CPU has:
    ``svm`` or ``vmx``. Nothing else of the guest changes: every guest has the
    host's CPU, as far as Xen lets it.
    """
    if feature is not None:
        cpu = xml.add(domain, 'cpu', mode='host-passthrough')
        xml.add(cpu, 'feature', policy='require', name=feature)


def from_xml(domain: etree._Element) -> str | None:
    """Read the feature."""
    cpu = "cpu[@mode='host-passthrough']/feature[@policy='require']"
    found = {feature.get('name') for feature in domain.iterfind(cpu)}
    return next((name for name in NESTED_FEATURES if name in found), None)
