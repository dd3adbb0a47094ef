# SPDX-License-Identifier: Apache-2.0
"""Warn of settings of dom0 that harm guests later.

Guests start despite these settings, and the later failure is hard to trace to
its cause.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import functools
import glob
import os
import socket
import subprocess

from nova import conf
from oslo_concurrency import processutils
from oslo_log import log as logging

from xen44_driver import privsep
from xen44_driver.compute import node as compute_node

CONF = conf.CONF
LOG = logging.getLogger(__name__)

LOGROTATE_FILES = '/etc/logrotate.d/*'
LOGROTATE_CRON = '/etc/cron.daily/logrotate'
BRIDGE_SETTINGS = '/proc/sys/net/bridge'

#: Seconds that Open vSwitch and systemd have to answer.
OVSDB_TIMEOUT = 5
SYSTEMCTL_TIMEOUT = 30

#: systemd units that start and stop guests, and what they do to them.
GUEST_UNITS = {
    'xendomains.service':
        'saves or destroys every guest when dom0 shuts down or libvirtd '
        'starts, and starts them again',
    'libvirt-guests.service':
        'suspends or shuts down every guest when dom0 shuts down, and starts '
        'them again',
}


def warnings(node: compute_node.Node) -> Iterator[str]:
    """Yield a warning for each setting that is wrong.

    Never raises: what cannot be looked at is one of the texts. Other
    programs' output is read here, and must not keep nova-compute from
    starting.
    """
    for look in (_guest_units, _log_rotation, _bridge_filters, _switch,
                 functools.partial(_unknown_domains, node)):
        try:
            yield from look()
        except Exception as error:
            LOG.debug('Cannot look at dom0', exc_info=True)
            yield f'Not all of dom0 could be looked at: {error!r}'


def _enabled(unit: str) -> bool | None:
    """Return whether systemd starts a unit; None if systemd does not tell."""
    try:
        state, _ = processutils.execute(
            'systemctl', 'is-enabled', unit, check_exit_code=False,
            timeout=SYSTEMCTL_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return bool(state.startswith('enabled'))


def _guest_units() -> Iterator[str]:
    for unit, does in GUEST_UNITS.items():
        if _enabled(unit):
            yield (f'{unit} is enabled: it {does}, and Nova is not told. '
                   f'Run: systemctl disable {unit}')


def _log_rotation() -> Iterator[str]:
    directory = CONF.xen44.console_log_dir
    if not any(directory in _text(path)
               for path in glob.glob(LOGROTATE_FILES)):
        yield (f'No file of {LOGROTATE_FILES} names {directory}: while '
               'nova-compute is down nothing bounds the logs of guests\' '
               'consoles (the driver\'s package brings logrotate.d/xen44)')
    elif (_enabled('logrotate.timer') is False
          and not os.path.exists(LOGROTATE_CRON)):
        yield ('Nothing runs logrotate: while nova-compute is down nothing '
               'bounds the logs of guests\' consoles. '
               'Run: systemctl enable --now logrotate.timer')


def _text(path: str) -> str:
    """Return the content of a file, or '' if it cannot be read."""
    with contextlib.suppress(OSError), open(path, errors='replace') as file:
        return file.read()
    return ''


def _bridge_filters() -> Iterator[str]:
    """Check that iptables lets guests' packets pass the Linux bridges."""
    for program, ipv6 in (('iptables', False), ('ip6tables', True)):
        name = f'bridge-nf-call-{program}'
        if _text(f'{BRIDGE_SETTINGS}/{name}').strip() != '1':
            continue
        try:
            policy = privsep.forward_policy(ipv6)
        except OSError:
            continue
        if policy == 'DROP':
            yield (f'Guests\' packets may be lost: {name} is 1, so packets '
                   f'on bridges go through {program}\' FORWARD chain, and '
                   'its policy is DROP (Docker sets it). '
                   f'Run: sysctl -w net.bridge.{name}=0, and keep that in '
                   '/etc/sysctl.d')


def _switch() -> Iterator[str]:
    """Check that os-vif can reach Open vSwitch."""
    where = CONF.os_vif_ovs.ovsdb_connection
    try:
        match where.split(':', maxsplit=1):
            case ['tcp', address]:
                host, _, port = address.rpartition(':')
                socket.create_connection(
                    (host.strip('[]'), int(port)), OVSDB_TIMEOUT).close()
            case ['unix', path]:
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(OVSDB_TIMEOUT)
                    client.connect(path)
    except (OSError, ValueError) as error:
        yield (f'Plugging ports will fail: os-vif cannot reach Open vSwitch '
               f'at {where} ([os_vif_ovs] ovsdb_connection): {error}. For '
               'the default, run: ovs-vsctl set-manager ptcp:6640:127.0.0.1')


def _unknown_domains(node: compute_node.Node) -> Iterator[str]:
    """Find instances that Xen runs but libvirt does not know."""
    try:
        running = privsep.running_domains()
    except OSError as error:
        yield (f'Cannot see whether Xen runs instances that libvirt does not '
               f'know: {error}')
        return
    known = node.host.records()
    for uuid, name in running.items():
        if uuid not in known and os.path.isdir(
                os.path.join(CONF.instances_path, uuid)):
            yield (f'Xen runs domain {name} of instance {uuid}, and libvirt '
                   'does not know it: Nova takes the instance for stopped, '
                   'and a second guest on the same disks would destroy them. '
                   f'Shut it down (xl shutdown -w {name}, or xl destroy '
                   f'{name}) before the instance is started again')
