# SPDX-License-Identifier: Apache-2.0
"""Ceph on this machine: what it is told, and when it serves."""

import json
import pathlib
import types

from labkit import ceph
from labkit import config
from labkit import debian
from labkit import util
from tests.unit.labkit import base

KEY = 'AQBz0123456789=='


class CephTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.output()
        self.commands = []
        self.ended = set()
        self.answers = {'auth get': f'[client.cinder]\n\tkey = {KEY}\n'}
        self.answers['status'] = self.status(**{'active+clean': 9})
        self.patch(util, 'run', self.run_command)
        self.patch(util, 'spawn', lambda argv, **_: self.commands.append(
            ' '.join(map(str, argv))))
        self.patch(util, 'running', lambda path: (
            None if pathlib.Path(path).stem in self.ended else 1))
        self.patch(util, 'stop', lambda path: self.commands.append(
            f'stop {pathlib.Path(path).stem}'))
        self.patch(util, 'free_memory_check', lambda *_: None)
        self.patch(ceph, 'TIMEOUT', 0)
        self.ceph = ceph.Ceph(self.directory / 'ceph')

    def run_command(self, argv, **_):
        command = ' '.join(argv)
        self.commands.append(command)
        return types.SimpleNamespace(stdout=next(
            (answer for words, answer in self.answers.items()
             if words in command), 'said'))

    @staticmethod
    def status(**states):
        return json.dumps({'pgmap': {
            'num_pgs': 9, 'pgs_by_state': [
                {'state_name': name, 'count': count}
                for name, count in states.items()]}})

    def ran(self, text):
        return [command for command in self.commands if text in command]

    def test_start(self):
        self.ceph.start(1 << 30)
        self.assertEqual(
            ['ceph-mon', 'ceph-mgr', 'ceph-osd'],
            [command.split()[0] for command in self.ran(' -d')])
        self.assertEqual(1, len(self.ran(
            '--name client.cinder --cap mon profile rbd --cap mgr profile '
            'rbd pool=volumes --cap osd profile rbd pool=volumes')))
        self.assertIn('bluestore_block_size = 1073741824\n',
                      (self.directory / 'ceph/ceph.conf').read_text())
        self.ceph.stop()
        self.assertEqual(['stop ceph-osd', 'stop ceph-mgr', 'stop ceph-mon'],
                         self.commands[-3:])
        self.assertFalse((self.directory / 'ceph').exists())

    def test_it_does_not_serve(self):
        for state in (self.status(), self.status(**{
                'active+clean': 8, 'creating+peering': 1})):
            self.answers['status'] = state
            self.assertRaises(util.LabError, self.ceph.start, 1 << 30)

    def test_a_daemon_ends(self):
        """Nothing is waited for then."""
        for kind in ('mon', 'mgr', 'osd'):
            self.ended = {f'ceph-{kind}'}
            error = self.assertRaises(
                util.LabError, self.ceph.start, 1 << 30)
            self.assertEqual(f'ceph-{kind} has ended', error.reason)

    def test_client(self):
        text = self.ceph.client_conf()
        self.assertIn(f'v1:{config.CONTROLLER_IP}:6789', text)
        self.assertNotIn(str(self.directory), text)
        self.assertIn(KEY, self.ceph.client_keyring())
        self.answers['rbd '] = '["volume-1"]'
        self.assertEqual(['volume-1'], self.ceph.images())


class ClientTest(base.TestCase):

    def test_dom0_keeps_what_it_has(self):
        self.patch(util, 'need_root', lambda: None)
        self.patch(debian, 'need_tools', lambda: None)
        built = []

        def packages(directory, variant, names, log):
            built.append((variant, names))
            directory.mkdir()

        self.patch(debian, 'packages', packages)
        done = []
        host = types.SimpleNamespace(
            ssh=lambda argv: done.append(argv[0]),
            copy_to=lambda source, target, *options: done.append(
                (target, '--ignore-existing' in options)))
        for _ in range(2):
            ceph.install_client(host)
        self.assertEqual([('extract', ceph.CLIENT_PACKAGES)], built)
        self.assertEqual([('/usr/', True), 'ldconfig', 'udevadm'] * 2, done)
