# SPDX-License-Identifier: Apache-2.0
"""Steps, waits, locks, commands."""

import subprocess
import sys
import threading

from labkit import durations
from labkit import util
from tests.unit.labkit import base


class WaitTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.clock = base.Clock()
        self.patch(util, 'time', self.clock)
        self.out = self.output()

    def after(self, seconds, result='there'):
        """A predicate that is false for so long."""
        begin = self.clock.now
        return lambda: (result if self.clock.now - begin >= seconds
                        else None)

    def test_result_is_returned(self):
        self.assertEqual('there', util.wait_for('it', self.after(3), 10))
        self.assertEqual(1003, self.clock.now)
        self.assertEqual('', self.out.getvalue())

    def test_it_gives_up(self):
        log = self.directory / 'log'
        log.write_text('one\ntwo\n')
        error = self.assertRaises(
            util.LabError, util.wait_for, 'the rain', self.after(100), 7, log)
        self.assertEqual(1007, self.clock.now)
        self.assertIn('waited 7 s in vain: the rain', str(error))
        self.assertIn(str(log), str(error))
        self.assertEqual(['two'], error.last_lines(1))

    def test_no_hope_ends_it(self):
        def hopeless():
            raise util.LabError('it ended')

        error = self.assertRaises(
            util.LabError, util.wait_for, 'it', hopeless, 7)
        self.assertEqual('it ended', str(error))
        self.assertEqual(1000, self.clock.now)

    def test_progress_tells_the_time_of_last_time(self):
        util.wait_for('the rain', self.after(25), 60)
        self.assertEqual(2, self.out.getvalue().count('waiting: the rain'))
        self.assertNotIn('last time', self.out.getvalue())
        util.wait_for('the rain', self.after(15), 60)
        self.assertIn('waiting: the rain (25 s last time)',
                      self.out.getvalue())
        self.assertEqual(15, durations.last('waiting: the rain'))

    def test_what_is_not_to_be_remembered(self):
        util.wait_for('a lock', self.after(25), 60, remember=False)
        self.assertIsNone(durations.last('waiting: a lock'))

    def test_a_short_wait_is_not_remembered(self):
        util.wait_for('the rain', self.after(4), 60)
        self.assertIsNone(durations.last('waiting: the rain'))


class StepTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.clock = base.Clock()
        self.patch(util, 'time', self.clock)
        self.out = self.output()

    def test_a_step(self):
        with util.step('build'):
            self.clock.sleep(73)
        self.assertEqual(f'{"build":<56}    73.0 s\n', self.out.getvalue())
        with util.step('build'):
            self.assertIn('begins: build (73 s last time)',
                          self.out.getvalue())
            self.clock.sleep(2)
        self.assertEqual(2, durations.last('build'))

    def test_a_step_that_fails(self):
        def fail():
            with util.step('build'):
                self.clock.sleep(3)
                raise util.LabError('no')

        self.assertRaises(util.LabError, fail)
        self.assertIn('build: failed', self.out.getvalue())
        self.assertIsNone(durations.last('build'))


class DurationsTest(base.TestCase):

    def test_short_ones_are_not_told(self):
        durations.note('short', 4.9)
        durations.note('long', 5)
        self.assertEqual('', durations.hint('short'))
        self.assertEqual(' (5 s last time)', durations.hint('long'))
        self.assertEqual('', durations.hint('never'))

    def test_so_many_are_kept(self):
        self.patch(durations, 'KEPT', 2)
        for name in ('one', 'two', 'one', 'three'):
            durations.note(name, 10)
        self.assertIsNone(durations.last('two'))
        self.assertEqual(10, durations.last('one'))
        self.assertEqual(10, durations.last('three'))

    def test_a_broken_file(self):
        for text in ('', '[]', '{"one": "x"}', '\xff'):
            (self.cache / 'durations.json').write_text(text)
            self.assertEqual('', durations.hint('one'))
        durations.note('one', 10)
        self.assertEqual(10, durations.last('one'))

    def test_no_cache(self):
        self.cache.rmdir()
        durations.note('one', 10)
        self.assertIsNone(durations.last('one'))


class TogetherTest(base.TestCase):

    def test_side_by_side(self):
        met = threading.Barrier(3, timeout=20)
        util.together(met.wait, met.wait, met.wait)

    def test_all_end_before_one_fails(self):
        ended = []
        failed = threading.Event()

        def fail():
            failed.set()
            raise util.LabError('no network')

        def late():
            failed.wait(20)
            ended.append('late')

        error = self.assertRaises(util.LabError, util.together, fail, late)
        self.assertEqual('no network', str(error))
        self.assertEqual(['late'], ended)


class LockTest(base.TestCase):

    def test_one_at_a_time(self):
        lock = util.Lock()
        self.assertEqual('', lock.holder())
        with lock:
            self.assertIn('pid ', util.Lock().holder())
            error = self.assertRaises(
                util.LabError, util.Lock().__enter__)
            self.assertIn('the lab is busy: pid ', str(error))
        self.assertEqual('', lock.holder())
        with util.Lock():
            pass

    def test_what_a_killed_holder_left(self):
        (self.state / 'lock').write_text('pid 1 (up) since 10:00:00\n')
        self.assertEqual('', util.Lock().holder())


class RunTest(base.TestCase):

    def test_output_and_status(self):
        done = util.run([sys.executable, '-c', 'print(input())'], input='hi')
        self.assertEqual('hi\n', done.stdout)
        failing = [sys.executable, '-c', 'raise SystemExit("broken")']
        error = self.assertRaises(util.LabError, util.run, failing)
        self.assertIn('exit 1: ', str(error))
        self.assertIn('broken', str(error))
        self.assertEqual(1, util.run(failing, check=False).returncode)

    def test_no_such_command(self):
        error = self.assertRaises(util.LabError, util.run, ['no-such-thing'])
        self.assertEqual('no such command: no-such-thing', str(error))

    def test_a_timeout(self):
        error = self.assertRaises(
            util.LabError, util.run, ['sleep', '20'], timeout=0.1)
        self.assertIn('sleep 20', str(error))

    def test_a_log(self):
        log = self.directory / 'logs' / 'one'
        util.run(['echo', 'well'], log=log)
        self.assertEqual('+ echo well\nwell\n', log.read_text())


class ProcessTest(base.TestCase):

    def test_a_process_that_outlives_us(self):
        log, pidfile = self.directory / 'log', self.directory / 'run/sleep'
        self.assertIsNone(util.running(pidfile))
        pid = util.spawn(['sleep', '60'], log=log, pidfile=pidfile)
        self.assertEqual(pid, util.running(pidfile))
        self.assertRaises(util.LabError, util.spawn, ['sleep', '60'], log=log,
                          pidfile=pidfile)
        self.assertTrue(util.stop(pidfile))
        self.assertFalse(util.stop(pidfile))
        self.assertFalse(pidfile.exists())

    def test_a_pid_that_another_process_has_by_now(self):
        pidfile = self.directory / 'pid'
        child = subprocess.Popen(['sleep', '60'])
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        pidfile.write_text(f'{child.pid} 1\n')
        self.assertIsNone(util.running(pidfile))


class MachineTest(base.TestCase):

    def test_memory(self):
        util.free_memory_check(1, 'nothing')
        error = self.assertRaises(
            util.LabError, util.free_memory_check, 10 ** 9, 'a host')
        self.assertIn('a host needs 1000000000 MiB', str(error))
