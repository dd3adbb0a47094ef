# SPDX-License-Identifier: Apache-2.0
"""``xen44-host status``: what runs on this host, and what is left of it."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import datetime
import json
import os
import socket
from typing import Any

from nova import conf
from oslo_utils import units

from xen44_driver.cmd import report
from xen44_driver.cmd import vitals as vitals_lib
from xen44_driver.storage import usage as disk_usage
from xen44_driver.xen import host as xen_host
from xen44_driver.xen import inventory
from xen44_driver.xen import xl

CONF = conf.CONF

#: Names of the owners of domains.
NOVA = 'nova'
FOREIGN = 'foreign'

#: The state of a domain of which libvirt does not know.
UNKNOWN = 'unknown to libvirt'


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A domain, as it is printed; None for what is not known.

    :ivar uuid: its UUID, which is that of its instance.
    :ivar owner: :data:`NOVA` or :data:`FOREIGN`.
    :ivar name: name of the instance when it was last started.
    :ivar domain: name of the domain.
    :ivar id: Xen's number of the domain.
    :ivar guest_type: ``pv``, ``pvh`` or ``hvm``.
    :ivar vcpus: number of vCPUs.
    :ivar memory_mib: its memory, in MiB.
    :ivar disks: the guest's names of its disks.
    :ivar macs: MAC addresses of its network interfaces.
    :ivar event_channels: how many it has of Xen.
    :ivar uptime_seconds: since it was started, or resumed from a disk.
    :ivar state: such as ``running``.
    """

    uuid: str
    owner: str
    name: str | None = None
    domain: str
    id: int | None = None
    guest_type: str | None = None
    vcpus: int | None = None
    memory_mib: int | None = None
    disks: Sequence[str] | None = None
    macs: Sequence[str] | None = None
    event_channels: int | None = None
    uptime_seconds: int | None = None
    state: str


def run(*, as_json: bool, compare: bool) -> int:
    """Print what runs on this host.

    :param as_json: whether to print JSON.
    :param compare: whether to compare it with Nova's servers.
    :returns: the exit status, 0.
    :raises xen44_driver.cmd.report.CannotWork: this user is not root, or Nova
        does not answer.
    :raises xen44_driver.xen.errors.XenError: libvirt cannot be reached.
    :raises OSError: Xen cannot be asked.
    """
    report.require_root()
    host = xen_host.Host(CONF.xen44.connection_uri)
    host.connect()
    try:
        summaries = host.inventory()
        vitals = vitals_lib.read()
        totals = _totals(host, summaries, vitals.pop(xl.DOM0, None))
    finally:
        host.close()
    rows = sorted(
        [*(_row(summary, vitals.pop(summary.record.uuid, None))
           for summary in summaries),
         *_unknown(vitals)],
        key=lambda row: (row.owner != NOVA, row.domain))
    differences = _differences(rows) if compare else None
    if as_json:
        found = {'host': socket.gethostname(),
                 'domains': [dataclasses.asdict(row) for row in rows],
                 'totals': totals}
        if differences is not None:
            found['differences'] = differences
        print(json.dumps(found, indent=2))
    else:
        _print(rows, totals, differences)
    return 0


def _row(summary: inventory.DomainSummary,
         vitals: vitals_lib.Vitals | None) -> Row:
    """Return the row of a domain that libvirt knows.

    :param vitals: None if Xen does not run it.
    """
    record = summary.record
    return Row(
        uuid=record.uuid, owner=NOVA if record.ours else FOREIGN,
        name=summary.metadata.name if summary.metadata else None,
        domain=record.name, id=record.id, guest_type=summary.guest_type,
        vcpus=summary.vcpus, memory_mib=summary.memory_mib,
        disks=summary.disks, macs=summary.macs,
        event_channels=vitals.event_channels if vitals else None,
        uptime_seconds=vitals.uptime if vitals else None,
        state=record.state.value)


def _unknown(unknown: Mapping[str, vitals_lib.Vitals]) -> Iterator[Row]:
    """Yield the rows of domains that only Xen knows, as of ``xl create``.

    :param unknown: what Xen says of them, by their UUIDs.
    """
    for uuid, vitals in unknown.items():
        yield Row(uuid=uuid, owner=FOREIGN, domain=vitals.name, id=vitals.id,
                  event_channels=vitals.event_channels,
                  uptime_seconds=vitals.uptime, state=UNKNOWN)


def _totals(host: xen_host.Host,
            summaries: Iterable[inventory.DomainSummary],
            dom0: vitals_lib.Vitals | None) -> dict[str, dict[str, int]]:
    """Add up what the host has, and what is used of it."""
    running = [summary for summary in summaries
               if not summary.record.state.is_off]
    memory = host.memory()
    totals = {
        'vcpus': {
            'cpus': host.cpus(),
            'used': sum(summary.vcpus for summary in running)},
        'memory_mib': {
            'total': memory.total_mib, 'dom0': memory.dom0_mib,
            'used': sum(summary.memory_mib for summary in running),
            'free': memory.free_mib},
    }
    if dom0 and dom0.event_channels is not None:
        totals['event_channels'] = {'dom0': dom0.event_channels}
    if os.path.isdir(CONF.instances_path):
        disk = disk_usage.measure(CONF.instances_path)
        totals['disk_mib'] = {
            'total': disk.total // units.Mi, 'used': disk.used // units.Mi,
            'free': disk.free // units.Mi,
            'promised': disk.promised // units.Mi}
    return totals


def _differences(rows: Iterable[Row]) -> list[dict[str, str]]:
    # openstacksdk takes long to import.
    from xen44_driver.cmd import comparison  # noqa: PLC0415

    return [dataclasses.asdict(difference)
            for difference in comparison.differences(
                {row.uuid for row in rows if row.owner == NOVA})]


_HEADS = {
    'uuid': 'UUID', 'owner': 'Owner', 'name': 'Name', 'domain': 'Domain',
    'id': 'ID', 'guest_type': 'Type', 'vcpus': 'vCPUs',
    'memory_mib': 'MiB', 'disks': 'Disks', 'macs': 'NICs',
    'event_channels': 'Channels', 'uptime_seconds': 'Uptime',
    'state': 'State'}


def _print(rows: Iterable[Row], totals: Mapping[str, Mapping[str, int]],
           differences: Sequence[Mapping[str, str]] | None) -> None:
    print(report.table(list(_HEADS.values()), [
        [_cell(field, getattr(row, field)) for field in _HEADS]
        for row in rows]))
    vcpus, memory = totals['vcpus'], totals['memory_mib']
    print(f'CPUs: {vcpus["cpus"]}, vCPUs of running guests: {vcpus["used"]}')
    print(f'Memory (MiB): {memory["total"]} in all, {memory["dom0"]} for '
          f'dom0, {memory["used"]} of running guests, {memory["free"]} free')
    if disk := totals.get('disk_mib'):
        print(f'Disk (MiB): {disk["total"]} in all, {disk["used"]} used, '
              f'{disk["free"]} free; disks may grow by {disk["promised"]}')
    if channels := totals.get('event_channels'):
        print(f'Event channels of dom0: {channels["dom0"]}')
    if differences is None:
        return
    if not differences:
        print('Nova has the same servers here.')
    for difference in differences:
        print(report.printable(f'{difference["uuid"]}: '
                               f'{difference["text"]}'))


def _cell(field: str, value: Any) -> object:
    if value is None:
        return '-'
    if field == 'uptime_seconds':
        return datetime.timedelta(seconds=value)
    # Of disks and interfaces, their number; JSON names them.
    return len(value) if isinstance(value, (tuple, list)) else value
