# SPDX-License-Identifier: Apache-2.0
"""Find a guest's disks in what its QEMU says about its block devices."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

from xen44_driver.xen import domain

#: The limits of ``block_set_io_throttle``: bytes and requests per second, of
#: both directions, of reads, of writes.
THROTTLE = ('bps', 'bps_rd', 'bps_wr', 'iops', 'iops_rd', 'iops_wr')

_SWAPPED = 'swap-'


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """A disk of a guest as its QEMU has it.

    :ivar device: QEMU's path of the device.
    :ivar node: QEMU's name of the block node.
    :ivar emulated: whether it is an emulated disk of an HVM guest.
    :ivar size: bytes of the disk.
    :ivar throttle: its limits, as arguments of ``block_set_io_throttle``.
    """

    device: str
    node: str
    emulated: bool
    size: int
    throttle: Mapping[str, int]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What a guest has read and written since its QEMU was started.

    :ivar read_bytes: bytes that were read.
    :ivar read_requests: number of reads.
    :ivar write_bytes: bytes that were written.
    :ivar write_requests: number of writes.
    :ivar flush_requests: number of flushes.
    """

    read_bytes: int = 0
    read_requests: int = 0
    write_bytes: int = 0
    write_requests: int = 0
    flush_requests: int = 0


def attached(
    answer: Iterable[Mapping[str, Any]], disk: domain.Disk,
) -> list[Attached]:
    """Return the block nodes of a disk.

    An HVM guest has two of most disks, an emulated one and a PV one, until
    its PV drivers unplug the emulated one.

    :param answer: the answer to ``query-block``.
    :param disk: the disk.
    """
    found = []
    for entry in answer:
        node = entry.get('inserted') or {}
        # Without "qdev" it is not a device of the guest (any more).
        if entry.get('qdev') and (
                node.get('file') == disk.source
                or is_node_of(node.get('node-name', ''), disk)):
            found.append(Attached(
                device=entry['qdev'],
                node=node['node-name'],
                # PV disks have no name of a drive.
                emulated=bool(entry.get('device')),
                size=node['image']['virtual-size'],
                throttle={name: node.get(name, 0) for name in THROTTLE}))
    return found


def swapped_node(disk: domain.Disk, volume: str) -> str:
    """Return the name of the block node of a volume that becomes a disk.

    :param disk: the disk, which was another volume.
    :param volume: Cinder's id of the volume.
    """
    # QEMU allows 31 characters.
    return f'{_SWAPPED}{disk.target}-{volume[:8]}'


def is_swapped(node: str, disk: domain.Disk) -> bool:
    """Return whether a block node is one of a volume that became a disk.

    :param node: QEMU's name of the block node.
    :param disk: the disk.
    """
    return node.startswith(f'{_SWAPPED}{disk.target}-')


def is_node_of(node: str, disk: domain.Disk) -> bool:
    """Return whether a block node has the name of one of a PV disk.

    :param node: QEMU's name of the block node.
    :param disk: the disk.
    """
    # QEMU's xen-block names its nodes so.
    return node == f'{disk.target}-{disk.format}' or is_swapped(node, disk)


def in_use(
    answer: Iterable[Mapping[str, Any]], disk: domain.Disk,
) -> Attached | None:
    """Return the block node through which a guest writes to a disk now.

    While an HVM guest has the emulated disk, it does not use the PV one: its
    firmware and its loader cannot, and its drivers unplug the emulated disk
    first. The other node knows nothing of what is written, so its content may
    be wrong.

    :param answer: the answer to ``query-block``.
    :param disk: the disk.
    :returns: None if QEMU does not have the disk.
    """
    found = sorted(attached(answer, disk), key=lambda one: not one.emulated)
    return found[0] if found else None


def statistics(
    blocks: Sequence[Mapping[str, Any]], counters: Iterable[Mapping[str, Any]],
    disks: Iterable[domain.Disk],
) -> dict[str, Statistics]:
    """Return the statistics of a guest's disks.

    Those of the emulated and of the PV disk are added.

    :param blocks: the answer to ``query-block``.
    :param counters: the answer to ``query-blockstats``.
    :param disks: the disks.
    :returns: statistics by the disk's target; a disk that QEMU does not have
        is left out.
    """
    by_node = {entry.get('node-name'): entry['stats'] for entry in counters}
    result = {}
    for disk in disks:
        stats = [by_node[one.node] for one in attached(blocks, disk)
                 if one.node in by_node]
        if stats:
            result[disk.target] = Statistics(
                read_bytes=_sum(stats, 'rd_bytes'),
                read_requests=_sum(stats, 'rd_operations'),
                write_bytes=_sum(stats, 'wr_bytes'),
                write_requests=_sum(stats, 'wr_operations'),
                flush_requests=_sum(stats, 'flush_operations'))
    return result


def _sum(stats: Iterable[Mapping[str, Any]], key: str) -> int:
    return sum(int(one.get(key, 0)) for one in stats)
