# SPDX-License-Identifier: Apache-2.0
"""Remove an instance, or what is left of it."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import contextlib
from typing import Any

from nova import exception
from nova import objects
from nova.network import model
from oslo_log import log as logging

from xen44_driver import faultpoints
from xen44_driver import privsep
from xen44_driver.compute import connections
from xen44_driver.compute import crashdump
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import ports
from xen44_driver.core import stopping
from xen44_driver.core import undo
from xen44_driver.xen import errors as xen_errors

LOG = logging.getLogger(__name__)


def power_down(node: compute_node.Node, instance: objects.Instance) -> None:
    """Stop a domain at once, if it exists and runs."""
    try:
        node.host.guest(instance.uuid).destroy()
    except xen_errors.DomainNotFound:
        LOG.debug('There is no domain to stop', instance=instance)


def remove_domain(
    node: compute_node.Node, instance: objects.Instance,
) -> None:
    """Stop a domain and undefine it; see :func:`stopping.remove_domain`."""
    stopping.remove_domain(node.host, instance)


def cleanup(
    node: compute_node.Node, instance: objects.Instance,
    vifs: Iterable[model.VIF],
    block_device_info: Mapping[str, Any] | None, *,
    destroy_disks: bool, destroy_vifs: bool,
) -> None:
    """Remove an instance from this host; safe to repeat.

    If disconnecting volumes, unplugging ports or removing sockets, the console
    log or crash dumps fails, the error is logged and the other steps are still
    taken.

    :param vifs: its ports.
    :param block_device_info: its volumes.
    :param destroy_disks: whether to remove its files.
    :param destroy_vifs: whether to unplug its ports.
    :raises nova.exception.InstancePowerOffFailure: the domain cannot be
        removed; nothing else is removed then, as the domain may use it.
    """
    try:
        remove_domain(node, instance)
    except xen_errors.XenError as error:
        # After any other exception Nova takes the instance's ports from it,
        # and a later delete would not know them to unplug them.
        raise exception.InstancePowerOffFailure(
            reason=str(error)) from error
    node.relays.close(instance.uuid)
    undo.attempt(instance, privsep.remove_sockets, instance.uuid)
    if destroy_vifs:
        # A failure must not make the instance undeletable: Neutron removes
        # its part of a port anyway when Nova unbinds it.
        undo.attempt(instance, ports.unplug, instance, vifs)
    faultpoints.reached('destroy: ports unplugged')
    connections.disconnect_all(instance, block_device_info)
    faultpoints.reached('destroy: volumes disconnected')
    undo.attempt(instance, privsep.remove_console_log, instance.name)
    if destroy_disks:
        undo.attempt(instance, crashdump.forget, instance)
    if destroy_disks and node.files(instance).delete():
        faultpoints.reached('destroy: files removed')
        # Otherwise Nova tries again later.
        instance.cleaned = True
        with contextlib.suppress(exception.InstanceNotFound):
            instance.save()
