# SPDX-License-Identifier: Apache-2.0
"""Console logs, interactive consoles and screens of guests."""

from __future__ import annotations

from collections.abc import Callable
import functools

from nova import conf
from nova import exception
from nova import objects
from nova.console import type as console_type
from oslo_log import log as logging

from xen44_driver import handover
from xen44_driver import privsep
from xen44_driver import relay
from xen44_driver.compute import node as compute_node
from xen44_driver.core import consolelog
from xen44_driver.core import vnc as vnc_lib
from xen44_driver.xen import guest as xen_guest
from xen44_driver.xen import sockets

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


def output(node: compute_node.Node, instance: objects.Instance) -> str:
    """Return the end of the console log.

    :returns: at most ``MAX_BYTES`` characters, one for each byte of the logs,
        without NULs. Nova's API removes other control characters.
    :raises nova.exception.InstanceNotFound: there is no such domain.
    """
    node.host.record(instance.uuid)
    # Latin-1: Nova encodes each character as one byte again.
    return consolelog.read(
        instance.name, node.files(instance).serial_log,
        MAX_BYTES).decode('latin-1')


def serial(
    node: compute_node.Node, instance: objects.Instance,
) -> console_type.ConsoleSerial:
    """Return the address of a guest's interactive console.

    It is Xen's console of a PV or PVH guest, and the serial port of an HVM
    guest. A relay listens there from the first call until the instance leaves
    this host; the guest may stop, start and reboot.

    :raises nova.exception.ConsoleTypeUnavailable: serial consoles are not
        enabled, or were not when this HVM guest started.
    :raises nova.exception.InstanceNotReady: the guest is not running.
    :raises nova.exception.InstanceNotFound: there is no such domain.
    :raises nova.exception.SocketPortRangeExhaustedException: no port of
        ``[serial_console] port_range`` is free.
    """
    if not CONF.serial_console.enabled:
        raise exception.ConsoleTypeUnavailable(console_type='serial')
    _check_running(node, instance)
    if node.host.guest(instance.uuid).terminal() is None:
        LOG.warning('The guest was started before [serial_console] was '
                    'enabled: it has an interactive console after its next '
                    'start', instance=instance)
        raise exception.ConsoleTypeUnavailable(console_type='serial')
    host = CONF.serial_console.proxyclient_address
    try:
        found = _relay(node, instance, 'serial', _open_serial, host,
                       CONF.serial_console.port_range)
    except relay.NoFreePort as error:
        raise exception.SocketPortRangeExhaustedException(host=host) from error
    return console_type.ConsoleSerial(
        host=host, port=found.port, internal_access_path=found.path)


def _open_serial(node: compute_node.Node, uuid: str) -> int | None:
    """Open a guest's interactive console.

    :returns: a file descriptor; None if the guest is off.
    """
    domid = vnc_lib.domid_of(node.host, uuid)
    if domid is None:
        return None
    match node.host.guest(uuid).terminal():
        case xen_guest.Terminal.XEN:
            return handover.receive(functools.partial(
                privsep.send_console, domid))
        case xen_guest.Terminal.SERIAL:
            return handover.receive(functools.partial(
                privsep.send_socket, sockets.SocketKind.SERIAL, uuid))
    return None


def vnc(
    node: compute_node.Node, instance: objects.Instance,
) -> console_type.ConsoleVNC:
    """Return the address of a guest's screen.

    A relay listens there from the first call until the instance leaves this
    host. The VNC server itself listens on the loopback interface.

    :raises nova.exception.ConsoleTypeUnavailable: VNC is not enabled, or the
        guest has no screen.
    :raises nova.exception.InstanceNotReady: the guest is not running.
    :raises nova.exception.InstanceNotFound: there is no such domain.
    """
    if not CONF.vnc.enabled:
        raise exception.ConsoleTypeUnavailable(console_type='vnc')
    _check_running(node, instance)
    if node.host.guest(instance.uuid).vnc_address() is None:
        raise exception.ConsoleTypeUnavailable(console_type='vnc')
    found = _relay(node, instance, 'vnc', _open_vnc, CONF.vnc.server_listen,
                   CONF.xen44.vnc_port_range)
    return console_type.ConsoleVNC(
        host=CONF.vnc.server_proxyclient_address, port=found.port,
        internal_access_path=found.path)


def _open_vnc(node: compute_node.Node, uuid: str) -> int | None:
    """Connect to a guest's VNC server.

    :returns: a file descriptor; None if the guest is off.
    """
    return vnc_lib.connect(node.host, uuid)


def spice(
    node: compute_node.Node, instance: objects.Instance,
) -> console_type.ConsoleSpice:
    """Return the address of a guest's screen, shown by SPICE.

    A relay listens there from the first call until the instance leaves this
    host. The SPICE server itself listens on a socket that only root can reach.

    :raises nova.exception.ConsoleTypeUnavailable: SPICE is not enabled, the
        guest has no screen, or it was made before SPICE was enabled.
    :raises nova.exception.InstanceNotReady: the guest is not running.
    :raises nova.exception.InstanceNotFound: there is no such domain.
    """
    if not CONF.spice.enabled:
        raise exception.ConsoleTypeUnavailable(console_type='spice')
    _check_running(node, instance)
    if not node.host.guest(instance.uuid).has_spice():
        raise exception.ConsoleTypeUnavailable(console_type='spice')
    found = _relay(node, instance, 'spice', _open_spice,
                   CONF.spice.server_listen, CONF.xen44.spice_port_range)
    return console_type.ConsoleSpice(
        host=CONF.spice.server_proxyclient_address, port=found.port,
        tlsPort=None, internal_access_path=found.path)


def _open_spice(node: compute_node.Node, uuid: str) -> int | None:
    """Connect to a guest's SPICE server.

    :returns: a file descriptor; None if the guest is off.
    """
    if vnc_lib.domid_of(node.host, uuid) is None:
        return None
    return handover.receive(functools.partial(
        privsep.send_socket, sockets.SocketKind.SPICE, uuid))


def _check_running(
    node: compute_node.Node, instance: objects.Instance,
) -> None:
    if node.host.record(instance.uuid).state.is_off:
        raise exception.InstanceNotReady(instance_id=instance.uuid)


def _relay(
    node: compute_node.Node, instance: objects.Instance, kind: str,
    open_device: Callable[[compute_node.Node, str], int | None],
    host: str, ports: str,
) -> relay.Relay:
    """Return the relay of a guest's console; start it if there is none.

    :param kind: ``serial``, ``vnc`` or ``spice``.
    :param open_device: opens the guest's end.
    :param host: address to listen on.
    :param ports: a range such as ``10000:20000``, without its last port.
    :raises xen44_driver.relay.NoFreePort: no port of the range is free.
    """
    def make() -> relay.Relay:
        first, end = map(int, ports.split(':'))
        return relay.Relay(
            relay.listen(host, range(first, end)),
            functools.partial(open_device, node, instance.uuid),
            lasting=kind == 'serial')

    return node.relays.get(instance.uuid, kind, make)
