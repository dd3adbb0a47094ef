# SPDX-License-Identifier: Apache-2.0
"""The channel between the host and the QEMU guest agent in a guest.

PV and PVH guests have a ``<channel>`` of Xen, which Linux shows as
``/dev/hvc1``. HVM guests have a virtio serial port, as on other hypervisors,
so the agent of stock images finds it. libvirt's libxl driver has no such
device, so it is written as QEMU arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
import re

from lxml import etree

from xen44_driver.xen.domain import check
from xen44_driver.xen.domain import xml
from xen44_driver.xen.guesttype import GuestType

#: The name by which the agent finds its channel.
NAME = 'org.qemu.guest_agent.0'

_ID = 'xen44-agent'
_PORT = f'virtserialport,chardev={_ID},name={NAME}'


def check_socket(agent_socket: str | None) -> None:
    """Require a path that QEMU accepts.

    :raises SpecError: it does not.
    """
    if agent_socket is not None:
        # A comma would end the path in QEMU's option.
        check.path('agent_socket', agent_socket, without=',')


def to_xml(devices: etree._Element, agent_socket: str | None,
           guest_type: GuestType) -> None:
    """Write the channel of a PV or PVH guest.

    :param agent_socket: path of the socket on which QEMU listens; None for
        no channel.
    """
    if agent_socket is None or guest_type is GuestType.HVM:
        return
    channel = xml.add(devices, 'channel', type='unix')
    xml.add(channel, 'source', mode='bind', path=agent_socket)
    xml.add(channel, 'target', type='xen', name=NAME)


def arguments(agent_socket: str | None,
              guest_type: GuestType) -> tuple[str, ...]:
    """Return QEMU's arguments for the channel of an HVM guest.

    :param agent_socket: path of the socket on which QEMU listens; None for
        no channel.
    """
    if agent_socket is None or guest_type is not GuestType.HVM:
        return ()
    return ('-chardev',
            f'socket,id={_ID},path={agent_socket},server=on,wait=off',
            '-device', 'virtio-serial-pci', '-device', _PORT)


def from_xml(devices: etree._Element, qemu: Sequence[str]) -> str | None:
    """Read the path of the channel's socket.

    :param devices: ``<devices>``.
    :param qemu: all arguments for QEMU.
    :returns: None for no channel.
    """
    for channel in devices.iterfind("channel[@type='unix']"):
        if xml.get(channel, 'target', 'name') == NAME:
            return xml.get(channel, 'source', 'path')
    if _PORT in qemu:
        for argument in qemu:
            found = re.fullmatch(
                rf'socket,id={_ID},path=([^,]+),server=on,wait=off', argument)
            if found is not None:
                return found[1]
    return None
