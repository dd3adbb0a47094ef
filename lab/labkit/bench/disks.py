# SPDX-License-Identifier: Apache-2.0
"""Volumes: attach and detach beside xl, and how quick the disks are.

A volume is attached to a guest by Nova; then dom0's xl attaches the very thing
that Cinder keeps it in (a logical volume, a file) to the same guest. In
between the guest tries how quick it is.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
import contextlib
import dataclasses
import statistics
import time

from labkit import util
from labkit import volumes
from labkit.arch import CINDER_VOLUME
from labkit.bench import base
from labkit.bench import watch
from labkit.cloud import content

ROUNDS = 3

KIND = 'pv'
#: The guest's name of what is attached, and Xen's number of it.
DEVICE = 'xvdb'
NUMBER = 51728

#: Seconds for Cinder.
TIMEOUT = 300

_DIRECTORY = '/var/lib/nova/bench'

#: MiB of a sequential test, pages of 4 KiB of the others.
SEQUENTIAL = 64
PAGES = 256
#: Pages that are synced, each of them.
SYNCED = 64

#: For the guest's shell, which prints name, begin and end of each test. The
#: first time $writes is "first write", later "write".
#: Busybox has no fio, and no dd that syncs each block: a file system that is
#: mounted so does.
TESTS = f'''
timed() {{
    name=$1 begin=$EPOCHREALTIME
    shift
    "$@" 2>/dev/null || exit 1
    echo "$name $begin $EPOCHREALTIME"
}}
device=${{device:-/dev/{DEVICE}}}
for write in $writes; do
    timed $write dd if=/dev/zero of=$device bs=1M count={SEQUENTIAL} \\
        oflag=direct conv=notrunc,fsync
done
timed read dd if=$device of=/dev/null bs=1M count={SEQUENTIAL} iflag=direct
timed pages-read dd if=$device of=/dev/null bs=4k count={PAGES} iflag=direct
timed pages-written dd if=/dev/zero of=$device bs=4k count={PAGES} \\
    oflag=direct conv=notrunc
'''
#: It gives back nothing that was written before, and writes nothing later.
SYNCED_TEST = f'''
/usr/sbin/mke2fs -q -t ext4 -F $device \\
    -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 64M || exit 1
mount -o sync $device /mnt || exit 1
dd if=/dev/zero of=/mnt/file bs=4k count={SYNCED} 2>/dev/null
timed pages-synced dd if=/dev/zero of=/mnt/file bs=4k count={SYNCED} \\
    conv=notrunc
umount /mnt
'''
#: What each test does, and with how much of its unit.
UNITS = {'first': ('write, first', 'MiB/s', SEQUENTIAL),
         'write': ('write again', 'MiB/s', SEQUENTIAL),
         'read': ('read', 'MiB/s', SEQUENTIAL),
         'pages-read': ('read 4k', '/s', PAGES),
         'pages-written': ('write 4k', '/s', PAGES),
         'pages-synced': ('write 4k, synced', '/s', SYNCED)}

#: What the tests tell: units a second by test.
Speeds = dict[str, float]


def speeds(text: str) -> Speeds:
    """Read what the tests print."""
    found = {}
    for line in text.splitlines():
        name, begin, end = line.split()
        found[name] = UNITS[name][2] / max(float(end) - float(begin), 1e-6)
    return found


class Cinder:
    """Cinder's volumes, by the API.

    :param bench: whose client calls.
    """

    def __init__(self, bench: base.Bench):
        self._client = bench.client

    @contextlib.contextmanager
    def _thing(self, path: str, body: dict[str, object]) -> Iterator[str]:
        """Have a volume or a snapshot in the body; its id.

        :param path: of all of the kind.
        """
        kind = path.strip('/')[:-1]
        ident = self._client.call('POST', 'block-storage', path,
                                  {kind: body})[kind]['id']
        try:
            self.wait(ident, 'available', path)
            yield ident
        finally:
            self._client.call('DELETE', 'block-storage', f'{path}/{ident}')
            util.wait_for(f'{kind} to be gone', lambda: ident not in [
                each['id'] for each in self._client.call(
                    'GET', 'block-storage', path)[f'{kind}s']], TIMEOUT)

    def volume(self, kind: str) -> contextlib.AbstractContextManager[str]:
        """Have a volume of a type in the body; its id."""
        return self._thing('/volumes', {
            'name': 'bench', 'size': 1, 'volume_type': kind})

    def snapshot(self, volume: str) -> contextlib.AbstractContextManager[str]:
        """Have a snapshot of a volume in the body; its id."""
        return self._thing('/snapshots', {
            'name': 'bench', 'volume_id': volume})

    def wait(self, ident: str, status: str, path: str = '/volumes') -> None:
        """Wait until Cinder calls it so."""
        kind = path.strip('/')[:-1]

        def reached() -> bool:
            found = self._client.call('GET', 'block-storage',
                                      f'{path}/{ident}')[kind]['status']
            if found.startswith('error'):
                raise util.LabError(f'{kind} {ident} is in {found}')
            return bool(found == status)

        util.wait_for(f'{kind} to be {status}', reached, TIMEOUT)


@dataclasses.dataclass(frozen=True)
class Disk:
    """Something to attach.

    :ivar spec: for xl: format, kind of backend and what dom0 has; this target
        ends it, as all that follows is part of it.
    :ivar volume: the volume that it is; empty if it is none.
    """

    spec: str
    volume: str = ''


@contextlib.contextmanager
def lvm(bench: base.Bench, cinder: Cinder) -> Iterator[Disk]:
    """A logical volume; Nova's guests have it through iSCSI."""
    with cinder.volume('lvm') as volume:
        yield Disk('format=raw,backendtype=phy,target=/dev/xenlab-volumes/'
                   f'volume-{volume}', volume)


def _file(bench: base.Bench, volume: str, suffix: str = '') -> str:
    """The file of a volume."""
    return bench.host.ssh(['find', '/srv/volumes', '-name',
                           f'volume-{volume}{suffix}']).stdout.strip()


@contextlib.contextmanager
def nfs(bench: base.Bench, cinder: Cinder) -> Iterator[Disk]:
    """A raw file; Nova's guests have it through NFS."""
    with cinder.volume('nfs') as volume:
        yield Disk('format=raw,backendtype=qdisk,target='
                   + _file(bench, volume), volume)


@contextlib.contextmanager
def nfs_qcow2(bench: base.Bench, cinder: Cinder) -> Iterator[Disk]:
    """The same after a snapshot: a qcow2 file on the raw one."""
    with cinder.volume('nfs') as volume, cinder.snapshot(volume) as snapshot:
        yield Disk('format=qcow2,backendtype=qdisk,target='
                   + _file(bench, volume, f'.{snapshot}'), volume)


@contextlib.contextmanager
def local(bench: base.Bench, cinder: Cinder) -> Iterator[Disk]:
    """A qcow2 file such as the driver's own disks; no volume."""
    path = f'{_DIRECTORY}/local.qcow2'
    bench.host.ssh(['mkdir', '-p', _DIRECTORY])
    bench.host.ssh(['qemu-img', 'create', '-q', '-f', 'qcow2', path, '1G'])
    try:
        yield Disk(f'format=qcow2,backendtype=qdisk,target={path}')
    finally:
        bench.host.ssh(['rm', '-rf', _DIRECTORY])


#: By title: what makes the disk.
DISKS = {'lvm (phy)': lvm, 'nfs raw (qdisk)': nfs,
         'nfs qcow2 (qdisk)': nfs_qcow2, 'local qcow2 (qdisk)': local}

#: Whatever attaches and detaches.
NOVA, STATUS, LIBVIRT, XL = 'Nova', 'status', 'libvirt', 'xl'

#: Seconds of what attached or detached, by verb and that; and the speeds by
#: who attached.
Times = dict[tuple[str, str], list[float]]


class Attached:
    """A guest to which a disk is attached again and again."""

    def __init__(self, bench: base.Bench, cinder: Cinder, ident: str,
                 disk: Disk):
        self.bench = bench
        self.cinder = cinder
        self.ident = ident
        self.domain = bench.domain(ident)
        self.disk = disk
        self.times: Times = collections.defaultdict(list)
        self.speeds: dict[str, list[Speeds]] = collections.defaultdict(list)

    def _note(self, verb: str, who: str, seconds: float) -> None:
        self.times[verb, who].append(seconds)
        util.say(f'  {verb}, {who}', seconds)

    def _nova(self, log: base.Log, verb: str, sign: str, status: str) -> None:
        path = f'/servers/{self.ident}/os-volume_attachments'
        log.mark()
        with watch.watching(self.bench.host, sign, self.domain,
                            NUMBER) as seen:
            begin = time.monotonic()
            if verb == 'attach':
                self.bench.client.call('POST', 'compute', path, {
                    'volumeAttachment': {'volumeId': self.disk.volume}})
            else:
                self.bench.client.call(
                    'DELETE', 'compute', f'{path}/{self.disk.volume}')
            self.cinder.wait(self.disk.volume, status)
            told = time.monotonic() - begin
            self._note(verb, NOVA, seen.result() - begin)
        self._note(verb, STATUS, told)
        self._note(verb, LIBVIRT, log.seconds(
            f'domain{verb.capitalize()}Device'))

    def _xl(self, verb: str, sign: str, *what: str) -> None:
        self._note(verb, XL, watch.seconds(
            self.bench.host, sign, self.domain,
            ['xl', f'block-{verb}', self.domain, *what], NUMBER))

    def _try(self, who: str) -> None:
        # Only what nobody has written before is allocated meanwhile.
        writes = 'write' if self.speeds else 'first write'
        found = speeds(self.bench.servers.ssh(
            self.ident, f'writes="{writes}"\n{TESTS}{SYNCED_TEST}',
            timeout=TIMEOUT))
        self.speeds[who].append(found)
        util.say(f'  {who}: ' + ', '.join(
            f'{UNITS[name][0]} {value:.1f} {UNITS[name][1]}'
            for name, value in found.items()))

    def once(self, log: base.Log) -> None:
        """Attach and detach it by each, and have the guest try it."""
        if self.disk.volume:
            self._nova(log, 'attach', watch.DISK, 'in-use')
            try:
                self._try(NOVA)
            finally:
                self._nova(log, 'detach', watch.NO_DISK, 'available')
        self._xl('attach', watch.DISK,
                 f'vdev={DEVICE},access=rw,{self.disk.spec}')
        try:
            self._try(XL)
        finally:
            self._xl('detach', watch.NO_DISK, DEVICE)


def print_times(times: dict[str, Times], rounds: int) -> None:
    """Print the table of attach and detach.

    :param times: by the disk's title.
    """
    def cells(one: Times, verb: str) -> list[str]:
        nova, status, libvirt, xl = (
            statistics.median(one[verb, who]) if one.get((verb, who)) else None
            for who in (NOVA, STATUS, LIBVIRT, XL))
        return [*map(base.number, (nova, status, libvirt)),
                base.number(xl), base.ratio(nova, xl)]

    base.print_table(
        f'Attach and detach, a running {KIND.upper()} guest: seconds, median '
        f'of up to {rounds}.\n'
        "Until the guest's kernel has connected the disk, or Xenstore knows "
        'it no more.\n'
        '"status": until Cinder says in-use or available. "libvirt": its call '
        'alone.\n'
        'xl attaches what is behind the volume: no Cinder, no iSCSI, no NFS.\n'
        'disk',
        (NOVA, STATUS, LIBVIRT, XL, 'Nova/xl'),
        {f'{title}: {verb}': cells(one, verb)
         for title, one in times.items() for verb in ('attach', 'detach')})


def print_speeds(found: dict[str, list[Speeds]], rounds: int) -> None:
    """Print the tables of speeds, and of how they compare.

    :param found: by what was tried; the first is what others are compared
        with.
    """
    def median(one: list[Speeds], test: str) -> float | None:
        values = [each[test] for each in one if test in each]
        return statistics.median(values) if values else None

    columns = [f'{title}, {unit}' for title, unit, _ in UNITS.values()]
    base.print_table(
        f'Disks in the guest: median of up to {rounds}; dd, one request at a '
        'time.\n'
        f'{SEQUENTIAL} MiB by blocks of 1 MiB, {PAGES} pages of 4 KiB (direct)'
        f', {SYNCED} pages synced each.\n'
        "Behind a qdisk is dom0's page cache: what was written is read from "
        'memory.\n'
        'by xl: what dom0 has; by Nova: the same through iSCSI or NFS.\n'
        'disk', columns,
        {title: [base.number(median(one, test)) for test in UNITS]
         for title, one in found.items()})
    first, *_ = found.values()
    base.print_table(
        f'The same as multiples of "{next(iter(found))}"', columns,
        {title: [base.ratio(median(one, test), median(first, test))
                 for test in UNITS] for title, one in found.items()})


@contextlib.contextmanager
def serving(bench: base.Bench) -> Iterator[None]:
    """Have cinder-volume run in the body; not after it, if not before."""
    active = bench.host.ssh(['systemctl', 'is-active', CINDER_VOLUME],
                            check=False).stdout.strip() == 'active'
    waiting = bench.host.ssh(['test', '-e', volumes.CINDER_CONF],
                             check=False).returncode
    volumes.start(bench.host, bench.cloud)
    try:
        yield
    finally:
        if waiting or not active:
            volumes.stop(bench.host)


def measure(bench: base.Bench, rounds: int) -> None:
    """Measure each kind of disk; print the tables."""
    log, cinder = bench.configure(), Cinder(bench)
    times: dict[str, Times] = {}
    found: dict[str, list[Speeds]] = {}
    with serving(bench), bench.server(
            'bench-volumes', content.FLAVORS[f'xen.{KIND}'][0]) as ident:
        bench.servers.wait_for_ssh(ident)
        for title, make in DISKS.items():
            with bench.attempt(f'volumes, {title}'), \
                    make(bench, cinder) as disk:
                attached = Attached(bench, cinder, ident, disk)
                times[title] = attached.times
                for number in range(1, rounds + 1):
                    util.say(f'{title}, round {number}')
                    attached.once(log)
                    for who, values in attached.speeds.items():
                        found[f'{title}, by {who}'] = values
    if times:
        print_times(times, rounds)
    if found:
        print_speeds(found, rounds)
