# SPDX-License-Identifier: Apache-2.0
"""Start instances again that ran before this host went down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nova import context as nova_context
from nova import exception
from nova import objects
from nova.compute import vm_states
from nova.network import model
from oslo_log import log as logging

from xen44_driver.compute import interrupted
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import pcidevices
from xen44_driver.compute import power
from xen44_driver.compute import suspend
from xen44_driver.xen import errors as xen_errors

LOG = logging.getLogger(__name__)


def resume_on_host_boot(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, *,
    network_info: model.NetworkInfo | None,
    block_device_info: Mapping[str, Any] | None,
) -> None:
    """Start an instance that ran before this host went down.

    If its memory was saved when the host went down, as libvirt-guests can do,
    it is restored. If that fails, or the instance has PCI devices, whose state
    is not saved, the instance starts from its disk.

    Suspended instances stay suspended.

    :param network_info: the ports.
    :param block_device_info: the disks besides the root disk.
    :raises nova.exception.NovaException: the instance cannot be started.
    """
    if (instance.vm_state == vm_states.SUSPENDED
            or interrupted.is_mended(instance)):
        LOG.info('Suspended, or its task is not ended yet: not started',
                 instance=instance)
        return
    try:
        guest = node.host.guest(instance.uuid)
        if not guest.state().is_off:
            return
        saved = guest.has_saved_memory()
    except xen_errors.DomainNotFound:
        saved = False
    if saved and not pcidevices.of_instance(instance):
        try:
            suspend.resume(node, context, instance, network_info=network_info,
                           block_device_info=block_device_info)
        except (exception.NovaException, xen_errors.XenError) as error:
            LOG.warning('Its saved memory cannot be restored, so it starts '
                        'from its disk: %s', error, instance=instance)
        else:
            return
    power.power_on(node, context, instance, network_info=network_info,
                   block_device_info=block_device_info)
