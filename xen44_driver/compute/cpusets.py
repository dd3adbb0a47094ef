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
from nova.objects import fields
from nova.virt import hardware
from oslo_utils import units

from xen44_driver.xen import capabilities

CONF = conf.CONF

_PAGE_KIB = 4


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


def counted(there: int) -> frozenset[int]:
    """Return the CPUs that Nova counts for vCPUs without one of their own.

    These are none on a host whose only option is ``cpu_dedicated_set``.

    :param there: the number of CPUs that Xen has.
    """
    cpus = shared()
    if cpus is not None:
        return cpus
    return frozenset() if dedicated() else frozenset(range(there))


def problems(there: int) -> Iterator[str]:
    """Say what is wrong with the options, in a sentence each.

    :param there: the number of CPUs that Xen has.
    """
    sets = {}
    for name, read in (('cpu_shared_set', hardware.get_cpu_shared_set),
                       ('cpu_dedicated_set', hardware.get_cpu_dedicated_set)):
        try:
            sets[name] = cpus = read() or set()
        except exception.Invalid as error:
            yield f'[compute] {name}: {error}'
            return
        if missing := sorted(cpu for cpu in cpus if cpu >= there):
            yield (f'[compute] {name} has CPU {missing[0]}; this host '
                   f'has CPUs 0 to {there - 1}')
    if both := sorted(set.intersection(*sets.values())):
        yield (f'[compute] cpu_shared_set and cpu_dedicated_set both have CPU '
               f'{both[0]}; a CPU can be in one of them')


def check_policy(
    image: objects.ImageMeta, flavor: objects.Flavor, *, offered: bool,
) -> None:
    """Refuse CPUs of its own for a guest on a host that has none to give.

    Nova's scheduler does not choose such a host, unless it is asked to try
    without (``[workarounds] disable_fallback_pcpu_query``).

    :param offered: whether the host has dedicated CPUs.
    :raises nova.exception.InvalidInput: the message names what was asked.
    """
    policy = hardware.get_cpu_policy_constraint(flavor, image)
    if offered or policy in (None, fields.CPUAllocationPolicy.SHARED):
        return
    raise exception.InvalidInput(
        reason=f'hw:cpu_policy {policy!r} is not possible on this host, '
               'which dedicates no CPUs to guests ([compute] '
               'cpu_dedicated_set); allowed: shared')


def of_instance(
    instance: objects.Instance, shared_set: frozenset[int] | None,
) -> tuple[frozenset[int], ...]:
    """Return the CPUs that each of an instance's vCPUs runs on.

    :param shared_set: the CPUs of vCPUs without one of their own; None for
        all.
    :returns: a set for each vCPU; nothing if all run on all CPUs.
    :raises nova.exception.InvalidInput: Nova has not chosen a CPU for a vCPU
        that is to have its own, or vCPUs may share none.
    """
    own: dict[int, int] = {}
    wanted: set[int] = set()
    topology = instance.numa_topology
    for cell in topology.cells if topology else ():
        own |= cell.cpu_pinning or {}
        wanted |= set(cell.pcpuset or ())
    if wanted - own.keys():
        raise exception.InvalidInput(
            reason=f'vCPU {min(wanted - own.keys())} is to have a CPU of its '
                   'own, and Nova has chosen none; migrate the instance')
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
    others = counted(cpus)
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
            siblings=[set(siblings) for siblings in cell.siblings],
            mempages=[objects.NUMAPagesTopology(
                size_kb=_PAGE_KIB, used=0, reserved=0,
                total=cell.memory_mib * units.Ki // _PAGE_KIB)],
            network_metadata=objects.NetworkMetadata(
                physnets=set(), tunneled=False))
        for cell in caps.cells])


def check_instances(instances: Iterable[objects.Instance]) -> None:
    """Refuse options that leave instances of this host without their CPUs.

    :raises nova.exception.InvalidConfiguration: the message names the option.
    """
    own = dedicated()
    for instance in instances:
        numa = instance.numa_topology
        policy = numa.cpu_policy if numa else None
        pinned = policy in (fields.CPUAllocationPolicy.DEDICATED,
                            fields.CPUAllocationPolicy.MIXED)
        if not pinned or policy == fields.CPUAllocationPolicy.MIXED:
            if own and not CONF.compute.cpu_shared_set:
                raise exception.InvalidConfiguration(
                    f'Instance {instance.uuid} has vCPUs that share CPUs, and '
                    '[compute] cpu_dedicated_set is set without '
                    'cpu_shared_set')
        if pinned and (lost := numa.cpu_pinning - own):
            raise exception.InvalidConfiguration(
                f'CPU {min(lost)} belongs to instance {instance.uuid}, and '
                'is not in [compute] cpu_dedicated_set')
