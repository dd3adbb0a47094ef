# SPDX-License-Identifier: Apache-2.0
"""What a running domain has used of memory, CPUs, interfaces and disks."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import contextlib
import dataclasses
import os
from typing import Any

from xen44_driver.xen import errors
from xen44_driver.xen.domain import xml

_Ask = Callable[[str, Callable[[Any], Any]], Any]

#: Where Linux tells what a network interface of dom0 has transferred.
SYSFS_NET = '/sys/class/net'

# What libxl adds to the name of the tap device of an emulated interface. The
# guest's PV interface is the device without it.
_EMULATED = '-emu'


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """What an interface transferred in one direction.

    :ivar octets: number of bytes.
    :ivar packets: number of packets.
    :ivar errors: packets that were damaged.
    :ivar drop: packets that were dropped.
    """

    octets: int
    packets: int
    errors: int
    drop: int

    def __add__(self, other: Direction) -> Direction:
        return Direction(
            octets=self.octets + other.octets,
            packets=self.packets + other.packets,
            errors=self.errors + other.errors, drop=self.drop + other.drop)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface.

    :ivar mac: its MAC address.
    :ivar received: by the guest; None if that is not known.
    :ivar sent: by the guest; None if that is not known.
    """

    mac: str
    received: Direction | None = None
    sent: Direction | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk; None for what is not known.

    libvirt knows this only of disks that dom0's kernel serves (blkback); of
    others, their QEMU does.

    :ivar target: the guest's name of it, such as ``xvda``.
    :ivar read_bytes: number of bytes that the guest read.
    :ivar read_requests: number of its read requests.
    :ivar write_bytes: number of bytes that the guest wrote.
    :ivar write_requests: number of its write requests.
    """

    target: str
    read_bytes: int | None = None
    read_requests: int | None = None
    write_bytes: int | None = None
    write_requests: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What a domain has used.

    :ivar max_memory_mib: the memory that it can have, in MiB.
    :ivar memory_mib: the memory that it has now, in MiB.
    :ivar cpu_times: time that each vCPU ran, in nanoseconds.
    :ivar interfaces: its network interfaces.
    :ivar disks: its disks and CD-ROMs.
    """

    max_memory_mib: int
    memory_mib: int
    cpu_times: tuple[int, ...]
    interfaces: tuple[Interface, ...]
    disks: tuple[Disk, ...]


def gather(ask: _Ask) -> Statistics:
    """Ask libvirt about a running domain.

    :param ask: calls a function with libvirt's ``virDomain``; its first
        argument is libvirt's name of the call.
    """
    domain = xml.parse(str(ask(
        'domainGetXMLDesc', lambda domain: domain.XMLDesc(0))))
    info = ask('domainGetInfo', lambda domain: domain.info())
    # libvirt's function for vCPUs does not work (it needs virNodeGetCPUMap).
    # This one is for the host's CPUs, but libxl's driver counts vCPUs.
    cpus = ask('domainGetCPUStats', lambda domain: domain.getCPUStats(False))
    return Statistics(
        max_memory_mib=info[1] // 1024,
        memory_mib=info[2] // 1024,
        cpu_times=tuple(int(cpu['cpu_time']) for cpu in cpus),
        interfaces=tuple(
            _interface(ask, element)
            for element in domain.iterfind('devices/interface')),
        disks=tuple(_disk(ask, element)
                    for element in domain.iterfind('devices/disk')))


def _interface(ask: _Ask, element: Any) -> Interface:
    mac = element.find('mac').get('address')
    target = element.find('target')
    name = '' if target is None else target.get('dev', '')
    ways: list[tuple[Direction, Direction]] = []
    with contextlib.suppress(errors.OperationFailed):
        # By MAC: libvirt has no name of an interface that was added later.
        # A guest with PV drivers unplugs the emulated interface; then libvirt
        # finds no device.
        ways.append(_libvirts(ask(
            'domainInterfaceStats',
            lambda domain: domain.interfaceStats(mac))))
    if name.endswith(_EMULATED):
        with contextlib.suppress(OSError, ValueError):
            ways.append(_kernels(name.removesuffix(_EMULATED)))
    if not ways:
        return Interface(mac=mac)
    received, sent = ways[0]
    for more_received, more_sent in ways[1:]:
        received, sent = received + more_received, sent + more_sent
    return Interface(mac=mac, received=received, sent=sent)


def _libvirts(numbers: Sequence[int]) -> tuple[Direction, Direction]:
    """Read the answer of virDomainInterfaceStats, from the guest's view."""
    return _direction(numbers[:4]), _direction(numbers[4:])


def _kernels(device: str) -> tuple[Direction, Direction]:
    """Ask Linux about a device of dom0, whose "received" the guest sent.

    :raises OSError: there is no such device.
    """
    directory = os.path.join(SYSFS_NET, device, 'statistics')

    def read(prefix: str) -> Direction:
        numbers = []
        for name in ('bytes', 'packets', 'errors', 'dropped'):
            with open(os.path.join(directory, f'{prefix}_{name}')) as file:
                numbers.append(int(file.read()))
        return _direction(numbers)

    return read('tx'), read('rx')


def _direction(numbers: Sequence[int]) -> Direction:
    octets, packets, bad, drop = numbers
    return Direction(octets=octets, packets=packets, errors=bad, drop=drop)


def _disk(ask: _Ask, element: Any) -> Disk:
    target = element.find('target').get('dev')
    try:
        reads, read, writes, written, _errors = ask(
            'domainBlockStats', lambda domain: domain.blockStats(target))
    except errors.OperationFailed:
        # QEMU serves it, or it is a CD-ROM.
        return Disk(target=target)
    return Disk(target=target, read_bytes=read, read_requests=reads,
                write_bytes=written, write_requests=writes)
