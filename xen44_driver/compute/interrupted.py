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
from nova.compute import power_state
from nova.compute import task_states
from nova.compute import utils as compute_utils
from nova.compute import vm_states
from oslo_log import log as logging

from xen44_driver.compute import node as compute_node
from xen44_driver.compute import power
from xen44_driver.compute import rescue
from xen44_driver.compute import resize
from xen44_driver.compute import suspend
from xen44_driver.compute import undo as undo_lib
from xen44_driver.xen import errors as xen_errors
from xen44_driver.xen import threads

CONF = conf.CONF
LOG = logging.getLogger(__name__)

_Mender = Callable[
    [compute_node.Node, nova_context.RequestContext, objects.Instance], str]


def _by_state(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance,
) -> str:
    """Return the state of an instance that no operation has changed."""
    running: bool = _power_state(node, instance) == power_state.RUNNING
    return str(vm_states.ACTIVE if running else vm_states.STOPPED)


#: What mends an instance, by the task that was interrupted. Each returns the
#: instance's new state in Nova.
_MENDERS: dict[str, _Mender] = {
    task_states.SUSPENDING: suspend.mend,
    task_states.RESUMING: suspend.mend,
    task_states.RESCUING: rescue.mend,
    task_states.UNRESCUING: rescue.mend,
    task_states.RESIZE_FINISH: resize.mend_finish,
    task_states.RESIZE_REVERTING: resize.mend_revert,
    task_states.SHELVING: _by_state,
    task_states.SHELVING_IMAGE_PENDING_UPLOAD: _by_state,
    task_states.SHELVING_IMAGE_UPLOADING: _by_state,
    task_states.UPDATING_PASSWORD: _by_state,
}


def is_mended(instance: objects.Instance) -> bool:
    """Return whether :func:`mend` is what ends an instance's task."""
    return instance.task_state in _MENDERS


def start_mending(node: compute_node.Node) -> None:
    """Mend instances whose operations a crash interrupted.

    libvirt may still be at it, which is waited for in the background. Call
    this before Nova can begin new operations.
    """
    context = nova_context.get_admin_context()
    try:
        _confirm_again(context)
        instances = list(objects.InstanceList.get_by_filters(
            context,
            {'host': CONF.host, 'task_state': list(_MENDERS),
             'deleted': False},
            expected_attrs=['flavor', 'info_cache', 'metadata',
                            'migration_context', 'system_metadata']))
    except Exception as error:  # whatever the conductor raises
        LOG.warning('Cannot look for instances whose operations were '
                    'interrupted: %s', error)
        return

    def mend_all() -> None:
        for instance in instances:
            undo_lib.attempt(instance, mend, node, context, instance)

    if instances:
        threads.start(mend_all, 'xen44-mend')


def _confirm_again(context: nova_context.RequestContext) -> None:
    """Let users confirm resizes again whose confirmation was interrupted.

    These instances have no task that tells of it.
    """
    for migration in objects.MigrationList.get_by_filters(
            context, {'host': CONF.host, 'status': 'confirming'}):
        migration.status = 'finished'
        migration.save()
        LOG.warning('The confirmation of the resize of %s was interrupted; '
                    'it can be confirmed again', migration.instance_uuid)


def mend(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance,
) -> None:
    """Bring an interrupted operation to an end, and tell Nova.

    If that fails, the instance is in error: it can be rebooted hard, or
    deleted.

    :param instance: its task is the operation.
    """
    task = instance.task_state
    try:
        instance.vm_state = _MENDERS[task](node, context, instance)
    except Exception as error:  # Nova has to be told, whatever it is
        LOG.exception('Its %s was interrupted and cannot be mended', task,
                      instance=instance)
        compute_utils.add_instance_fault_from_exc(
            context, instance, error, sys.exc_info())
        instance.vm_state = vm_states.ERROR
    instance.power_state = _power_state(node, instance)
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
