# SPDX-License-Identifier: Apache-2.0
"""What this host has to give, for Nova and for placement."""

from collections.abc import Callable
import json
import math
from typing import Any

from nova import conf
from nova.compute import provider_tree as nova_provider_tree
from nova.compute import utils as compute_utils
from nova.objects import fields
from nova.virt import hardware
from nova.virt import node as nova_node
import os_resource_classes as orc
from oslo_utils import units

from xen44_driver.compute import node as compute_node
from xen44_driver.compute import traits
from xen44_driver.storage import usage as disk_usage
from xen44_driver.xen import capabilities
from xen44_driver.xen import host as xen_host
from xen44_driver.xen.guesttype import GuestType

CONF = conf.CONF

#: Guest types in Nova's words. PVH has none: its kernels know Xen, and Nova
#: has that for PV.
VM_MODES = {
    GuestType.PV: fields.VMMode.XEN,
    GuestType.PVH: fields.VMMode.XEN,
    GuestType.HVM: fields.VMMode.HVM,
}


def available(node: compute_node.Node) -> dict[str, Any]:
    """What Nova's resource tracker wants to know.

    :param node: this node
    :returns: see ``nova.virt.driver.ComputeDriver.get_available_resource``
    """
    host = node.host
    caps = node.capabilities
    memory = host.memory()
    disk = disk_usage.measure()
    return {
        'hypervisor_type': fields.HVType.XEN,
        'hypervisor_version': version_number(host.versions().xen),
        'hypervisor_hostname': host.hostname(),
        'uuid': nova_node.get_local_node_uuid(),
        'vcpus': cpus(node),
        # Nova counts what its instances use itself.
        'vcpus_used': 0,
        'memory_mb': memory.total_mib,
        'memory_mb_used': memory.total_mib - memory.free_mib,
        'local_gb': disk.total // units.Gi,
        'local_gb_used': disk.used // units.Gi,
        'disk_available_least': (disk.free - disk.promised) // units.Gi,
        'cpu_info': json.dumps(_cpu_info(caps)),
        'supported_instances': _supported_instances(caps),
        'numa_topology': None,
    }


def version_number(version: tuple[int, ...]) -> int:
    """A version as one number, as libvirt writes it: 4.20.4 is 4020004.

    :param version: major, minor and release
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
    """(architecture, hypervisor, VM mode) of guests, for the scheduler."""
    modes = sorted({VM_MODES[kind] for kind in caps.guest_types})
    arches = [caps.arch]
    supported = [
        (arch, fields.HVType.XEN, mode) for arch in arches for mode in modes]
    if (caps.arch == fields.Architecture.X86_64
            and GuestType.HVM in caps.guest_types):
        # A whole PC runs 32-bit systems too.
        supported.append((fields.Architecture.I686, fields.HVType.XEN,
                          fields.VMMode.HVM))
    return supported


def update_provider_tree(
    node: compute_node.Node, tree: nova_provider_tree.ProviderTree,
    nodename: str, *,
    allocation_ratios: Callable[[dict[str, Any]], dict[str, float]],
) -> None:
    """Tell placement what there is.

    :param node: this node
    :param tree: placement's view, updated in place
    :param nodename: our resource provider
    :param allocation_ratios: Nova's choice of ratios
    """
    ratios = allocation_ratios(tree.data(nodename).inventory)
    memory = node.host.memory()
    totals = {
        orc.VCPU: (cpus(node), CONF.reserved_host_cpus),
        orc.MEMORY_MB: (memory.total_mib, reserved_memory_mib(memory)),
        orc.DISK_GB: (disk_usage.measure().total // units.Gi,
                      _reserved_disk_gb(node)),
    }
    tree.update_inventory(nodename, {
        resource: {
            'total': total,
            'min_unit': 1,
            'max_unit': total,
            'step_size': 1,
            'allocation_ratio': ratios[resource],
            'reserved': min(reserved, total),
        } for resource, (total, reserved) in totals.items() if total})

    wanted = traits.wanted(node.capabilities, node.host.versions())
    old = {trait for trait in tree.data(nodename).traits
           if traits.managed(trait)}
    tree.add_traits(nodename, *wanted)
    tree.remove_traits(nodename, *(old - wanted))


def cpus(node: compute_node.Node) -> int:
    """CPUs of the host that guests run on.

    All, or those of ``[compute] cpu_shared_set``.

    :param node: this node
    """
    shared = hardware.get_cpu_shared_set()
    return len(shared) if shared else node.host.cpus()


def reserved_memory_mib(memory: xen_host.HostMemory) -> int:
    """Memory that is not for guests, in MiB.

    What dom0 may take and what Xen needs for itself; or
    ``reserved_host_memory_mb`` where that is more.

    :param memory: the host's
    """
    reserved: int = CONF.reserved_host_memory_mb
    if dom0_is_unbounded(memory):
        return reserved
    return max(reserved, memory.dom0_mib + _xen_mib(memory))


def dom0_is_unbounded(memory: xen_host.HostMemory) -> bool:
    """Whether dom0 may take all there is (no ``dom0_mem=max:``).

    :param memory: the host's
    """
    return memory.dom0_mib >= memory.total_mib - _xen_mib(memory)


def _xen_mib(memory: xen_host.HostMemory) -> int:
    # 32 bytes for each page of 4 KiB (struct page_info), and its heap: of
    # 6143 MiB, 63 were gone before the first guest.
    return memory.total_mib // 128 + 16


def _reserved_disk_gb(node: compute_node.Node) -> int:
    reserved: int = compute_utils.convert_mb_to_ceil_gb(
        CONF.reserved_host_disk_mb)
    if CONF.workarounds.reserve_disk_resource_for_image_cache:
        reserved += math.ceil(node.images.get_disk_usage() / units.Gi)
    return reserved
