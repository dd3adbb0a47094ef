# SPDX-License-Identifier: Apache-2.0
"""The controller's Open vSwitch, in userspace, inside the lab's namespace.

Its database is made anew at each start: bridges and ports come from here
and from Neutron's agents, which put back what they find missing.
"""

from __future__ import annotations

import pathlib

from labkit import config
from labkit import util
from labkit.cloud import settings

_DATABASE = settings.LIB / 'openvswitch/conf.db'
_SOCKET = settings.OVS_RUNDIR / 'db.sock'
_DB_PIDFILE = config.RUN / 'ovsdb-server.pid'
_DB_LOG = config.LOGS / 'ovsdb-server.log'
_PIDFILE = config.RUN / 'ovs-vswitchd.pid'
_LOG = config.LOGS / 'ovs-vswitchd.log'

#: Where Open vSwitch's programs find each other.
ENVIRONMENT = {'OVS_RUNDIR': str(settings.OVS_RUNDIR)}


def vsctl(*args: str) -> str:
    """Run ovs-vsctl on the controller's switch and return what it says."""
    return util.run(['ovs-vsctl', f'--db=unix:{_SOCKET}', '--timeout=20',
                     *args], netns=True).stdout


def start() -> None:
    """Start the switch with its bridge to the physical network."""
    for leftover in (_DATABASE, _SOCKET):
        leftover.unlink(missing_ok=True)
    settings.private_directory(_DATABASE.parent)
    settings.private_directory(settings.OVS_RUNDIR)
    util.run(['ovsdb-tool', 'create', _DATABASE])
    util.spawn(['ovsdb-server', _DATABASE, f'--remote=punix:{_SOCKET}',
                '--no-chdir'], log=_DB_LOG, pidfile=_DB_PIDFILE, netns=True,
               env=ENVIRONMENT)
    _wait_for_socket()
    vsctl('--no-wait', 'init')
    vsctl('--no-wait', 'set', 'Open_vSwitch', '.',
          'external_ids:system-id=controller',
          'external_ids:hostname=controller')
    util.spawn(['ovs-vswitchd', f'unix:{_SOCKET}', '--no-chdir'], log=_LOG,
               pidfile=_PIDFILE, netns=True, env=ENVIRONMENT)
    vsctl('--may-exist', 'add-br', config.DATA_BRIDGE, '--',
          'set', 'Bridge', config.DATA_BRIDGE, 'datapath_type=netdev')
    prefix = config.LAB_NET_CIDR.partition('/')[2]
    util.run(['ip', 'address', 'replace',
              f'{config.LAB_NET_GATEWAY}/{prefix}',
              'dev', config.DATA_BRIDGE], netns=True)
    util.run(['ip', 'link', 'set', config.DATA_BRIDGE, 'up'], netns=True)
    for number in _hosts():
        attach_host(number)


def _wait_for_socket() -> None:
    def there() -> bool:
        if not util.running(_DB_PIDFILE):
            raise util.LabError('ovsdb-server ended', _DB_LOG)
        return _SOCKET.exists()
    util.wait_for('ovsdb-server', there, 20, _DB_LOG, interval=0.1)


def _hosts() -> list[int]:
    """Numbers of the Xen hosts whose data tap exists."""
    shown = util.run(['ip', '-brief', 'link', 'show'], netns=True).stdout
    names = [line.split()[0].partition('@')[0]
             for line in shown.splitlines()]
    return [number for number in range(1, 10)
            if config.tap(number, 'd') in names]


def attach_host(number: int) -> None:
    """Plug the data tap of a Xen host, which exists, into the switch.

    :raises util.LabError: the switch does not run.
    """
    if not util.running(_PIDFILE):
        raise util.LabError('Open vSwitch does not run on the controller',
                            _LOG)
    vsctl('--may-exist', 'add-port', config.DATA_BRIDGE,
          config.tap(number, 'd'))


def stop() -> None:
    """Stop the switch; its bridges and their devices go with it."""
    if util.running(_PIDFILE) and util.running(_DB_PIDFILE):
        # Its devices outlive it unless it is told to let them go.
        bridges = vsctl('list-br').split()
        vsctl(*(word for bridge in bridges
                for word in ('--', 'del-br', bridge)))
    util.stop(_PIDFILE, grace=5)
    util.stop(_DB_PIDFILE, grace=5)


def processes() -> list[tuple[pathlib.Path, pathlib.Path]]:
    """Pid file and log of each process of the switch."""
    return [(_PIDFILE, _LOG), (_DB_PIDFILE, _DB_LOG)]
