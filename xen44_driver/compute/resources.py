# SPDX-License-Identifier: Apache-2.0
"""The resources of this host, for Nova and for Placement."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
import dataclasses
import functools
import json
import math
import os
from typing import Any
import weakref

from nova import conf
from nova import exception
from nova.compute import provider_tree as nova_provider_tree
from nova.compute import utils as compute_utils
from nova.objects import fields
from nova.virt import node as nova_node
import os_resource_classes as orc
import os_traits
from oslo_log import log as logging
from oslo_utils import units

from xen44_driver.compute import cpusets
from xen44_driver.compute import guest_type as guest_types
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import pcidevices
from xen44_driver.compute import traits
from xen44_driver.compute import uptime
from xen44_driver.storage import usage as disk_usage
from xen44_driver.xen import arch as arch_lib
from xen44_driver.xen import capabilities
from xen44_driver.xen import errors
from xen44_driver.xen import eventchannels
from xen44_driver.xen import host as xen_host
from xen44_driver.xen import overhead
from xen44_driver.xen.guesttype import GuestType

CONF = conf.CONF
LOG = logging.getLogger(__name__)

#: Memory of the smallest guests for which enough overhead is reserved on a
#: full host, in MiB. The smaller guests are, the larger is Xen's overhead
#: relative to their memory.
SMALLEST_MIB = 512
SMALLEST_VCPUS = 1

#: The resource class of dom0's event channels. Nova counts what the flavors
#: of instances ask for (``resources:CUSTOM_XEN_EVENT_CHANNELS``).
EVENT_CHANNELS = 'CUSTOM_XEN_EVENT_CHANNELS'

_KERNEL_COMMAND_LINE = '/proc/cmdline'


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What libvirt reports about this host.

    :ivar hostname: the node's name.
    :ivar versions: the versions of Xen and libvirt.
    :ivar capabilities: what the host can do.
    :ivar arch: the host's architecture.
    :ivar memory: the host's memory.
    :ivar cpus: the number of CPUs that Xen has.
    :ivar uefi: whether guests can boot by UEFI.
    :ivar nested_hvm: whether HVM guests can run guests of their own.
    """

    hostname: str
    versions: xen_host.HostVersions
    capabilities: capabilities.Capabilities
    arch: arch_lib.Architecture
    memory: xen_host.HostMemory
    cpus: int
    uefi: bool
    nested_hvm: bool


# The last facts of each node.
_last: weakref.WeakKeyDictionary[compute_node.Node, Facts] = (
    weakref.WeakKeyDictionary())


def facts(node: compute_node.Node) -> Facts:
    """Return what libvirt reports about this host.

    While libvirt cannot be reached, the last facts are returned. Nova asks
    every minute, and an exception would put a traceback into its log each
    time. :mod:`~xen44_driver.compute.service` disables the service meanwhile,
    so that no new instances come.

    :raises xen44_driver.xen.errors.ConnectionFailed: libvirt cannot be
        reached, and has not answered before.
    """
    host = node.host
    try:
        found = Facts(
            hostname=host.hostname(), versions=host.versions(),
            capabilities=host.capabilities(), arch=node.arch,
            memory=host.memory(), cpus=host.cpus(), uefi=node.has_uefi,
            nested_hvm=node.nested_hvm_problem() is None)
    except errors.ConnectionFailed as error:
        known = _last.get(node)
        if known is None:
            raise
        LOG.debug('The host is taken to be what it was: %s', error)
        return known
    _last[node] = found
    return found


def has_uefi(node: compute_node.Node) -> bool:
    """Return whether guests could boot by UEFI when :func:`facts` was called.

    libvirt is not asked.
    """
    known = _last.get(node)
    return known is not None and known.uefi


def available(node: compute_node.Node) -> dict[str, Any]:
    """Return the host's resources for Nova's resource tracker.

    :returns: see ``nova.virt.driver.ComputeDriver.get_available_resource``.
    """
    host = facts(node)
    caps = host.capabilities
    memory = host.memory
    disk = disk_usage.measure(CONF.instances_path)
    numa = cpusets.topology(caps, host.cpus)
    return {
        'hypervisor_type': fields.HVType.XEN,
        'hypervisor_version': version_number(host.versions.xen),
        'hypervisor_hostname': host.hostname,
        'uuid': nova_node.get_local_node_uuid(),
        'vcpus': len(cpusets.counted(cpusets.there(caps, host.cpus))),
        # Nova itself counts what its instances use.
        'vcpus_used': 0,
        'memory_mb': memory.total_mib,
        'memory_mb_used': memory.total_mib - memory.free_mib,
        'local_gb': disk.total // units.Gi,
        'local_gb_used': disk.used // units.Gi,
        'disk_available_least': (disk.free - disk.promised) // units.Gi,
        'cpu_info': json.dumps(_cpu_info(caps)),
        'supported_instances': _supported_instances(caps),
        'pci_passthrough_devices': (
            pcidevices.report() if node.passthrough else '[]'),
        'numa_topology': None if numa is None else numa._to_json(),
        'stats': uptime.stats(),
    }


def version_number(version: tuple[int, ...]) -> int:
    """Return a version as one number, as libvirt does: 4.20.4 is 4020004.

    :param version: major, minor and release.
    """
    major, minor, release = version
    return major * 1_000_000 + minor * 1_000 + release


def _cpu_info(caps: capabilities.Capabilities) -> dict[str, Any]:
    return {
        'arch': caps.arch,
        'model': caps.cpu_model,
        'features': sorted(caps.cpu_features),
        'topology': {
            'sockets': caps.topology.sockets,
            'cores': caps.topology.cores,
            'threads': caps.topology.threads,
        },
    }


def _supported_instances(
    caps: capabilities.Capabilities,
) -> list[tuple[str, str, str]]:
    """Return (architecture, hypervisor, VM mode) for the host's guests."""
    modes = sorted({guest_types.mode_of(kind) for kind in caps.guest_types})
    supported = [
        (caps.arch, fields.HVType.XEN, mode) for mode in modes]
    if (caps.arch == fields.Architecture.X86_64
            and GuestType.HVM in caps.guest_types):
        # An emulated PC also runs 32-bit systems.
        supported.append((fields.Architecture.I686, fields.HVType.XEN,
                          fields.VMMode.HVM))
    if fields.Architecture.ARMV7 in caps.guest_arches:
        supported += [(fields.Architecture.ARMV7, fields.HVType.XEN, mode)
                      for mode in modes]
    return supported


def update_provider_tree(
    node: compute_node.Node, tree: nova_provider_tree.ProviderTree,
    nodename: str, *,
    allocation_ratios: Callable[[dict[str, Any]], dict[str, float]],
) -> None:
    """Set this host's inventory and traits in Placement's provider tree.

    :param tree: the provider tree, updated in place.
    :param nodename: name of this host's resource provider.
    :param allocation_ratios: Nova's function that returns the ratios.
    """
    host = facts(node)
    ratios = allocation_ratios(tree.data(nodename).inventory)
    cpus = cpusets.there(host.capabilities, host.cpus)
    _warn_of_overcommit(node, ratios[orc.MEMORY_MB])
    fifo = _dom0_uses_fifo(host.versions.xen)
    totals = {
        orc.VCPU: (len(cpusets.counted(cpus)), CONF.reserved_host_cpus),
        orc.PCPU: (len(cpusets.dedicated()), 0),
        orc.MEMORY_MB: (host.memory.total_mib, reserved_memory_mib(
            host.memory, host.capabilities.guest_types)),
        orc.DISK_GB: (
            disk_usage.measure(CONF.instances_path).total // units.Gi,
            _reserved_disk_gb(node)),
        EVENT_CHANNELS: (
            eventchannels.MAX_FIFO if fifo else eventchannels.MAX_2L,
            eventchannels.reserved_for_dom0(os.cpu_count() or 1)),
    }
    tree.update_inventory(nodename, {
        resource: {
            'total': total,
            'min_unit': 1,
            'max_unit': total,
            'step_size': 1,
            'allocation_ratio': ratios.get(resource, 1.0),
            'reserved': min(reserved, total),
        } for resource, (total, reserved) in totals.items() if total})

    wanted = traits.wanted(
        host.capabilities, host.versions, host.arch)
    if fifo:
        wanted.add(traits.FIFO_EVENT_CHANNELS)
    if host.nested_hvm:
        wanted.add(traits.NESTED_HVM)
    if host.uefi:
        wanted.add(os_traits.COMPUTE_FIRMWARE_UEFI)
    old = {trait for trait in tree.data(nodename).traits
           if traits.managed(trait)}
    tree.add_traits(nodename, *wanted)
    tree.remove_traits(nodename, *(old - wanted))


# The allocation ratio of memory that was last warned of, by node.
_warned: weakref.WeakKeyDictionary[compute_node.Node, float] = (
    weakref.WeakKeyDictionary())


def _warn_of_overcommit(node: compute_node.Node, ratio: float) -> None:
    """Warn once for each ratio that promises more memory than Xen has."""
    if ratio <= 1 or _warned.get(node) == ratio:
        return
    _warned[node] = ratio
    LOG.warning(
        'The allocation ratio of memory is %s, and Xen gives a guest all of '
        'its memory when it starts: guests above the host\'s memory will be '
        'refused. Set ram_allocation_ratio = 1.0', ratio)


@functools.cache
def _dom0_uses_fifo(xen: tuple[int, ...]) -> bool:
    """Return whether dom0 has many event channels; false if not known."""
    try:
        with open(_KERNEL_COMMAND_LINE) as file:
            return eventchannels.dom0_uses_fifo(xen, file.read())
    except OSError as error:
        LOG.warning(
            'dom0 is taken to have %d event channels, as it is not known '
            'whether it has %d: %s', eventchannels.MAX_2L,
            eventchannels.MAX_FIFO, error)
        return False


def reserved_memory_mib(
    memory: xen_host.HostMemory, kinds: Collection[GuestType],
) -> int:
    """Return the memory that Placement must not promise to guests, in MiB.

    It is the sum of two parts:

    * what dom0 may take and what Xen needs for itself, or
      ``reserved_host_memory_mb`` if that is more;
    * what Xen takes for guests in addition to their own memory
      (:mod:`~xen44_driver.xen.overhead`). It is calculated for a host that is
      full of guests of :data:`SMALLEST_MIB`, of the guest type with the
      largest overhead.

    :param memory: the host's memory.
    :param kinds: guest types that this host can run.
    """
    host: int = CONF.reserved_host_memory_mb
    if not memory.dom0_is_unbounded:
        host = max(host, memory.dom0_mib + memory.xen_mib)
    extra = max((overhead.overhead_mib(kind, SMALLEST_MIB, SMALLEST_VCPUS)
                 for kind in kinds), default=0)
    rest = max(memory.total_mib - host, 0)
    return host + math.ceil(rest * extra / (SMALLEST_MIB + extra))


def check_memory(
    node: compute_node.Node, kind: GuestType, memory_mib: int, vcpus: int,
    freed_mib: int = 0,
) -> None:
    """Refuse a guest for which Xen has too little memory now.

    Placement counts what instances were promised, not what Xen has left.
    Domains that are not Nova's take memory too, and very small guests have
    more overhead than is reserved. Costs one libvirt call.

    :param kind: the guest's type.
    :param memory_mib: the guest's own memory, in MiB.
    :param vcpus: how many vCPUs it has.
    :param freed_mib: memory that will be free before it starts, in MiB.
    :raises nova.exception.ComputeResourcesUnavailable: there is too little
        memory; the message names what Xen has and what the guest needs. Nova
        tries another host.
    """
    lack = overhead.shortage(
        node.host.memory(), kind, memory_mib, vcpus, freed_mib)
    if lack is not None:
        raise exception.ComputeResourcesUnavailable(reason=lack)


def _reserved_disk_gb(node: compute_node.Node) -> int:
    reserved: int = compute_utils.convert_mb_to_ceil_gb(
        CONF.reserved_host_disk_mb)
    if CONF.workarounds.reserve_disk_resource_for_image_cache:
        reserved += math.ceil(node.images.get_disk_usage() / units.Gi)
    return reserved
