# SPDX-License-Identifier: Apache-2.0
"""Give an instance another flavor on this host, or take that back.

Nova calls :func:`begin` while the instance has its old flavor, :func:`finish`
when it has the new one, and then, when the user has decided, :func:`confirm`
or :func:`revert`. Until then the old disks exist unchanged beside the new
ones, and the record of what the instance was beside its own
(:mod:`xen44_driver.compute.before_resize`).

Everything that can be refused is refused in :func:`begin`, while the instance
still runs. If :func:`finish` fails or is interrupted, the instance is what it
was before, and a hard reboot starts it.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import os
from typing import Any

from nova import context as nova_context
from nova import exception
from nova import objects
from nova.compute import task_states
from nova.compute import vm_states
from nova.network import model
from nova.scheduler.client import report
from nova.virt import driver
from oslo_log import log as logging
from oslo_utils import units

from xen44_driver import faultpoints
from xen44_driver.compute import before_resize
from xen44_driver.compute import connections
from xen44_driver.compute import devices
from xen44_driver.compute import disk_class
from xen44_driver.compute import disks
from xen44_driver.compute import faults
from xen44_driver.compute import guest_type
from xen44_driver.compute import machine as machine_lib
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import power
from xen44_driver.compute import resources
from xen44_driver.compute import start
from xen44_driver.core import monitor
from xen44_driver.core import undo as undo_lib
from xen44_driver.storage import kinds
from xen44_driver.storage import usage
from xen44_driver.storage.kinds import blank
from xen44_driver.xen import errors as xen_errors
from xen44_driver.xen import overhead

LOG = logging.getLogger(__name__)


def begin(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, flavor: objects.Flavor, *,
    block_device_info: Mapping[str, Any] | None,
    timeout: int, retry_interval: int,
) -> str:
    """Stop an instance and set its disks aside, before it is resized.

    :param flavor: the new flavor; the same one if it only moves.
    :param block_device_info: the disks besides the root disk.
    :param timeout: seconds that the guest has to shut down.
    :param retry_interval: seconds after which the guest is asked again.
    :returns: what :func:`finish` has to know of the disks: nothing.
    :raises nova.exception.InstanceFaultRollback: it cannot be done; nothing
        was touched, and Nova leaves the instance's state as it is.
    """
    with faults.state_kept('resize', instance):
        _check_host(context, instance)
        _check_cpus(instance, flavor)
        before_resize.mend(node, instance)
        old = power.machine_of(node, context, instance, block_device_info)
        new = plan(node, instance, old, instance.flavor, flavor,
                   block_device_info)
        machine_lib.check_loader(new, node.arch.name)
        _check_sizes(node, old, new, instance)
        _check_room(node, old, instance)
        _check_memory(node, instance, old, new, flavor)
    power.power_off(node, instance, timeout=timeout,
                    retry_interval=retry_interval)
    faultpoints.reached('resize: domain stopped')
    # They are renamed and read next.
    monitor.wait_until_closed(instance.uuid)
    # What interrupted operations left.
    power.end_rescue(node, instance)
    before_resize.forget(node, instance)
    tools = disks.tools(node, instance, None)
    for disk in _disks(old, node.files(instance).directory):
        disk.settle(tools)
    # Nova has Cinder take them away from this host next.
    connections.disconnect_all(instance, block_device_info)
    before_resize.keep(node, instance, old)
    faultpoints.reached('resize: disks set aside')
    return '{}'


def _check_host(
    context: nova_context.RequestContext, instance: objects.Instance,
) -> None:
    if instance.migration_context is None:
        raise exception.MigrationPreCheckError(
            reason='the instance has no migration, which names the host')
    migration = _migration(context, instance)
    if migration.dest_compute != instance.host:
        raise exception.MigrationPreCheckError(
            reason=f'host {instance.host} moves no disks to another host, '
                   f'such as {migration.dest_compute}; allowed: the same '
                   'host (allow_resize_to_same_host)')


def _check_cpus(instance: objects.Instance, flavor: objects.Flavor) -> None:
    """Refuse what makes Nova give a CPU away twice.

    Until a move within its host is confirmed, Nova's resource tracker counts
    the instance's new CPUs twice, and those that a revert needs not at all.
    """
    topology = instance.numa_topology
    if (topology and topology.cpu_pinning
            and flavor.id == instance.flavor.id):
        raise exception.MigrationPreCheckError(
            reason='the instance has CPUs of its own, and does not change its '
                   'flavor; allowed: a resize to another flavor')


def _leave_migration(instance: objects.Instance) -> None:
    """Give an instance the CPUs from before a resize that has failed.

    Nova itself takes back only the flavor. Its resource tracker counts the
    other CPUs as long as there is a migration context.
    """
    if instance.migration_context is not None:
        instance.revert_migration_context()
        instance.save()
        instance.drop_migration_context()


def _migration(
    context: nova_context.RequestContext, instance: objects.Instance,
) -> objects.Migration:
    return objects.Migration.get_by_id_and_instance(
        context, instance.migration_context.migration_id, instance.uuid)


def plan(
    node: compute_node.Node, instance: objects.Instance,
    old: machine_lib.Machine, old_flavor: objects.Flavor,
    flavor: objects.Flavor, block_device_info: Mapping[str, Any] | None,
) -> machine_lib.Machine:
    """Decide what an instance becomes with another flavor.

    The disks keep their formats and their images. A guest type or a class of
    disks that nobody asked for stays, whatever the options of the host are
    now.

    :param old: what it was.
    :param old_flavor: its flavor then.
    :param flavor: the new flavor.
    :param block_device_info: tells whether it has volumes.
    :raises nova.exception.Invalid: it cannot become that; the message says
        why.
    """
    files = {disk.file: disk for disk in old.disks}
    options = node.machine_options()
    if guest_type.EXTRA_SPEC not in old_flavor.extra_specs:
        options = dataclasses.replace(
            options, default_guest_type=old.guest_type)
    if disk_class.EXTRA_SPEC not in old_flavor.extra_specs:
        options = dataclasses.replace(options, disk_class=old.disk_class)
    options = dataclasses.replace(
        options, disk_format=old.root.format,
        config_drive=machine_lib.CONFIG_DRIVE_FILE in files,
        image_kernels=options.image_kernels or old.kernel_id is not None)
    image = instance.image_meta
    image.disk_format = ('iso' if machine_lib.ISO_FILE in files
                         else old.root.format)
    new = machine_lib.decide(
        instance, image,
        {**_blank_disks(old, old_flavor, flavor),
         'block_device_mapping': driver.block_device_info_get_mapping(
             block_device_info)},
        options, flavor=flavor)
    if new.root.format != old.root.format:
        raise exception.InvalidInput(
            reason=f'the root disk is {old.root.format}, and the new flavor '
                   f'asks for {disk_class.EXTRA_SPEC} {new.disk_class}, which '
                   f'needs {new.root.format}; allowed: {old.disk_class}, or a '
                   'new instance of a snapshot')
    return dataclasses.replace(new, disks=tuple(
        dataclasses.replace(disk, base=files[disk.file].base)
        if disk.file in files else disk for disk in new.disks))


def _blank_disks(
    old: machine_lib.Machine, old_flavor: objects.Flavor,
    flavor: objects.Flavor,
) -> dict[str, Any]:
    """Return the swap and ephemeral disks, as ``block_device_info`` has them.

    If the old flavor's ephemeral space was one disk, that gets the size of the
    new flavor's. Disks that the user divided it into keep their sizes.
    """
    names = [disk.name for disk in old.disks]
    ephemerals = [
        {'device_name': disk.name, 'size': disk.size // units.Gi,
         'guest_format': None if disk.file_system == blank.DEFAULT
         else disk.file_system}
        for disk in old.disks
        if disk.kind == 'blank' and disk.file.startswith('disk.eph')]
    sizes = [disk['size'] for disk in ephemerals]
    if sizes == [old_flavor.ephemeral_gb]:
        ephemerals[0]['size'] = flavor.ephemeral_gb
    elif not sizes and flavor.ephemeral_gb:
        names.append(devices.next_name(names))
        ephemerals.append({'device_name': names[-1], 'guest_format': None,
                           'size': flavor.ephemeral_gb})
    swap = next(({'device_name': disk.name,
                  'swap_size': disk.size // units.Mi}
                 for disk in old.disks if disk.file == machine_lib.SWAP_FILE),
                None)
    if flavor.swap != old_flavor.swap:
        name = swap['device_name'] if swap else devices.next_name(names)
        swap = {'device_name': name, 'swap_size': flavor.swap}
    return {'ephemerals': ephemerals, 'swap': swap}


def _disks(
    machine: machine_lib.Machine, directory: str,
) -> Iterator[kinds.Kind]:
    for record in machine.disks:
        yield kinds.load(record, directory)


def _check_sizes(
    node: compute_node.Node, old: machine_lib.Machine,
    new: machine_lib.Machine, instance: objects.Instance,
) -> None:
    """Refuse to make a root or ephemeral disk smaller.

    :raises nova.exception.ResizeError: one would be; the message names it.
    """
    wanted = {record.file: record.size for record in new.disks}
    for disk in _disks(old, node.files(instance).directory):
        record = disk.record
        if record.kind == 'volume' or (
                record is not old.root and record.kind != 'blank'):
            continue
        if record.file_system == blank.SWAP:
            continue
        # A root disk of 0 keeps the size that it has.
        keeps = record is old.root and not wanted[record.file]
        size = disk.measure()
        if not keeps and wanted.get(record.file, 0) < size:
            raise exception.ResizeError(
                reason=f'disk {record.name} has {size} bytes, and with the '
                       f'new flavor {wanted.get(record.file, 0)}; a disk '
                       'cannot be made smaller')


def _check_room(
    node: compute_node.Node, old: machine_lib.Machine,
    instance: objects.Instance,
) -> None:
    directory = node.files(instance).directory
    size = sum(disk.inherited_bytes() for disk in _disks(old, directory))
    if size and not usage.shares_blocks(directory):
        usage.require(directory, size, 'the copy of the disks')


def _check_memory(
    node: compute_node.Node, instance: objects.Instance,
    old: machine_lib.Machine, new: machine_lib.Machine,
    flavor: objects.Flavor,
) -> None:
    """Refuse a flavor for which Xen has too little memory.

    What the instance has itself is counted as free if it runs. If it is off,
    it may stay so, and there may be memory when it is started.
    """
    try:
        if node.host.guest(instance.uuid).state().is_off:
            return
    except xen_errors.DomainNotFound:
        return
    own = instance.flavor
    resources.check_memory(
        node, new.guest_type, memory_mib=flavor.memory_mb,
        vcpus=flavor.vcpus, freed_mib=own.memory_mb + overhead.overhead_mib(
            old.guest_type, own.memory_mb, own.vcpus))


def finish(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, *,
    network_info: model.NetworkInfo | None,
    block_device_info: Mapping[str, Any] | None, power_on: bool,
) -> None:
    """Make an instance what it is with its new flavor.

    :param network_info: the ports.
    :param block_device_info: the disks besides the root disk.
    :param power_on: whether to start it.
    :raises nova.exception.NovaException: it cannot be made that; it is off,
        and is what it was before.
    """
    vifs = tuple(network_info or ())
    files = node.files(instance)
    old = machine_lib.recall(instance, machine_lib.BEFORE_RESIZE)
    if old is None or not files.was_set_aside():
        raise exception.ResizeError(
            reason=f'there is no {files.before_resize}; allowed: a resize '
                   'on the same host')
    with undo_lib.Undo(instance) as undo:
        undo.add(_leave_migration, instance)
        undo.add(before_resize.restore, node, instance)
        new = plan(node, instance, old, instance.old_flavor,
                   instance.flavor, block_device_info)
        machine_lib.check_loader(new, node.arch.name)
        described = start.describe(node, instance, new, vifs)
        if power_on:
            resources.check_memory(
                node, new.guest_type, memory_mib=instance.flavor.memory_mb,
                vcpus=instance.flavor.vcpus)
        _make(node, instance, old, new, network_info)
        faultpoints.reached('resize: disks made')
        machine_lib.keep(instance, new)
        # Before the directory is complete: from then on, it is this machine.
        instance.save()
        faultpoints.reached('resize: record kept')
        files.complete()
        faultpoints.reached('resize: disks complete')
        if power_on:
            power.boot(node, context, instance, new, vifs, block_device_info)
        else:
            start.define(node, described)
        faultpoints.reached('resize: domain defined')
    LOG.info('Resized to flavor %s', instance.flavor.name, instance=instance)


def _make(
    node: compute_node.Node, instance: objects.Instance,
    old: machine_lib.Machine, new: machine_lib.Machine,
    network_info: model.NetworkInfo | None,
) -> None:
    """Make the files of an instance in a directory that is not its yet."""
    files = node.files(instance)
    files.create_part()
    tools = disks.tools(node, instance, network_info)
    sources = {disk.record.file: disk
               for disk in _disks(old, files.before_resize)}
    for disk in _disks(new, files.part):
        source = sources.get(disk.record.file)
        if source is None:
            disk.prepare(tools)
        else:
            disk.inherit(source, tools)
    for name in ('kernel', 'ramdisk', 'console.log'):
        with contextlib.suppress(FileNotFoundError):
            os.link(os.path.join(files.before_resize, name),
                    os.path.join(files.part, name))


def confirm(node: compute_node.Node, instance: objects.Instance) -> None:
    """Remove what an instance was before its resize; safe to repeat."""
    before_resize.forget(node, instance)
    faultpoints.reached('confirm: old disks removed')


def revert(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, *,
    network_info: model.NetworkInfo | None,
    block_device_info: Mapping[str, Any] | None, power_on: bool,
) -> None:
    """Make an instance what it was before its resize; safe to repeat.

    Nova also calls this when it starts, for an instance whose resize was
    interrupted before its disks were moved. Such a one may still run.

    :param network_info: the ports.
    :param block_device_info: the disks besides the root disk.
    :param power_on: whether to start it.
    :raises nova.exception.NovaException: it cannot be started.
    """
    before_resize.restore(node, instance)
    faultpoints.reached('revert: disks restored')
    if instance.task_state == task_states.RESIZE_MIGRATING:
        block_device_info = connections.renewed(context, instance)
    _settle(node, context, instance, network_info=network_info,
            block_device_info=block_device_info, power_on=power_on)


def _settle(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, *,
    network_info: model.NetworkInfo | None,
    block_device_info: Mapping[str, Any] | None, power_on: bool,
) -> None:
    """Have an instance run, or defined and off, as its record says."""
    if not power_on:
        machine = power.machine_of(node, context, instance, block_device_info)
        start.define(node, start.describe(
            node, instance, machine, tuple(network_info or ())))
    elif not _runs(node, instance):
        power.power_on(node, context, instance, network_info=network_info,
                       block_device_info=block_device_info)


def _runs(node: compute_node.Node, instance: objects.Instance) -> bool:
    try:
        return not node.host.guest(instance.uuid).state().is_off
    except xen_errors.DomainNotFound:
        return False


def _ran(instance: objects.Instance) -> bool:
    """Return whether Nova starts an instance when its resize is complete."""
    return bool(instance.system_metadata.get('old_vm_state')
                != vm_states.STOPPED)


def mend_begin(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance,
) -> str:
    """Undo a resize that was interrupted when its disks were set aside.

    :returns: the instance's state in Nova.
    :raises nova.exception.NovaException: the instance cannot be started.
    """
    give_up(context, instance)
    return _as_before(node, context, instance)


def mend_finish(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance,
) -> str:
    """Complete a resize that was interrupted after the disks were set aside.

    :returns: the instance's state in Nova: the user can confirm or revert.
    :raises nova.exception.NovaException: it cannot be completed; the instance
        is off, and is what it was before.
    """
    migration = _migration(context, instance)
    complete = node.files(instance).exist()
    try:
        (_settle if complete else finish)(
            node, context, instance,
            network_info=instance.get_network_info(),
            block_device_info=connections.renewed(context, instance),
            power_on=_ran(instance))
    except Exception:
        _fail(context, instance, migration)
        _leave_migration(instance)
        raise
    migration.status = 'finished'
    migration.save()
    return str(vm_states.RESIZED)


def mend_revert(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance,
) -> str:
    """Bring the interrupted revert of a resize to an end.

    :returns: the instance's state in Nova.
    :raises nova.exception.NovaException: the instance cannot be started.
    """
    migration = _migration(context, instance)
    if migration.status == 'reverting':
        # Nova had not begun to take the new flavor away. The user can revert
        # it again, or confirm.
        _settle(node, context, instance,
                network_info=instance.get_network_info(),
                block_device_info=connections.renewed(context, instance),
                power_on=_ran(instance))
        migration.status = 'finished'
        migration.save()
        return str(vm_states.RESIZED)
    _take_back_flavor(context, instance, migration)
    return _as_before(node, context, instance)


def _as_before(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance,
) -> str:
    """Make an instance what it was before a resize that Nova has given up.

    :returns: the instance's state in Nova.
    """
    ran = _ran(instance)
    instance.revert_migration_context()
    revert(node, context, instance, network_info=instance.get_network_info(),
           block_device_info=connections.renewed(context, instance),
           power_on=ran)
    instance.drop_migration_context()
    instance.old_flavor = instance.new_flavor = None
    instance.system_metadata.pop('old_vm_state', None)
    return str(vm_states.ACTIVE if ran else vm_states.STOPPED)


def give_up(
    context: nova_context.RequestContext, instance: objects.Instance,
) -> None:
    """Tell Nova that a resize has failed: the old flavor counts again.

    The instance is saved; its disks and its domain are not touched.
    """
    _fail(context, instance, _migration(context, instance))


def _fail(
    context: nova_context.RequestContext, instance: objects.Instance,
    migration: objects.Migration,
) -> None:
    migration.status = 'error'
    migration.save()
    _take_back_flavor(context, instance, migration)


def _take_back_flavor(
    context: nova_context.RequestContext, instance: objects.Instance,
    migration: objects.Migration,
) -> None:
    """Give an instance its old flavor and what that needs in Placement.

    During a resize, the migration holds what the old flavor needs. Safe to
    repeat.
    """
    flavor = instance.old_flavor
    if flavor is not None:
        instance.flavor = flavor
        instance.instance_type_id = flavor.id
        for name in ('memory_mb', 'vcpus', 'root_gb', 'ephemeral_gb'):
            setattr(instance, name, getattr(flavor, name))
        instance.save()
    placement = report.report_client_singleton()
    if placement.get_allocations_for_consumer(context, migration.uuid):
        placement.move_allocations(context, migration.uuid, instance.uuid)
