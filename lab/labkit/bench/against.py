# SPDX-License-Identifier: Apache-2.0
"""Spawns with the driver of another commit, and with this checkout's.

The two take turns, as the machine's own speed changes from one hour to the
next: each turn puts a driver into dom0 and restarts nova-compute. As the speed
changes within minutes too, each spawn is followed by ``xl create`` of the same
guest.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
import dataclasses
import statistics
import time

from labkit import compute
from labkit import config
from labkit import util
from labkit.bench import bare
from labkit.bench import base
from labkit.bench import spawn

#: Turns of each driver.
ROUNDS = 3

#: Spawns of each kind of guest in a turn.
SPAWNS = 4

#: What the columns call this checkout's driver.
THIS = 'this'


@dataclasses.dataclass
class Side:
    """What was measured with one of the two drivers.

    :ivar commit: of the driver; None for this checkout's.
    :ivar seconds: from the request to ACTIVE, by kind of guest, without the
        first spawns.
    :ivar bare: of ``xl create`` after each of them.
    :ivar first: those of the first spawn after each start of nova-compute.
    :ivar calls: the libvirt calls of a spawn, by kind of guest.
    """

    commit: str | None
    seconds: dict[str, list[float]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(list))
    bare: dict[str, list[float]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(list))
    first: list[float] = dataclasses.field(default_factory=list)
    calls: dict[str, base.Calls] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the columns call it."""
        return self.commit[:7] if self.commit else THIS


def resolve(name: str) -> str:
    """Return the full name of a commit.

    :param name: anything that git takes for a commit.
    :raises LabError: there is no such commit in this checkout.
    """
    done = util.run(['git', 'rev-parse', '--quiet', '--verify',
                     '--end-of-options', f'{name}^{{commit}}'],
                    cwd=config.CHECKOUT, check=False)
    if done.returncode:
        raise util.LabError(f'{name}: this checkout has no such commit')
    return str(done.stdout.strip())


def turns(sides: tuple[Side, Side], rounds: int) -> Iterator[Side]:
    """Yield whose turn it is: A B, B A, A B ...

    A machine that becomes slower is so for both.
    """
    for count in range(rounds):
        yield from sides if count % 2 == 0 else reversed(sides)


def take(bench: base.Bench, side: Side) -> None:
    """Have one turn."""
    with util.step(f'driver: {side.name}'):
        compute.install_driver(bench.host, bench.cloud.venv, side.commit)
        compute.restart(bench.host, bench.cloud)
    log = base.Log(bench.host)
    first = True
    for kind in spawn.KINDS:
        for count in range(SPAWNS):
            log.mark()
            ident, seconds = spawn.time_spawn(bench, kind)
            if count == 0:
                guest = bare.describe(
                    bench.host, bench.domain(ident), f'bench-{kind}')
            if count == SPAWNS - 1 and kind not in side.calls:
                time.sleep(spawn.AFTER)
                side.calls[kind] = log.calls()
            bench.servers.delete(ident)
            if first:
                first = False
                side.first.append(seconds)
                util.say(f'{side.name}, {kind}: ACTIVE {seconds:.1f} s, the '
                         'first after the start')
                continue
            beside = spawn.created(guest, 'xl', 'create', guest.config)
            side.seconds[kind].append(seconds)
            side.bare[kind].append(beside)
            util.say(f'{side.name}, {kind}: ACTIVE {seconds:.1f} s, '
                     f'xl create {beside:.1f} s')


def print_result(sides: tuple[Side, Side], rounds: int) -> None:
    """Print the table, then each figure."""
    columns = [(kind, side) for kind in spawn.KINDS for side in sides
               if side.seconds[kind]]
    rows: dict[str, list[str]] = {
        title: [base.number(function(side.seconds[kind]))
                for kind, side in columns]
        for title, function in (
            ('median', statistics.median), ('fastest', min),
            ('slowest', max))}
    rows['xl create, median'] = [
        base.number(statistics.median(side.bare[kind]))
        for kind, side in columns]
    rows['ACTIVE / xl create, median of each pair'] = [
        base.number(statistics.median(
            one / beside for one, beside in zip(
                side.seconds[kind], side.bare[kind], strict=True)), 2)
        for kind, side in columns]
    base.print_table(
        f'server create to ACTIVE: seconds, {rounds} turns of each driver',
        [f'{kind.upper()} {side.name}' for kind, side in columns], rows)
    width = max(len(side.name) for side in sides)
    print('\nin order')
    for kind, side in columns:
        print(f'{kind:<5} {side.name:<{width}}  ' + ' '.join(
            f'{value:5.1f}' for value in side.seconds[kind]))
    for side in sides:
        print(f'first {side.name:<{width}}  ' + ' '.join(
            f'{value:5.1f}' for value in side.first)
            + '  after each start of nova-compute, PV')
    base.print_calls('libvirt calls of a spawn', {
        f'{kind} {side.name}': side.calls[kind]
        for kind in spawn.KINDS for side in sides if kind in side.calls})


def measure(bench: base.Bench, rounds: int, commit: str) -> None:
    """Measure, and print the result.

    :param rounds: turns of each driver.
    :param commit: as :func:`resolve` returns it.
    """
    sides = (Side(commit), Side(None))
    bench.configure()
    try:
        with bare.place(bench.host):
            for side in turns(sides, rounds):
                with bench.attempt(f'a turn of {side.name}'):
                    try:
                        take(bench, side)
                    finally:
                        bench.remove('bench-')
    finally:
        # It starts when the bench is closed.
        with util.step('driver: this checkout\'s'):
            compute.install_driver(bench.host, bench.cloud.venv)
    print_result(sides, rounds)
