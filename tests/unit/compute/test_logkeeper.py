# SPDX-License-Identifier: Apache-2.0
"""The thread that keeps guests' logs small."""

import os
import threading
import types
from unittest import mock

from oslo_privsep import daemon

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import logkeeper
from xen44_driver.storage import layout

LIMIT = 128 * 1024


class LogKeeperTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.logs = os.path.join(self.instances, 'console')
        os.mkdir(self.logs)
        self.flags(console_log_dir=self.logs, console_log_max_bytes=LIMIT,
                   console_log_interval=1, group='xen44')
        patcher = mock.patch.object(
            privsep.sys_admin_pctxt, 'client_mode', False)
        patcher.start()
        self.addCleanup(patcher.stop)
        patcher = mock.patch.object(privsep, 'QEMU_LOG_DIR', self.logs)
        patcher.start()
        self.addCleanup(patcher.stop)
        self.node = base.node()
        self.node.host.records.return_value = {
            base.UUID: types.SimpleNamespace(name='instance-1')}
        self.keeper = logkeeper.LogKeeper(self.node)
        self.addCleanup(self.keeper.stop)
        files = layout.InstanceFiles(self.instances, base.UUID)
        files.create()
        self.serial = files.serial_log
        self.xen = os.path.join(self.logs, 'guest-instance-1.log')
        self.qemu = os.path.join(self.logs, 'qemu-dm-instance-1.log')

    def fill(self, *paths):
        for path in paths:
            with open(path, 'wb') as log:
                log.write(b'x' * LIMIT + b'end')

    def sizes(self, *paths):
        return [os.path.getsize(path) for path in paths]

    def test_look(self):
        ours = self.serial, self.xen, self.qemu
        strangers = [os.path.join(self.logs, name) for name in (
            'guest-stranger.log', 'qemu-dm-stranger.log')]
        self.fill(*ours, *strangers)
        self.keeper.look()
        self.assertEqual([LIMIT // 2] * 3, self.sizes(*ours))
        self.assertEqual([LIMIT + 3] * 2, self.sizes(*strangers))
        for path in ours:
            with open(path, 'rb') as log:
                self.assertTrue(log.read().endswith(b'xend'))

    def test_no_guests(self):
        self.node.host.records.return_value = {}
        with mock.patch.object(privsep, 'trim_guest_logs') as trim:
            self.keeper.look()
        trim.assert_not_called()

    def test_guests_without_logs(self):
        with mock.patch.object(logkeeper, 'LOG') as log:
            self.keeper.look()
        log.warning.assert_not_called()

    def test_a_problem_is_told_once(self):
        os.symlink('/etc/hostname', self.serial)
        self.fill(self.xen)
        with mock.patch.object(logkeeper, 'LOG') as log:
            self.keeper.look()
            self.keeper.look()
            self.assertEqual(1, log.warning.call_count)
            # The other log is not left alone for it.
            self.assertEqual([LIMIT // 2], self.sizes(self.xen))
            os.unlink(self.serial)
            self.keeper.look()
            os.symlink('/etc/hostname', self.serial)
            self.keeper.look()
        self.assertEqual(2, log.warning.call_count)
        self.assertIn(self.serial, str(log.warning.call_args))

    def test_no_privileges(self):
        with mock.patch.object(
                privsep, 'trim_guest_logs',
                side_effect=daemon.FailedToDropPrivileges('no sudo')), \
                mock.patch.object(logkeeper, 'LOG') as log:
            self.keeper.look()
        self.assertIn('no sudo', str(log.warning.call_args))

    def test_thread(self):
        looked = threading.Event()
        with mock.patch.object(
                logkeeper.LogKeeper, 'look', lambda keeper: looked.set()):
            self.keeper.start()
            # Nova may start it again.
            self.keeper.start()
            self.assertTrue(looked.wait(30))
            self.keeper.stop()
            for thread in threading.enumerate():
                if thread.name == 'console-logs':
                    thread.join(30)
                    self.assertFalse(thread.is_alive())
