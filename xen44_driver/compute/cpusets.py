# SPDX-License-Identifier: Apache-2.0
"""Which of the host's CPUs each vCPU runs on.

Nova divides a host's CPUs: guests share those in ``[compute] cpu_shared_set``,
and each of those in ``cpu_dedicated_set`` belongs to one vCPU of one guest
(``hw:cpu_policy=dedicated``). Nova itself chooses it, by the topology that
this module reports, and keeps it in the instance's NUMA topology. Xen
allocates a guest's memory on the NUMA nodes of the CPUs that its vCPUs are
pinned to (``domain_update_node_affinity`` in Xen).
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator

from nova import conf
from nova import exception
from nova import objects
from nova.virt import hardware
from oslo_utils import units

from xen44_driver.xen import capabilities

CONF = conf.CONF

_PAGE_KIB = 4


def there(caps: capabilities.Capabilities, cpus: int) -> frozenset[int]:
    """Return the numbers of the CPUs that Xen has.

    :param caps: what the host can do; its NUMA nodes tell.
    :param cpus: how many there are, if there are no NUMA nodes.
    """
    return frozenset[int]().union(
        *(cell.cpus for cell in caps.cells)) or frozenset(range(cpus))


def shared() -> frozenset[int] | None:
    """Return the CPUs on which vCPUs run that have none of their own.

    :returns: None for all.
    :raises nova.exception.Invalid: the option cannot be read.
    """
    cpus = hardware.get_cpu_shared_set()
    return None if cpus is None else frozenset(cpus)


def dedicated() -> frozenset[int]:
    """Return the CPUs that belong to one vCPU each.

    :raises nova.exception.Invalid: the option cannot be read.
    """
    return frozenset(hardware.get_cpu_dedicated_set() or ())


def counted(cpus: frozenset[int]) -> frozenset[int]:
    """Return the CPUs that Nova counts for vCPUs without one of their own.

    These are none on a host whose only option is ``cpu_dedicated_set``.

    :param cpus: those that Xen has.
    """
    some = shared()
    if some is not None:
        return some
    return frozenset() if dedicated() else cpus


def problems(cpus: frozenset[int]) -> Iterator[str]:
    """Say what is wrong with the options, in a sentence each.

    :param cpus: those that Xen has.
    """
    sets = {}
    for name, read in (('cpu_shared_set', hardware.get_cpu_shared_set),
                       ('cpu_dedicated_set', hardware.get_cpu_dedicated_set)):
        try:
            sets[name] = frozenset(read() or ())
        except exception.Invalid as error:
            yield f'[compute] {name}: {error}'
            return
        if missing := sets[name] - cpus:
            yield (f'[compute] {name} has CPU {min(missing)}; this host '
                   f'has CPUs {hardware.format_cpu_spec(set(cpus))}')
    if both := frozenset.intersection(*sets.values()):
        yield (f'[compute] cpu_shared_set and cpu_dedicated_set both have CPU '
               f'{min(both)}; a CPU can be in only one of them')


def _asked(image: objects.ImageMeta, flavor: objects.Flavor) -> set[int]:
    """Return the vCPUs that are to have a CPU of their own."""
    topology = hardware.numa_get_constraints(flavor, image)
    return {vcpu for cell in (topology.cells if topology else ())
            for vcpu in cell.pcpuset or ()}


def check_policy(
    image: objects.ImageMeta, flavor: objects.Flavor, *, offered: bool,
) -> None:
    """Refuse CPUs of its own for a guest on a host that has none to give.

    Nova's scheduler also tries such hosts, unless it is told not to
    (``[workarounds] disable_fallback_pcpu_query``).

    :param offered: whether the host has dedicated CPUs.
    :raises nova.exception.ComputeResourcesUnavailable: the message names what
        was asked. Nova tries another host.
    """
    if not offered and _asked(image, flavor):
        raise exception.ComputeResourcesUnavailable(
            reason='dedicated CPUs (hw:cpu_policy or resources:PCPU, image: '
                   'hw_cpu_policy) are not possible on this host, which has '
                   'no [compute] cpu_dedicated_set')


def of_instance(
    instance: objects.Instance, shared_set: frozenset[int] | None,
    dedicated_set: frozenset[int],
) -> tuple[frozenset[int], ...]:
    """Return the CPUs that each of an instance's vCPUs runs on.

    :param shared_set: the CPUs of vCPUs without one of their own; None for
        all.
    :param dedicated_set: the CPUs that belong to one vCPU each.
    :returns: a set for each vCPU; nothing if all run on all CPUs.
    :raises nova.exception.InvalidInput: what Nova has chosen is not what the
        flavor asks for, or not what the host has.
    """
    own: dict[int, int] = {}
    topology = instance.numa_topology
    for cell in topology.cells if topology else ():
        own |= cell.cpu_pinning or {}
    asked = _asked(instance.image_meta, instance.flavor)
    if wrong := asked ^ own.keys():
        vcpu = min(wrong)
        raise exception.InvalidInput(
            reason=f'vCPU {vcpu} is to have a CPU of its own, and Nova has '
                   'chosen none' if vcpu in asked else
                   f'vCPU {vcpu} is not to have a CPU of its own, and Nova '
                   f'has chosen CPU {own[vcpu]}')
    if lost := set(own.values()) - dedicated_set:
        raise exception.InvalidInput(
            reason=f'CPU {min(lost)}, which Nova has chosen, is not in '
                   '[compute] cpu_dedicated_set')
    if not own and shared_set is None:
        return ()
    vcpus = range(instance.flavor.vcpus)
    if shared_set is None and own.keys() < set(vcpus):
        raise exception.InvalidInput(
            reason='some vCPUs share CPUs, and [compute] cpu_shared_set is '
                   'not set')
    return tuple(frozenset((own[vcpu],)) if vcpu in own
                 else shared_set or frozenset() for vcpu in vcpus)


def topology(
    caps: capabilities.Capabilities, cpus: int,
) -> objects.NUMATopology | None:
    """Describe the host's NUMA nodes, from which Nova chooses CPUs.

    :param caps: what the host can do.
    :param cpus: the number of CPUs that Xen has.
    :returns: None for a host without dedicated CPUs. Nova then does not send
        it instances that need NUMA nodes.
    """
    own = dedicated()
    if not own:
        return None
    others = counted(there(caps, cpus))
    # What is used, Nova adds itself.
    return objects.NUMATopology(cells=[
        objects.NUMACell(
            id=cell.id,
            socket=cell.socket,
            cpuset=set(cell.cpus & others),
            pcpuset=set(cell.cpus & own),
            memory=cell.memory_mib,
            cpu_usage=0,
            memory_usage=0,
            pinned_cpus=set(),
            siblings=_siblings(cell, own | others, caps.topology.threads),
            mempages=[objects.NUMAPagesTopology(
                size_kb=_PAGE_KIB, used=0, reserved=0,
                total=cell.memory_mib * units.Ki // _PAGE_KIB)],
            network_metadata=objects.NetworkMetadata(
                physnets=set(), tunneled=False))
        for cell in caps.cells])


def _siblings(
    cell: capabilities.Cell, cpus: frozenset[int], threads: int,
) -> list[set[int]]:
    """Return the CPUs of each core, of those that guests run on.

    :param threads: how many a core has. On ARM, Xen tells of one core with
        all CPUs.
    """
    cores = cell.siblings if threads > 1 else [
        frozenset((cpu,)) for cpu in sorted(cell.cpus)]
    return [set(core & cpus) for core in cores if core & cpus]


def check_instances(instances: Iterable[objects.Instance]) -> None:
    """Refuse options that leave instances of this host without their CPUs.

    :raises nova.exception.InvalidConfiguration: the message names the option.
    """
    shared_set, dedicated_set = shared(), dedicated()
    for instance in instances:
        if instance.numa_topology:
            try:
                of_instance(instance, shared_set, dedicated_set)
            except exception.InvalidInput as error:
                raise exception.InvalidConfiguration(
                    f'Instance {instance.uuid}: {error.format_message()}'
                ) from error
        elif dedicated_set and shared_set is None:
            raise exception.InvalidConfiguration(
                f'Instance {instance.uuid} shares CPUs, and [compute] '
                'cpu_dedicated_set is set without cpu_shared_set')
