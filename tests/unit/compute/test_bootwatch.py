# SPDX-License-Identifier: Apache-2.0
"""Guests that do not get beyond their boot loader."""

import os
import threading
from unittest import mock

from nova import conf

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import bootwatch
from xen44_driver.storage import layout
from xen44_driver.xen import events

CONF = conf.CONF

PROMPT = b'\r\ngrub> '


def event(kind, uuid=base.UUID, state=events.DomainState.RUNNING):
    return events.DomainEvent(uuid=uuid, name='instance-1', kind=kind,
                              state=state)


STARTED = event(events.EventKind.STARTED)
STOPPED = event(events.EventKind.STOPPED)
CRASHED = event(events.EventKind.CRASHED)
PAUSED = event(events.EventKind.PAUSED, state=events.DomainState.PAUSED)
RESUMED = event(events.EventKind.RESUMED)


class BootWatchTest(base.TestCase):
    """Each turn of its thread is run by hand."""

    def setUp(self):
        super().setUp()
        self.logs = os.path.join(self.instances, 'console')
        os.mkdir(self.logs)
        self.flags(console_log_dir=self.logs, group='xen44')
        for patcher in (
                mock.patch.object(
                    privsep.sys_admin_pctxt, 'client_mode', False),
                mock.patch.object(bootwatch.threads, 'start'),
                mock.patch.object(bootwatch.time, 'monotonic',
                                  lambda: self.now)):
            patcher.start()
            self.addCleanup(patcher.stop)
        self.now = 1000.0
        files = layout.InstanceFiles(self.instances, base.UUID)
        files.create()
        self.serial = files.serial_log
        self.xen = os.path.join(self.logs, 'guest-instance-1.log')
        self.watch = bootwatch.BootWatch()

    def write(self, text, path=None):
        with open(path or self.xen, 'ab') as log:
            log.write(text)

    def said(self):
        """What it logged in two turns, of which the second sees the same."""
        return self.turn() + self.turn()

    def turn(self):
        """Let the thread take its next turn; returns what it logged."""
        said = self.wake()
        self.now += bootwatch.INTERVAL
        return said

    def wake(self):
        """Let the thread do what is due now; returns what it logged."""
        ended = threading.BrokenBarrierError
        with mock.patch.object(self.watch._wake, 'wait', side_effect=ended), \
                mock.patch.object(bootwatch.LOG, 'warning') as warning:
            self.assertRaises(ended, self.watch._run)
        return [call.args[1] for call in warning.mock_calls]

    def test_prompt(self):
        self.watch.event(STARTED)
        self.assertEqual([], self.turn())
        self.write(b'Welcome to GRUB!\n')
        self.assertEqual([], self.turn())
        self.write(PROMPT)
        said, = self.said()
        self.assertIn('prompt of grub', said)
        # Once.
        self.assertEqual([], self.turn())

    def test_serial_port(self):
        self.watch.event(STARTED)
        self.turn()
        self.write(PROMPT, self.serial)
        self.assertEqual(1, len(self.said()))

    def test_console_that_goes_on(self):
        """grub draws its menu, and then counts."""
        self.watch.event(STARTED)
        self.turn()
        self.write(b'Press enter to boot the selected OS')
        self.assertEqual([], self.turn())
        self.write(b'\x1b[22;1H executed automatically in 5s')
        self.assertEqual([], self.said())

    def test_others_that_start(self):
        """They do not hurry its next look."""
        self.watch.event(STARTED)
        self.turn()
        self.write(b'Press enter to boot the selected OS')
        self.assertEqual([], self.wake())
        with mock.patch.object(
                bootwatch.consolelog, 'read',
                wraps=bootwatch.consolelog.read) as read:
            for number in range(50):
                self.watch.event(event(events.EventKind.STARTED,
                                       uuid=str(number)))
                self.assertEqual([], self.wake())
        read.assert_not_called()
        self.write(b'\x1b[22;1H executed automatically in 5s')
        self.now += bootwatch.INTERVAL
        self.assertEqual([], self.said())

    def test_text_of_an_earlier_start(self):
        self.write(PROMPT)
        self.watch.event(STARTED)
        self.assertEqual([], self.said())
        # The log was cut since: then its text may be new.
        os.truncate(self.xen, 0)
        self.write(PROMPT[2:])
        self.assertEqual(1, len(self.said()))

    def test_panic(self):
        self.watch.event(STARTED)
        self.turn()
        self.write(b'Kernel panic - not syncing: Fatal exception\n')
        self.watch.event(CRASHED)
        self.assertEqual(1, len(self.turn()))
        self.assertEqual({}, self.watch._starts)

    def test_stopped(self):
        self.watch.event(STARTED)
        self.turn()
        self.watch.event(STOPPED)
        self.assertEqual([], self.turn())
        self.assertEqual({}, self.watch._starts)

    def test_stopped_at_once(self):
        self.watch.event(STARTED)
        self.watch.event(STOPPED)
        self.assertEqual([], self.turn())
        self.assertEqual({}, self.watch._starts)

    def test_started_again(self):
        self.watch.event(STARTED)
        self.turn()
        self.watch.event(STOPPED)
        self.watch.event(STARTED)
        self.turn()
        self.write(PROMPT)
        self.assertEqual(1, len(self.said()))

    def test_end_of_the_time(self):
        self.watch.event(STARTED)
        self.turn()
        self.now += CONF.xen44.boot_watch_time
        self.turn()
        self.assertEqual({}, self.watch._starts)

    def test_stop(self):
        self.watch.event(STARTED)
        self.watch.stop()
        self.assertEqual([], self.turn())
        self.assertEqual({}, self.watch._starts)

    def test_paused_start(self):
        """Its time begins when it runs: Neutron may take longer."""
        self.watch.event(event(events.EventKind.STARTED,
                               state=events.DomainState.PAUSED))
        self.turn()
        self.now += 2 * CONF.xen44.boot_watch_time
        self.turn()
        self.watch.event(RESUMED)
        self.write(PROMPT)
        self.now += bootwatch.INTERVAL
        self.assertEqual(1, len(self.said()))

    def test_paused_by_its_user(self):
        """It cannot write then."""
        self.watch.event(STARTED)
        self.turn()
        self.write(b'Press enter to boot the selected OS')
        self.assertEqual([], self.turn())
        self.watch.event(PAUSED)
        self.assertEqual([], self.said())
        self.watch.event(RESUMED)
        self.assertEqual([], self.wake())
        self.write(b'\x1b[22;1H executed automatically in 5s')
        self.now += bootwatch.INTERVAL
        self.assertEqual([], self.said())
        self.now += CONF.xen44.boot_watch_time
        self.turn()
        self.assertEqual({}, self.watch._starts)

    def test_stopped_while_it_is_paused(self):
        self.watch.event(STARTED)
        self.turn()
        self.watch.event(PAUSED)
        self.watch.event(STOPPED)
        self.turn()
        self.assertEqual({}, self.watch._starts)

    def test_paused_or_resumed_later(self):
        self.watch.event(PAUSED)
        self.watch.event(RESUMED)
        self.assertEqual({}, self.watch._starts)

    def test_thread_is_told(self):
        """Of what changes when it has to look."""
        self.watch.event(STARTED)
        self.turn()
        self.watch.event(PAUSED)
        for change in (RESUMED, STOPPED):
            with mock.patch.object(self.watch._wake, 'notify') as notify:
                self.watch.event(change)
            notify.assert_called_once_with()

    def test_never(self):
        self.flags(boot_watch_time=0, group='xen44')
        self.watch.event(STARTED)
        self.assertEqual({}, self.watch._starts)
        bootwatch.threads.start.assert_not_called()

    def test_unreadable(self):
        os.symlink('/etc/shadow', self.xen)
        self.watch.event(STARTED)
        self.turn()
        self.assertEqual([], self.turn())
        self.assertEqual({}, self.watch._starts)
