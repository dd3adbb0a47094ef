# SPDX-License-Identifier: Apache-2.0
"""Check that an instance can be rebuilt, before its disks are removed.

Nova rebuilds an instance by removing it and making it anew. What cannot be
made has to be refused before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nova import context as nova_context
from nova import objects
from nova.network import model

from xen44_driver.compute import disks
from xen44_driver.compute import faults
from xen44_driver.compute import machine as machine_lib
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import start


def check(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, image: objects.ImageMeta, *,
    network_info: model.NetworkInfo | None,
    block_device_info: Mapping[str, Any] | None,
) -> None:
    """Refuse what an instance cannot become, and fetch its image.

    :param image: metadata of the new image.
    :param network_info: the ports.
    :param block_device_info: the disks besides the root disk.
    :raises nova.exception.InstanceFaultRollback: it cannot become that; it
        runs on as it is.
    """
    with faults.state_kept('rebuild', instance):
        machine = machine_lib.decide(
            instance, image, block_device_info, node.machine_options())
        machine_lib.check_loader(machine, node.arch.name)
        start.describe(node, instance, machine, tuple(network_info or ()))
        disks.fetch(node, context, instance, machine)
