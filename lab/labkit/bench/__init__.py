# SPDX-License-Identifier: Apache-2.0
"""``xenlab bench``: what Nova and our driver add to what Xen takes.

Each part is measured on the lab's host, and beside it what xl and virsh do
without Nova, in the same rounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import contextlib
import subprocess

from labkit import config
from labkit import util
from labkit.bench import against
from labkit.bench import base
from labkit.bench import disks
from labkit.bench import operations
from labkit.bench import periodic
from labkit.bench import snapshot
from labkit.bench import spawn
from labkit.cloud import Cloud
from labkit.host import hosts

#: In the order in which they run: nova-compute is configured anew only for
#: the last.
PARTS = {'spawn': spawn, 'operations': operations, 'snapshot': snapshot,
         'volumes': disks, 'periodic': periodic}


def bench(args: argparse.Namespace) -> int:
    """Time Nova beside bare xl and virsh, and count libvirt calls.

    Exit 1 if something was not measured; the rest is printed all the same.
    """
    commit = args.against and against.resolve(args.against)
    if commit and args.parts not in ([], ['spawn']):
        raise util.LabError('--against is for spawn alone')
    if subprocess.run([config.LAB / 'xenlab', 'up'],
                      check=False).returncode:
        raise util.LabError('the lab does not come up', config.LOGS)
    with util.Lock(), contextlib.closing(
            base.Bench(Cloud(), hosts()[0])) as run:
        if commit:
            with run.attempt('spawn'), util.step('bench: spawn by turns'):
                against.measure(run, args.rounds or against.ROUNDS, commit)
        for name, part in PARTS.items():
            if not commit and (not args.parts or name in args.parts):
                with run.attempt(name), util.step(f'bench: {name}'):
                    part.measure(run, args.rounds or part.ROUNDS)
    if run.failed:
        print(f'\nnot measured: {"; ".join(run.failed)}')
    return 1 if run.failed else 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'{text}: at least 1')
    return number


def _part(text: str) -> str:
    if text not in PARTS:
        raise argparse.ArgumentTypeError(
            f'{text}: there is {", ".join(PARTS)}')
    return text


def add_parsers(
    add: Callable[[str, Callable[..., int]], argparse.ArgumentParser],
) -> None:
    """Give the command line ``bench``.

    :param add: makes a command of a name and what it calls.
    """
    command = add('bench', bench)
    command.add_argument(
        'parts', nargs='*', metavar='PART', type=_part,
        help=f'what to measure (default: all): {" ".join(PARTS)}')
    command.add_argument(
        '--rounds', type=_positive,
        help='how often each thing is measured (default: '
        + ', '.join(f'{name} {part.ROUNDS}'
                    for name, part in PARTS.items()) + ')')
    command.add_argument(
        '--against', metavar='COMMIT',
        help='for spawn alone: measure the driver of this commit and the '
        f'checkout\'s by turns (--rounds: how many of each, {against.ROUNDS} '
        'by default)')
