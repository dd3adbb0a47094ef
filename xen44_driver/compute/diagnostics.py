# SPDX-License-Identifier: Apache-2.0
"""Tell what a running instance has used."""

from __future__ import annotations

from typing import Any

from nova import objects
from nova.compute import power_state
from nova.compute import vm_states
from nova.objects import diagnostics
from nova.objects import fields
from oslo_log import log as logging
from oslo_utils import timeutils
from oslo_utils import units

from xen44_driver.compute import machine as machine_lib
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import power
from xen44_driver.core import monitor
from xen44_driver.xen import blocks
from xen44_driver.xen import errors
from xen44_driver.xen import guest as xen_guest
from xen44_driver.xen import statistics

LOG = logging.getLogger(__name__)


def instance_diagnostics(
    node: compute_node.Node, instance: objects.Instance,
) -> diagnostics.Diagnostics:
    """Return what a running instance has used, as Nova's object."""
    guest = node.host.guest(instance.uuid)
    found = guest.statistics()
    machine = booted(instance)
    made = diagnostics.Diagnostics(
        state=power_state.STATE_MAP[power.STATES[guest.state()]],
        driver=fields.HypervisorDriver.LIBVIRT,
        hypervisor='xen', hypervisor_os='linux',
        uptime=_uptime(instance),
        config_drive=bool(machine and any(
            disk.kind == 'config' for disk in machine.disks)))
    made.memory_details = diagnostics.MemoryDiagnostics(
        maximum=found.max_memory_mib, used=found.memory_mib)
    for number, nanoseconds in enumerate(found.cpu_times):
        made.add_cpu(id=number, time=nanoseconds)
    for interface in found.interfaces:
        made.add_nic(mac_address=interface.mac, **{
            f'{way}_{name}': getattr(numbers, name)
            for way, numbers in (('rx', interface.received),
                                 ('tx', interface.sent)) if numbers
            for name in ('octets', 'packets', 'errors', 'drop')})
    for disk in disks(node, instance, guest, found):
        made.add_disk(**_numbers(disk))
    return made


def booted(instance: objects.Instance) -> machine_lib.Machine | None:
    """Return the record of what an instance runs as."""
    rescue = (machine_lib.recall(instance, machine_lib.RESCUE)
              if instance.vm_state == vm_states.RESCUED else None)
    return rescue or machine_lib.recall(instance)


def disks(
    node: compute_node.Node, instance: objects.Instance,
    guest: xen_guest.Guest, found: statistics.Statistics,
) -> list[statistics.Disk]:
    """Return the disks, with the numbers of their QEMU where it serves them.

    A disk has no numbers if its QEMU does not answer.

    :param guest: the running domain.
    :param found: what libvirt knows of it.
    """
    numbers: dict[str, blocks.Statistics] = {}
    if machine := booted(instance):
        devices = [
            disk for disk in machine.devices(node.files(instance).directory)
            if not disk.by_kernel]
        try:
            if devices:
                numbers = monitor.block_statistics(
                    instance.uuid, devices, domid=guest.id)
        except errors.XenError as error:
            LOG.info('The disks have no statistics: %s', error,
                     instance=instance)
    return [
        statistics.Disk(
            target=disk.target,
            read_bytes=known.read_bytes, read_requests=known.read_requests,
            write_bytes=known.write_bytes,
            write_requests=known.write_requests)
        if disk.read_bytes is None and (known := numbers.get(disk.target))
        else disk
        for disk in found.disks]


def _uptime(instance: objects.Instance) -> int | None:
    """Return the seconds since an instance was made, as Nova's drivers do."""
    if instance.launched_at is None:
        return None
    return int(timeutils.delta_seconds(
        timeutils.normalize_time(instance.launched_at), timeutils.utcnow()))


def _numbers(disk: statistics.Disk) -> dict[str, int | None]:
    return {name: getattr(disk, name) for name in (
        'read_bytes', 'read_requests', 'write_bytes', 'write_requests')}


def old_diagnostics(
    node: compute_node.Node, instance: objects.Instance,
) -> dict[str, Any]:
    """Return the same for API versions before 2.48, in libvirt's names."""
    guest = node.host.guest(instance.uuid)
    found = guest.statistics()
    told: dict[str, Any] = {
        'memory': found.max_memory_mib * units.Ki,
        'memory-actual': found.memory_mib * units.Ki}
    for number, nanoseconds in enumerate(found.cpu_times):
        told[f'cpu{number}_time'] = nanoseconds
    for disk in disks(node, instance, guest, found):
        told |= {
            f'{disk.target}_{name}': value for name, value in (
                ('read', disk.read_bytes),
                ('read_req', disk.read_requests),
                ('write', disk.write_bytes),
                ('write_req', disk.write_requests)) if value is not None}
    for number, interface in enumerate(found.interfaces):
        told |= {
            f'vif{number}_{way}{suffix}': getattr(numbers, name)
            for way, numbers in (('rx', interface.received),
                                 ('tx', interface.sent)) if numbers
            for suffix, name in (('', 'octets'), ('_packets', 'packets'),
                                 ('_errors', 'errors'), ('_drop', 'drop'))}
    return told
