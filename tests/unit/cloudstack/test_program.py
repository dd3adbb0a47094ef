# SPDX-License-Identifier: Apache-2.0
"""The program in dom0, as a process."""

import pathlib
import subprocess
import sys

import fixtures
from oslotest import base

#: Logs as the program does, configured by a file.
LOGS = '''
import argparse, sys
from oslo_log import log
from xen44_driver.cloudstack import program
program._configure(argparse.Namespace(config_file=[sys.argv[1]]))
log.getLogger('xen44_driver.cloudstack').error('logged')
print('answer')
'''


class LogTest(base.BaseTestCase):

    def said(self, text):
        """What a process of this configuration says."""
        self.place = pathlib.Path(
            self.useFixture(fixtures.TempDir()).path)
        path = self.place / 'xen44.conf'
        path.write_text(f'[DEFAULT]\n{text}')
        done = subprocess.run(
            [sys.executable, '-c', LOGS, path], check=True, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return done.stdout

    def test_no_log_in_the_answer(self):
        for text in ('', 'use_syslog = false\n'):
            self.assertEqual('answer\n', self.said(text), text)

    def test_a_file(self):
        log = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'log'
        self.assertEqual('answer\n', self.said(f'log_file = {log}\n'))
        self.assertIn('logged', log.read_text())
