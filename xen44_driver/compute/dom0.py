# SPDX-License-Identifier: Apache-2.0
"""Look for settings of dom0 that harm guests later.

Guests start despite these settings, and the later failure is hard to trace to
its cause. Each function yields a text for each setting that is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import glob
import os
import re
import socket
import subprocess

from nova import conf
from nova import exception
from nova.virt import hardware
from oslo_concurrency import processutils

from xen44_driver import privsep
from xen44_driver.compute import node as compute_node

CONF = conf.CONF

LOGROTATE_FILES = '/etc/logrotate.d/*'
LOGROTATE_CRON = '/etc/cron.daily/logrotate'
BRIDGE_SETTINGS = '/proc/sys/net/bridge'
NETWORK_DEVICES = '/sys/class/net'
PROCESSES = '/proc/[0-9]*'

#: Where QEMU for Xen may be: where Xen installs its own, and where Debian
#: has it. libxl knows the path since it was built, and does not tell it.
DEVICE_MODELS = (
    '/usr/lib*/xen*/bin/qemu-system-*',
    '/usr/local/lib*/xen*/bin/qemu-system-*',
    '/usr/libexec/xen*/bin/qemu-system-*',
    '/usr/libexec/xen-qemu-system-*',
)

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


def _enabled(unit: str) -> bool | None:
    """Return whether systemd starts a unit; None if systemd does not tell."""
    try:
        state, _ = processutils.execute(
            'systemctl', 'is-enabled', unit, check_exit_code=False,
            timeout=SYSTEMCTL_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return bool(state.startswith('enabled'))


def guest_units() -> Iterator[str]:
    """Check that nobody but Nova starts and stops guests."""
    for unit, does in GUEST_UNITS.items():
        if _enabled(unit):
            yield (f'{unit} is enabled: it {does}, and Nova is not told. '
                   f'Run: systemctl disable {unit}')


def device_model() -> Iterator[str]:
    """Check that there is a QEMU for Xen."""
    if not any(os.access(path, os.X_OK) for pattern in DEVICE_MODELS
               for path in glob.glob(pattern)):
        yield (f'There is no QEMU for Xen (no {", no ".join(DEVICE_MODELS)}): '
               'HVM guests, and others unless their flavor has '
               'xen44:disk_class=kernel, will not start. '
               'Debian: package qemu-system-xen')


def console_logging() -> Iterator[str]:
    """Check that xenconsoled was told to log the guests' consoles."""
    for path in glob.glob(f'{PROCESSES}/comm'):
        if read_text(path).strip() != 'xenconsoled':
            continue
        command = read_text(os.path.join(os.path.dirname(path), 'cmdline'))
        arguments = command.replace('\0', ' ')
        if not re.search(r' --log[= ](guest|all)\b', arguments):
            yield ('Guests\' console logs will be empty: xenconsoled runs as '
                   f'"{arguments.strip()}". It has to be started with '
                   f'--log=guest --log-dir={CONF.xen44.console_log_dir} '
                   '(Debian: XENCONSOLED_ARGS in /etc/default/xen), which '
                   'takes a reboot of dom0')
        return
    yield ('xenconsoled does not run: PV and PVH guests have no console. '
           'See whether Xen\'s services run (Debian: systemctl status xen)')


def log_rotation() -> Iterator[str]:
    """Check that the logs of guests' consoles cannot fill the disk."""
    directory = CONF.xen44.console_log_dir
    if not any(directory in read_text(path)
               for path in glob.glob(LOGROTATE_FILES)):
        yield (f'No file of {LOGROTATE_FILES} names {directory}: while '
               'nova-compute is down nothing bounds the logs of guests\' '
               'consoles (the driver\'s package brings logrotate.d/xen44)')
    elif (_enabled('logrotate.timer') is False
          and not os.path.exists(LOGROTATE_CRON)):
        yield ('Nothing runs logrotate: while nova-compute is down nothing '
               'bounds the logs of guests\' consoles. '
               'Run: systemctl enable --now logrotate.timer')


def read_text(path: str) -> str:
    """Return the content of a file, or '' if it cannot be read."""
    with contextlib.suppress(OSError), open(path, errors='replace') as file:
        return file.read()
    return ''


def bridge_filters() -> Iterator[str]:
    """Check that iptables lets guests' packets pass the Linux bridges."""
    for program, ipv6 in (('iptables', False), ('ip6tables', True)):
        name = f'bridge-nf-call-{program}'
        if read_text(f'{BRIDGE_SETTINGS}/{name}').strip() != '1':
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


def integration_bridge() -> Iterator[str]:
    """Check that the bridge is there that ports are plugged into."""
    bridge = CONF.neutron.ovs_bridge
    if not os.path.isdir(os.path.join(NETWORK_DEVICES, bridge)):
        yield (f'There is no bridge {bridge} ([neutron] ovs_bridge): servers '
               'with ports will have no network. Neutron\'s Open vSwitch '
               'agent makes it: see whether that runs in dom0')


def switch() -> Iterator[str]:
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


def affinity(dedicated: frozenset[int]) -> Iterator[str]:
    """Find CPUs that belong to one vCPU each, and on which dom0 runs too.

    :param dedicated: their numbers.
    """
    both: set[int] = set()
    try:
        allowed = privsep.dom0_affinity()
        if not allowed:
            raise ValueError('xl vcpu-list tells no affinity')
        for vcpu in allowed:
            both |= (dedicated if vcpu == 'all'
                     else dedicated & hardware.parse_cpu_spec(vcpu))
    except (OSError, ValueError, exception.Invalid) as error:
        yield f'Cannot see on which CPUs dom0 runs: {error}'
        return
    if both:
        yield (f'[compute] cpu_dedicated_set gives CPUs to vCPUs of guests, '
               'one to each, on which dom0 may run too '
               f'({hardware.format_cpu_spec(both)}): keep it off them with '
               'dom0_max_vcpus and dom0_vcpus_pin on the command line of Xen, '
               'or after each boot with xl vcpu-pin 0 all CPUS')


def unknown_domains(node: compute_node.Node) -> Iterator[str]:
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
