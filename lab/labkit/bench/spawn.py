# SPDX-License-Identifier: Apache-2.0
"""A spawn: seconds until ACTIVE and their parts, beside xl and virsh.

The other two create the very same guest, with ``xl create`` and ``virsh
create``. Then the libvirt calls of a spawn and of a delete.
"""

from __future__ import annotations

import collections
import dataclasses
import re
import statistics
import time

from labkit import config
from labkit import util
from labkit.bench import bare
from labkit.bench import base
from labkit.cloud import content

ROUNDS = 3

KINDS = ('pv', 'pvh')
#: Parts of a spawn, as the driver logs them (compute/spawn.py).
STEPS = ('plan', 'image', 'disk', 'network', 'domain', 'wait')

_SPAWN_STEP = re.compile(r'spawn step: (\w+) ([\d.]+) s')

#: Seconds after which what an operation's events lead to is done.
AFTER = 5


@dataclasses.dataclass(frozen=True)
class Spawn:
    """One spawn through Nova.

    :ivar total: seconds from the request to ACTIVE.
    :ivar steps: seconds of each of the driver's steps.
    :ivar create: seconds of libvirt's part of the last of them.
    """

    total: float
    steps: dict[str, float]
    create: float


def time_spawn(bench: base.Bench, kind: str) -> tuple[str, float]:
    """Have a server; its id, and seconds from the request to ACTIVE."""
    begin = time.monotonic()
    ident = bench.create(f'bench-{kind}', content.FLAVORS[f'xen.{kind}'][0])
    return ident, time.monotonic() - begin


def spawn(bench: base.Bench, kind: str,
          log: base.Log) -> tuple[str, Spawn]:
    """Measure one spawn; returns the server's id too."""
    log.mark()
    ident, total = time_spawn(bench, kind)
    text = log.read()
    steps = {name: float(seconds)
             for name, seconds in _SPAWN_STEP.findall(text)}
    if set(STEPS) - set(steps):
        raise util.LabError('the driver logged no spawn steps: '
                            + ' '.join(set(STEPS) - set(steps)),
                            config.LOGS / 'xen1-nova-compute.log')
    return ident, Spawn(
        total, steps, base.seconds_of(text, 'domainCreate'))


def created(guest: bare.Guest, *argv: str) -> float:
    """Seconds a command takes in dom0 to create a bare guest."""
    try:
        done = guest.host.ssh(
            ['bash', '-c', 'TIMEFORMAT=%R; time "$@" >/dev/null', 'bash',
             *argv], timeout=300)
    finally:
        guest.destroy()
    return float(done.stderr.split()[-1])


def compare(bench: base.Bench, kind: str, rounds: int,
            counts: dict[str, base.Calls]) -> dict[str, float]:
    """Median seconds of each way to the same guest, and of its parts.

    :param counts: gets the libvirt calls.
    """
    log = bench.configure()
    # The first one fetches the image and warms everything up.
    ident, _ = spawn(bench, kind, log)
    guest = bare.describe(bench.host, bench.domain(ident), f'bench-{kind}')
    time.sleep(AFTER)
    counts[f'{kind}: spawn'] = log.calls()
    log.mark()
    bench.servers.delete(ident)
    time.sleep(AFTER)
    counts[f'{kind}: delete'] = log.calls()
    spawns, seconds = [], collections.defaultdict(list)
    for count in range(1, rounds + 1):
        ident, one = spawn(bench, kind, log)
        bench.servers.delete(ident)
        spawns.append(one)
        for program, path in (('xl', guest.config), ('virsh', guest.xml)):
            seconds[f'{program} create'].append(
                created(guest, program, 'create', path))
        util.say(f'{kind}, round {count}: ACTIVE {one.total:.1f} s, '
                 + ', '.join(f'{name} {values[-1]:.1f} s'
                             for name, values in seconds.items()))
    median = statistics.median
    result = {name: median(values) for name, values in seconds.items()}
    result['ACTIVE'] = median(one.total for one in spawns)
    result['domainCreate'] = median(one.create for one in spawns)
    for step in STEPS:
        result[step] = median(one.steps[step] for one in spawns)
    result['rest'] = median(one.total - sum(one.steps.values())
                            for one in spawns)
    return result


def print_seconds(seconds: dict[str, dict[str, float]],
                  rounds: int) -> None:
    """Print the table of seconds and ratios.

    :param seconds: by kind of guest, as :func:`compare` returns them.
    """
    lines = {
        'server create to ACTIVE': ('ACTIVE', None),
        '  plan: decide, refuse': ('plan', None),
        '  image: cached': ('image', None),
        '  disk: qcow2 overlay': ('disk', None),
        '  network: plug': ('network', None),
        '  domain: define and create': ('domain', None),
        '    of it libvirt creating': ('domainCreate', None),
        '  wait: for Neutron, after that': ('wait', None),
        '  rest: API, scheduler, port': ('rest', None),
        'virsh create': ('virsh create', None),
        'xl create': ('xl create', None),
        'ACTIVE / xl create': ('ACTIVE', 'xl create'),
        'domain / xl create': ('domain', 'xl create'),
        'domain / virsh create': ('domain', 'virsh create'),
        'virsh create / xl create': ('virsh create', 'xl create')}
    base.print_table(
        f'spawn: seconds, median of {rounds}',
        [kind.upper() for kind in seconds],
        {title: [base.number(one[above] / (one[below] if below else 1), 2)
                 for one in seconds.values()]
         for title, (above, below) in lines.items()})


def measure(bench: base.Bench, rounds: int) -> None:
    """Measure spawns, and print the tables."""
    seconds: dict[str, dict[str, float]] = {}
    counts: dict[str, base.Calls] = {}
    with bare.place(bench.host):
        for kind in KINDS:
            with bench.attempt(f'spawn, {kind}'):
                try:
                    seconds[kind] = compare(bench, kind, rounds, counts)
                finally:
                    bench.remove('bench-')
    if seconds:
        print_seconds(seconds, rounds)
    base.print_calls('libvirt calls of', counts)
