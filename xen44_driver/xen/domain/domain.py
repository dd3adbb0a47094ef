# SPDX-License-Identifier: Apache-2.0
"""``<domain>``: a whole domain.

A :class:`DomainSpec` is checked when it is created, so it can always be
written as XML that is valid by libvirt's schema. Whether the *host* can run it
is not checked; see :mod:`xen44_driver.xen.capabilities`.

Memory is in MiB. Paths are absolute paths of the host.
"""

from __future__ import annotations

import dataclasses

from lxml import etree

from xen44_driver.xen import errors
from xen44_driver.xen.arch import Architecture
from xen44_driver.xen.domain import boot as boot_lib
from xen44_driver.xen.domain import channel
from xen44_driver.xen.domain import check
from xen44_driver.xen.domain import clock as clock_lib
from xen44_driver.xen.domain import commandline
from xen44_driver.xen.domain import console
from xen44_driver.xen.domain import cpu as cpu_lib
from xen44_driver.xen.domain import disk as disk_lib
from xen44_driver.xen.domain import graphics
from xen44_driver.xen.domain import hostdev
from xen44_driver.xen.domain import interface as interface_lib
from xen44_driver.xen.domain import metadata as metadata_lib
from xen44_driver.xen.domain import monitorsocket
from xen44_driver.xen.domain import spice
from xen44_driver.xen.domain import xenbus
from xen44_driver.xen.domain import xml
from xen44_driver.xen.guesttype import GuestType

_KIB = {'KiB': 1, 'MiB': 1024, 'GiB': 1024 ** 2, 'TiB': 1024 ** 3}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DomainSpec:
    """A whole domain.

    :ivar uuid: lower case, with dashes; the UUID of the instance or VM.
    :ivar name: the domain's name in libvirt and Xen; part of file names.
    :ivar arch: ``x86_64`` or ``aarch64``.
    :ivar guest_type: PV, PVH or HVM.
    :ivar memory_mib: memory in MiB.
    :ivar vcpus: number of vCPUs.
    :ivar cpus: for each of them the numbers of the host's CPUs that it runs
        on; empty if all run on all.
    :ivar boot: what it boots.
    :ivar clock: time zone of its hardware clock: ``utc`` or the host's
        ``localtime``.
    :ivar disks: the disks, in the guest's order.
    :ivar interfaces: the network interfaces, in the guest's order.
    :ivar pci_devices: PCI devices of the host that are the guest's.
    :ivar screen: its screen, or None.
    :ivar serial_log: path of the file to which QEMU appends the output of the
        first serial port; HVM only. The console of PV and PVH guests is Xen's.
    :ivar monitor: whether its QEMU has a monitor for the driver.
    :ivar serial_socket: path of the socket on which QEMU listens for a user of
        that serial port; None for output only.
    :ivar agent_socket: path of the socket on which QEMU listens for a user of
        the guest agent; None for no channel to an agent.
    :ivar nested_hvm: the feature of the host's CPU, ``svm`` or ``vmx``, by
        which it can run guests of its own; None if it cannot. HVM only.
    :ivar max_event_channels: None for Xen's default (1023).
    :ivar max_grant_frames: None for Xen's default.
    :ivar metadata: Nova's metadata of the instance, or CloudStack's of the VM.
    :ivar title: one line of text for people.
    """

    uuid: str
    name: str
    arch: str
    guest_type: GuestType
    memory_mib: int
    vcpus: int
    boot: boot_lib.Boot
    cpus: tuple[frozenset[int], ...] = ()
    clock: clock_lib.Clock = 'utc'
    disks: tuple[disk_lib.Disk, ...] = ()
    interfaces: tuple[interface_lib.Interface, ...] = ()
    pci_devices: tuple[hostdev.PciDevice, ...] = ()
    screen: graphics.Screen | None = None
    serial_log: str | None = None
    monitor: bool = False
    serial_socket: str | None = None
    agent_socket: str | None = None
    nested_hvm: str | None = None
    max_event_channels: int | None = None
    max_grant_frames: int | None = None
    metadata: metadata_lib.Metadata | None = None
    title: str | None = None

    def __post_init__(self) -> None:
        check.match('uuid', self.uuid,
                    r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}',
                    'a UUID, lower case, with dashes')
        check.match('name', self.name, r'\w[\w.+@:-]{0,127}',
                    '1 to 128 letters, digits and ._+@:-, the first of them '
                    'a letter, a digit or _')
        check.match('arch', self.arch, r'[a-z0-9_]+', 'such as x86_64')
        check.one_of('guest_type', self.guest_type, tuple(GuestType))
        object.__setattr__(self, 'guest_type', GuestType(self.guest_type))
        # Far less than Xen and libvirt can represent; with this limit the
        # value in KiB fits into the schema's integer of 63 bits.
        check.within('memory_mib', self.memory_mib, 1, 2 ** 40)
        check.within('vcpus', self.vcpus, 1, 65535)
        if len(self.cpus) not in (0, self.vcpus):
            raise errors.SpecError(
                'cpus', f'{len(self.cpus)} sets',
                f'one for each of {self.vcpus} vCPUs, or none')
        for cpuset in self.cpus:
            if not cpuset:
                raise errors.SpecError('cpus', 'none', 'one or more')
            for cpu in cpuset:
                check.within('cpus', cpu, 0, 65535)
        check.one_of('clock', self.clock, clock_lib.CLOCKS)
        xenbus.check_limits(self.max_event_channels, self.max_grant_frames)
        if self.title is not None:
            # The schema does not allow an empty title.
            object.__setattr__(self, 'title',
                               check.one_line(self.title) or None)
        self._check_guest_type()

    def _check_guest_type(self) -> None:
        guest_type = self.guest_type
        boot_lib.check_guest_type(self.boot, guest_type)
        disk_lib.check_guest_type(self.disks, guest_type)
        interface_lib.check_guest_type(self.interfaces, guest_type)
        graphics.check_guest_type(self.screen, guest_type)
        console.check_serial(self.serial_log, self.serial_socket, guest_type)
        channel.check_socket(self.agent_socket)
        cpu_lib.check_nested(self.nested_hvm, guest_type)


def to_xml(spec: DomainSpec, arch: Architecture) -> str:
    """Write a domain for libvirt's libxl driver.

    :param spec: the domain.
    :param arch: the host's architecture.
    :returns: XML that is valid by libvirt's schema.
    :raises SpecError: the architecture cannot have such a domain.
    """
    if spec.arch != arch.name:
        raise errors.SpecError('arch', spec.arch, arch.name)
    if spec.screen is not None and not arch.screen(spec.guest_type):
        raise errors.SpecError(
            'screen', spec.screen, f'none, for {spec.guest_type} on '
            f'{arch.name}')
    if spec.agent_socket and not arch.profile(spec.guest_type).agent:
        raise errors.SpecError(
            'agent_socket', spec.agent_socket, f'none, for {spec.guest_type} '
            f'on {arch.name}')
    hostdev.check_profile(spec.pci_devices, spec.guest_type,
                          arch.profile(spec.guest_type))
    domain = etree.Element('domain', type='xen')
    xml.add(domain, 'name', spec.name)
    xml.add(domain, 'uuid', spec.uuid)
    if spec.title is not None:
        xml.add(domain, 'title', spec.title)
    metadata_lib.to_xml(domain, spec.metadata,
                        mark_direct=boot_lib.needs_mark(spec.boot))
    xml.add(domain, 'memory', str(spec.memory_mib), unit='MiB')
    xml.add(domain, 'vcpu', str(spec.vcpus))
    if spec.cpus:
        # Pin each vCPU: libvirt's libxl driver ignores the cpuset of <vcpu>.
        tune = xml.add(domain, 'cputune')
        for vcpu, cpuset in enumerate(spec.cpus):
            xml.add(tune, 'vcpupin', vcpu=str(vcpu),
                    cpuset=','.join(map(str, sorted(cpuset))))
    boot_lib.to_xml(domain, spec.guest_type, spec.boot, arch)
    if spec.guest_type is GuestType.HVM:
        features = xml.add(domain, 'features')
        for feature in ('acpi', 'apic', 'pae'):
            xml.add(features, feature)
    hostdev.features_to_xml(domain, spec.pci_devices, spec.guest_type)
    cpu_lib.to_xml(domain, spec.nested_hvm)
    clock_lib.to_xml(domain, spec.clock)
    xml.add(domain, 'on_poweroff', 'destroy')
    xml.add(domain, 'on_reboot', 'restart')
    xml.add(domain, 'on_crash', 'destroy')
    devices = xml.add(domain, 'devices')
    xenbus.to_xml(devices, spec.max_event_channels, spec.max_grant_frames)
    for disk in spec.disks:
        disk_lib.to_xml(devices, disk)
    for interface in spec.interfaces:
        interface_lib.to_xml(devices, interface)
    hostdev.to_xml(devices, spec.pci_devices)
    console.to_xml(devices, spec.guest_type)
    channel.to_xml(devices, spec.agent_socket, spec.guest_type)
    graphics.to_xml(devices, spec.screen, spec.guest_type)
    commandline.to_xml(domain, (
        *console.arguments(spec.serial_log, spec.serial_socket),
        *channel.arguments(spec.agent_socket, spec.guest_type),
        *spice.arguments(spec.screen.spice if spec.screen else None),
        *monitorsocket.arguments(spec.uuid, wanted=spec.monitor)))
    etree.indent(domain)
    return etree.tostring(domain, encoding='unicode') + '\n'


def from_xml(text: str, arch: Architecture) -> DomainSpec:
    """Read a domain from XML that :func:`to_xml` or libvirt wrote.

    Elements that :func:`to_xml` does not write are ignored, such as devices
    that libvirt adds, and addresses and names in a running domain.

    :param text: the ``<domain>`` element.
    :param arch: the host's architecture.
    :raises SpecError: :func:`to_xml` cannot have written it: the domain is not
        Xen's, has another architecture, or boots in another way.
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
    qemu = commandline.from_xml(domain)
    serial_log, serial_socket = console.from_xml(devices, qemu)
    events, grants = xenbus.from_xml(devices)
    return DomainSpec(
        uuid=xml.need(domain, 'uuid'),
        name=xml.need(domain, 'name'),
        arch=its_arch,
        guest_type=guest_type,
        memory_mib=memory_mib(domain),
        vcpus=int(xml.need(domain, 'vcpu')),
        cpus=_cpus(domain),
        boot=boot_lib.from_xml(os, guest_type,
                               marked=metadata_lib.marks_direct(domain)),
        clock=clock_lib.from_xml(domain),
        disks=tuple(filter(None, map(
            disk_lib.from_xml, devices.iterfind('disk')))),
        interfaces=tuple(filter(None, map(
            interface_lib.from_xml, devices.iterfind('interface')))),
        pci_devices=hostdev.from_xml(devices),
        screen=graphics.from_xml(devices, qemu),
        monitor=monitorsocket.from_xml(qemu),
        serial_log=serial_log,
        serial_socket=serial_socket,
        agent_socket=channel.from_xml(devices, qemu),
        nested_hvm=cpu_lib.from_xml(domain),
        max_event_channels=events,
        max_grant_frames=grants,
        metadata=metadata_lib.any_from_xml(domain),
        title=xml.text(domain, 'title'))


def _cpus(domain: etree._Element) -> tuple[frozenset[int], ...]:
    """Return the CPUs of each vCPU; none if not every vCPU is pinned."""
    pins = {int(pin.get('vcpu', '')): xml.cpus(pin.get('cpuset', ''))
            for pin in domain.iterfind('cputune/vcpupin')}
    vcpus = range(int(xml.need(domain, 'vcpu')))
    return tuple(pins[vcpu] for vcpu in vcpus) if set(vcpus) <= set(
        pins) else ()


def memory_mib(domain: etree._Element) -> int:
    """Return a domain's memory, in MiB.

    :raises SpecError: it has none.
    """
    # libvirt's default unit is KiB; it also uses it in its answers.
    unit = xml.get(domain, 'memory', 'unit') or 'KiB'
    if unit not in _KIB:
        raise errors.SpecError('memory.unit', unit, _KIB)
    return -(-int(xml.need(domain, 'memory')) * _KIB[unit] // 1024)
