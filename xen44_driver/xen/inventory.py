# SPDX-License-Identifier: Apache-2.0
"""What a host's domains are and have, for people."""

from __future__ import annotations

import dataclasses

from lxml import etree

from xen44_driver.xen import arch
from xen44_driver.xen import errors
from xen44_driver.xen.domain import domain as domain_lib
from xen44_driver.xen.domain import metadata as metadata_lib
from xen44_driver.xen.domain import xml
from xen44_driver.xen.events import DomainRecord
from xen44_driver.xen.guesttype import GuestType


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DomainSummary:
    """A domain, this driver's or another.

    :ivar record: its name and its state.
    :ivar guest_type: None if the driver has no such guests.
    :ivar vcpus: number of vCPUs.
    :ivar memory_mib: memory that it has when it runs, in MiB.
    :ivar disks: the guest's names of its disks and CD-ROMs, such as ``xvda``.
    :ivar macs: MAC addresses of its network interfaces.
    :ivar metadata: what it says of its instance; None for other domains.
    """

    record: DomainRecord
    guest_type: GuestType | None
    vcpus: int
    memory_mib: int
    disks: tuple[str, ...]
    macs: tuple[str, ...]
    metadata: metadata_lib.InstanceMetadata | None


def read(record: DomainRecord, text: str) -> DomainSummary:
    """Read a domain from libvirt's XML.

    :param record: its record.
    :param text: the ``<domain>`` element.
    :raises SpecError: it has no memory or no vCPUs.
    """
    domain = xml.parse(text)
    return DomainSummary(
        record=record,
        guest_type=_guest_type(domain),
        vcpus=int(xml.get(domain, 'vcpu', 'current')
                  or xml.need(domain, 'vcpu')),
        memory_mib=domain_lib.memory_mib(domain),
        disks=tuple(
            target.get('dev', '')
            for target in domain.iterfind('devices/disk/target')),
        macs=tuple(
            mac.get('address', '')
            for mac in domain.iterfind('devices/interface/mac')),
        metadata=metadata_lib.from_xml(domain))


def _guest_type(domain: etree._Element) -> GuestType | None:
    try:
        return arch.load(xml.need(domain, 'os/type', 'arch')).guest_type(
            xml.need(domain, 'os/type'), xml.get(domain, 'os/type', 'machine'))
    except (errors.HostUnsupported, errors.SpecError):
        return None
