# SPDX-License-Identifier: Apache-2.0
"""Remove an instance, however much of it is there."""

from __future__ import annotations

from collections.abc import Iterable
import contextlib

from nova import exception
from nova import objects
from nova.network import model
from oslo_log import log as logging

from xen44_driver import privsep
from xen44_driver.compute import errors
from xen44_driver.compute import network
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import undo
from xen44_driver.storage import layout
from xen44_driver.xen import errors as xen_errors

LOG = logging.getLogger(__name__)


def power_down(node: compute_node.Node, instance: objects.Instance) -> None:
    """Stop a domain at once, if it is there and running."""
    with errors.translated('stop', instance):
        try:
            node.host.guest(instance.uuid).destroy()
        except xen_errors.DomainNotFound:
            LOG.debug('There is no domain to stop', instance=instance)


def remove_domain(
    node: compute_node.Node, instance: objects.Instance,
) -> None:
    """Stop a domain at once and forget it, if it is there."""
    with errors.translated('remove', instance):
        try:
            guest = node.host.guest(instance.uuid)
            guest.destroy()
            guest.undefine()
        except xen_errors.DomainNotFound:
            LOG.debug('There is no domain to remove', instance=instance)


def cleanup(
    node: compute_node.Node, instance: objects.Instance,
    vifs: Iterable[model.VIF], *, destroy_disks: bool, destroy_vifs: bool,
) -> None:
    """Remove an instance from this host; safe to repeat.

    Every part is tried, also where one of them fails.

    :param node: this node
    :param instance: which
    :param vifs: its ports
    :param destroy_disks: whether its files are removed
    :param destroy_vifs: whether its ports are unplugged
    :raises nova.exception.NovaException: the domain could not be removed;
        its files are then left alone, as it may use them
    """
    remove_domain(node, instance)
    if destroy_vifs:
        # Neutron removes its part of a port when Nova unbinds it: not worth
        # an instance that cannot be deleted.
        undo.attempt(instance, network.unplug, instance, vifs)
    undo.attempt(instance, privsep.remove_console_log, instance.name)
    if destroy_disks and layout.InstanceFiles(instance.uuid).delete():
        # Nova tries again later where this is not set.
        instance.cleaned = True
        with contextlib.suppress(exception.InstanceNotFound):
            instance.save()
