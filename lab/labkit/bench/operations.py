# SPDX-License-Identifier: Apache-2.0
"""Stop, start, reboot, suspend, resume and resize, beside xl and virsh.

The other two do it to the same guest once more (:mod:`labkit.bench.bare`), and
the same sign in dom0 tells when each has done it (:mod:`labkit.bench.watch`).
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
import contextlib
import dataclasses
import functools
import statistics
import time
from typing import Any

from labkit import util
from labkit.bench import bare
from labkit.bench import base
from labkit.bench import watch
from labkit.cloud import content

ROUNDS = 3

KINDS = ('pv', 'pvh')

#: Seconds after an operation: the guest's init answers a request, and what
#: the operation's events lead to is done.
_AFTER = 5


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation, by each program.

    :ivar sign: that it is done; None if nothing becomes of the domain.
    :ivar action: Nova's; ``arguments`` are its.
    :ivar status: what Nova calls the server then.
    :ivar xl: a line as of :meth:`bare.Guest.command`; empty if xl has nothing
        like it. ``virsh`` alike.
    """

    sign: str | None
    action: str
    status: str
    arguments: dict[str, Any] | None = None
    xl: str = ''
    virsh: str = ''


#: Between an end and a new start, as the driver waits.
_CLOSED = f' && {{ {bare.WAIT_FOR_QEMU}; }} && '

#: In the order in which a guest goes through them, off at first.
OPERATIONS = {
    'start': Operation(
        watch.BOOTED, 'os-start', 'ACTIVE',
        xl='xl create "$0.cfg"', virsh='virsh start "$1"'),
    'reboot, soft': Operation(
        watch.BOOTED, 'reboot', 'ACTIVE', {'type': 'SOFT'},
        xl='xl reboot "$1"', virsh='virsh reboot "$1"'),
    'reboot, hard': Operation(
        watch.BOOTED, 'reboot', 'ACTIVE', {'type': 'HARD'},
        xl=f'xl destroy "$1"{_CLOSED}xl create "$0.cfg"',
        virsh=f'virsh destroy "$1"{_CLOSED}virsh start "$1"'),
    'suspend': Operation(
        watch.GONE, 'suspend', 'SUSPENDED',
        xl='xl save "$1" "$0.save"', virsh='virsh managedsave "$1"'),
    'resume': Operation(
        watch.CONNECTED, 'resume', 'ACTIVE',
        xl='xl restore "$0.save"', virsh='virsh start "$1"'),
    'resize': Operation(watch.BOOTED, 'resize', 'VERIFY_RESIZE'),
    'resize, confirm': Operation(None, 'confirmResize', 'ACTIVE'),
    'stop': Operation(
        watch.GONE, 'os-stop', 'SHUTOFF',
        xl='xl shutdown -w "$1"', virsh='virsh shutdown "$1"')}

#: What the columns are; the first is what Nova's API says, whenever the
#: guest has come so far.
STATUS, NOVA, VIRSH, XL = 'status', 'Nova', 'virsh', 'xl'

#: Seconds by operation and column.
Times = dict[str, dict[str, list[float]]]


class Guest:
    """A server, and the bare guest like it.

    :param flavors: those between which it is resized; it has the first.
    """

    def __init__(self, bench: base.Bench, ident: str, kind: str,
                 flavors: list[str]):
        self.bench = bench
        self.ident = ident
        self.kind = kind
        self.flavors = flavors
        self.domain = bench.domain(ident)
        self.bare = bare.describe(bench.host, self.domain, f'bench-{kind}')
        self.times: Times = collections.defaultdict(
            functools.partial(collections.defaultdict, list))
        self.calls: dict[str, base.Calls] = {}

    def _note(self, name: str, column: str, seconds: float) -> None:
        self.times[name][column].append(seconds)
        util.say(f'  {self.kind}, {column}: {name}', seconds)

    def through_nova(self, log: base.Log) -> None:
        """Have Nova do all of it once, and count the libvirt calls."""
        for name, operation in OPERATIONS.items():
            log.mark()
            self._by_nova(name, operation)
            time.sleep(_AFTER)
            self.calls[name] = log.calls()

    def _by_nova(self, name: str, operation: Operation) -> None:
        arguments = operation.arguments
        if operation.action == 'resize':
            self.flavors.reverse()
            arguments = {'flavorRef': self.flavors[0]}
        servers = self.bench.servers
        with contextlib.ExitStack() as stack:
            seen = stack.enter_context(watch.watching(
                self.bench.host, operation.sign, self.domain)
            ) if operation.sign else None
            begin = time.monotonic()
            servers.act(self.ident, operation.action, arguments)
            servers.wait(self.ident, operation.status)
            told = time.monotonic() - begin
            done = seen.result() - begin if seen else told
        self._note(name, STATUS, told)
        self._note(name, NOVA, done)

    def bare_by(self, program: str) -> None:
        """Have xl or virsh do all that it can once."""
        for name, operation in OPERATIONS.items():
            line = operation.xl if program == XL else operation.virsh
            if not line or not operation.sign:
                continue
            self._note(name, program, watch.seconds(
                self.bench.host, operation.sign, self.bare.name,
                self.bare.command(line)))
            time.sleep(_AFTER)
            if operation.sign == watch.GONE:
                self.bare.closed()

    def measure(self, rounds: int) -> None:
        """Do all of it so often; the server is off before and after."""
        log = self.bench.configure()
        # Its first boot makes keys, and lets its file system grow.
        watch.seconds(self.bench.host, watch.BOOTED, self.bare.name,
                      ['xl', 'create', self.bare.config])
        time.sleep(3 * _AFTER)
        self.bare.run('xl shutdown -w "$1"')
        for number in range(1, rounds + 1):
            util.say(f'{self.kind}, round {number}')
            self.through_nova(log)
            self.bare_by(XL)
            with self._defined():
                self.bare_by(VIRSH)

    @contextlib.contextmanager
    def _defined(self) -> Iterator[None]:
        self.bare.run('virsh define "$0.xml"')
        try:
            yield
        finally:
            self.bare.destroy()
            self.bare.run('virsh undefine --managed-save "$1"')


@contextlib.contextmanager
def guest_of(bench: base.Bench, kind: str) -> Iterator[Guest]:
    """Have a server that is off in the body, and a bare guest."""
    flavors = [content.FLAVORS[f'xen.{kind}'][0]]
    with contextlib.ExitStack() as stack:
        # Of the same size: the rounds are alike, and a disk never shrinks.
        flavors.append(stack.enter_context(bench.flavor(kind)))
        ident = stack.enter_context(
            bench.server(f'bench-{kind}', flavors[0]))
        # Its first boot, as of the bare one.
        bench.servers.wait_for_ssh(ident)
        guest = Guest(bench, ident, kind, flavors)
        stack.callback(guest.bare.destroy)
        bench.servers.act(ident, 'os-stop')
        bench.servers.wait(ident, 'SHUTOFF')
        yield guest


def rows(times: Times) -> dict[str, list[str]]:
    """The table's rows: medians, and how often one goes into the other."""
    def median(name: str, column: str) -> float | None:
        values = times.get(name, {}).get(column)
        return statistics.median(values) if values else None

    found = {}
    for name in OPERATIONS:
        status, nova, virsh, xl = (
            median(name, column) for column in (STATUS, NOVA, VIRSH, XL))
        if name == 'resize':
            # What it takes at least: the guest goes, and comes back.
            parts = [(median('stop', column), median('start', column))
                     for column in (VIRSH, XL)]
            virsh, xl = (stop + start if stop and start else None
                         for stop, start in parts)
        found[name] = [*map(base.number, (status, nova, virsh, xl)),
                       base.ratio(nova, virsh), base.ratio(nova, xl),
                       base.ratio(virsh, xl)]
    return found


def print_seconds(kind: str, times: Times, rounds: int) -> None:
    """Print the table of a kind of guest."""
    base.print_table(
        f'Operations of a {kind.upper()} guest: seconds, median of up to '
        f'{rounds}.\n'
        'From the request, or the begin of the command, until dom0 sees:\n'
        "  start, reboots, resize  the new domain's first packet "
        '(its init runs)\n'
        '  resume                  its network card connected\n'
        '  suspend, stop           the domain gone\n'
        '"status": until Nova says ACTIVE, SHUTOFF or whatever it is then.\n'
        'Hard reboot of virsh and xl: destroy and start. Beside resize (same\n'
        'host, a flavor of the same size): the sum of their stop and start.\n'
        "Nova's guest has a network of Neutron's, theirs a bridge alone.\n"
        'operation',
        (STATUS, NOVA, VIRSH, XL, 'Nova/virsh', 'Nova/xl', 'virsh/xl'),
        rows(times))


def measure(bench: base.Bench, rounds: int) -> None:
    """Measure the operations of each kind of guest; print the tables."""
    with bare.place(bench.host):
        for kind in KINDS:
            with bench.attempt(f'operations, {kind}'), \
                    guest_of(bench, kind) as guest:
                # What there is after a failure is shown, too.
                with bench.attempt(f'operations, {kind}: a round'):
                    guest.measure(rounds)
                print_seconds(kind, guest.times, rounds)
                base.print_calls(f'libvirt calls, {kind.upper()}',
                                 guest.calls)
