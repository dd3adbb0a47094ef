# SPDX-License-Identifier: Apache-2.0
"""The program in dom0, as a process."""

import json
import os
import pathlib
import subprocess
import sys

import fixtures
from oslotest import base

from xen44_driver.cloudstack import entrypoint

#: Logs as the program does, configured by a file.
LOGS = '''
import argparse, sys
from oslo_log import log
from xen44_driver.cloudstack import program
program._configure(argparse.Namespace(config_file=[sys.argv[1]]))
log.getLogger('xen44_driver.cloudstack').error('logged')
print('answer')
'''

#: Carries out an action with a long answer.
LONG = '''
import sys
from unittest import mock
from xen44_driver.cloudstack import program
with mock.patch.object(program, '_act', return_value={'message': 'x' * 70000}):
    sys.exit(program.main([f'--config-file={sys.argv[1]}', 'run', 'x', '-']))
'''

#: Whether the program's privsep needs a daemon, as root and as another user.
PRIVILEGES = '''
import argparse, os, sys
from xen44_driver import privsep
from xen44_driver.cloudstack import program
os.geteuid = lambda: int(sys.argv[2])
program._configure(argparse.Namespace(config_file=[sys.argv[1]]))
print(privsep.sys_admin_pctxt.client_mode)
'''

#: Where the program looks for other programs, and what these can read.
ANSWER = '''
import argparse, os, sys
from xen44_driver.cloudstack import program
program._configure = lambda arguments: None
program._act = lambda action, payload, seconds: {
    'path': os.environ['PATH'], 'umask': os.umask(0), 'got': [
        action, payload, seconds], 'input': os.read(0, 9).decode()}
sys.exit(program._serve(argparse.Namespace()))
'''


class AnswerTest(base.BaseTestCase):

    def test_privileges(self):
        path = pathlib.Path(
            self.useFixture(fixtures.TempDir()).path) / 'xen44.conf'
        path.write_text('[DEFAULT]\nuse_syslog = false\n')
        self.assertEqual(['False', 'True'], [
            subprocess.run(
                [sys.executable, '-c', PRIVILEGES, path, user], check=True,
                text=True, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL).stdout.split()[-1]
            for user in ('0', '1000')])

    def test_environment(self):
        """sshd's PATH may be short; the request is only read once."""
        done = subprocess.run(
            [sys.executable, '-c', ANSWER], check=True, text=True,
            input=json.dumps({
                'protocol': entrypoint.PROTOCOL, 'action': 'status',
                'payload': {'secret': 1}, 'seconds': 7}),
            stdout=subprocess.PIPE, env={**os.environ, 'PATH': '/bin'})
        self.assertEqual({
            'path': '/bin:/usr/local/sbin:/usr/sbin:/sbin', 'umask': 0o077,
            'got': ['status', {'secret': 1}, 7], 'input': ''},
            json.loads(done.stdout))

    def test_too_long(self):
        """CloudStack would wait for ever."""
        path = pathlib.Path(
            self.useFixture(fixtures.TempDir()).path) / 'xen44.conf'
        path.write_text('[DEFAULT]\nuse_syslog = false\n')
        done = subprocess.run(
            [sys.executable, '-c', LONG, path], input='{}', text=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        self.assertEqual(1, done.returncode)
        self.assertIn('60000 are possible', json.loads(done.stdout)['error'])


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
