# SPDX-License-Identifier: Apache-2.0
"""Relays of VMs' screens, with a password for CloudStack's console proxy.

No program of ours runs all the time. So each screen that is asked for has a
relay of its own: a transient service of systemd, which ends when nobody has
needed it for some time. It makes up a password, which is in its memory and in
a file that only root can read, for those who ask again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import secrets
import time

from oslo_concurrency import processutils
from oslo_config import cfg
from oslo_service import systemd
from oslo_utils import fileutils

from xen44_driver import privsep
from xen44_driver import relay
from xen44_driver.cloudstack import bundle
from xen44_driver.cloudstack import rfb
from xen44_driver.core import vnc
from xen44_driver.storage import layout
from xen44_driver.xen import host as xen_host
from xen44_driver.xen import sockets

CONF = cfg.CONF

#: Seconds that a relay has to start. Most of them are Python's imports.
START_TIMEOUT = 600

#: Seconds after which a relay ends that nobody uses.
IDLE_TIMEOUT = 600.0

# Seconds between two looks whether somebody uses it.
_LOOK_INTERVAL = 2.0

# What systemctl tells by its exit status: there is no such unit.
_NOT_LOADED = 5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """Where a VM's screen is.

    :ivar port: the port of ``[xen44_cloudstack] vnc_listen``.
    :ivar password: what its relay asks for.
    """

    port: int
    password: str = dataclasses.field(repr=False)


def offer(uuid: str) -> Screen:
    """Return where the screen of a VM is; start its relay if there is none.

    The caller holds the VM's lock.

    :param uuid: the VM's UUID.
    :raises OSError: the address cannot be listened on, or no port is free.
    :raises oslo_concurrency.processutils.ProcessExecutionError: the relay
        cannot be started.
    """
    if (screen := _find(uuid)) is not None:
        return screen
    # Here, as the errors of a service are in its log only.
    relay.listen(CONF.xen44_cloudstack.vnc_listen, _ports()).close()
    privsep.make_socket_dir()
    # A service that is about to end, or was started for nobody.
    _stop(uuid)
    # It returns when the relay listens.
    processutils.execute(
        'systemd-run', '--quiet', '--collect', f'--unit={_unit(uuid)}',
        f'--description=Screen of VM {uuid} for CloudStack',
        '--service-type=notify', f'--property=TimeoutStartSec={START_TIMEOUT}',
        # It listens to others, and needs nothing that only root can do.
        '--property=NoNewPrivileges=yes', '--property=CapabilityBoundingSet=',
        '--', *bundle.own_command(CONF.config_file, 'screen', uuid))
    if (screen := _find(uuid)) is None:
        raise OSError(f'{_unit(uuid)} has ended; see its log')
    return screen


def end(uuid: str) -> None:
    """End the relay of a VM's screen, if there is one.

    :param uuid: the VM's UUID.
    :raises oslo_concurrency.processutils.ProcessExecutionError: systemd
        cannot end it.
    """
    if os.path.exists(_path(uuid)):
        _stop(uuid)


def serve(host: xen_host.Host, uuid: str) -> None:
    """Relay the screen of a VM until nobody has needed it for some time.

    :param host: this host; it is connected.
    :param uuid: the VM's UUID.
    :raises xen44_driver.xen.errors.DomainNotFound: there is no such VM.
    :raises OSError: the address cannot be listened on, or no port is free.
    """
    host.guest(uuid)
    # Eight characters, RFB's most: 48 random bits.
    password = secrets.token_urlsafe(6)
    carrier = relay.Relay(
        relay.listen(CONF.xen44_cloudstack.vnc_listen, _ports()),
        functools.partial(vnc.connect, host, uuid, rfb.enter),
        lasting=False, greeting=rfb.PasswordGreeting(password))
    path = _path(uuid)
    try:
        layout.create_private(path)
        with open(path, 'w', encoding='utf-8') as file:
            json.dump(dataclasses.asdict(Screen(
                port=carrier.port, password=password)), file)
        systemd.notify()
        _wait(path, carrier)
    finally:
        fileutils.delete_if_exists(path)
        carrier.close()


def _wait(path: str, carrier: relay.Relay) -> None:
    """Wait until a relay is not needed any more, or has failed."""
    asked, due = -1, 0.0
    while carrier.alive:
        last, asked = asked, os.stat(path).st_mtime_ns
        if carrier.in_use or asked != last:
            due = time.monotonic() + IDLE_TIMEOUT
        elif time.monotonic() >= due:
            return
        time.sleep(_LOOK_INTERVAL)


def _ports() -> range:
    first, stop = map(int, CONF.xen44_cloudstack.vnc_port_range.split(':'))
    return range(first, stop)


def _unit(uuid: str) -> str:
    return f'xen44-screen-{uuid}.service'


def _path(uuid: str) -> str:
    """Return the path of the file that tells of a VM's relay."""
    return os.path.join(sockets.DIRECTORY, f'{uuid}.screen')


def _find(uuid: str) -> Screen | None:
    """Return what the relay of a VM listens on, or None if there is none."""
    path = _path(uuid)
    with contextlib.suppress(
            FileNotFoundError, processutils.ProcessExecutionError):
        # Somebody will need it soon.
        os.utime(path)
        # Else the file is of a relay that was killed, or has just started.
        processutils.execute('systemctl', 'is-active', '--quiet', _unit(uuid))
        with open(path, encoding='utf-8') as file:
            return Screen(**json.load(file))
    return None


def _stop(uuid: str) -> None:
    processutils.execute('systemctl', 'stop', _unit(uuid),
                         check_exit_code=[0, _NOT_LOADED])
    fileutils.delete_if_exists(_path(uuid))
