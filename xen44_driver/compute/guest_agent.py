# SPDX-License-Identifier: Apache-2.0
"""Reach the guest agent of an instance."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import functools
import socket

from nova import exception
from nova import objects

from xen44_driver import handover
from xen44_driver import privsep
from xen44_driver.compute import machine as machine_lib
from xen44_driver.xen import agent
from xen44_driver.xen import errors
from xen44_driver.xen import sockets


def check(instance: objects.Instance) -> None:
    """Refuse an instance that has no channel to a guest agent.

    :raises nova.exception.QemuGuestAgentNotEnabled: it has none.
    """
    machine = machine_lib.recall(instance)
    if machine is None or not machine.agent:
        raise exception.QemuGuestAgentNotEnabled()


@contextlib.contextmanager
def session(uuid: str) -> Iterator[agent.Agent]:
    """Connect to the guest agent of an instance, which answers.

    :param uuid: the instance's UUID.
    :raises xen44_driver.xen.errors.AgentSilent: none answers in time, or the
        guest is off.
    :raises xen44_driver.xen.errors.AgentRefused: what answers is no agent.
    """
    descriptor = handover.receive(functools.partial(
        privsep.send_socket, sockets.SocketKind.AGENT, uuid))
    if descriptor is None:
        raise errors.AgentSilent(
            'its QEMU does not listen, or somebody else is connected')
    with socket.socket(fileno=descriptor) as connection:
        found = agent.Agent(connection)
        found.sync()
        yield found
