# SPDX-License-Identifier: Apache-2.0
"""The whole ``<domain>``: one small writer and reader per part of it."""

from lxml import etree

from xen44_driver.xen import errors
from xen44_driver.xen.arch import Architecture
from xen44_driver.xen.domain import boot
from xen44_driver.xen.domain import console
from xen44_driver.xen.domain import disk
from xen44_driver.xen.domain import graphics
from xen44_driver.xen.domain import interface
from xen44_driver.xen.domain import metadata
from xen44_driver.xen.domain import xenbus
from xen44_driver.xen.domain import xml
from xen44_driver.xen.domain.spec import DomainSpec
from xen44_driver.xen.guesttype import GuestType

_KIB = {'KiB': 1, 'MiB': 1024, 'GiB': 1024 ** 2, 'TiB': 1024 ** 3}


def to_xml(spec: DomainSpec, arch: Architecture) -> str:
    """Write a domain for libvirt's libxl driver.

    :param spec: what to write.
    :param arch: the host's architecture.
    :returns: XML that libvirt's schema accepts.
    :raises SpecError: the architecture cannot have such a domain.
    """
    if spec.arch != arch.name:
        raise errors.SpecError('arch', spec.arch, arch.name)
    if spec.vnc is not None and not arch.vnc(spec.guest_type):
        raise errors.SpecError(
            'vnc', spec.vnc.listen, f'none, for {spec.guest_type} on '
            f'{arch.name}')
    domain = etree.Element('domain', type='xen')
    xml.add(domain, 'name', spec.name)
    xml.add(domain, 'uuid', spec.uuid)
    if spec.title is not None:
        xml.add(domain, 'title', spec.title)
    if spec.description is not None:
        xml.add(domain, 'description', spec.description)
    if spec.metadata is not None:
        metadata.to_xml(domain, spec.metadata)
    xml.add(domain, 'memory', str(spec.memory_mib), unit='MiB')
    xml.add(domain, 'vcpu', str(spec.vcpus))
    if spec.cpus is not None:
        # For each: libvirt's libxl driver heeds no cpuset of <vcpu>.
        cpuset = ','.join(map(str, sorted(spec.cpus)))
        tune = xml.add(domain, 'cputune')
        for vcpu in range(spec.vcpus):
            xml.add(tune, 'vcpupin', vcpu=str(vcpu), cpuset=cpuset)
    boot.to_xml(domain, spec.guest_type, spec.boot, arch)
    if spec.guest_type is GuestType.HVM:
        features = xml.add(domain, 'features')
        for feature in ('acpi', 'apic', 'pae'):
            xml.add(features, feature)
    xml.add(domain, 'clock', offset='utc')
    xml.add(domain, 'on_poweroff', 'destroy')
    xml.add(domain, 'on_reboot', 'restart')
    xml.add(domain, 'on_crash', 'destroy')
    devices = xml.add(domain, 'devices')
    xenbus.to_xml(devices, spec.max_event_channels, spec.max_grant_frames)
    for one_disk in spec.disks:
        disk.to_xml(devices, one_disk)
    for one_interface in spec.interfaces:
        interface.to_xml(devices, one_interface)
    console.to_xml(devices, spec.guest_type, spec.serial_log)
    if spec.vnc is not None:
        graphics.to_xml(devices, spec.vnc, spec.guest_type)
    etree.indent(domain)
    return etree.tostring(domain, encoding='unicode') + '\n'


def from_xml(text: str, arch: Architecture) -> DomainSpec:
    """Read a domain back, from our own XML or from libvirt's.

    What we do not write is passed over, such as the devices that libvirt adds
    by itself, addresses and names that a running domain has.

    :param text: ``<domain>``.
    :param arch: the host's architecture.
    :raises SpecError: it is no domain of ours: not Xen's, of another
        architecture, or booted in another way.
    """
    domain = xml.parse(text)
    if domain.tag != 'domain' or domain.get('type') != 'xen':
        raise errors.SpecError('xml', f'{domain.tag!r} {domain.get("type")}',
                               'a domain of type xen')
    os = domain.find('os')
    devices = domain.find('devices')
    if os is None or devices is None:
        raise errors.SpecError('xml', 'domain', 'with os and devices')
    its_arch = xml.get(os, 'type', 'arch') or arch.name
    if its_arch != arch.name:
        raise errors.SpecError('arch', its_arch, arch.name)
    guest_type = arch.guest_type(xml.need(os, 'type'),
                                 xml.get(os, 'type', 'machine'))
    events, grants = xenbus.from_xml(devices)
    return DomainSpec(
        uuid=xml.need(domain, 'uuid'),
        name=xml.need(domain, 'name'),
        arch=its_arch,
        guest_type=guest_type,
        memory_mib=_memory_mib(domain),
        vcpus=int(xml.need(domain, 'vcpu')),
        cpus=_cpus(xml.get(domain, 'cputune/vcpupin', 'cpuset')),
        boot=boot.from_xml(os, guest_type),
        disks=tuple(filter(None, map(disk.from_xml,
                                     devices.iterfind('disk')))),
        interfaces=tuple(filter(None, map(interface.from_xml,
                                          devices.iterfind('interface')))),
        vnc=graphics.from_xml(devices),
        serial_log=console.from_xml(devices),
        max_event_channels=events,
        max_grant_frames=grants,
        metadata=metadata.from_xml(domain),
        title=xml.text(domain, 'title'),
        description=xml.text(domain, 'description'))


def _cpus(text: str | None) -> frozenset[int] | None:
    """Numbers and ranges, as libvirt answers them: ``0,4-7``."""
    if text is None:
        return None
    cpus: set[int] = set()
    for part in text.split(','):
        first, _, last = part.partition('-')
        cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)


def _memory_mib(domain: etree._Element) -> int:
    # libvirt's default unit, and the one it answers in, is KiB.
    unit = xml.get(domain, 'memory', 'unit') or 'KiB'
    if unit not in _KIB:
        raise errors.SpecError('memory.unit', unit, _KIB)
    return -(-int(xml.need(domain, 'memory')) * _KIB[unit] // 1024)
