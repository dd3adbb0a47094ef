# SPDX-License-Identifier: Apache-2.0
"""Nova's periodic tasks: their libvirt calls, with one guest and with many."""

from __future__ import annotations

import contextlib

from labkit import util
from labkit.bench import base
from labkit.cloud import content

ROUNDS = 1

#: Guests that they have to look after.
MANY = 10

#: The first task of a round.
_ROUND = 'Running periodic task ComputeManager.update_available_resource'
#: Seconds between two rounds of the tasks, all of them alike.
_INTERVAL = 60
#: Every periodic task runs once in each round.
_CONFIGURATION = f"""\
[DEFAULT]
debug = true
sync_power_state_interval = {_INTERVAL}
heal_instance_info_cache_interval = {_INTERVAL}
update_resources_interval = {_INTERVAL}
running_deleted_instance_poll_interval = {_INTERVAL}
[image_cache]
manager_interval = {_INTERVAL}
"""


def one_round(log: base.Log) -> base.Calls:
    """The libvirt calls of one round."""
    log.mark()

    def whole() -> str:
        parts = log.read().split(_ROUND)
        return parts[1] if len(parts) > 2 else ''

    return base.calls(util.wait_for(
        "a round of Nova's periodic tasks", whole, 3 * _INTERVAL + 30,
        interval=3))


def count(bench: base.Bench, log: base.Log) -> dict[str, base.Calls]:
    """The libvirt calls of a round, with few guests and many.

    Fewer than many if the host has no place for so many.
    """
    with contextlib.ExitStack() as stack:
        idents: list[str] = []
        stack.callback(lambda: bench.servers.delete(*idents))
        counts = {}
        for number in range(1, MANY + 1):
            ident = bench.servers.create(
                f'bench-{number}', bench.image,
                content.FLAVORS['m1.nano'][0])
            idents.append(ident)
            try:
                bench.servers.wait(ident)
            except util.LabError as error:
                util.say(f'no more than {number - 1} guests: {error}')
                bench.servers.delete(idents.pop())
                break
            if number == 1:
                counts['1 guest'] = one_round(log)
        counts[f'{len(idents)} guests'] = one_round(log)
    return counts


def measure(bench: base.Bench, rounds: int) -> None:
    """Count the calls, and print the table; more rounds tell no more."""
    counts = count(bench, bench.configure(_CONFIGURATION))
    base.print_calls('libvirt calls of a round of periodic tasks', counts)
