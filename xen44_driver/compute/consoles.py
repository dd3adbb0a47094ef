# SPDX-License-Identifier: Apache-2.0
"""Console logs and screens of guests."""

from __future__ import annotations

import contextlib
import os

from nova import conf
from nova import exception
from nova import objects
from nova.console import type as console_type
from oslo_log import log as logging

from xen44_driver import logfile
from xen44_driver import privsep
from xen44_driver.compute import node as compute_node

CONF = conf.CONF
LOG = logging.getLogger(__name__)

#: Bytes of a console log to return, as many as Nova's libvirt driver returns.
MAX_BYTES = 100 * 1024


def forget(instance: objects.Instance) -> None:
    """Remove the console log of an earlier guest with the same name.

    xenconsoled names its logs by the domain's name and appends to an existing
    log. Nova derives the name from the instance's database id, which repeats
    in another cell or in a newly created database. Call this before an
    instance's domain starts for the first time.

    :raises OSError: the log exists and cannot be removed; the guest must not
        be started.
    """
    if privsep.remove_console_log(instance.name):
        LOG.warning('Removed the console log of another guest that was named '
                    '%s', instance.name, instance=instance)


def prepare(path: str) -> None:
    """Make the log of an HVM guest's serial port if it does not exist.

    QEMU would make it too, but owned by root and readable by everyone.

    :param path: the log.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def output(node: compute_node.Node, instance: objects.Instance) -> str:
    """Return the end of the console log.

    PV and PVH guests write to Xen's console, which xenconsoled logs. HVM
    guests write to their serial port, and with PV drivers also to Xen's
    console. The serial port's output comes first. If both logs are long, each
    gets half of the room.

    :returns: at most ``MAX_BYTES`` characters, one for each byte of the logs,
        without NULs. Nova's API removes other control characters.
    :raises nova.exception.InstanceNotFound: there is no such domain.
    """
    node.host.record(instance.uuid)
    serial = _without_nul(logfile.read_end(
        node.files(instance).serial_log, MAX_BYTES))
    xen = _without_nul(privsep.read_console_log(instance.name, MAX_BYTES))
    room = max(MAX_BYTES // 2, MAX_BYTES - len(serial))
    xen = xen[-room:]
    serial = serial[max(0, len(serial) + len(xen) - MAX_BYTES):]
    # Latin-1: Nova encodes each character as one byte again.
    return (serial + xen).decode('latin-1')


def _without_nul(log: bytes | None) -> bytes:
    """Return a log without NULs, which a sparse file has in its holes."""
    return (log or b'').replace(b'\0', b'')


def vnc(
    node: compute_node.Node, instance: objects.Instance,
) -> console_type.ConsoleVNC:
    """Return the address of a guest's screen.

    :raises nova.exception.ConsoleTypeUnavailable: VNC is not enabled, or the
        guest has no screen.
    :raises nova.exception.InstanceNotReady: the guest is not running.
    :raises nova.exception.InstanceNotFound: there is no such domain.
    """
    if not CONF.vnc.enabled:
        raise exception.ConsoleTypeUnavailable(console_type='vnc')
    if node.host.record(instance.uuid).state.is_off:
        raise exception.InstanceNotReady(instance_id=instance.uuid)
    port = node.host.guest(instance.uuid).vnc_port()
    if port is None:
        raise exception.ConsoleTypeUnavailable(console_type='vnc')
    return console_type.ConsoleVNC(
        host=CONF.vnc.server_proxyclient_address, port=port)
