# SPDX-License-Identifier: Apache-2.0
"""Make a new instance, or leave nothing of it behind."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import time
from typing import Any

from nova import context as nova_context
from nova import exception
from nova import objects
from nova.network import model
from oslo_log import log as logging

from xen44_driver.compute import destroy
from xen44_driver.compute import disks
from xen44_driver.compute import errors
from xen44_driver.compute import network
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import plan as plan_lib
from xen44_driver.compute import spec
from xen44_driver.compute import undo as undo_lib
from xen44_driver.xen import domain
from xen44_driver.xen import errors as xen_errors

LOG = logging.getLogger(__name__)


def spawn(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, image: objects.ImageMeta, *,
    files: Sequence[tuple[str, str]], admin_password: str | None,
    network_info: model.NetworkInfo | None,
    block_device_info: Mapping[str, Any] | None, power_on: bool,
) -> None:
    """Make an instance.

    :param node: where
    :param context: of the request
    :param instance: Nova's
    :param image: its image's metadata
    :param files: (path, content) to give it by config drive
    :param admin_password: to give it by config drive
    :param network_info: its ports
    :param block_device_info: its disks besides the root disk
    :param power_on: whether it is started
    :raises nova.exception.NovaException: it cannot be; nothing is left
    """
    steps = Steps(instance)
    with errors.translated('spawn', instance), \
            undo_lib.Undo(instance) as undo:
        # Decide everything, and refuse what cannot be, before the first
        # thing is made.
        plan = plan_lib.make(
            node, instance, image, network_info=network_info,
            block_device_info=block_device_info)
        spec.build(plan, node.arch, root_format='raw')
        _check_absent(node, instance)
        steps.done('plan')
        cached = disks.fetch_image(node, context, plan)
        steps.done('image')

        undo.add(network.unplug, instance, plan.vifs)
        with network.wired(
                node.virtapi, instance, plan.vifs, wait=power_on):
            steps.done('network')
            undo.add(plan.files.delete)
            plan.files.create()
            root_format = disks.create(
                node, context, plan, cached, files=files,
                admin_password=admin_password)
            steps.done('disk')
        steps.done('wait')

        xml = domain.to_xml(
            spec.build(plan, node.arch, root_format=root_format), node.arch)
        undo.add(destroy.remove_domain, node, instance)
        guest = node.host.define(xml)
        if power_on:
            node.start(guest)
        steps.done('domain')
    LOG.info('Spawned in %s', steps, instance=instance)


def _check_absent(
    node: compute_node.Node, instance: objects.Instance,
) -> None:
    """Refuse to take over a domain that is there already."""
    with contextlib.suppress(xen_errors.DomainNotFound):
        node.host.record(instance.uuid)
        raise exception.InstanceExists(name=instance.name)


class Steps:
    """The seconds each step of an operation took, for people and the bench.

    Each is logged when it is done, one line ``spawn step: disk 0.123 s``.

    :param instance: what it is done to
    """

    def __init__(self, instance: objects.Instance) -> None:
        self._instance = instance
        self._seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def done(self, name: str) -> None:
        """A step is done; the next one begins."""
        now = time.monotonic()
        self._seconds[name] = now - self._last
        self._last = now
        LOG.debug('spawn step: %(name)s %(seconds).3f s',
                  {'name': name, 'seconds': self._seconds[name]},
                  instance=self._instance)

    def __str__(self) -> str:
        parts = ', '.join(f'{name} {seconds:.1f}'
                          for name, seconds in self._seconds.items())
        return f'{sum(self._seconds.values()):.1f} s ({parts})'
