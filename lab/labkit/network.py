# SPDX-License-Identifier: Apache-2.0
"""The lab's own network: a namespace, a bridge, and taps for Xen hosts.

Nothing of the lab can be reached from outside this namespace, unless
:func:`add_node` is called. Labs have the same one, so one runs at a time; a
lab that is told of another one (``XENLAB_NETNS``) runs beside them. The bridge
bears the name of the lab that it belongs to (its ``ifalias``), so that one lab
never takes or deletes what another one uses.
"""

from __future__ import annotations

import json
import pathlib
import shutil

from labkit import config
from labkit import util

#: What a bridge's alias begins with; the lab's state directory follows.
_ALIAS = 'xenlab '


def _ip(*args: str) -> str:
    return util.run(['ip', *args], netns=True).stdout


def exists() -> bool:
    """Whether a namespace of the lab's name is there, whoever made it."""
    if not shutil.which('ip'):
        return False
    shown = util.run(['ip', '-json', 'netns', 'list']).stdout or '[]'
    return any(ns['name'] == config.NETNS for ns in json.loads(shown))


def _links() -> dict[str, dict[str, str]]:
    """The namespace's network devices, by name."""
    return {link['ifname']: link for link in json.loads(
        _ip('-json', 'link', 'show'))}


def _owner() -> pathlib.Path | None:
    """State directory of the lab that the namespace belongs to.

    None if nobody has claimed it.
    """
    if not exists():
        return None
    bridge = _links().get(config.BRIDGE, {})
    alias = bridge.get('ifalias', '')
    if not alias.startswith(_ALIAS):
        return None
    return pathlib.Path(alias.removeprefix(_ALIAS))


def _processes() -> int:
    """How many processes run in the namespace."""
    return len(util.run(['ip', 'netns', 'pids', config.NETNS],
                        check=False).stdout.split())


def _busy(state: pathlib.Path, processes: int) -> str:
    """Say what keeps a lab busy; empty if it is down.

    :param state: its state directory.
    :param processes: how many processes run in its namespace.
    """
    if holder := util.Lock(state / 'lock').holder():
        return holder
    if processes:
        return f'{processes} processes'
    return ''


def refuse_beside_another() -> None:
    """See that no other lab runs on this machine.

    Two labs would share the network namespace, its addresses and the
    machine's memory.

    :raises LabError: one does; it says which, and how to stop it.
    """
    owner = _owner()
    known = {owner}
    if config.NETNS == config.DEFAULT_NETNS:
        # It may have no network yet.
        known.add(config.DEFAULT_STATE)
    others = {state for state in known if state and state != config.STATE}
    environment = ('' if config.NETNS == config.DEFAULT_NETNS
                   else f'XENLAB_NETNS={config.NETNS} ')
    for state in sorted(others):
        if what := _busy(state, _processes() if state == owner else 0):
            raise util.LabError(
                f'another lab runs on this machine: {state} ({what}). Only '
                'one can: they share the network namespace '
                f'{config.NETNS} and the memory. This stops it: '
                f'{environment}XENLAB_STATE={state} {config.LAB}/xenlab '
                'down')


def up() -> None:
    """Make the namespace and the bridge with the controller's address.

    What a lab left that runs no more (it was killed) is removed.

    :raises LabError: another lab runs.
    """
    util.need_packages('iproute2')
    refuse_beside_another()
    if _owner() not in (None, config.STATE):
        util.run(['ip', 'netns', 'delete', config.NETNS])
    if not exists():
        util.run(['ip', 'netns', 'add', config.NETNS])
    _ip('link', 'set', 'lo', 'up')
    if config.BRIDGE not in _links():
        _ip('link', 'add', config.BRIDGE, 'type', 'bridge')
    _ip('link', 'set', config.BRIDGE, 'alias', f'{_ALIAS}{config.STATE}')
    address = f'{config.CONTROLLER_IP}/{config.PREFIX}'
    _ip('address', 'replace', address, 'dev', config.BRIDGE)
    _ip('link', 'set', config.BRIDGE, 'up')


def add_taps(number: int) -> None:
    """Make the two taps of a Xen host; the namespace must be up.

    The management tap is a port of the bridge. The data tap is left for
    the controller's Open vSwitch to take.
    """
    links = _links()
    for role in ('m', 'd'):
        tap = config.tap(number, role)
        if tap not in links:
            _ip('tuntap', 'add', tap, 'mode', 'tap')
        _ip('link', 'set', tap, 'up')
    _ip('link', 'set', config.tap(number, 'm'), 'master', config.BRIDGE)


def add_node() -> None:
    """Give this machine itself an address in the lab's network.

    So a cloud of this machine can use the lab's Xen hosts. It ends with the
    namespace.

    :raises LabError: another lab runs.
    """
    up()
    if config.NODE_PORT not in _links():
        util.run(['ip', 'link', 'add', config.NODE_LINK, 'type', 'veth',
                  'peer', 'name', config.NODE_PORT, 'netns', config.NETNS])
    _ip('link', 'set', config.NODE_PORT, 'master', config.BRIDGE, 'up')
    util.run(['ip', 'address', 'replace',
              f'{config.NODE_IP}/{config.PREFIX}', 'dev', config.NODE_LINK])
    util.run(['ip', 'link', 'set', config.NODE_LINK, 'up'])


def down() -> None:
    """Delete the namespace with all that is in it, if it is this lab's."""
    if exists() and _owner() in (None, config.STATE):
        util.run(['ip', 'netns', 'delete', config.NETNS])
