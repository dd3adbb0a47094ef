# SPDX-License-Identifier: Apache-2.0
"""What every part of the lab agrees on: directories, addresses, names."""

from __future__ import annotations

import os
import pathlib

#: The checkout this lab was started from.
CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
LAB = CHECKOUT / 'lab'

#: Where a lab's state is unless XENLAB_STATE says otherwise.
DEFAULT_STATE = pathlib.Path('/var/lib/xenlab')
#: What one lab needs while it lives: disks, logs, secrets, pids.
STATE = pathlib.Path(os.environ.get('XENLAB_STATE') or DEFAULT_STATE)
#: What only saves time: built images, virtual environments, saved data.
#: Every entry is keyed by a hash of its recipe.
CACHE = pathlib.Path(os.environ.get('XENLAB_CACHE', '/var/cache/xenlab'))
LOGS = STATE / 'log'
RUN = STATE / 'run'
SECRETS = STATE / 'secrets.json'

#: Debian's own Python, for the lab and its virtual environments.
PYTHON = '/usr/bin/python3'

#: The network namespace of labs that are not told of another one.
DEFAULT_NETNS = 'xenlab'
#: Everything of the lab that talks lives in this network namespace. Labs in
#: different ones do not meet: they share nothing but the machine.
NETNS = os.environ.get('XENLAB_NETNS') or DEFAULT_NETNS
BRIDGE = 'labbr0'
CONTROLLER_IP = '192.168.144.1'
PREFIX = 24
#: This machine itself in that network, if `xenlab node` put it there: its
#: address, its network device, and the bridge's port at the other end.
NODE_IP = '192.168.144.2'
NODE_LINK = 'xenlab0'
NODE_PORT = 'xl-node'

#: Neutron's physical network and the OVS bridge behind it, on both sides.
PHYSNET = 'physnet1'
DATA_BRIDGE = 'br-data'
LAB_NET = 'lab-net'
LAB_NET_CIDR = '10.44.0.0/24'
LAB_NET_GATEWAY = '10.44.0.1'

#: Architectures of Xen hosts, and what the names of their hosts begin with.
HOST_NAMES = {'x86_64': 'xen', 'aarch64': 'arm'}
#: The architecture that a command is about if it is not told by ``--arch``.
ARCHITECTURE = os.environ.get('XENLAB_ARCH') or 'x86_64'
#: What hosts of x86 have besides: one of labkit.arch.KINDS; empty for nothing.
KIND = os.environ.get('XENLAB_KIND', '')
#: Xen hosts of an architecture that a lab starts, and how many it may have.
HOSTS = 1
MOST_HOSTS = 4


def host_numbers(architecture: str) -> range:
    """Numbers of all the Xen hosts that an architecture may have."""
    first = list(HOST_NAMES).index(architecture) * MOST_HOSTS + 1
    return range(first, first + MOST_HOSTS)


def host_name(number: int) -> str:
    """Name of Xen host ``number``; xen1 is 1, arm1 is 5."""
    kind, index = divmod(number - 1, MOST_HOSTS)
    return f'{list(HOST_NAMES.values())[kind]}{index + 1}'


def host_ip(number: int) -> str:
    """Management address of Xen host ``number``."""
    return f'192.168.144.{10 + number}'


def tap(number: int, role: str) -> str:
    """Tap device of a Xen host; ``role`` is 'm' (management) or 'd' (data)."""
    return f'xl{number}-{role}'


def mac(number: int, role: str) -> str:
    """MAC address of a Xen host's NIC; ``role`` as for :func:`tap`."""
    return f'52:54:00:{"90" if role == "m" else "91"}:00:{10 + number:02x}'
