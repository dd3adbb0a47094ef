# SPDX-License-Identifier: Apache-2.0
"""Start, stop, reboot and pause instances, and tell their power state."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from nova import conf
from nova import context as nova_context
from nova import objects
from nova.compute import power_state
from nova.compute import vm_states
from nova.network import model
from nova.virt import hardware
from oslo_log import log as logging

from xen44_driver import faultpoints
from xen44_driver import privsep
from xen44_driver.compute import before_resize
from xen44_driver.compute import connections
from xen44_driver.compute import destroy
from xen44_driver.compute import disks
from xen44_driver.compute import machine as machine_lib
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import ports
from xen44_driver.compute import start
from xen44_driver.core import consolelog
from xen44_driver.core import stopping
from xen44_driver.xen import errors as xen_errors
from xen44_driver.xen import guest as xen_guest
from xen44_driver.xen.events import DomainState

CONF = conf.CONF
LOG = logging.getLogger(__name__)

#: Nova's power state for each state of a domain.
STATES = {
    DomainState.RUNNING: power_state.RUNNING,
    DomainState.PAUSED: power_state.PAUSED,
    DomainState.SHUTDOWN: power_state.SHUTDOWN,
    # It is off. Nova ignores the event that a guest has stopped, unless its
    # state is this one; CRASHED it would notice only minutes later.
    DomainState.CRASHED: power_state.SHUTDOWN,
    DomainState.SUSPENDED: power_state.SUSPENDED,
    DomainState.NOSTATE: power_state.NOSTATE,
}

def info(
    node: compute_node.Node, instance: objects.Instance, *, cached: bool,
) -> hardware.InstanceInfo:
    """Return an instance's power state and Xen's number of its domain.

    :param cached: read the cache that libvirt's events fill, without a call;
        otherwise ask libvirt.
    :raises nova.exception.InstanceNotFound: there is no such domain.
    """
    record = node.host.record(instance.uuid)
    state = (record.state if cached
             else node.host.guest(instance.uuid).state())
    return hardware.InstanceInfo(
        state=STATES[state],
        internal_id=None if record.id is None else str(record.id))


def power_off(
    node: compute_node.Node, instance: objects.Instance, *,
    timeout: int, retry_interval: int,
) -> None:
    """Stop an instance.

    :param timeout: seconds that the guest has to shut down; 0 to stop it at
        once.
    :param retry_interval: seconds after which the guest is asked again.
    """
    try:
        guest = node.host.guest(instance.uuid)
        if timeout and not stopping.shut_down(
                guest, instance, timeout=timeout,
                retry_interval=retry_interval):
            LOG.warning('The guest did not shut down within %s s; stopping '
                        'it', timeout, instance=instance)
        faultpoints.reached('power off: guest asked')
        guest.destroy()
        faultpoints.reached('power off: domain stopped')
        if instance.vm_state == vm_states.SUSPENDED:
            # It is being shelved. Memory that an operator saved by hand stays
            # until the next start.
            guest.forget_memory()
    except xen_errors.DomainNotFound:
        # An operator undefined the domain; the instance is off.
        LOG.warning('There is no domain to stop', instance=instance)


def power_on(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, *,
    network_info: model.NetworkInfo | None,
    block_device_info: Mapping[str, Any] | None,
) -> None:
    """Start an instance from its record.

    An existing domain is stopped and its definition replaced, as it may be
    older than the instance's flavor or ports. The disks are kept.

    This also mends what an interrupted operation left: the start of a resize
    is undone, and a rescue that Nova knows nothing of is ended.

    :param network_info: the ports.
    :param block_device_info: the disks besides the root disk.
    :raises nova.exception.NovaException: the instance cannot be started. An
        existing domain is still defined.
    """
    before_resize.mend(node, instance)
    machine = _booted(node, context, instance, block_device_info)
    boot(node, context, instance, machine, tuple(network_info or ()),
         block_device_info)
    if not machine.rescue:
        end_rescue(node, instance)


def boot(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, machine: machine_lib.Machine,
    vifs: Sequence[model.VIF],
    block_device_info: Mapping[str, Any] | None,
) -> None:
    """Start an instance as a given machine, whose disks exist.

    An existing domain is stopped and its definition replaced. The volumes are
    connected anew.

    :param machine: what it becomes.
    :param vifs: the ports.
    :param block_device_info: the volumes; None for those that Nova has
        recorded.
    :raises nova.exception.NovaException: the instance cannot be started. An
        existing domain is still defined.
    """
    machine_lib.check_loader(machine, node.arch.name)
    described = start.describe(node, instance, machine, vifs)
    disks.ensure_bases(node, context, machine)
    destroy.power_down(node, instance)
    faultpoints.reached('power on: old domain stopped')
    connections.connect_all(context, instance, machine, block_device_info)
    if described.serial_log:
        consolelog.prepare(described.serial_log)
    # Neutron's events are not waited for: most ports are still wired, and
    # Nova's copy of their state may be outdated.
    ports.plug(instance, vifs)
    faultpoints.reached('power on: ports plugged')
    guest = start.define(node, described)
    faultpoints.reached('power on: domain defined')
    start.boot(node, guest, described.disks, machine)


def end_rescue(node: compute_node.Node, instance: objects.Instance) -> None:
    """Remove what a rescue made, if there was one; the instance is saved.

    The domain must not use it any more.
    """
    node.files(instance).delete_rescue()
    if machine_lib.forget(instance, machine_lib.RESCUE):
        instance.save()


def _booted(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance,
    block_device_info: Mapping[str, Any] | None,
) -> machine_lib.Machine:
    """Return the record that an instance boots from."""
    if instance.vm_state == vm_states.RESCUED:
        rescue = machine_lib.recall(instance, machine_lib.RESCUE)
        if rescue is not None:
            return rescue
    return machine_of(node, context, instance, block_device_info)


def machine_of(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance,
    block_device_info: Mapping[str, Any] | None,
) -> machine_lib.Machine:
    """Return the record of an instance; make it if there is none.

    If the instance is rescued, this is what it was before.

    :param block_device_info: the disks besides the root disk, and volumes.
        The record gets these volumes; None to leave it those that it has.
    :raises MachineUnreadable: the record cannot be read.
    """
    try:
        machine = machine_lib.recall(instance)
    except machine_lib.MachineUnreadable as error:
        LOG.warning('%s Looking at its domain', error, instance=instance)
        machine = _machine_of_domain(node, instance)
        if machine is None:
            raise
    else:
        if machine is not None:
            return _with_volumes(node, instance, machine, block_device_info)
        machine = _machine_of_domain(node, instance)
    if machine is None:
        machine = machine_lib.adopt(
            instance, block_device_info, node.machine_options(),
            present=node.files(instance).names())
        machine = disks.recognise(node, context, instance, machine)
        LOG.info('An older version of the driver made this instance: '
                 'recorded what it is', instance=instance)
    machine_lib.keep(instance, machine)
    # Nova does not save it after every operation.
    instance.save()
    return machine


def _with_volumes(
    node: compute_node.Node, instance: objects.Instance,
    machine: machine_lib.Machine,
    block_device_info: Mapping[str, Any] | None,
) -> machine_lib.Machine:
    """Return a record with the volumes that Nova tells of; keep it."""
    if block_device_info is None:
        return machine
    found = machine_lib.with_volumes(
        machine, instance, block_device_info, node.arch)
    if found != machine:
        machine_lib.keep(instance, found)
        instance.save()
    return found


def _machine_of_domain(
    node: compute_node.Node, instance: objects.Instance,
) -> machine_lib.Machine | None:
    """Return the record in a domain's metadata; None if there is none.

    The record of a rescue is not what the instance is.

    :raises MachineUnreadable: it cannot be used either.
    """
    try:
        found = node.host.guest(instance.uuid).metadata()
    except xen_errors.DomainNotFound:
        return None
    if found is None or found.machine is None:
        return None
    machine = machine_lib.Machine.from_json(found.machine)
    return None if machine.rescue else machine


def reboot(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, *, soft: bool,
    network_info: model.NetworkInfo | None,
    block_device_info: Mapping[str, Any] | None,
) -> None:
    """Reboot an instance.

    :param soft: ask the guest to shut down, then start it again. If it does
        not run, or does not shut down in time, it is rebooted hard.
    :param network_info: the ports.
    :param block_device_info: the disks besides the root disk.
    :raises nova.exception.NovaException: the instance cannot be started.
    """
    if soft and _soft_reboot(node, context, instance, block_device_info):
        return
    power_on(node, context, instance, network_info=network_info,
             block_device_info=block_device_info)


def _soft_reboot(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, block_device_info: Mapping[str, Any] | None,
) -> bool:
    """Ask a guest to shut down, then start it again.

    :returns: False if the guest did not run or did not shut down in time.
    """
    if (machine_lib.RESCUE in instance.system_metadata
            and instance.vm_state != vm_states.RESCUED):
        LOG.warning('It is still rescued: rebooting it hard',
                    instance=instance)
        return False
    timeout = CONF.xen44.soft_reboot_timeout
    try:
        guest = node.host.guest(instance.uuid)
        running = guest.state() is DomainState.RUNNING
        obeyed = running and stopping.shut_down(
            guest, instance, timeout=timeout, retry_interval=0)
    except xen_errors.DomainNotFound:
        # The operator undefined it, before or just now.
        LOG.warning('There is no domain: rebooting it hard',
                    instance=instance)
        return False
    if not running:
        LOG.info('Not running: rebooting it hard', instance=instance)
        return False
    if not obeyed:
        LOG.warning('The guest did not shut down within %s s: rebooting '
                    'it hard', timeout, instance=instance)
        return False
    faultpoints.reached('soft reboot: guest shut down')
    machine = _booted(node, context, instance, block_device_info)
    if _has_other_volumes(guest, machine):
        LOG.info('Its domain is not defined with its volumes: rebooting it '
                 'hard', instance=instance)
        return False
    disks.ensure_bases(node, context, machine)
    connections.connect_all(context, instance, machine, block_device_info)
    start.boot(node, guest,
                  machine.devices(node.files(instance).directory), machine)
    return True


def _has_other_volumes(
    guest: xen_guest.Guest, machine: machine_lib.Machine,
) -> bool:
    """Return whether a domain's definition has other volumes than a record.

    As after an attachment or a detachment that was interrupted.
    """
    wanted = {disk.volume_id for disk in machine.disks} - {None}
    if not (wanted or privsep.linked_volumes(guest.uuid)):
        return False
    return ({disk.serial for disk in guest.disks(live=False)} - {None}
            != wanted)


def pause(node: compute_node.Node, instance: objects.Instance) -> None:
    """Pause an instance; its memory is kept."""
    node.host.guest(instance.uuid).suspend()
    faultpoints.reached('pause: domain paused')


def unpause(node: compute_node.Node, instance: objects.Instance) -> None:
    """Resume a paused instance."""
    guest = node.host.guest(instance.uuid)
    if guest.state() is DomainState.PAUSED:
        guest.resume()
        faultpoints.reached('unpause: domain resumed')
