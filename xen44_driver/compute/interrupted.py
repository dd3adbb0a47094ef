# SPDX-License-Identifier: Apache-2.0
"""End what nova-compute was doing with instances when it was killed.

Nova does so itself for some operations when it starts
(``ComputeManager._init_instance``). These are the others: Nova would leave the
instance with its task for ever, and the user could do nothing with it.
"""

from __future__ import annotations

from collections.abc import Callable
import sys

from nova import conf
from nova import context as nova_context
from nova import objects
from nova import utils as nova_utils
from nova.compute import power_state
from nova.compute import task_states
from nova.compute import utils as compute_utils
from nova.compute import vm_states
from oslo_log import log as logging

from xen44_driver.compute import faults
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import power
from xen44_driver.compute import rescue
from xen44_driver.compute import resize
from xen44_driver.compute import suspend
from xen44_driver.core import undo as undo_lib
from xen44_driver.xen import errors as xen_errors
from xen44_driver.xen import threads
from xen44_driver.xen.events import DomainState

CONF = conf.CONF
LOG = logging.getLogger(__name__)

_Mender = Callable[
    [compute_node.Node, nova_context.RequestContext, objects.Instance], str]


def _by_state(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance,
) -> str:
    """Return the state of an instance that no operation has changed."""
    try:
        guest = node.host.guest(instance.uuid)
        state = guest.state()
        if state is DomainState.PAUSED:
            return str(vm_states.PAUSED)
        if not state.is_off:
            return str(vm_states.ACTIVE)
        if (instance.vm_state == vm_states.SUSPENDED
                and guest.has_saved_memory()):
            return str(vm_states.SUSPENDED)
    except xen_errors.DomainNotFound:
        pass
    return str(vm_states.STOPPED)


def _offloading(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance,
) -> str:
    """Return the state of a shelved instance; Nova offloads it once more."""
    return str(vm_states.SHELVED)


#: What mends an instance, by the task that was interrupted. Each returns the
#: instance's new state in Nova.
_MENDERS: dict[str, _Mender] = {
    task_states.IMAGE_BACKUP: _by_state,
    task_states.PAUSING: _by_state,
    task_states.RESCUING: rescue.mend,
    task_states.RESIZE_FINISH: resize.mend_finish,
    task_states.RESIZE_MIGRATED: resize.mend_begin,
    task_states.RESIZE_REVERTING: resize.mend_revert,
    task_states.RESUMING: suspend.mend,
    task_states.SHELVING: _by_state,
    task_states.SHELVING_IMAGE_PENDING_UPLOAD: _by_state,
    task_states.SHELVING_IMAGE_UPLOADING: _by_state,
    task_states.SHELVING_OFFLOADING: _offloading,
    task_states.SUSPENDING: suspend.mend,
    task_states.UNRESCUING: rescue.mend,
    task_states.UPDATING_PASSWORD: _by_state,
}


def is_mended(instance: objects.Instance) -> bool:
    """Return whether :func:`mend` is what ends an instance's task."""
    return instance.task_state in _MENDERS


def start_mending(node: compute_node.Node) -> None:
    """Mend instances whose operations were interrupted, in the background.

    Call this before Nova takes new operations.
    """
    context = nova_context.get_admin_context()
    try:
        _confirm_again(context)
        _give_up_resizes(context)
        instances = [instance for instance in
                     objects.InstanceList.get_by_filters(
                         context,
                         {'host': CONF.host, 'task_state': list(_MENDERS),
                          'deleted': False}, expected_attrs=[])
                     if _was_begun(context, instance.uuid)]
    except Exception as error:  # whatever the conductor raises
        LOG.warning('Cannot look for instances whose operations were '
                    'interrupted: %s', error)
        return

    def mend_all() -> None:
        for instance in instances:
            undo_lib.attempt(instance, mend, node, context, instance)

    if instances:
        threads.start(mend_all, 'xen44-mend')


def _was_begun(
    context: nova_context.RequestContext, uuid: str,
) -> bool:
    """Return whether nova-compute has begun the last action on an instance.

    One that it has not begun waits in its queue: it begins after this start.
    Nova notes when it begins and when it ends one (``wrap_instance_event`` of
    its compute manager).
    """
    actions = objects.InstanceActionList.get_by_instance_uuid(context, uuid)
    # The last one is the first.
    events = (objects.InstanceActionEventList.get_by_action(
        context, actions[0].id) if actions else ())
    return any(event.host == CONF.host and event.finish_time is None
               and event.event.startswith('compute_') for event in events)


def _confirm_again(context: nova_context.RequestContext) -> None:
    """Let users confirm resizes again whose confirmation was interrupted.

    These instances have no task that tells of it.
    """
    for migration in objects.MigrationList.get_by_filters(
            context, {'host': CONF.host, 'status': 'confirming'}):
        if not _was_begun(context, migration.instance_uuid):
            continue
        migration.status = 'finished'
        migration.save()
        LOG.warning('The confirmation of the resize of %s was interrupted; '
                    'it can be confirmed again', migration.instance_uuid)


def _give_up_resizes(context: nova_context.RequestContext) -> None:
    """Give up resizes that were interrupted before the disks were set aside.

    Nova itself undoes them (RESIZE_MIGRATING), but leaves what they hold in
    Placement.
    """
    for migration in objects.MigrationList.get_by_filters(
            context, {'host': CONF.host, 'status': 'migrating'}):
        instance = objects.Instance.get_by_uuid(
            context, migration.instance_uuid,
            expected_attrs=['flavor', 'migration_context'])
        if (instance.task_state == task_states.RESIZE_MIGRATING
                and _was_begun(context, instance.uuid)):
            resize.give_up(context, instance)


def mend(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance,
) -> None:
    """Bring an interrupted operation to an end, and tell Nova.

    If that fails, the instance is in error: it can be rebooted hard, or
    deleted.

    :param instance: its task is the operation, unless something else has
        ended that since it was loaded.
    """
    node.wait_for_libvirt(instance.uuid)

    # Nova's lock: the user may delete the instance, or reboot it hard.
    @nova_utils.synchronized(instance.uuid)
    def mend_now() -> None:
        task = instance.task_state
        fresh = objects.Instance.get_by_uuid(
            context, instance.uuid,
            expected_attrs=['flavor', 'info_cache', 'metadata',
                            'migration_context', 'system_metadata'])
        if (fresh.task_state, fresh.host) == (task, instance.host):
            _mend(node, context, fresh)

    mend_now()


def _mend(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance,
) -> None:
    task = instance.task_state
    try:
        with faults.translated(f'end the {task}', instance):
            instance.vm_state = _MENDERS[task](node, context, instance)
            instance.power_state = _power_state(node, instance)
    except Exception as error:  # Nova has to be told, whatever it is
        LOG.exception('Its %s was interrupted and cannot be mended', task,
                      instance=instance)
        instance.vm_state = vm_states.ERROR
        undo_lib.attempt(
            instance, compute_utils.add_instance_fault_from_exc, context,
            instance, error, sys.exc_info())
    instance.task_state = None
    instance.save(expected_task_state=task)
    LOG.warning('Its %(task)s was interrupted; it is %(state)s now',
                {'task': task, 'state': instance.vm_state},
                instance=instance)


def _power_state(
    node: compute_node.Node, instance: objects.Instance,
) -> int:
    try:
        state: int = power.info(node, instance, cached=False).state
    except xen_errors.DomainNotFound:
        return int(power_state.NOSTATE)
    return state
