# SPDX-License-Identifier: Apache-2.0
"""The lab's own network: a namespace, a bridge, and taps for Xen hosts.

Nothing of the lab can be reached from outside this namespace. The bridge
bears the name of the lab it belongs to (its ``ifalias``), so that one lab
never takes or deletes another's.
"""

from __future__ import annotations

import json

from labkit import config
from labkit import util

#: How a bridge says which lab made it.
_US = f'xenlab {config.STATE}'


def _ip(*args: str) -> str:
    return util.run(['ip', *args], netns=True).stdout


def exists() -> bool:
    """Whether a namespace of the lab's name is there, whoever made it."""
    shown = util.run(['ip', '-json', 'netns', 'list']).stdout or '[]'
    return any(ns['name'] == config.NETNS for ns in json.loads(shown))


def _links() -> dict[str, dict[str, str]]:
    """The namespace's network devices, by name."""
    return {link['ifname']: link for link in json.loads(
        _ip('-json', 'link', 'show'))}


def _owner() -> str:
    """Which lab the namespace belongs to; an empty one is for the taking."""
    bridge = _links().get(config.BRIDGE)
    return bridge.get('ifalias', 'nobody') if bridge else _US


def up() -> None:
    """Make the namespace and the bridge with the controller's address.

    :raises LabError: another lab has them.
    """
    util.need_packages('iproute2')
    if not exists():
        util.run(['ip', 'netns', 'add', config.NETNS])
    if _owner() != _US:
        raise util.LabError(f'network namespace {config.NETNS} belongs to '
                            f'another lab: {_owner()}')
    _ip('link', 'set', 'lo', 'up')
    if config.BRIDGE not in _links():
        # One command: a bridge without its owner's name never exists.
        util.run(['ip', '-batch', '-'], netns=True, input=(
            f'link add {config.BRIDGE} type bridge\n'
            f'link set {config.BRIDGE} alias "{_US}"\n'))
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


def down() -> None:
    """Delete the namespace with all that is in it, if it is this lab's."""
    if exists() and _owner() == _US:
        util.run(['ip', 'netns', 'delete', config.NETNS])
