# SPDX-License-Identifier: Apache-2.0
"""Freeze the file systems of a guest around a snapshot.

A file in the instance's directory marks a guest that may be frozen, from
before it is asked to freeze until it has thawed. So a guest is thawed even if
nova-compute ends in between.
"""

from __future__ import annotations

import contextlib
import os

from nova import conf
from nova import exception
from nova import objects
from oslo_log import log as logging

from xen44_driver.compute import guest_agent
from xen44_driver.compute import node as compute_node
from xen44_driver.storage import layout
from xen44_driver.xen import errors

CONF = conf.CONF
LOG = logging.getLogger(__name__)

#: How often a guest is asked to thaw before that is given up.
THAW_ATTEMPTS = 3


def freeze(node: compute_node.Node, instance: objects.Instance) -> None:
    """Freeze the file systems of a guest, in a consistent state.

    :raises nova.exception.QemuGuestAgentNotEnabled: the instance has no
        channel to a guest agent.
    :raises nova.exception.InstanceQuiesceFailed: no agent answers, or it
        refuses; the guest is not frozen.
    """
    guest_agent.check(instance)
    mark = node.files(instance).frozen
    try:
        with guest_agent.session(instance.uuid) as agent:
            layout.create_private(mark)
            count = agent.freeze()
    except errors.AgentFailed as error:
        if os.path.exists(mark):
            # It may have frozen all the same, or a part of them.
            _thaw_after(instance, mark)
        raise exception.InstanceQuiesceFailed(reason=str(error)) from error
    LOG.info('Froze %s file systems', count, instance=instance)


def _thaw_after(instance: objects.Instance, mark: str) -> None:
    try:
        _thaw(instance.uuid, mark)
    except errors.AgentFailed as error:
        LOG.error('The guest did not freeze as it should, and does not thaw: '
                  '%s', error, instance=instance)


def thaw(node: compute_node.Node, instance: objects.Instance) -> None:
    """Thaw the file systems of a guest; safe to repeat.

    :raises nova.exception.QemuGuestAgentNotEnabled: the instance has no
        channel to a guest agent.
    :raises nova.exception.InstanceQuiesceFailed: the agent does not answer,
        or refuses; the guest is asked again when nova-compute starts.
    """
    guest_agent.check(instance)
    try:
        count = _thaw(instance.uuid, node.files(instance).frozen)
    except errors.AgentFailed as error:
        raise exception.InstanceQuiesceFailed(
            reason=f'the guest does not thaw: {error}') from error
    LOG.info('Thawed %s file systems', count, instance=instance)


def _thaw(uuid: str, mark: str) -> int:
    """Thaw a guest; ask several times.

    :param mark: the file that marks it.
    :returns: how many file systems were frozen.
    :raises xen44_driver.xen.errors.AgentFailed: the last time failed too.
    """
    for left in reversed(range(THAW_ATTEMPTS)):
        try:
            with guest_agent.session(uuid) as agent:
                count = agent.thaw()
            break
        except errors.AgentFailed as error:
            if not left:
                raise
            LOG.warning('Guest %(uuid)s does not thaw: %(error)s. Asking it '
                        'again', {'uuid': uuid, 'error': error})
    with contextlib.suppress(FileNotFoundError):
        os.unlink(mark)
    return count


def mend(node: compute_node.Node) -> None:
    """Thaw the guests that an earlier nova-compute left frozen.

    Never raises. A guest that is off, or has booted since, is not frozen.
    """
    for uuid, record in node.host.records().items():
        mark = layout.InstanceFiles(CONF.instances_path, uuid).frozen
        if not os.path.exists(mark):
            continue
        try:
            if record.state.is_off:
                os.unlink(mark)
            else:
                LOG.warning('Thawed %(count)s file systems of guest %(uuid)s, '
                            'whose snapshot was interrupted',
                            {'count': _thaw(uuid, mark), 'uuid': uuid})
        except (errors.XenError, OSError) as error:
            LOG.error('Guest %(uuid)s may be frozen since an interrupted '
                      'snapshot, and does not thaw: %(error)s. A hard reboot '
                      'mends it', {'uuid': uuid, 'error': error})
