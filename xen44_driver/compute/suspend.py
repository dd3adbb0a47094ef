# SPDX-License-Identifier: Apache-2.0
"""Suspend instances to disk and resume them.

The memory of a suspended instance is in a file that libvirt knows of ("managed
save"); the domain is off. The file is removed when the memory has been
restored, and in every other way in which the instance starts, stops or is
deleted. So it never meets disks that have changed.
"""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import re
import time
from typing import Any

from nova import conf
from nova import context as nova_context
from nova import exception
from nova import objects
from nova.compute import vm_states
from nova.network import model
from oslo_log import log as logging

from xen44_driver import faultpoints
from xen44_driver import privsep
from xen44_driver.compute import connections
from xen44_driver.compute import disks
from xen44_driver.compute import faults
from xen44_driver.compute import nestedhvm
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import pcidevices
from xen44_driver.compute import ports
from xen44_driver.compute import power
from xen44_driver.compute import resources
from xen44_driver.compute import room
from xen44_driver.compute import start
from xen44_driver.core import consolelog
from xen44_driver.core import evidence
from xen44_driver.core import undo as undo_lib
from xen44_driver.xen import errors as xen_errors
from xen44_driver.xen import guest as xen_guest
from xen44_driver.xen.events import DomainState

CONF = conf.CONF
LOG = logging.getLogger(__name__)

#: Seconds that libvirt has to end an interrupted operation, or to be back.
SETTLE_TIMEOUT = 600
# Seconds between two questions.
_PAUSE = 1.0

# Seconds in which a guest that still boots is asked to suspend, again and
# again, and seconds between two requests.
_PATIENCE = 180
_REPEAT = 5.0
# libxl's words for such a guest. With a running kernel it has 60 s to answer
# (libxl_dom_suspend.c); a PV guest in its boot loader has no list of its
# memory yet, which fails at once (xg_sr_save_x86_pv.c: "Bad mfn 0 for p2m
# frame list list").
_SILENT = re.compile('did not suspend, timed out|'
                     'did not respond to suspend request')


def suspend(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance,
) -> None:
    """Save an instance's memory to disk and stop it.

    :raises nova.exception.InstanceFaultRollback: that is not possible, or it
        failed; the instance is as it was before.
    :raises xen44_driver.xen.errors.XenError: it failed, and the state of the
        instance is unknown.
    """
    with contextlib.ExitStack() as stack:
        with faults.state_kept('suspend', instance):
            machine = power.machine_of(node, context, instance, None)
            if not node.arch.profile(machine.guest_type).saves_memory:
                raise exception.InstanceSuspendFailure(
                    reason=f'Xen cannot save the memory of '
                           f'{machine.guest_type} guests on '
                           f'{node.arch.name}; allowed: pause, stop')
            if machine.nested_hvm:
                # Of a vCPU that runs a guest's guest, Xen's records of saved
                # guests (public/arch-x86/hvm/save.h) have nothing.
                raise exception.InstanceSuspendFailure(
                    reason='Xen does not save the guests of a guest '
                           f'({nestedhvm.EXTRA_SPEC}); allowed: pause, stop')
            if devices := pcidevices.of_instance(instance):
                raise exception.InstanceSuspendFailure(
                    reason='Xen does not save the state of PCI devices '
                           f'({pcidevices.listed(devices)}); allowed: pause, '
                           'stop')
            guest = node.host.guest(instance.uuid)
            stack.enter_context(room.promised(
                privsep.saved_memory_room,
                room.of_memory(instance.flavor.memory_mb),
                "the instance's memory"))
        faultpoints.reached('suspend: checked')
        _save(guest, instance)


def _save(guest: xen_guest.Guest, instance: objects.Instance) -> None:
    end = time.monotonic() + _PATIENCE
    while not _saved(guest, instance, end):
        time.sleep(_REPEAT)


def _saved(
    guest: xen_guest.Guest, instance: objects.Instance, end: float,
) -> bool:
    """Save a guest's memory.

    :param end: from when on the error of a guest that does not answer is
        raised, by ``time.monotonic()``.
    :returns: whether it is saved; if not, the guest still boots.
    """
    try:
        with evidence.explained(guest.name):
            guest.save_memory()
    except xen_errors.XenError as error:
        LOG.warning('Saving the memory failed: %s', error, instance=instance)
        if settle(guest):
            return True
        if time.monotonic() < end and _SILENT.search(str(error)):
            return False
        with faults.state_kept('suspend', instance):
            raise
    faultpoints.reached('suspend: memory saved')
    if not settle(guest):
        with faults.state_kept('suspend', instance):
            raise exception.InstanceSuspendFailure(
                reason='libvirt says that it saved the memory, and then that '
                       'there is none')
    return True


def resume(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, *,
    network_info: model.NetworkInfo | None,
    block_device_info: Mapping[str, Any] | None,
) -> None:
    """Restore the memory of a suspended instance and let it run on.

    :param network_info: the ports.
    :param block_device_info: the disks besides the root disk.
    :raises nova.exception.InstanceFaultRollback: that failed; the instance is
        still suspended. Where there is saved memory, it is kept.
    :raises xen44_driver.xen.errors.XenError: it failed when the instance was
        about to run.
    """
    with faults.state_kept('resume', instance):
        guest = node.host.guest(instance.uuid)
        # By hand, or by an operation that was interrupted.
        started = not guest.state().is_off
        if not started:
            _start(node, context, instance, guest, network_info,
                   block_device_info)
    if started:
        settle(guest)
    else:
        guest.resume()
        faultpoints.reached('resume: domain resumed')
    state = guest.state()
    if state is not DomainState.RUNNING:
        raise exception.InstanceResumeFailure(
            reason=f'the guest is {state.value} after its memory was '
                   'restored')


def _start(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, guest: xen_guest.Guest,
    network_info: model.NetworkInfo | None,
    block_device_info: Mapping[str, Any] | None,
) -> None:
    """Start a guest with its saved memory, remove that, leave it paused."""
    if not guest.has_saved_memory():
        raise exception.InstanceResumeFailure(
            reason='its saved memory is not there any more. A hard reboot '
                   'starts the instance from its disk')
    machine = power.machine_of(node, context, instance, block_device_info)
    resources.check_memory(
        node, machine.guest_type, memory_mib=instance.flavor.memory_mb,
        vcpus=instance.flavor.vcpus)
    disks.ensure_bases(node, context, machine)
    files = node.files(instance)
    if node.arch.profile(machine.guest_type).serial_port:
        consolelog.prepare(files.serial_log)
    # This host may have been rebooted since.
    ports.plug(instance, network_info or ())
    faultpoints.reached('resume: ports plugged')
    connections.connect_all(context, instance, machine, block_device_info)
    with undo_lib.Undo(instance) as undo:
        undo.add(guest.destroy)
        start.boot(node, guest, machine.devices(files.directory), machine,
                      saved=True)
        faultpoints.reached('resume: memory restored')
        guest.forget_memory()
        faultpoints.reached('resume: saved memory removed')


def settle(guest: xen_guest.Guest) -> bool:
    """Bring an interrupted suspend or resume of a domain to an end.

    If the domain is not off, it runs afterwards, without saved memory: that is
    incomplete, or has been restored.

    :returns: whether the domain is off and its memory saved.
    :raises TimeoutError: libvirt does not answer, or is still at it.
    :raises xen44_driver.xen.errors.OperationFailed: the domain hangs in Xen,
        and cannot be woken.
    """
    _wait_until_idle(guest)
    state = guest.state()
    if state.is_off:
        return guest.has_saved_memory()
    if state is DomainState.SUSPENDED:
        # libvirtd was restarted in between, and saw that it hangs.
        guest.wake()
    elif _woken(guest):
        LOG.warning('%s hung in Xen after its memory could not be saved, and '
                    'runs on. libvirt does not notice when it ends, until '
                    'libvirtd is restarted or the instance rebooted hard',
                    guest.name)
    guest.forget_memory()
    if guest.state() is DomainState.PAUSED:
        guest.resume()
    return False


def _woken(guest: xen_guest.Guest) -> bool:
    """Let a domain run on that hangs in Xen; return whether it hung."""
    if guest.id is None:
        return False
    try:
        return privsep.wake_domain(guest.id)
    except OSError as error:
        raise xen_errors.OperationFailed(
            'resume', guest.uuid, None,
            'its memory could not be saved, and it may hang in Xen since '
            f'then: {error} (Xen before 4.20 has no xl resume). A hard reboot '
            'starts the instance from its disk') from error


def _wait_until_idle(guest: xen_guest.Guest) -> None:
    end = time.monotonic() + SETTLE_TIMEOUT
    while True:
        try:
            if not guest.is_busy():
                return
        except xen_errors.ConnectionFailed as error:
            LOG.debug('Waiting for libvirt: %s', error)
        if time.monotonic() >= end:
            raise TimeoutError(
                f'libvirt has not finished with {guest.name} within '
                f'{SETTLE_TIMEOUT} s')
        time.sleep(_PAUSE)


def mend(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance,
) -> str:
    """Bring an interrupted suspend or resume to an end.

    libvirt may still be at it, which is waited for.

    :returns: the instance's state in Nova.
    """
    try:
        guest = node.host.guest(instance.uuid)
        saved = settle(guest)
        off = guest.state().is_off
    except xen_errors.DomainNotFound:
        saved, off = False, True
    if saved or (off and instance.vm_state == vm_states.SUSPENDED):
        # Without saved memory, a resume says what can be done.
        return str(vm_states.SUSPENDED)
    # If it is off, Nova notices that and stops it.
    instance.system_metadata.pop('old_vm_state', None)
    return str(vm_states.ACTIVE)
