# SPDX-License-Identifier: Apache-2.0
"""Volumes come and go many times, and dom0 stays as it was."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent import futures
import shlex
import time
from typing import Any

from labkit import util
from tests.gate import base
from tests.gate import guest as guest_lib
from tests.gate import test_volumes

#: What may come and go with nothing being lost, such as a connection to the
#: message queue. A loss in each of 200 cycles does not hide in it.
SLACK = {'files of nova-compute': 10, 'threads of nova-compute': 10,
         'files of libvirtd': 10, 'files of xenstored': 10}

#: Of what an attached volume has some more: what is not counted right would
#: otherwise always be as before.
GROWING = ('iSCSI sessions', 'names in by-path', 'names in /run/xen44',
           'nodes of XenStore', 'event channels', 'event channels with dom0')

#: A line for each kind of thing: its name, a tab, how many there are.
_SCRIPT = r'''
count() { printf '%s\t%s\n' "$1" "$(wc -l)"; }
files() { for pid; do ls "/proc/$pid/fd"; done 2>/dev/null; }
nova=/sys/fs/cgroup/system.slice/nova-compute.service
files $(cat $nova/cgroup.procs) | count 'files of nova-compute'
cat $nova/cgroup.threads | count 'threads of nova-compute'
files $(systemctl show -P MainPID libvirtd) | count 'files of libvirtd'
files $(pgrep -x 'o?xenstored') | count 'files of xenstored'
dmsetup ls 2>/dev/null | grep '(' | count 'devices of device-mapper'
iscsiadm -m session 2>/dev/null | count 'iSCSI sessions'
ls /dev/disk/by-path | count 'names in by-path'
find /run/xen44 -mindepth 1 | count 'names in /run/xen44'
losetup --list --noheadings | count 'loop devices'
for name in $names; do
    domid=$(xl domid "$name")
    xenstore-ls -f | grep -E "/$domid(/| )" | count "$name: nodes of XenStore"
    # Debian does not have it on the path.
    /usr/lib/xen*/bin/lsevtchn 0 | grep "Remote Domain $domid," |
        count "$name: event channels with dom0"
    /usr/lib/xen*/bin/lsevtchn "$domid" | count "$name: event channels"
done
'''


class VolumesOften(test_volumes.VolumeCase):
    """Guests, each with a volume of its own.

    :cvar guests: how many.
    :cvar cycles: how often each volume is attached and detached.
    :cvar look: after how many of them each to look at dom0.
    """

    guests = 2
    cycles = 100
    look = 25

    def counts(self, guests: Sequence[guest_lib.Guest]) -> dict[str, int]:
        """How many things of each kind dom0 and the guests have open."""
        names = shlex.quote(' '.join(guest.domain for guest in guests))
        said = self.host.ssh(['sh', '-s'], input=f'names={names}{_SCRIPT}')
        return {kind: int(number) for kind, number in
                (line.split('\t') for line in said.stdout.splitlines())}

    def cycle(self, guest: guest_lib.Guest, volume: Any, count: int) -> None:
        """Attach, have the guest see it, detach; so many times."""
        for _ in range(count):
            self.attach(guest, volume)
            self.wait_for_size(guest, test_volumes.GIB)
            self.detach(guest, volume)
            self.wait_until_gone(guest)

    def check_counts(self, guest: guest_lib.Guest, volume: Any,
                     before: dict[str, int]) -> None:
        """The counts tell whether a guest has its volume.

        :param before: those of a time at which it has none.
        """
        self.attach(guest, volume)
        self.wait_for_size(guest, test_volumes.GIB)
        now = self.counts([guest])
        self.detach(guest, volume)
        self.wait_until_gone(guest)
        for kind in SLACK:
            self.assertGreater(before[kind], 0, kind)
        for kind, number in now.items():
            if kind.endswith(GROWING):
                self.assertGreater(number, before[kind], kind)

    @base.slow
    def test_cycles(self) -> None:
        guests = [self.running() for _ in range(self.guests)]
        volumes = [self.volume() for _ in guests]

        def cycle_all(count: int) -> None:
            with futures.ThreadPoolExecutor(self.guests) as pool:
                # Raises what one of them has raised.
                list(pool.map(self.cycle, guests, volumes,
                              [count] * self.guests))

        # What is started, connected or made with the first one stays.
        cycle_all(2)
        before = self.counts(guests)
        util.say(f'  before: {before}')
        self.check_counts(guests[0], volumes[0], before)
        begin = time.monotonic()
        for done in range(self.look, self.cycles + 1, self.look):
            cycle_all(self.look)
            total = self.guests * done
            util.say(f'  {total} cycles, '
                     f'{(time.monotonic() - begin) / total:.1f} s each: '
                     f'{self.counts(guests)}')

        more: dict[str, str] = {}

        def as_before() -> bool:
            more.clear()
            for kind, number in self.counts(guests).items():
                if number > before[kind] + SLACK.get(kind, 0):
                    more[kind] = f'{before[kind]} to {number}'
            return not more

        # Some go a little after the volume is free.
        try:
            util.wait_for(f'dom0 to be as before {total} cycles', as_before,
                          test_volumes.TIMEOUT, interval=5)
        except util.LabError:
            self.fail(f'{total} cycles left something: {more}')
