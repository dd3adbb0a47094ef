# SPDX-License-Identifier: Apache-2.0
"""Tell how much instances have read from volumes and written to them."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from nova import block_device
from nova import objects
from oslo_log import log as logging

from xen44_driver.compute import diagnostics
from xen44_driver.compute import node as compute_node
from xen44_driver.xen import errors
from xen44_driver.xen import statistics

LOG = logging.getLogger(__name__)

# There are no numbers of flushes where dom0's kernel serves the disk.
_FLUSHES = 0


def of_disk(
    node: compute_node.Node, instance: objects.Instance, name: str,
) -> list[int] | None:
    """Return the use of a disk since the instance was started.

    :param name: Nova's name of the disk, such as ``xvdb``.
    :returns: number of reads, bytes read, number of writes, bytes written,
        number of flushes; None if they are not known.
    """
    disk = _disks(node, instance).get(block_device.get_device_letter(name))
    if disk is None or disk.read_bytes is None:
        return None
    return [disk.read_requests or 0, disk.read_bytes,
            disk.write_requests or 0, disk.write_bytes or 0, _FLUSHES]


def of_all(
    node: compute_node.Node, hosted: Iterable[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Return the use of all volumes of this host, as Nova's manager wants it.

    :param hosted: each instance and the mappings of its volumes.
    """
    usage = []
    for entry in hosted:
        instance = entry['instance']
        disks = _disks(node, instance)
        # While it is rescued, other disks may have the names.
        machine = diagnostics.booted(instance)
        letters = {disk.volume_id: block_device.get_device_letter(disk.name)
                   for disk in (machine.disks if machine else ())}
        for mapping in entry['instance_bdms']:
            disk = disks.get(letters.get(mapping['volume_id'], ''))
            if disk is not None and disk.read_bytes is not None:
                usage.append({
                    'volume': mapping['volume_id'], 'instance': instance,
                    'rd_req': disk.read_requests,
                    'rd_bytes': disk.read_bytes,
                    'wr_req': disk.write_requests,
                    'wr_bytes': disk.write_bytes})
    return usage


def _disks(
    node: compute_node.Node, instance: objects.Instance,
) -> dict[str, statistics.Disk]:
    """Return an instance's disks by their letters; none if it is off."""
    try:
        guest = node.host.guest(instance.uuid)
        if guest.id is None:
            return {}
        found = diagnostics.disks(node, instance, guest, guest.statistics())
    except errors.XenError as error:
        LOG.info('What it has read and written is not known: %s', error,
                 instance=instance)
        return {}
    return {block_device.get_device_letter(disk.target): disk
            for disk in found}
