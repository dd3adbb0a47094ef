# SPDX-License-Identifier: Apache-2.0
"""The executable on the management servers."""

import ast
import errno
import io
import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from unittest import mock

import fixtures
from oslotest import base

from labkit import provisioner
from xen44_driver.cloudstack import entrypoint

SOURCE = pathlib.Path(entrypoint.__file__)

#: Modules of Python 3.6.
STANDARD = {'json', 'os', 're', 'stat', 'subprocess', 'sys', 'tempfile',
            'time', 'typing', 'zlib'}


class ShapeTest(base.BaseTestCase):

    def test_old_pythons_can_read_it(self):
        tree = ast.parse(SOURCE.read_text(), feature_version=(3, 6))
        imported = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module)
        self.assertEqual(set(), imported - STANDARD)


class EntryPointTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.place = pathlib.Path(
            self.useFixture(fixtures.TempDir()).path).resolve()
        for name in ('id_ed25519', 'known_hosts'):
            (self.place / name).touch()
        entry = self.place / 'xen44.py'
        entry.write_text(SOURCE.read_text())
        entry.chmod(0o755)
        os.mkdir(self.place / 'bin')
        self.server = provisioner.Provisioner(
            entry, self.place, details={'extension': {}}, environment={
                'PATH': f'{self.place}/bin:'
                        f'{os.path.dirname(sys.executable)}:/usr/bin:/bin',
                'TMPDIR': str(self.place)})

    def ssh(self, script):
        path = self.place / 'bin/ssh'
        path.write_text(f'#!/bin/sh\n{script}\n')
        path.chmod(0o755)

    def test_request(self):
        # As CloudStack's packages leave it.
        (self.place / 'id_ed25519').chmod(0o755)
        self.ssh(f'cat > {self.place}/request; echo "$@" > {self.place}/args;'
                 ' echo noise >&2; echo \'{"status": "success"}\'')
        answer = self.server.act('status', seconds=100)
        self.assertEqual({'status': 'success'}, answer.json)
        self.assertEqual(0o600, stat.S_IMODE(
            (self.place / 'id_ed25519').stat().st_mode))
        request = json.loads((self.place / 'request').read_text())
        self.assertEqual((1, 'status', 97), tuple(
            request[key] for key in ('protocol', 'action', 'seconds')))
        self.assertEqual('i-4-231-VM',
                         request['payload']['virtualmachinename'])
        arguments = (self.place / 'args').read_text()
        for words in (f'-i {self.place}/id_ed25519', '-p 22 -l xen44',
                      f'UserKnownHostsFile={self.place}/known_hosts',
                      'StrictHostKeyChecking=yes', 'BatchMode=yes',
                      '-- xen-a.example.test xen44-cloudstack serve'):
            self.assertIn(words, arguments)

    def test_payload_is_only_read(self):
        """It may belong to another user of the management server's group."""
        self.ssh('echo \'{"status": "success"}\'')
        path = self.place / 'payload.json'
        path.write_text(json.dumps(self.server.payload('stop')))
        path.chmod(0o440)
        before = path.stat()
        subprocess.run([self.server.entry, 'stop', path, '60'], check=True,
                       stdout=subprocess.DEVNULL, env=self.server.environment)
        after = path.stat()
        self.assertEqual(
            (before.st_ino, before.st_mtime_ns, before.st_mode),
            (after.st_ino, after.st_mtime_ns, after.st_mode))

    def test_failures(self):
        for script, words in (
                ('exit 255', 'cannot be reached: no reason'),
                ('echo "Host key verification failed." >&2; exit 255',
                 'Host key verification failed'),
                ('exit 3', 'status 3'),
                ('head -c 70000 /dev/zero | tr "\\0" x', 'more than 60000'),
                # Of a start-up file of root's shell; these are three bytes
                # each if they are printed as they come.
                ('head -c 50000 /dev/zero | tr "\\0" "\\377"', 'not JSON'),
                ('echo Welcome; echo \'{"status": "success"}\'', 'not JSON'),
                ('echo \'["poweron"]\'', 'not JSON'),
                ('echo \'{"status": "error", "error": "no disk"}\'; exit 1',
                 'no disk')):
            self.ssh(script)
            self.assertIn(words, self.server.act('status').error)

    def test_other_letters(self):
        """Python 3.6 cannot print all of them, and a pipe is short."""
        self.ssh('echo \'{"status": "success", "message": "ä"}\'')
        answer = self.server.act('ConsoleLog')
        self.assertEqual('ä', answer.json['message'])
        self.assertTrue(answer.text.isascii())
        # It grows.
        self.ssh('printf \'{"message": "\'; '
                 'printf "\\303\\244%.0s" $(seq 20000); echo \'"}\'')
        self.assertIn('more than 60000', self.server.act('ConsoleLog').error)

    def test_no_room(self):
        """What is wrong with the management server is said."""
        out = io.StringIO()
        with mock.patch.object(entrypoint, 'act', side_effect=OSError(
                errno.ENOSPC, 'No space left on device')), \
                mock.patch('sys.stdout', out), mock.patch('os.umask'):
            self.assertEqual(1, entrypoint.main([str(self.server.entry)]))
        self.assertIn('No space left', json.loads(out.getvalue())['error'])

    def test_time(self):
        """It ends before CloudStack kills it."""
        self.ssh('exec sleep 60')
        begin = time.monotonic()
        self.assertIn('1 s', self.server.act('stop', seconds=4).error)
        self.assertLess(time.monotonic() - begin, 30)

    def test_background_process(self):
        """The process that keeps a connection open is not waited for."""
        self.ssh('sleep 20 & echo \'{"status": "success"}\'')
        begin = time.monotonic()
        self.assertTrue(self.server.act('status').success)
        self.assertLess(time.monotonic() - begin, 15)

    def test_addresses(self):
        """Details of VMs change nothing, and no detail is an option."""
        self.ssh(f'touch {self.place}/called')
        for name, values in {
                'dom0': ('-oProxyCommand=x', 'a b', '', 'a\nb', 'x' * 300),
                'ssh_user': ('-x', 'a;b', 'A B'), 'ssh_port': ('x', '1 2'),
                'ssh_key_file': ('relative', '/a b', '/missing'),
                'ssh_known_hosts': ('/missing',)}.items():
            for value in values:
                def change(payload, name=name, value=value):
                    payload['externaldetails']['host'][name] = value
                    payload['externaldetails']['virtualmachine'][
                        'dom0'] = 'evil.example.test'

                self.assertTrue(self.server.act('stop', change=change).error)
        self.assertFalse((self.place / 'called').exists())

    def test_no_action(self):
        for action in ('com.cloud.agent.api.SomeCommand', 'a;b', 'x' * 65):
            self.assertIn('no action', self.server.run(
                action, {'action': action}, seconds=5).error)

    def test_sharing(self):
        path = self.place / 'shared'
        self.assertIn(f'ControlPath={path}/%C',
                      entrypoint.sharing('key', str(path)))
        # Of each key its own.
        short = tempfile.mkdtemp(dir='/tmp')
        self.addCleanup(shutil.rmtree, short)
        with mock.patch.object(tempfile, 'tempdir', short):
            self.assertNotEqual(entrypoint.sharing('/a/key')[-1],
                                entrypoint.sharing('/b/key')[-1])
        self.assertEqual(0o700, stat.S_IMODE(path.stat().st_mode))
        path.chmod(0o755)
        self.assertEqual([], entrypoint.sharing('key', str(path)))
        # ssh would refuse a longer name of its socket, and everything with it.
        self.assertEqual([], entrypoint.sharing(
            'key', str(self.place / ('x' * 60))))
        os.rmdir(path)
        path.symlink_to(self.place)
        self.assertEqual([], entrypoint.sharing('key', str(path)))

    def test_usage(self):
        done = subprocess.run(
            [sys.executable, SOURCE, 'status'], capture_output=True,
            text=True, check=False)
        self.assertEqual((1, ''), (done.returncode, done.stderr))
        self.assertIn('usage', json.loads(done.stdout)['error'])
