# SPDX-License-Identifier: Apache-2.0
"""What an instance was before a resize, kept until that is confirmed.

Its directory is renamed, and a record of its own says what the machine was.
The record comes first and goes first: a directory without it is garbage.
"""

from __future__ import annotations

from nova import objects
from oslo_log import log as logging

from xen44_driver.compute import destroy
from xen44_driver.compute import machine as machine_lib
from xen44_driver.compute import node as compute_node

LOG = logging.getLogger(__name__)


def keep(
    node: compute_node.Node, instance: objects.Instance,
    machine: machine_lib.Machine,
) -> None:
    """Set an instance's directory and record aside; the instance is saved.

    :param machine: its record.
    :raises OSError: the directory cannot be renamed, or the rest of an
        earlier resize not removed.
    """
    # First, so that the new record never stands for the rest of an earlier
    # resize.
    forget(node, instance)
    machine_lib.keep(instance, machine, machine_lib.BEFORE_RESIZE)
    instance.save()
    node.files(instance).set_aside()


def forget(node: compute_node.Node, instance: objects.Instance) -> None:
    """Remove what an instance was before a resize; safe to repeat.

    The instance is saved.

    :raises OSError: its directory cannot be removed.
    """
    if machine_lib.forget(instance, machine_lib.BEFORE_RESIZE):
        instance.save()
    node.files(instance).forget_before_resize()


def restore(node: compute_node.Node, instance: objects.Instance) -> bool:
    """Make an instance what it was before a resize; safe to repeat.

    Its domain is stopped, and what it became is removed. The instance is
    saved.

    :returns: whether it had been set aside.
    :raises OSError: the directory cannot be put back.
    """
    machine = machine_lib.recall(instance, machine_lib.BEFORE_RESIZE)
    if machine is None:
        return False
    files = node.files(instance)
    if files.was_set_aside():
        destroy.power_down(node, instance)
        files.bring_back()
    machine_lib.keep(instance, machine)
    machine_lib.forget(instance, machine_lib.BEFORE_RESIZE)
    instance.save()
    return True


def mend(node: compute_node.Node, instance: objects.Instance) -> None:
    """Undo a resize that was interrupted before it was complete.

    One that is complete is left to be confirmed or reverted.
    """
    files = node.files(instance)
    complete = files.was_set_aside() and files.exist()
    if (machine_lib.BEFORE_RESIZE in instance.system_metadata
            and not complete):
        LOG.warning('Its resize was interrupted: it becomes what it was '
                    'before', instance=instance)
        restore(node, instance)
