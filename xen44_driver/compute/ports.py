# SPDX-License-Identifier: Apache-2.0
"""Plug an instance's ports and wait until Neutron has wired them."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
import contextlib

from nova import conf
from nova import exception
from nova import objects
from nova.network import model
from nova.virt import virtapi as nova_virtapi
from oslo_log import log as logging

from xen44_driver.compute import novaversion
from xen44_driver.network import vif as vif_lib

CONF = conf.CONF
LOG = logging.getLogger(__name__)


def plug(instance: objects.Instance, vifs: Iterable[model.VIF]) -> None:
    """Plug every port; safe to repeat.

    :param vifs: its ports.
    """
    for vif in vifs:
        vif_lib.plug(instance, vif)


def unplug(instance: objects.Instance, vifs: Iterable[model.VIF]) -> None:
    """Unplug every port, even if one of them fails; safe to repeat.

    :param vifs: its ports.
    :raises nova.exception.VirtualInterfaceUnplugException: the first failure.
    """
    with contextlib.ExitStack() as stack:
        for vif in vifs:
            stack.callback(vif_lib.unplug, instance, vif)


@contextlib.contextmanager
def wired(
    virtapi: nova_virtapi.VirtAPI, instance: objects.Instance,
    vifs: Iterable[model.VIF], *, wait: bool,
) -> Iterator[None]:
    """Plug every port, run the block, then wait until Neutron has wired them.

    Ports that are already active are not waited for, as Neutron sends no
    event for them. Nova's ``vif_plugging_timeout`` limits the wait, and
    ``vif_plugging_is_fatal`` says whether a failure raises.

    :param virtapi: receives Neutron's event ``network-vif-plugged``.
    :param vifs: its ports.
    :param wait: whether to wait at all.
    :raises nova.exception.VirtualInterfaceCreateException: no event came in
        time, or Neutron reported a failure.
    """
    vifs = tuple(vifs)
    timeout = CONF.vif_plugging_timeout
    events = [
        ('network-vif-plugged', vif['id']) for vif in vifs
        # Only ports that are known to be down: Nova's cache may be outdated,
        # and an active port would be waited for in vain.
        if wait and timeout and vif.get('active', True) is False]
    try:
        with virtapi.wait_for_instance_event(
                # By position: Nova 32 and older call it "deadline".
                instance, events, timeout,
                error_callback=_neutron_failed):
            plug(instance, vifs)
            yield
    except novaversion.EventTimeout as error:
        ports = ', '.join(port for _name, port in events)
        LOG.warning('Neutron did not wire ports %(ports)s within '
                    '%(timeout)s s', {'ports': ports, 'timeout': timeout},
                    instance=instance)
        if CONF.vif_plugging_is_fatal:
            raise exception.VirtualInterfaceCreateException() from error


def _neutron_failed(event: str, instance: objects.Instance) -> None:
    LOG.error('Neutron failed to wire a port: %s', event, instance=instance)
    if CONF.vif_plugging_is_fatal:
        raise exception.VirtualInterfaceCreateException()
