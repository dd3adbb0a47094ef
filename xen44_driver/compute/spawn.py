# SPDX-License-Identifier: Apache-2.0
"""Make a new instance; if that fails, remove all that was made."""

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

from xen44_driver import faultpoints
from xen44_driver import privsep
from xen44_driver.compute import connections
from xen44_driver.compute import consoles
from xen44_driver.compute import destroy
from xen44_driver.compute import disks
from xen44_driver.compute import machine as machine_lib
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import ports
from xen44_driver.compute import resources
from xen44_driver.compute import start
from xen44_driver.compute import tags
from xen44_driver.core import undo as undo_lib
from xen44_driver.network import vif as vif_lib
from xen44_driver.xen import errors as xen_errors

LOG = logging.getLogger(__name__)


def spawn(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, image: objects.ImageMeta, *,
    injected_files: Sequence[tuple[str, str]], admin_password: str | None,
    network_info: model.NetworkInfo | None,
    block_device_info: Mapping[str, Any] | None, power_on: bool,
) -> None:
    """Make an instance.

    :param image: metadata of the instance's image.
    :param injected_files: (path, content) pairs for the config drive.
    :param admin_password: the password, for the config drive.
    :param network_info: the ports.
    :param block_device_info: the disks besides the root disk, and volumes.
    :param power_on: whether to start the instance.
    :raises nova.exception.NovaException: the instance cannot be made; all that
        was made of it has been removed.
    """
    steps = Steps(instance)
    vifs = tuple(network_info or ())
    with undo_lib.Undo(instance) as undo:
        # Decide everything, and refuse the impossible, before anything is
        # made.
        machine = machine_lib.decide(
            instance, image, block_device_info, node.machine_options())
        machine_lib.check_loader(machine, node.arch.name)
        for vif in vifs:
            vif_lib.check(vif)
        start.describe(node, instance, machine, vifs)
        _check_absent(node, instance)
        resources.check_memory(
            node, machine.guest_type, memory_mib=instance.flavor.memory_mb,
            vcpus=instance.flavor.vcpus)
        steps.done('plan')
        faultpoints.reached('spawn: planned')
        machine = disks.fetch(node, context, instance, machine)
        steps.done('image')
        faultpoints.reached('spawn: image fetched')

        files = node.files(instance)
        undo.add(ports.unplug, instance, vifs)
        with ports.wired(node.virtapi, instance, vifs, wait=power_on):
            steps.done('network')
            faultpoints.reached('spawn: ports plugged')
            undo.add(files.delete)
            files.create()
            # The config drive shows them.
            tags.record(context, instance, machine)
            faultpoints.reached('spawn: directory made')
            disks.create(
                node, context, instance, machine, undo,
                network_info=network_info, injected_files=injected_files,
                admin_password=admin_password)
            steps.done('disk')
            faultpoints.reached('spawn: disks made')
            connections.connect_all(
                context, instance, machine, block_device_info, undo=undo)
            faultpoints.reached('spawn: volumes connected')

            machine_lib.keep(instance, machine)
            # At a rebuild: what an interrupted operation left.
            for key in (machine_lib.RESCUE, machine_lib.BEFORE_RESIZE):
                machine_lib.forget(instance, key)
            # A domain that cannot be removed may run: its files stay.
            undo.add_first(destroy.remove_domain, node, instance)
            described = start.describe(node, instance, machine, vifs)
            guest = start.define(node, described)
            # The name is this domain's now: a log of an earlier one is not.
            undo.add(privsep.remove_console_log, instance.name)
            consoles.forget(instance)
            faultpoints.reached('spawn: domain defined')
            if power_on:
                # While Neutron wires the ports. Paused: nothing passes them
                # before the rules of their security groups are there.
                start.boot(node, guest, described.disks, machine, paused=True)
            steps.done('domain')
        steps.done('wait')
        faultpoints.reached('spawn: ports wired')
        if power_on:
            guest.resume()
        faultpoints.reached('spawn: guest booted')
    LOG.info('Spawned in %s', steps, instance=instance)


def _check_absent(
    node: compute_node.Node, instance: objects.Instance,
) -> None:
    """Refuse to make an instance whose domain already exists."""
    with contextlib.suppress(xen_errors.DomainNotFound):
        node.host.record(instance.uuid)
        raise exception.InstanceExists(name=instance.name)


class Steps:
    """Measures and logs how long each step of an operation takes.

    When a step is done, a line such as ``spawn step: disk 0.123 s`` is logged.
    """

    def __init__(self, instance: objects.Instance) -> None:
        self._instance = instance
        self._seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def done(self, name: str) -> None:
        """End a step and begin the next."""
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
