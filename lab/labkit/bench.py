# SPDX-License-Identifier: Apache-2.0
"""``xenlab bench``: what Nova and our driver add to what Xen takes.

In one run, on the lab's host: seconds from the request to ACTIVE and their
parts, beside ``xl create`` and ``virsh create`` of the very same guest; then
the libvirt calls that each operation makes.
"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import json
import re
import statistics
import subprocess
import time
from xml.etree import ElementTree

from labkit import compute
from labkit import config
from labkit import images
from labkit import util
from labkit.cloud import Cloud
from labkit.cloud import content
from labkit.host import XenHost
from labkit.host import hosts
from labkit.servers import Servers

KINDS = ('pv', 'pvh')
#: Parts of a spawn, as the driver logs them (compute/spawn.py).
STEPS = ('plan', 'image', 'disk', 'network', 'domain')
#: Guests that the periodic tasks have to look after.
MANY = 10

_SPAWN_STEP = re.compile(r'spawn step: (\w+) ([\d.]+) s')
_LIBVIRT_CALL = re.compile(r'libvirt call: (\w+) ([\d.]+) s')
_ROUND = 'Running periodic task ComputeManager.update_available_resource'
#: Seconds between two rounds of Nova's periodic tasks, all of them alike.
_INTERVAL = 60

_DROP_IN = '/etc/nova/nova.conf.d/bench.conf'
#: No periodic task disturbs what is measured.
_QUIET = '[DEFAULT]\ndebug = true\nperiodic_enable = false\n'
#: Every periodic task runs once in each round.
_PERIODIC = f"""\
[DEFAULT]
debug = true
sync_power_state_interval = {_INTERVAL}
heal_instance_info_cache_interval = {_INTERVAL}
update_resources_interval = {_INTERVAL}
running_deleted_instance_poll_interval = {_INTERVAL}
[image_cache]
manager_interval = {_INTERVAL}
"""

_DIRECTORY = '/var/lib/nova/bench'
_BRIDGE = 'xenbench'


class Log:
    """nova-compute's log, from a mark on."""

    def __init__(self, host: XenHost):
        self._host = host
        self._mark = 0
        self.mark()

    def mark(self) -> None:
        """What was logged before is not looked at."""
        self._mark = int(self._host.ssh(
            ['stat', '-c', '%s', compute.NOVA_COMPUTE_LOG]).stdout)

    def read(self) -> str:
        """What was logged since the mark."""
        return self._host.ssh(
            ['tail', '-c', f'+{self._mark + 1}', compute.NOVA_COMPUTE_LOG],
            timeout=300).stdout

    def calls(self) -> collections.Counter[str]:
        """The libvirt calls since the mark, by name."""
        return _calls(self.read())


def _calls(text: str) -> collections.Counter[str]:
    return collections.Counter(
        name for name, _ in _LIBVIRT_CALL.findall(text))


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


class Bench:
    """One run.

    :param rounds: how often each thing is measured.
    """

    def __init__(self, cloud: Cloud, host: XenHost, rounds: int):
        self.cloud = cloud
        self.host = host
        self.rounds = rounds
        self.servers = Servers(cloud.client())
        self.image = images.ensure(cloud)[images.DISK]

    # Nova

    @contextlib.contextmanager
    def configured(self, text: str) -> Iterator[Log]:
        """nova-compute runs with this beside its configuration."""
        self.host.ssh(['sh', '-c',
                       f'mkdir -p "$(dirname {_DROP_IN})" && '
                       f'cat > {_DROP_IN}'], input=text)
        try:
            with util.step('nova-compute: configured for the bench'):
                compute.restart(self.host, self.cloud)
            yield Log(self.host)
        finally:
            self.host.ssh(['rm', '-f', _DROP_IN])

    def create(self, name: str, flavor: str) -> str:
        """Have a server, ACTIVE; returns its id."""
        ident = self.servers.create(name, self.image,
                                    content.FLAVORS[flavor][0])
        self.servers.wait(ident)
        return ident

    def spawn(self, kind: str, log: Log) -> tuple[str, Spawn]:
        """Measure one spawn; returns the server's id too."""
        log.mark()
        begin = time.monotonic()
        ident = self.create(f'bench-{kind}', f'xen.{kind}')
        total = time.monotonic() - begin
        text = log.read()
        steps = {name: float(seconds)
                 for name, seconds in _SPAWN_STEP.findall(text)}
        if set(STEPS) - set(steps):
            raise util.LabError('the driver logged no spawn steps: '
                                + ' '.join(set(STEPS) - set(steps)),
                                config.LOGS / 'xen1-nova-compute.log')
        create = sum(float(seconds) for name, seconds
                     in _LIBVIRT_CALL.findall(text)
                     if name.startswith('domainCreate'))
        return ident, Spawn(total, steps, create)

    # Without Nova

    def bare(self, ident: str, kind: str) -> tuple[list[str], list[str]]:
        """Describe the guest of a server for xl and for virsh.

        :returns: the commands that create it, both in dom0.
        """
        name = self.servers.get(ident)['OS-EXT-SRV-ATTR:instance_name']
        text = self.host.ssh(['virsh', 'dumpxml', '--inactive', name]).stdout
        domain = ElementTree.fromstring(text)  # noqa: S314 our own libvirt's
        disk = f'{_DIRECTORY}/{kind}.qcow2'
        source = _disown(domain, f'bench-{kind}', disk)
        base = json.loads(self.host.ssh(
            ['qemu-img', 'info', '--force-share', '--output=json',
             source]).stdout)
        self.host.ssh(['sh', '-c', f'mkdir -p {_DIRECTORY} && '
                       f'cat > {_DIRECTORY}/{kind}.xml'],
                      input=ElementTree.tostring(domain, encoding='unicode'))
        self.host.ssh(['sh', '-c', 'virsh domxml-to-native xen-xl "$1.xml" '
                       '> "$1.cfg"', 'sh', f'{_DIRECTORY}/{kind}'])
        self.host.ssh(['qemu-img', 'create', '-q', '-f', 'qcow2', '-b',
                       base['full-backing-filename'], '-F',
                       base['backing-filename-format'], disk,
                       str(base['virtual-size'])])
        return (['xl', 'create', f'{_DIRECTORY}/{kind}.cfg'],
                ['virsh', 'create', f'{_DIRECTORY}/{kind}.xml'])

    def timed(self, argv: Sequence[str], kind: str) -> float:
        """Seconds a command takes in dom0 to create a bare guest."""
        done = self.host.ssh(
            ['bash', '-c', 'TIMEFORMAT=%R; time "$@" >/dev/null', 'bash',
             *argv], timeout=300)
        # Its QEMU lets go of the disk a moment later.
        self.host.ssh(['bash', '-c', 'xl destroy "$1"; for n in {1..100}; do '
                       'pgrep -a qemu | grep -q -- "$1" || break; sleep 0.1; '
                       'done', 'bash', f'bench-{kind}'])
        return float(done.stderr.split()[-1])

    @contextlib.contextmanager
    def _bridge(self) -> Iterator[None]:
        self.host.ssh(['ip', 'link', 'add', _BRIDGE, 'up', 'type', 'bridge'])
        try:
            yield
        finally:
            self.host.ssh(['ip', 'link', 'delete', _BRIDGE])
            self.host.ssh(['rm', '-rf', _DIRECTORY])

    # What is measured

    def compare(self, kind: str, log: Log) -> dict[str, float]:
        """Median seconds of each way to the same guest, and of its parts."""
        # The first one fetches the image and warms everything up.
        ident, _ = self.spawn(kind, log)
        by_xl, by_virsh = self.bare(ident, kind)
        self.servers.delete(ident)
        spawns, seconds = [], collections.defaultdict(list)
        for number in range(1, self.rounds + 1):
            ident, spawn = self.spawn(kind, log)
            self.servers.delete(ident)
            spawns.append(spawn)
            for name, argv in (('xl create', by_xl),
                               ('virsh create', by_virsh)):
                seconds[name].append(self.timed(argv, kind))
            util.say(f'{kind}, round {number}: ACTIVE {spawn.total:.1f} s, '
                     f'xl create {seconds["xl create"][-1]:.1f} s, '
                     f'virsh create {seconds["virsh create"][-1]:.1f} s')
        median = statistics.median
        result = {name: median(values) for name, values in seconds.items()}
        result['ACTIVE'] = median(one.total for one in spawns)
        result['domainCreate'] = median(one.create for one in spawns)
        for step in STEPS:
            result[step] = median(one.steps[step] for one in spawns)
        result['rest'] = median(one.total - sum(one.steps.values())
                                for one in spawns)
        return result

    def operations(self, log: Log) -> dict[str, collections.Counter[str]]:
        """The libvirt calls of a spawn, a stop and a delete."""
        counts = {}
        ident, _ = self.spawn('pvh', log)
        time.sleep(5)  # for what the events lead to
        counts['spawn'] = log.calls()
        util.wait_for('login prompt', lambda: ' login:' in
                      self.servers.console(ident), 300, interval=3)
        log.mark()
        self.servers.act(ident, 'os-stop')
        self.servers.wait(ident, 'SHUTOFF')
        time.sleep(5)
        counts['power off'] = log.calls()
        self.servers.act(ident, 'os-start')
        self.servers.wait(ident)
        log.mark()
        self.servers.delete(ident)
        time.sleep(5)
        counts['destroy'] = log.calls()
        return counts

    def one_round(self, log: Log) -> collections.Counter[str]:
        """The libvirt calls of one round of Nova's periodic tasks."""
        log.mark()

        def whole() -> str:
            parts = log.read().split(_ROUND)
            return parts[1] if len(parts) > 2 else ''

        return _calls(util.wait_for(
            "a round of Nova's periodic tasks", whole, 3 * _INTERVAL + 30,
            interval=3))

    def periodic(self, log: Log) -> dict[str, collections.Counter[str]]:
        """The libvirt calls of the periodic tasks, with few guests and many.

        Fewer than many if the host has no place for so many.
        """
        with contextlib.ExitStack() as stack:
            idents: list[str] = []
            stack.callback(lambda: self.servers.delete(*idents))
            counts = {}
            for number in range(1, MANY + 1):
                ident = self.servers.create(
                    f'bench-{number}', self.image,
                    content.FLAVORS['m1.nano'][0])
                idents.append(ident)
                try:
                    self.servers.wait(ident)
                except util.LabError as error:
                    util.say(f'no more than {number - 1} guests: {error}')
                    self.servers.delete(idents.pop())
                    break
                if number == 1:
                    counts['periodic, 1 guest'] = self.one_round(log)
            counts[f'periodic, {len(idents)} guests'] = self.one_round(log)
        return counts

    def run(self) -> None:
        """Measure everything and print the tables."""
        try:
            with self.configured(_QUIET) as log:
                with self._bridge():
                    seconds = {kind: self.compare(kind, log)
                               for kind in KINDS}
                counts = self.operations(log)
            with self.configured(_PERIODIC) as log:
                counts |= self.periodic(log)
        finally:
            with util.step('nova-compute: configured as it was'):
                compute.restart(self.host, self.cloud)
        print_seconds(seconds, self.rounds)
        print_calls(counts)


def _disown(domain: ElementTree.Element, name: str, disk: str) -> str:
    """Make Nova's domain a guest of its own, with its own disk and bridge.

    :param domain: libvirt's XML, changed in place.
    :returns: the file of Nova's root disk.
    """
    for tag in ('uuid', 'metadata', 'title', 'description'):
        for element in domain.findall(tag):
            domain.remove(element)
    domain.find('name').text = name  # type: ignore[union-attr]
    root = domain.find('devices/disk/source')
    assert root is not None  # noqa: S101 a guest of ours has a disk
    source = root.get('file', '')
    root.set('file', disk)
    for interface in domain.findall('devices/interface'):
        for tag in ('mac', 'target'):
            for element in interface.findall(tag):
                interface.remove(element)
        interface.find('source').set(  # type: ignore[union-attr]
            'bridge', _BRIDGE)
    return source


def print_seconds(seconds: dict[str, dict[str, float]],
                  rounds: int) -> None:
    """Print the table of seconds and ratios.

    :param seconds: by kind of guest, as :meth:`Bench.compare` returns them.
    """
    def row(title: str, above: str, below: str | None = None) -> None:
        values = (one[above] / (one[below] if below else 1)
                  for one in seconds.values())
        print(f'{title:<38}' + ''.join(f'{value:8.2f}' for value in values))

    print(f'\n{f"seconds, median of {rounds}":<38}'
          + ''.join(f'{kind.upper():>8}' for kind in seconds))
    row('server create to ACTIVE', 'ACTIVE')
    row('  plan: decide, refuse', 'plan')
    row('  image: cached', 'image')
    row('  disk: qcow2 overlay', 'disk')
    row('  network: plug, wait for Neutron', 'network')
    row('  domain: define and create', 'domain')
    row('    of it libvirt creating', 'domainCreate')
    row('  rest: API, scheduler, port, waiting', 'rest')
    row('virsh create', 'virsh create')
    row('xl create', 'xl create')
    row('ACTIVE / xl create', 'ACTIVE', 'xl create')
    row('domain / xl create', 'domain', 'xl create')
    row('domain / virsh create', 'domain', 'virsh create')
    row('virsh create / xl create', 'virsh create', 'xl create')


def print_calls(counts: dict[str, collections.Counter[str]]) -> None:
    """Print how many libvirt calls each operation makes, and which."""
    print(f'\n{"libvirt calls":<22} {"number":>6}  which')
    for title, calls in counts.items():
        which = ', '.join(name if number == 1 else f'{name} x{number}'
                          for name, number in calls.most_common())
        print(f'{title:<22} {calls.total():>6}  {which or "none"}')


def bench(args: argparse.Namespace) -> int:
    """Time a spawn beside bare xl and virsh, and count libvirt calls."""
    if subprocess.run([config.LAB / 'xenlab', 'up'],
                      check=False).returncode:
        raise util.LabError('the lab does not come up', config.LOGS)
    with util.Lock():
        Bench(Cloud(), hosts()[0], args.rounds).run()
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'{text}: at least 1')
    return number


def add_parsers(
    add: Callable[[str, Callable[..., int]], argparse.ArgumentParser],
) -> None:
    """Give the command line ``bench``.

    :param add: makes a command of a name and what it calls.
    """
    add('bench', bench).add_argument(
        '--rounds', type=_positive, default=3,
        help='how often each thing is measured (default: 3)')
