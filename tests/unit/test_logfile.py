# SPDX-License-Identifier: Apache-2.0
"""Logs are shortened while a program writes them."""

import os
import subprocess
import sys
from unittest import mock

import fixtures
from oslotest import base

from xen44_driver import logfile

#: Writes numbered lines to the end of a file until its input ends, then
#: prints how many.
WRITER = """
import os, select, sys
log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
number = 0
while not select.select([0], [], [], 0)[0]:
    for _ in range(50):
        os.write(log, b'%08d\\n' % number)
        number += 1
print(number)
"""


class LogFileTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.path = os.path.join(
            self.useFixture(fixtures.TempDir()).path, 'log')

    def write(self, data):
        with open(self.path, 'wb') as log:
            log.write(data)

    def read(self):
        with open(self.path, 'rb') as log:
            return log.read()

    def test_read_end(self):
        self.assertIsNone(logfile.read_end(self.path, 10))
        self.write(b'0123456789abc')
        self.assertEqual(b'3456789abc', logfile.read_end(self.path, 10))
        self.assertEqual(b'0123456789abc', logfile.read_end(self.path, 100))

    def test_trim_keeps_the_end(self):
        data = os.urandom(300_000)
        for size, left in ((0, 0), (100_000, 100_000), (100_001, 50_000),
                           (300_000, 50_000)):
            self.write(data[:size])
            self.assertEqual(
                size != left, logfile.trim(self.path, 100_000), size)
            self.assertEqual(data[size - left:size], self.read(), size)

    def test_no_log(self):
        self.assertFalse(logfile.trim(self.path, 1))
        self.assertFalse(os.path.exists(self.path))

    def test_links_and_pipes(self):
        victim = f'{self.path}.victim'
        with open(victim, 'wb') as other:
            other.write(b'x' * 100)
        os.symlink(victim, self.path)
        self.assertRaises(OSError, logfile.trim, self.path, 10)
        self.assertRaises(OSError, logfile.read_end, self.path, 10)
        self.assertEqual(100, os.path.getsize(victim))
        os.unlink(self.path)
        os.mkfifo(self.path)
        # A pipe that nobody writes to does not hold up the reader.
        self.assertIsNone(logfile.read_end(self.path, 10))
        self.assertFalse(logfile.trim(self.path, 10))

    def test_what_is_written_meanwhile_is_kept_in_order(self):
        self.write(b'a' * 150 + b'b' * 50)
        log = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        self.addCleanup(os.close, log)
        copy = os.pwrite

        def pwrite(*args):
            if len(self.read()) < 204:
                os.write(log, b'cc')
            return copy(*args)

        with mock.patch.object(os, 'pwrite', pwrite):
            self.assertTrue(logfile.trim(self.path, 100))
        self.assertEqual(b'b' * 50 + b'cccc', self.read())
        # The writer goes on right behind it.
        os.write(log, b'd')
        self.assertEqual(b'b' * 50 + b'ccccd', self.read())

    def test_a_faster_writer_does_not_hold_it(self):
        self.write(b'a' * 200)
        log = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        self.addCleanup(os.close, log)
        copy = os.pwrite

        def pwrite(*args):
            os.write(log, b'more' * 20)
            return copy(*args)

        with mock.patch.object(os, 'pwrite', pwrite):
            self.assertTrue(logfile.trim(self.path, 100))
        self.assertLess(len(self.read()), 300)

    def test_a_writer_that_does_not_append(self):
        self.write(b'')
        with open(self.path, 'wb', buffering=0) as log:
            log.write(b'x' * 1_000_000)
            self.assertTrue(logfile.trim(self.path, 100_000))
            log.write(b'end')
        # Its size is as before, what it takes of the disk is not.
        self.assertEqual(1_000_003, os.path.getsize(self.path))
        self.assertLess(os.stat(self.path).st_blocks * 512, 100_000)
        self.assertTrue(logfile.trim(self.path, 100_000))
        self.assertEqual(50_000, os.path.getsize(self.path))
        self.assertEqual(b'\0end', self.read()[-4:])

    def test_beside_a_program_that_writes(self):
        self.write(b'')
        writer = subprocess.Popen(
            [sys.executable, '-c', WRITER, self.path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        trimmed = 0
        while trimmed < 20:
            trimmed += logfile.trim(self.path, 64 * 1024)
        written = int(writer.communicate(timeout=60)[0])
        logfile.trim(self.path, 64 * 1024)
        self.assertLessEqual(os.path.getsize(self.path), 64 * 1024)
        # The last line that was written is there, and no line comes twice or
        # too early.
        numbers = [int(line) for line in self.read().split(b'\n')[1:-1]
                   if len(line) == 8]
        self.assertEqual(written - 1, numbers[-1])
        self.assertEqual(sorted(set(numbers)), numbers)
