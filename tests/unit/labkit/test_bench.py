# SPDX-License-Identifier: Apache-2.0
"""The bench without a lab: its signs in dom0, its sums, its tables."""

import collections
import contextlib
import io
import pathlib
import subprocess
import types
from unittest import mock
from xml.etree import ElementTree

import fixtures

from labkit import bench
from labkit import cli
from labkit import compute
from labkit import records
from labkit import servers
from labkit import util
from labkit.bench import against
from labkit.bench import bare
from labkit.bench import base as bench_base
from labkit.bench import disks
from labkit.bench import operations
from labkit.bench import snapshot
from labkit.bench import spawn
from labkit.bench import watch
from tests.unit.labkit import base

_Bench = bench_base.Bench


def nothing_measured():
    """A run without a lab."""
    run = _Bench.__new__(_Bench)
    run.failed = []
    return run


class PartsTest(base.TestCase):
    """Which parts run, and what a failure leaves."""

    def setUp(self):
        super().setUp()
        self.out = self.output()
        self.patch(util, 'need_root', lambda: None)
        up = types.SimpleNamespace(returncode=0)
        self.patch(bench, 'subprocess', types.SimpleNamespace(
            run=lambda *_, **__: up))
        self.patch(bench, 'Cloud', mock.Mock)
        self.ran = []
        self.failing = ''
        run = nothing_measured()
        run.close = lambda: self.ran.append('closed')
        self.useFixture(fixtures.MonkeyPatch(
            'labkit.bench.base.Bench', lambda *_: run))
        for name, part in bench.PARTS.items():
            self.patch(part, 'measure', lambda run, rounds, name=name:
                       self.measure(name, rounds))

    def measure(self, name, rounds):
        self.ran.append((name, rounds))
        if name == self.failing:
            raise util.LabError('in vain')

    def test_all(self):
        self.assertEqual(0, cli.main(['bench']))
        self.assertEqual(
            [('spawn', 3), ('operations', 3), ('snapshot', 1),
             ('volumes', 3), ('periodic', 1), 'closed'], self.ran)

    def test_some(self):
        self.assertEqual(
            0, cli.main(['bench', 'volumes', 'spawn', '--rounds', '2']))
        self.assertEqual(
            [('spawn', 2), ('volumes', 2), 'closed'], self.ran)

    def test_what_is_none(self):
        self.useFixture(fixtures.MonkeyPatch(
            'sys.stderr', mock.Mock(write=self.ran.append)))
        for words in (['fly'], ['spawn', '--rounds', '0']):
            self.assertRaises(SystemExit, cli.main, ['bench', *words])
        self.assertIn('fly: there is spawn, ', ''.join(self.ran))

    def test_a_failure_does_not_end_the_others(self):
        self.failing = 'spawn'
        self.assertEqual(1, cli.main(['bench', 'spawn', 'snapshot']))
        self.assertEqual(
            [('spawn', 3), ('snapshot', 1), 'closed'], self.ran)
        self.assertIn('spawn: failed: in vain\n', self.out.getvalue())
        self.assertIn('\nnot measured: spawn\n', self.out.getvalue())

    def test_a_mistake_of_ours_is_shown(self):
        run = nothing_measured()
        with run.attempt('sums'):
            1 / 0  # noqa: B018
        self.assertEqual(['sums'], run.failed)
        self.assertIn('ZeroDivisionError', self.out.getvalue())


class AgainstTest(base.TestCase):
    """Two drivers by turns, without a lab."""

    def setUp(self):
        super().setUp()
        self.out = self.output()
        self.installed = []
        self.failing = None
        self.patch(compute, 'install_driver',
                   lambda host, venv, commit=None:
                   self.installed.append(commit))
        self.patch(compute, 'restart', lambda *_: None)
        self.patch(bench_base, 'Log', lambda host: mock.Mock(
            calls=lambda: collections.Counter(domainGetState=2)))
        self.patch(spawn, 'AFTER', 0)
        self.patch(spawn, 'time_spawn', self.time_spawn)
        self.patch(spawn, 'created', lambda *_: 5.0)
        self.patch(bare, 'place', lambda host: contextlib.nullcontext())
        self.patch(bare, 'describe', mock.Mock())
        self.bench = nothing_measured()
        self.bench.domain = mock.Mock()
        self.bench.host = self.bench.cloud = self.bench.servers = mock.Mock()
        self.bench.configure = self.bench.remove = mock.Mock()

    def time_spawn(self, run, kind):
        if self.failing == (len(self.installed), kind):
            raise util.LabError('in vain')
        return 'server', 20.0 if self.installed[-1] else 10.0

    def measure(self, rounds=2):
        against.measure(self.bench, rounds, 'c0ffee' * 6 + 'beef')
        return self.out.getvalue().splitlines()

    def test_turns(self):
        lines = self.measure()
        other = 'c0ffee' * 6 + 'beef'
        # The last is what stays.
        self.assertEqual([other, None, None, other, None], self.installed)
        self.assertEqual([], self.bench.failed)
        self.assertIn('server create to ACTIVE: seconds, 2 turns of each '
                      'driver  PV c0ffeec  PV this  PVH c0ffeec  PVH this',
                      lines)
        self.assertIn(['median', '20.0', '10.0', '20.0', '10.0'],
                      [line.split() for line in lines])
        self.assertIn(['ACTIVE', '/', 'xl', 'create,', 'median', 'of', 'each',
                       'pair', '4.00', '2.00', '4.00', '2.00'],
                      [line.split() for line in lines])
        # The first after a start is not among them.
        self.assertIn('pv    this      10.0  10.0  10.0  10.0  10.0  10.0',
                      lines)
        self.assertIn('first c0ffeec   20.0  20.0  '
                      'after each start of nova-compute, PV', lines)
        self.assertIn('pvh this                      2  domainGetState x2',
                      lines)

    def test_a_turn_fails(self):
        self.failing = (1, 'pvh')
        lines = self.measure(1)
        self.assertEqual(['a turn of c0ffeec'], self.bench.failed)
        self.assertIn(['median', '20.0', '10.0', '10.0'],
                      [line.split() for line in lines])
        self.assertIsNone(self.installed[-1])

    def test_what_is_no_commit(self):
        self.patch(util, 'need_root', lambda: None)
        for words, text in (
                (['--against', '--help-me'], 'expected one argument'),
                (['--against', 'no-such'], 'no-such: this checkout has no'),
                (['volumes', '--against', 'HEAD'], 'for spawn alone')):
            err = io.StringIO()
            with contextlib.redirect_stderr(err):
                try:
                    status = cli.main(['bench', *words])
                except SystemExit as error:
                    status = error.code
            self.assertNotEqual(0, status)
            self.assertIn(text, err.getvalue() + self.out.getvalue())

    def test_a_commit(self):
        commit = against.resolve('HEAD')
        self.assertEqual(40, len(commit))
        self.assertEqual(commit, against.resolve(commit[:12]))


class TablesTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.out = self.output()

    def test_columns_are_aligned(self):
        bench_base.print_table('above\nname', ('a', 'longer'), {
            'first': ['1.0', bench_base.number(None)],
            'second one': [bench_base.number(12.345, 2),
                           bench_base.ratio(3, 2)]})
        self.assertEqual(
            '\nabove\n'
            'name            a  longer\n'
            'first         1.0       -\n'
            'second one  12.35    1.50\n', self.out.getvalue())
        self.assertEqual('-', bench_base.ratio(1, None))
        self.assertEqual('-', bench_base.ratio(1, 0))

    def test_calls(self):
        text = ('libvirt call: domainCreate 2.500 s\n'
                'libvirt call: domainGetState 0.001 s\n'
                'libvirt call: domainGetState 0.001 s\n')
        self.assertEqual(2.5, bench_base.seconds_of(text, 'domainCreate'))
        bench_base.print_calls('calls of', {
            'start': bench_base.calls(text), 'nothing': bench_base.calls('')})
        self.assertEqual(
            '\ncalls of  calls  which\n'
            'start         3  domainGetState x2, domainCreate\n'
            'nothing       0  none\n', self.out.getvalue())

    def test_spawn(self):
        names = (*spawn.STEPS, 'ACTIVE', 'domainCreate', 'rest',
                 'virsh create', 'xl create')
        spawn.print_seconds({'pv': dict.fromkeys(names, 2.0)}, 3)
        lines = self.out.getvalue().splitlines()
        self.assertEqual('spawn: seconds, median of 3'.ljust(35) + 'PV',
                         lines[1])
        self.assertIn('xl create'.ljust(33) + '2.00', lines)
        self.assertIn('ACTIVE / xl create'.ljust(33) + '1.00', lines)

    def test_operations(self):
        times = collections.defaultdict(dict)
        for name, seconds in (('start', 10.0), ('stop', 2.0),
                              ('resize', 24.0)):
            times[name] = {operations.STATUS: [seconds / 2],
                           operations.NOVA: [seconds, seconds, 99.0]}
            if name != 'resize':
                times[name][operations.XL] = [seconds / 2]
        rows = operations.rows(times)
        self.assertEqual(['5.0', '10.0', '-', '5.0', '-', '2.00', '-'],
                         rows['start'])
        # Beside their stop and start, 6 s.
        self.assertEqual(['12.0', '24.0', '-', '6.0', '-', '4.00', '-'],
                         rows['resize'])
        self.assertEqual(['-'] * 7, rows['suspend'])
        operations.print_seconds('pv', times, 3)
        self.assertIn('Operations of a PV guest', self.out.getvalue())

    def test_snapshot(self):
        one = snapshot.Snapshot(60, 700 * 2 ** 20, 0.15, 1.2, 0.05)
        two = snapshot.Snapshot(62, 700 * 2 ** 20, 0.25, 0.9, 0.05)
        self.assertEqual(['700', '61', '700', '50', '250', '1200'],
                         snapshot.row([one, two]))

    def test_disks(self):
        times = {('attach', who): [seconds] for who, seconds in (
            (disks.NOVA, 20.0), (disks.STATUS, 22.0), (disks.LIBVIRT, 1.5),
            (disks.XL, 2.0))}
        disks.print_times({'lvm': times, 'local': {}}, 1)
        disks.print_speeds({
            'lvm, by Nova': [{'read': 40.0}, {'read': 60.0}],
            'local, by xl': [{'read': 25.0, 'write': 2.0}]}, 2)
        lines = [line.split() for line in self.out.getvalue().splitlines()]
        self.assertIn(['lvm:', 'attach', '20.0', '22.0', '1.5', '2.0',
                       '10.00'], lines)
        self.assertIn(['local:', 'detach', *'-----'], lines)
        self.assertIn(['lvm,', 'by', 'Nova', '-', '-', '50.0', *'---'], lines)
        self.assertIn(['local,', 'by', 'xl', '-', '-', '0.50', *'---'], lines)


class SumsTest(base.TestCase):

    def test_records(self):
        found = records.parse('1 10.00\n2 10.05\n3 11.25\n4 11.30\n')
        self.assertEqual((3, 11.25), found[2])
        self.assertAlmostEqual(1.2, records.longest(found))
        self.assertEqual(0, records.longest(found[:1]))

    def test_speeds(self):
        self.assertEqual(
            {'read': disks.SEQUENTIAL / 2, 'pages-synced': disks.SYNCED},
            disks.speeds('read 1795772924.5 1795772926.5\n'
                         'pages-synced 10.0 11.0\n'))

    def test_a_snapshot(self):
        """The first records do not count, nor do those before it."""
        before = [(number, number / 10) for number in range(1, 11)]
        before[1] = (2, 3.0)
        answers = [before, [*before, (11, 2.5), (12, 2.6)]]
        run = mock.Mock()

        def ssh(ident, command, **_):
            return '\n'.join(f'{number} {when}' for number, when in
                             answers.pop(0)) if 'cat /root/r' == (
                                 command[:11]) else ''

        run.servers.ssh = ssh
        self.patch(snapshot, 'time', mock.Mock())
        self.patch(snapshot, 'take', lambda *_: (30.0, 100))
        found = snapshot.one(run, 'server')
        self.assertAlmostEqual(0.1, found.idle)
        self.assertAlmostEqual(0.1, found.usual)
        self.assertAlmostEqual(1.5, found.hold)

    def test_an_image_is_deleted(self):
        calls = []
        run = mock.Mock()
        run.servers.act.return_value = {'image_id': 'made'}

        def call(method, *_):
            calls.append(method)
            return {'status': 'active', 'size': 7}

        run.client.call = call
        self.assertEqual(7, snapshot.take(run, 'server')[1])
        self.assertEqual('DELETE', calls[-1])


class WatchTest(base.TestCase):
    """The script in dom0, with doubles of what it asks."""

    NAME = 'bench-pv'

    def setUp(self):
        super().setUp()
        self.devices = self.directory / 'devices'
        self.store = self.directory / 'store'
        programs = self.directory / 'bin'
        for path in (self.devices, self.store, programs):
            path.mkdir()
        for name, line in (
                ('xl', '[ "$2" = bench-pv ] && echo 7'),
                ('xenstore-exists', f'[ -e {self.store}$1 ]'),
                ('xenstore-read', f'cat {self.store}$1')):
            program = programs / name
            program.write_text(f'#!/bin/sh\n{line}\n')
            program.chmod(0o755)
        for name, value in (('PATH', f'{programs}:/usr/bin:/bin'),
                            ('devices', str(self.devices))):
            self.useFixture(fixtures.EnvironmentVariable(name, value))
        self.host = mock.Mock()
        self.host.ssh_command = lambda argv: argv
        self.host.ssh = lambda argv, timeout: util.run(argv, timeout=timeout)
        self.patch(util, 'in_netns', lambda argv: argv)
        self.patch(watch, 'LIMIT', 30)

    def card(self, number, state='Connected', packets=0):
        """A line for the shell that makes a domain's network card."""
        path = self.devices / f'vif-{number}-0'
        counter = path / 'net/vif/statistics/rx_packets'
        return (f'mkdir -p {counter.parent}; echo {state} > {path}/state; '
                f'echo {packets} > {counter}')

    def set(self, path, text=''):
        path = self.store / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def seconds(self, what, line, name=NAME):
        return watch.seconds(self.host, what, name, ['sh', '-c', line], 51728)

    def test_a_new_domain(self):
        """The one before, with a packet, does not count."""
        subprocess.run(['sh', '-c', self.card(6, packets=9)], check=True)
        for number, what in ((7, watch.CONNECTED), (8, watch.BOOTED)):
            later = self.card(number, packets=1)
            self.assertGreater(self.seconds(
                what, f'(sleep 0.3; {later}) >&- 2>&- &'), 0.25)

    def test_not_yet(self):
        self.patch(watch, 'LIMIT', 1)
        for what, line in (
                (watch.CONNECTED, self.card(7, 'InitWait')),
                (watch.BOOTED, self.card(7, packets=0))):
            error = self.assertRaises(
                util.LabError, self.seconds, what, line, 'other')
            self.assertIn(f'other is not {what} in 1 s', str(error))

    def test_gone(self):
        self.set('local/domain/7/name')
        name = self.store / 'local/domain/7/name'
        subprocess.run(['sh', '-c', self.card(7)], check=True)
        self.assertGreater(self.seconds(
            watch.GONE, f'rm -r {self.devices}/vif-7-0; '
            f'(sleep 0.3; rm {name}) >&- 2>&- &'), 0.25)
        error = self.assertRaises(
            util.LabError, self.seconds, watch.GONE, 'true', 'other')
        self.assertIn('there is no domain other', str(error))

    def test_a_disk(self):
        self.set('local/domain/7/device/vbd/51728/state', '4\n')
        front = self.store / 'local/domain/7/device/vbd/51728'
        for kind in ('vbd', 'qdisk'):
            back = self.devices / f'{kind}-7-51728'
            self.assertGreater(self.seconds(
                watch.DISK, f'(sleep 0.3; mkdir {back}) >&- 2>&- &'), 0.25)
            self.assertGreater(self.seconds(
                watch.NO_DISK, f'mv {front} {front}-; '
                f'(sleep 0.3; rmdir {back}) >&- 2>&- &'), 0.25)
            (front.parent / '51728-').rename(front)

    def test_a_command_that_fails(self):
        self.assertRaises(util.LabError, self.seconds, watch.BOOTED, 'false')

    def test_while_nova_does_it(self):
        with watch.watching(self.host, watch.BOOTED, self.NAME) as seen:
            self.assertFalse(seen.done())
            subprocess.run(['sh', '-c', self.card(8, packets=1)], check=True)
            self.assertGreater(seen.result(timeout=30), 0)

    def test_nobody_watches(self):
        watching = watch.watching(self.host, watch.GONE, 'other')
        self.useFixture(fixtures.MonkeyPatch('sys.stderr', mock.Mock()))
        self.assertRaises(util.LabError, watching.__enter__)


class BareTest(base.TestCase):

    def test_a_guest_of_its_own(self):
        golden = pathlib.Path(
            'tests/unit/compute/data/golden/pv_x86_64_grub_agent.xml')
        domain = ElementTree.parse(golden).getroot()  # noqa: S314 ours
        uuid = domain.findtext('uuid')
        source = bare._disown(domain, 'bench-pv', '/disk')
        self.assertTrue(source.endswith('/disk.qcow2'))
        self.assertIn(uuid, source)
        for tag in ('uuid', 'metadata', 'devices/interface/mac'):
            self.assertIsNone(domain.find(tag))
        self.assertEqual('/disk',
                         domain.find('devices/disk/source').get('file'))
        values = [element.get('value') for element in domain.iter()
                  if element.get('value')]
        self.assertIn('socket,id=xen44-monitor,path=/run/xen44/bench-pv.qmp,'
                      'server=on,wait=off', values)


class OperationsTest(base.TestCase):
    """A round: who is asked what."""

    def setUp(self):
        super().setUp()
        self.output()
        self.done = []
        self.patch(operations.time, 'sleep', lambda _: None)
        self.bench = mock.Mock()
        self.bench.domain.return_value = 'instance-1'
        self.bench.servers.act = lambda ident, action, arguments: (
            self.done.append((action, arguments)))
        self.patch(bare, 'describe', lambda host, domain, name: (
            bare.Guest(self.bench.host, name)))

        @contextlib.contextmanager
        def watching(host, what, name):
            yield mock.Mock(result=operations.time.monotonic)

        self.patch(watch, 'watching', watching)
        self.patch(watch, 'seconds', lambda host, what, name, argv: (
            self.done.append((what, argv[2])) or 1.0))
        self.guest = operations.Guest(
            self.bench, 'server', 'pv', ['first', 'other'])

    def test_nova(self):
        for flavor in ('other', 'first'):
            self.done.clear()
            self.guest.through_nova(mock.Mock())
            self.assertEqual(
                ['os-start', 'reboot', 'reboot', 'suspend', 'resume',
                 'resize', 'confirmResize', 'os-stop'],
                [action for action, _ in self.done])
            self.assertEqual({'flavorRef': flavor}, self.done[5][1])
        self.assertEqual(set(operations.OPERATIONS), set(self.guest.calls))
        self.assertEqual(2, len(self.guest.times['stop'][operations.NOVA]))

    def test_bare(self):
        self.guest.bare_by(operations.XL)
        self.assertEqual(
            [(watch.BOOTED, 'xl create "$0.cfg"'),
             (watch.BOOTED, 'xl reboot "$1"')], self.done[:2])
        self.assertEqual((watch.GONE, 'xl shutdown -w "$1"'), self.done[-1])
        self.assertEqual(6, len(self.done))
        self.guest.bare_by(operations.VIRSH)
        self.assertEqual({'virsh', 'xl'}, {
            line.split()[0] for _, line in self.done})
        self.assertNotIn('resize', self.guest.times)


class DisksTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.output()
        self.commands = []
        self.calls = []
        self.bench = mock.Mock()
        self.bench.domain.return_value = 'instance-1'

        def ssh(ident, command, **_):
            self.commands.append(command.splitlines()[0])
            if self.failing:
                raise util.LabError('no disk')
            return 'read 1.0 2.0'

        self.failing = False
        self.bench.servers.ssh = ssh
        self.bench.client.call = lambda method, *_: self.calls.append(method)

        @contextlib.contextmanager
        def watching(*_):
            yield mock.Mock(result=disks.time.monotonic)

        self.patch(watch, 'watching', watching)
        self.patch(watch, 'seconds', lambda host, what, name, argv, disk: (
            self.calls.append(' '.join(argv[:2])) or 1.0))

    def attached(self, volume='volume'):
        return disks.Attached(self.bench, mock.Mock(), 'server',
                              disks.Disk('format=raw', volume))

    def log(self):
        return mock.Mock(seconds=lambda call: 0.5)

    def test_rounds(self):
        attached = self.attached()
        for _ in range(2):
            attached.once(self.log())
        self.assertEqual(['writes="first write"', *3 * ['writes="write"']],
                         self.commands)
        self.assertEqual(2 * ['POST', 'DELETE', 'xl block-attach',
                              'xl block-detach'], self.calls)
        self.assertEqual([0.5, 0.5],
                         attached.times['attach', disks.LIBVIRT])
        self.assertEqual(2, len(attached.speeds[disks.NOVA]))

    def test_no_volume(self):
        self.attached('').once(self.log())
        self.assertEqual(['xl block-attach', 'xl block-detach'], self.calls)

    def test_a_failure_detaches(self):
        self.failing = True
        self.assertRaises(util.LabError, self.attached().once, self.log())
        self.assertEqual(['POST', 'DELETE'], self.calls)


class ServersTest(base.TestCase):

    def test_wait_for_the_end_of_an_operation(self):
        states = [('ACTIVE', 'rebooting'), ('ACTIVE', None)]

        def call(*_):
            status, task = states.pop(0)
            return {'server': {'status': status, 'name': 'server',
                               'OS-EXT-STS:task_state': task}}

        self.patch(util.time, 'sleep', lambda _: None)
        servers.Servers(mock.Mock(call=call)).wait('server')
        self.assertEqual([], states)
