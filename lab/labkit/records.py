# SPDX-License-Identifier: Apache-2.0
"""Records that a guest writes without end: how long its writing pauses."""

from __future__ import annotations

from collections.abc import Iterable
import itertools

#: Where they are in the guest.
FILE = '/root/records'

#: Writes numbered records, each on the disk before the next, with the time
#: since boot in seconds.
WRITER = rf'''
rm -f {FILE}
n=0
while :; do
    n=$((n + 1))
    read -r up rest < /proc/uptime
    echo "$n $up" >> {FILE}
    sync
done
'''

#: Commands of the guest's shell: begin to write, and end it.
START = (f"cat > /root/writer <<'END'\n{WRITER}END\n"
         'sh /root/writer >/dev/null 2>&1 & echo $! > /root/pid')
STOP = 'kill $(cat /root/pid)'

#: Number and time of a record.
Record = tuple[int, float]


def parse(text: str) -> list[Record]:
    """The records of a file."""
    return [(int(number), float(when)) for number, when in
            (line.split() for line in text.splitlines())]


def longest(records: Iterable[Record]) -> float:
    """Seconds of the longest pause between two records."""
    return max((later - earlier for (_, earlier), (_, later)
                in itertools.pairwise(records)), default=0.0)
