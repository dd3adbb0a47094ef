# SPDX-License-Identifier: Apache-2.0
"""What a guest says, and its screen."""

from __future__ import annotations

from nova import conf
from nova import exception
from nova import objects
from nova.console import type as console_type

from xen44_driver import privsep
from xen44_driver.compute import errors
from xen44_driver.compute import node as compute_node
from xen44_driver.storage import layout

CONF = conf.CONF

#: Bytes of output that are shown, from the end: as Nova's libvirt driver.
MAX_BYTES = 100 * 1024


def output(node: compute_node.Node, instance: objects.Instance) -> str:
    """The end of what a guest wrote to its console.

    PV and PVH guests write to Xen's console, which xenconsoled logs. HVM
    guests write to their serial port, or, with PV drivers, to Xen's console,
    or to both: the serial port's output comes first.

    :param node: this node
    :param instance: which
    :raises nova.exception.InstanceNotFound: there is no such domain
    """
    with errors.translated('look at', instance):
        node.host.record(instance.uuid)
    serial = _read_serial(layout.InstanceFiles(instance.uuid).serial_log)
    console = privsep.read_console_log(instance.name, MAX_BYTES) or b''
    # Nova takes text whose characters are bytes.
    return (serial + console)[-MAX_BYTES:].decode('latin-1')


def _read_serial(path: str) -> bytes:
    """The end of a serial port's log; empty where there is none."""
    try:
        with open(path, 'rb') as log:
            size = log.seek(0, 2)
            log.seek(max(0, size - MAX_BYTES))
            return log.read(MAX_BYTES)
    except FileNotFoundError:
        return b''


def vnc(
    node: compute_node.Node, instance: objects.Instance,
) -> console_type.ConsoleVNC:
    """Where a guest's screen is.

    :param node: this node
    :param instance: which
    :raises nova.exception.ConsoleTypeUnavailable: VNC is not enabled, or the
        guest has no screen
    :raises nova.exception.InstanceNotReady: it is not running
    :raises nova.exception.InstanceNotFound: there is no such domain
    """
    if not CONF.vnc.enabled:
        raise exception.ConsoleTypeUnavailable(console_type='vnc')
    with errors.translated('look at', instance):
        if node.host.record(instance.uuid).state.is_off:
            raise exception.InstanceNotReady(instance_id=instance.uuid)
        address = node.host.guest(instance.uuid).vnc()
    if address is None:
        raise exception.ConsoleTypeUnavailable(console_type='vnc')
    return console_type.ConsoleVNC(
        host=CONF.vnc.server_proxyclient_address, port=address.port)
