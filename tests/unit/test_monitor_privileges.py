# SPDX-License-Identifier: Apache-2.0
"""What root does with monitors for the driver."""

import os
from unittest import mock

import fixtures
from oslotest import base

from xen44_driver import privsep
from xen44_driver.xen import qmp

UUID = 'c0a8f5c1-0b3e-4f1e-9f4e-6f1f3c5b7a11'


class MonitorTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MockPatchObject(
            privsep.sys_admin_pctxt, 'client_mode', False))
        root = self.useFixture(fixtures.TempDir()).path
        self.directory = os.path.join(root, 'monitors')
        self.useFixture(fixtures.MockPatchObject(
            privsep, 'MONITOR_DIR', self.directory))
        self.execute = self.useFixture(fixtures.MockPatchObject(
            qmp, 'execute', return_value=[[]])).mock
        self.path = os.path.join(self.directory, f'{UUID}.qmp')

    def test_directory_is_closed(self):
        for _ in range(2):
            privsep.make_socket_dir()
            self.assertEqual(
                0o700, os.stat(self.directory).st_mode & 0o777)
            os.chmod(self.directory, 0o500)

    def test_directory_of_somebody_else(self):
        os.symlink('/tmp', self.directory)  # noqa: S108
        self.assertRaises(FileExistsError, privsep.make_socket_dir)

    def test_socket_is_removed(self):
        privsep.make_socket_dir()
        with open(self.path, 'w'):
            pass
        with mock.patch.object(qmp, 'is_there', return_value=True):
            privsep.remove_monitor(UUID)
        self.assertEqual([f'{UUID}.qmp'], os.listdir(self.directory))
        for _ in range(2):
            privsep.remove_monitor(UUID)
            self.assertEqual([], os.listdir(self.directory))

    def test_only_uuids(self):
        for name in ('', '../x', UUID.upper(), f'{UUID}/..', 'x' * 36):
            self.assertRaises(ValueError, privsep.monitor_path, name)

    def test_some_commands_only(self):
        for name in ('migrate', 'human-monitor-command', 'quit'):
            self.assertRaisesRegex(
                ValueError, name, privsep.execute_monitor, UUID,
                [('query-jobs', {}), (name, {})], 1)
        self.execute.assert_not_called()

    def test_our_monitor(self):
        privsep.make_socket_dir()
        with open(self.path, 'w'):
            pass
        commands = [('query-jobs', {})]
        self.assertEqual([[]], privsep.execute_monitor(
            UUID, commands, 1, 7))
        self.assertEqual(
            [mock.call(self.path, commands, 1)], self.execute.mock_calls)

    def test_guest_of_an_older_version(self):
        privsep.execute_monitor(UUID, [('query-jobs', {})], 1, 7)
        self.assertEqual('/var/run/xen/qmp-libxenstat-7',
                         self.execute.call_args.args[0])
        privsep.execute_monitor(UUID, [('query-jobs', {})], 1)
        self.assertEqual(self.path, self.execute.call_args.args[0])
