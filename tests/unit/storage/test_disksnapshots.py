# SPDX-License-Identifier: Apache-2.0
"""Snapshots inside a disk, made by the real program."""

import datetime
import subprocess
import time

from oslo_concurrency import processutils

from tests.unit.storage import test_storage
from xen44_driver.storage import disksnapshots

MIB = test_storage.MIB


class SnapshotsTest(test_storage.KindCase):

    def setUp(self):
        super().setUp()
        self.disk = self.make('overlay', format='qcow2',
                              base=self.base('raw')).path

    def write_byte(self, value):
        processutils.execute(
            'qemu-io', '-f', 'qcow2', '-c', f'write -P {value} 0 512',
            self.disk)

    def has_byte(self, value):
        # It does not fail if the pattern differs.
        out, _ = processutils.execute(
            'qemu-io', '-f', 'qcow2', '-c', f'read -P {value} 0 512',
            self.disk)
        return 'Pattern verification failed' not in out

    def names(self):
        return [found.name for found in disksnapshots.find(self.disk)]

    def test_snapshots(self):
        self.assertEqual([], self.names())
        self.write_byte(1)
        disksnapshots.create(self.disk, 'one')
        self.write_byte(2)
        disksnapshots.create(self.disk, 'two')
        self.write_byte(3)
        self.assertEqual(['one', 'two'], self.names())
        created = disksnapshots.find(self.disk)[0].created
        self.assertLess(abs(created - datetime.datetime.now(
            datetime.UTC)), datetime.timedelta(minutes=5))

        disksnapshots.restore(self.disk, 'one')
        self.assertTrue(self.has_byte(1))
        disksnapshots.delete(self.disk, 'one')
        disksnapshots.restore(self.disk, 'two')
        self.assertTrue(self.has_byte(2))
        self.assertEqual(['two'], self.names())
        for change in disksnapshots.restore, disksnapshots.delete:
            self.assertRaises(processutils.ProcessExecutionError, change,
                              self.disk, 'one')

    def test_in_use(self):
        """The snapshots of a disk can be listed while a QEMU serves it."""
        disksnapshots.create(self.disk, 'one')
        with open(self.path('serving'), 'w') as out:
            serving = subprocess.Popen(
                ['qemu-io', '-f', 'qcow2', self.disk],
                stdin=subprocess.PIPE, stdout=out)
        self.addCleanup(serving.communicate)
        end = time.monotonic() + 60
        while 'qemu-io>' not in open(self.path('serving')).read():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.1)
        self.assertEqual(['one'], self.names())
        self.assertRaises(processutils.ProcessExecutionError,
                          disksnapshots.create, self.disk, 'two')
