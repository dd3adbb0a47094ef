# SPDX-License-Identifier: Apache-2.0
"""What a host can do, read from libvirt's capabilities."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import types

from lxml import etree
from oslo_utils import units

from xen44_driver.xen import arch
from xen44_driver.xen import errors
from xen44_driver.xen.domain import cpu as cpu_lib
from xen44_driver.xen.domain import xml
from xen44_driver.xen.guesttype import GuestType


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """The topology of the host's processors.

    :ivar sockets: sockets in the host.
    :ivar cores: cores in a socket.
    :ivar threads: threads in a core.
    """

    sockets: int
    cores: int
    threads: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A NUMA node of the host.

    :ivar id: its number.
    :ivar memory_mib: its memory, in MiB.
    :ivar cpus: numbers of its CPUs.
    :ivar siblings: its CPUs again, a set for those that share a core.
    :ivar socket: number of the socket; None if it has CPUs of several.
    """

    id: int
    memory_mib: int
    cpus: frozenset[int]
    siblings: tuple[frozenset[int], ...]
    socket: int | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a host can do.

    :ivar arch: ``x86_64`` or ``aarch64``.
    :ivar guest_arches: libvirt's names of the architectures that guests can
        have: ``x86_64`` and ``i686``, or ``aarch64`` and, if the CPUs still
        run 32-bit kernels, ``armv7l``.
    :ivar guest_types: guest types that the host can run, in the
        architecture's order.
    :ivar cpu_model: libvirt's nearest CPU model, or None.
    :ivar cpu_features: libvirt's names of the CPU's features, including those
        that the model implies; empty on ARM.
    :ivar topology: topology of the processors.
    :ivar cells: the NUMA nodes.
    :ivar max_vcpus: the most vCPUs of a guest, by guest type.
    :ivar disk_buses: ``xen``, ``ide``, ``scsi`` ... of all guest types.
    :ivar video_models: graphics cards of HVM guests; empty without HVM.
    """

    arch: str
    guest_arches: frozenset[str]
    guest_types: tuple[GuestType, ...]
    cpu_model: str | None
    cpu_features: frozenset[str]
    topology: Topology
    cells: tuple[Cell, ...]
    max_vcpus: Mapping[GuestType, int]
    disk_buses: frozenset[str]
    video_models: frozenset[str]

    @property
    def nested_feature(self) -> str | None:
        """The feature by which HVM guests could run guests of their own.

        Whether Xen can do it well, only a probe tells.

        :returns: ``svm``, ``vmx``, or None.
        """
        return next((name for name in cpu_lib.NESTED_FEATURES
                     if name in self.cpu_features), None)


def host_arch(capabilities_xml: str) -> str:
    """Read the host's architecture from ``virConnectGetCapabilities``."""
    return xml.need(xml.parse(capabilities_xml), 'host/cpu/arch')


def host_cpu(capabilities_xml: str) -> str | None:
    """Return the host's ``<cpu>``, or None if it has no model."""
    cpu = xml.parse(capabilities_xml).find('host/cpu')
    if cpu is None or cpu.find('model') is None:
        return None
    return etree.tostring(cpu, encoding='unicode', with_tail=False)


def cpu_features(cpu_xml: str) -> frozenset[str]:
    """Read the features that a CPU has from ``virConnectBaselineCPU``."""
    return frozenset(
        feature.get('name', '')
        for feature in xml.parse(cpu_xml).iterfind('feature')
        if feature.get('policy', 'require') in ('require', 'force'))


def machines(capabilities_xml: str) -> Mapping[GuestType, str]:
    """Return libvirt's machine name for each guest type of the host.

    :raises HostUnsupported: the architecture is not supported, or the host
        cannot run Xen guests.
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


def parse(capabilities_xml: str, domain_xml: Mapping[str, str],
          implied_features: frozenset[str] = frozenset()) -> Capabilities:
    """Parse libvirt's answers.

    :param capabilities_xml: the answer to ``virConnectGetCapabilities``.
    :param domain_xml: the answers to ``virConnectGetDomainCapabilities``, by
        machine; not every machine of :func:`machines` needs to be there.
    :param implied_features: features that the CPU's model implies;
        ``virConnectGetCapabilities`` lists only the others.
    :raises HostUnsupported: see :func:`machines`.
    """
    ours = machines(capabilities_xml)
    root = xml.parse(capabilities_xml)
    domains = {guest_type: xml.parse(domain_xml[machine])
               for guest_type, machine in ours.items()
               if machine in domain_xml}
    hvm = domains.get(GuestType.HVM)
    return Capabilities(
        arch=xml.need(root, 'host/cpu/arch'),
        guest_arches=frozenset(
            its_arch.get('name', '')
            for its_arch in root.iterfind('guest/arch')
            if its_arch.find("domain[@type='xen']") is not None),
        guest_types=tuple(ours),
        cpu_model=xml.text(root, 'host/cpu/model'),
        cpu_features=frozenset(
            feature.get('name', '')
            for feature in root.iterfind('host/cpu/feature')
        ) | implied_features,
        topology=_topology(root),
        cells=tuple(map(_cell, root.iterfind('host/topology/cells/cell'))),
        max_vcpus=types.MappingProxyType({
            guest_type: int(xml.need(domain, 'vcpu', 'max'))
            for guest_type, domain in domains.items()}),
        disk_buses=frozenset[str]().union(*(
            _enum(domain, 'disk', 'bus') for domain in domains.values())),
        video_models=frozenset(
            () if hvm is None else _enum(hvm, 'video', 'modelType')))


def _topology(root: etree._Element) -> Topology:
    topology = root.find('host/cpu/topology')
    if topology is None:
        # On ARM, libvirt lists the processors without their topology.
        count = len(root.findall('host/topology/cells/cell/cpus/cpu'))
        return Topology(sockets=1, cores=max(count, 1), threads=1)
    return Topology(sockets=int(topology.get('sockets', '1')),
                    cores=int(topology.get('cores', '1')),
                    threads=int(topology.get('threads', '1')))


def _cell(cell: etree._Element) -> Cell:
    cpus = cell.findall('cpus/cpu')
    sockets = {cpu.get('socket_id') for cpu in cpus}
    siblings = {xml.cpus(cpu.get('siblings', '') or cpu.get('id', ''))
                for cpu in cpus}
    return Cell(
        id=int(cell.get('id', '')),
        # libvirt always states it in KiB here.
        memory_mib=int(xml.need(cell, 'memory')) // units.Ki,
        cpus=frozenset(int(cpu.get('id', '')) for cpu in cpus),
        siblings=tuple(sorted(siblings, key=min)),
        socket=int(sockets.pop() or 0) if len(sockets) == 1 else None)


def _enum(domain: etree._Element, device: str, name: str) -> set[str]:
    path = f"devices/{device}[@supported='yes']/enum[@name='{name}']/value"
    return {value.text or '' for value in domain.iterfind(path)}
