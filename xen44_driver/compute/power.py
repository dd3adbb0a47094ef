# SPDX-License-Identifier: Apache-2.0
"""Start, stop, reboot, pause; and what state an instance is in."""

from __future__ import annotations

from collections.abc import Mapping
import math
import time
from typing import Any

from nova import conf
from nova import exception
from nova import objects
from nova.compute import power_state
from nova.network import model
from nova.virt import hardware
from oslo_log import log as logging

from xen44_driver.compute import destroy
from xen44_driver.compute import disks
from xen44_driver.compute import errors
from xen44_driver.compute import network
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import plan as plan_lib
from xen44_driver.compute import spec
from xen44_driver.xen import domain
from xen44_driver.xen import errors as xen_errors
from xen44_driver.xen import guest as xen_guest
from xen44_driver.xen.events import OFF
from xen44_driver.xen.events import DomainState

CONF = conf.CONF
LOG = logging.getLogger(__name__)

#: Xen's states in Nova's words.
STATES = {
    DomainState.RUNNING: power_state.RUNNING,
    DomainState.PAUSED: power_state.PAUSED,
    DomainState.SHUTDOWN: power_state.SHUTDOWN,
    DomainState.CRASHED: power_state.CRASHED,
    DomainState.SUSPENDED: power_state.SUSPENDED,
    DomainState.NOSTATE: power_state.NOSTATE,
}

def info(
    node: compute_node.Node, instance: objects.Instance, *, cached: bool,
) -> hardware.InstanceInfo:
    """An instance's state.

    :param node: this node
    :param instance: which
    :param cached: whether what events told is good enough: it costs
        nothing. Otherwise the host is asked.
    :raises nova.exception.InstanceNotFound: there is no such domain
    """
    with errors.translated('look at', instance):
        record = node.host.record(instance.uuid)
        state = (record.state if cached
                 else node.host.guest(instance.uuid).state())
    return hardware.InstanceInfo(
        state=STATES[state],
        internal_id=None if record.id is None else str(record.id))


def power_off(
    node: compute_node.Node, instance: objects.Instance, *,
    timeout: int, retry_interval: int,
) -> None:
    """Stop an instance.

    :param node: this node
    :param instance: which
    :param timeout: seconds the guest has to shut down by itself; 0 stops
        it at once
    :param retry_interval: seconds after which it is asked again
    :raises nova.exception.InstanceNotFound: there is no such domain
    """
    with errors.translated('stop', instance):
        guest = node.host.guest(instance.uuid)
        if timeout and not _shut_down(
                guest, instance, timeout=timeout,
                retry_interval=retry_interval):
            LOG.warning('The guest did not shut down within %s s; stopping '
                        'it', timeout, instance=instance)
        guest.destroy()


def _shut_down(
    guest: xen_guest.Guest, instance: objects.Instance, *,
    timeout: int, retry_interval: int,
) -> bool:
    """Ask a guest to shut down.

    :returns: whether it did so in time
    """
    if guest.state().is_off:
        return True
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        try:
            guest.shutdown()
        except xen_errors.OperationFailed as error:
            # It has no one who listens (yet), or is off by now.
            LOG.debug('The guest cannot be asked to shut down: %s', error,
                      instance=instance)
        if guest.wait_for(OFF, timeout=math.ceil(
                min(left, retry_interval or left))):
            LOG.info('The guest shut down', instance=instance)
            return True
    return False


def power_on(
    node: compute_node.Node, instance: objects.Instance, *,
    network_info: model.NetworkInfo | None,
    block_device_info: Mapping[str, Any] | None,
) -> None:
    """Start an instance, of what it is made of now.

    A domain that is there is replaced: its definition may be older than
    the instance's flavor, ports or this host's configuration. Its files
    are kept.

    :param node: this node
    :param instance: which
    :param network_info: its ports
    :param block_device_info: its disks besides the root disk
    :raises nova.exception.NovaException: it cannot be; a definition that
        was there is still there
    """
    with errors.translated('start', instance):
        plan = plan_lib.make(
            node, instance, instance.image_meta, network_info=network_info,
            block_device_info=block_device_info)
        xml = domain.to_xml(
            spec.build(plan, node.arch, root_format=disks.root_format(plan)),
            node.arch)
        destroy.power_down(node, instance)
        # Neutron's events are not waited for: most ports are as they were,
        # and Nova's copy of their state may be old.
        network.plug(instance, plan.vifs)
        node.start(node.host.define(xml))


def reboot(
    node: compute_node.Node, instance: objects.Instance, *, soft: bool,
    network_info: model.NetworkInfo | None,
    block_device_info: Mapping[str, Any] | None,
) -> None:
    """Reboot an instance.

    :param node: this node
    :param instance: which
    :param soft: ask the guest to shut down, and start it again when it has;
        one that does not in time, or is not running, is rebooted hard
    :param network_info: its ports
    :param block_device_info: its disks besides the root disk
    :raises nova.exception.NovaException: it is not running afterwards
    """
    if soft and _soft_reboot(node, instance):
        return
    power_on(node, instance, network_info=network_info,
             block_device_info=block_device_info)


def _soft_reboot(
    node: compute_node.Node, instance: objects.Instance,
) -> bool:
    """Let a guest shut down and start it again.

    :returns: whether that was possible
    """
    timeout = CONF.xen44.soft_reboot_timeout
    with errors.translated('reboot', instance):
        guest = node.host.guest(instance.uuid)
        if guest.state() is not DomainState.RUNNING:
            LOG.info('Not running: rebooting it hard', instance=instance)
            return False
        if not _shut_down(guest, instance, timeout=timeout,
                          retry_interval=0):
            LOG.warning('The guest did not shut down within %s s: rebooting '
                        'it hard', timeout, instance=instance)
            return False
        node.start(guest)
    return True


def pause(node: compute_node.Node, instance: objects.Instance) -> None:
    """Let an instance stand still, its memory kept."""
    with errors.translated('pause', instance):
        node.host.guest(instance.uuid).suspend()


def unpause(node: compute_node.Node, instance: objects.Instance) -> None:
    """Let a paused instance go on."""
    with errors.translated('unpause', instance):
        guest = node.host.guest(instance.uuid)
        if guest.state() is DomainState.PAUSED:
            guest.resume()


def resume_on_host_boot(
    node: compute_node.Node, instance: objects.Instance, *,
    network_info: model.NetworkInfo | None,
    block_device_info: Mapping[str, Any] | None,
) -> None:
    """Start an instance that ran before this host went down.

    Parameters as :func:`power_on`.
    """
    try:
        state = info(node, instance, cached=False).state
    except exception.InstanceNotFound:
        state = power_state.SHUTDOWN
    if state in (power_state.SHUTDOWN, power_state.CRASHED):
        power_on(node, instance, network_info=network_info,
                 block_device_info=block_device_info)
