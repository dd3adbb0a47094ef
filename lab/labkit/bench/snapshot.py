# SPDX-License-Identifier: Apache-2.0
"""A snapshot of a running guest: for how long it holds up what it writes.

The guest tells by itself: it writes records without end, each on the disk
before the next (:mod:`labkit.records`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time

from labkit import records
from labkit import util
from labkit.bench import base

ROUNDS = 1

KIND = 'pv'
#: GiB of the root disks.
SIZES = (1, 5, 20)
#: MiB that the guest writes to each before, which do not compress: most of
#: the smallest disk. dom0 has them twice while it makes a snapshot.
DATA = 700

#: Seconds that the guest writes records without a snapshot.
IDLE = 60
#: Records to pass over: the first ones come while the writer starts.
FIRST = 5

#: Seconds for the guest to write the data, and for an image of them.
DATA_TIMEOUT = 1200
IMAGE_TIMEOUT = 3600

#: The disk has as many different clusters as the source has, each of which
#: is compressed by itself. 4 MiB of /dev/urandom are enough of them.
_FILL = f'''
dd if=/dev/urandom of=/tmp/block bs=1M count=4 2>/dev/null
n=0
while [ $n -lt {DATA // 4} ]; do
    cat /tmp/block
    n=$((n + 1))
done > /root/data
rm /tmp/block
sync
'''

MIB = 1024 ** 2


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """One snapshot.

    :ivar seconds: from the request until Glance has the image.
    :ivar size: bytes of the image.
    :ivar idle: seconds of the longest pause before.
    :ivar hold: seconds of the longest pause while it was made.
    :ivar usual: seconds between two records, the median of those before.
    """

    seconds: float
    size: int
    idle: float
    hold: float
    usual: float


def take(bench: base.Bench, ident: str) -> tuple[float, int]:
    """Make an image of a server and delete it.

    :returns: seconds that it took, and the image's bytes.
    """
    def image() -> dict[str, str]:
        found: dict[str, str] = bench.client.call(
            'GET', 'image', f'/v2/images/{made}')
        return found

    begin = time.monotonic()
    made = bench.servers.act(
        ident, 'createImage', {'name': 'bench'})['image_id']
    try:
        util.wait_for('image', lambda: image()['status'] == 'active',
                      IMAGE_TIMEOUT, interval=1)
        took = time.monotonic() - begin
        size = int(image()['size'])
    finally:
        # Nova deletes one that it cannot make.
        with contextlib.suppress(util.LabError):
            bench.client.call('DELETE', 'image', f'/v2/images/{made}')
    bench.servers.wait(ident)
    return took, size


def one(bench: base.Bench, ident: str) -> Snapshot:
    """Measure one snapshot of a server."""
    def written() -> list[records.Record]:
        return records.parse(bench.servers.ssh(
            ident, f'cat {records.FILE}', check=False))

    bench.servers.ssh(ident, records.START)
    try:
        time.sleep(IDLE)
        before = len(written())
        seconds, size = take(bench, ident)
        found = written()
    finally:
        bench.servers.ssh(ident, records.STOP, check=False)
    quiet = found[FIRST:before]
    if len(quiet) < 2:
        raise util.LabError(f'the guest wrote {before} records in {IDLE} s')
    return Snapshot(
        seconds, size, records.longest(quiet),
        records.longest(found[before - 1:]),
        (quiet[-1][1] - quiet[0][1]) / (len(quiet) - 1))


def prepare(bench: base.Bench, ident: str, size: int) -> None:
    """Have the guest write its data, once its file system has grown."""
    servers = bench.servers
    servers.wait_for_ssh(ident)
    util.wait_for(
        f'a file system of {size} GiB',
        lambda: not servers.ssh(ident, 'pidof resize2fs', check=False),
        DATA_TIMEOUT, interval=5)
    with util.step(f'snapshot, {size} GiB: {DATA} MiB of data'):
        servers.ssh(ident, _FILL, timeout=DATA_TIMEOUT)


def of_size(bench: base.Bench, size: int, rounds: int) -> list[Snapshot]:
    """Measure snapshots of a guest with a disk of so many GiB."""
    found = []
    with bench.flavor(KIND, size) as flavor, \
            bench.server(f'bench-{size}', flavor) as ident:
        prepare(bench, ident, size)
        for number in range(1, rounds + 1):
            snapshot = one(bench, ident)
            found.append(snapshot)
            util.say(f'{size} GiB, round {number}: snapshot '
                     f'{snapshot.seconds:.0f} s, longest pause '
                     f'{snapshot.hold:.2f} s, {snapshot.idle:.2f} s before')
    return found


def row(found: list[Snapshot]) -> list[str]:
    """The table's cells of one size: medians, and the longest of pauses."""
    def milliseconds(seconds: float) -> str:
        return base.number(1000 * seconds, 0)

    median = statistics.median
    return [
        str(DATA),
        base.number(median(each.seconds for each in found), 0),
        base.number(median(each.size for each in found) / MIB, 0),
        milliseconds(median(each.usual for each in found)),
        milliseconds(max(each.idle for each in found)),
        milliseconds(max(each.hold for each in found))]


def measure(bench: base.Bench, rounds: int) -> None:
    """Measure snapshots of disks of each size; print the table."""
    bench.configure()
    rows: dict[str, list[str]] = {}
    for size in SIZES:
        with bench.attempt(f'snapshot, {size} GiB'):
            found = of_size(bench, size, rounds)
            rows[f'{size} GiB'] = row(found)
    base.print_table(
        f'Snapshots of a running {KIND.upper()} guest, {rounds} of each.\n'
        'data: MiB that the guest wrote before, which do not compress; the\n'
        '  rest of the disk is empty. image: MiB in Glance.\n'
        'Milliseconds between two records that the guest writes without end,\n'
        f'each on its disk before the next: usual, longest in {IDLE} s before,'
        '\nlongest from the request until Glance has the image.\n'
        'root disk',
        ('data', 'seconds', 'image', 'usual', 'longest before',
         'longest meanwhile'), rows)
