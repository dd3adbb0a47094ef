# SPDX-License-Identifier: Apache-2.0
"""What a host can do, in libvirt's own words."""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import types

from lxml import etree

from xen44_driver.xen import arch
from xen44_driver.xen import errors
from xen44_driver.xen.domain import xml
from xen44_driver.xen.guesttype import GuestType


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """The processor: how many of each in one of the former."""

    sockets: int
    cores: int
    threads: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a host can do.

    :param arch: ``x86_64`` or ``aarch64``.
    :param guest_types: that this host can run, in the architecture's order.
    :param cpu_model: libvirt's nearest name of it, None where it has none.
    :param cpu_features: libvirt's names of them; empty on ARM.
    :param topology: of the processor.
    :param live_migration: whether libvirt can migrate guests as they run.
    :param max_vcpus: of a guest of each type.
    :param disk_buses: ``xen``, ``ide``, ``scsi`` ... of any guest type.
    :param video_models: of HVM guests; empty without them.
    :param graphics: ``vnc``, ``sdl`` ... of any guest type.
    :param firmware: OVMF images for HVM guests: paths.
    """

    arch: str
    guest_types: tuple[GuestType, ...]
    cpu_model: str | None
    cpu_features: frozenset[str]
    topology: Topology
    live_migration: bool
    max_vcpus: Mapping[GuestType, int]
    disk_buses: frozenset[str]
    video_models: frozenset[str]
    graphics: frozenset[str]
    firmware: tuple[str, ...]


def host_arch(capabilities_xml: str) -> str:
    """The host's architecture, from ``virConnectGetCapabilities``."""
    return xml.need(xml.parse(capabilities_xml), 'host/cpu/arch')


def machines(capabilities_xml: str) -> Mapping[GuestType, str]:
    """The host's guest types, and the machine of each.

    :raises HostUnsupported: nobody wrote its architecture, or it runs no
        guests of Xen.
    """
    root = xml.parse(capabilities_xml)
    architecture = arch.load(xml.need(root, 'host/cpu/arch'))
    offered = set(_offered(root, architecture.name))
    found = {
        guest_type: architecture.os_type(guest_type).machine
        for guest_type in architecture.guest_types
        if architecture.os_type(guest_type).machine in offered
    }
    if not found:
        raise errors.HostUnsupported(
            'libvirt offers no guest type of Xen on this host; it offers: '
            + (', '.join(sorted(offered)) or 'none'))
    return found


def _offered(root: etree._Element, arch_name: str) -> Iterator[str]:
    for its_arch in root.iterfind(f"guest/arch[@name='{arch_name}']"):
        if its_arch.find("domain[@type='xen']") is not None:
            yield from (machine.text or ''
                        for machine in its_arch.iterfind('machine'))


def parse(capabilities_xml: str,
          domain_xml: Mapping[str, str]) -> Capabilities:
    """Read libvirt's answers.

    :param capabilities_xml: of ``virConnectGetCapabilities``.
    :param domain_xml: of ``virConnectGetDomainCapabilities`` for each of
        :func:`machines`, by machine. Those that are missing say nothing.
    :raises HostUnsupported: as :func:`machines`.
    """
    ours = machines(capabilities_xml)
    root = xml.parse(capabilities_xml)
    domains = {guest_type: xml.parse(domain_xml[machine])
               for guest_type, machine in ours.items()
               if machine in domain_xml}
    hvm = domains.get(GuestType.HVM)
    return Capabilities(
        arch=xml.need(root, 'host/cpu/arch'),
        guest_types=tuple(ours),
        cpu_model=xml.text(root, 'host/cpu/model'),
        cpu_features=frozenset(
            feature.get('name', '')
            for feature in root.iterfind('host/cpu/feature')),
        topology=_topology(root),
        live_migration=root.find(
            'host/migration_features/live') is not None,
        max_vcpus=types.MappingProxyType({
            guest_type: int(xml.need(domain, 'vcpu', 'max'))
            for guest_type, domain in domains.items()}),
        disk_buses=frozenset[str]().union(*(
            _enum(domain, 'disk', 'bus') for domain in domains.values())),
        video_models=frozenset(
            () if hvm is None else _enum(hvm, 'video', 'modelType')),
        graphics=frozenset[str]().union(*(
            _enum(domain, 'graphics', 'type')
            for domain in domains.values())),
        firmware=() if hvm is None else tuple(_firmware(hvm)))


def _topology(root: etree._Element) -> Topology:
    topology = root.find('host/cpu/topology')
    if topology is None:
        # ARM: libvirt lists the processors, but does not sort them.
        count = len(root.findall('host/topology/cells/cell/cpus/cpu'))
        return Topology(sockets=1, cores=max(count, 1), threads=1)
    return Topology(sockets=int(topology.get('sockets', '1')),
                    cores=int(topology.get('cores', '1')),
                    threads=int(topology.get('threads', '1')))


def _enum(domain: etree._Element, device: str, name: str) -> set[str]:
    path = f"devices/{device}[@supported='yes']/enum[@name='{name}']/value"
    return {value.text or '' for value in domain.iterfind(path)}


def _firmware(domain: etree._Element) -> Iterator[str]:
    # hvmloader, which libvirt lists too, is not chosen but always there.
    for value in domain.iterfind('os/loader/value'):
        if value.text and not value.text.endswith('/hvmloader'):
            yield value.text
