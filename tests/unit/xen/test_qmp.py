# SPDX-License-Identifier: Apache-2.0
"""The client of QEMU's monitors, on sockets that answer as QEMU does."""

import json
import os
import socket
import threading

import fixtures
from oslotest import base

from xen44_driver.xen import qmp

GREETING = {'QMP': {'version': {'qemu': {'micro': 13, 'minor': 0,
                                         'major': 10}, 'package': ''},
                    'capabilities': ['oob']}}


class Monitor(fixtures.Fixture):
    """A monitor that serves one client after the other.

    :param answers: command -> its answer; an exception is QEMU's error, and
        None closes the connection
    :ivar asked: the commands that came
    """

    def __init__(self, answers, *, silent=False):
        super().__init__()
        self.answers = {'qmp_capabilities': {}, **answers}
        self.silent = silent
        self.asked = []

    def _setUp(self):
        directory = self.useFixture(fixtures.TempDir()).path
        self.path = os.path.join(directory, 'qmp')
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(self.path)
        self.server.listen(1)
        threading.Thread(target=self.serve, daemon=True).start()
        self.addCleanup(self.server.close)

    def serve(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            with client:
                if not self.silent:
                    self.send(client, GREETING)
                # A command comes whole, and without a newline.
                while asked := client.recv(4096):
                    if not self.answer(client, json.loads(asked)):
                        break

    def answer(self, client, asked):
        name = asked['execute']
        self.asked.append((name, asked.get('arguments')))
        answer = self.answers[name]
        if answer is None:
            return False
        which = {'id': asked['id']} if 'id' in asked else {}
        if which:
            # Events may come in between.
            self.send(client, {'event': 'RTC_CHANGE', 'data': {},
                             'timestamp': {'seconds': 1, 'microseconds': 0}})
        if isinstance(answer, Exception):
            self.send(client, {**which, 'error': {
                'class': 'GenericError', 'desc': str(answer)}})
        else:
            self.send(client, {**which, 'return': answer})
        return True

    @staticmethod
    def send(client, message):
        client.sendall(json.dumps(message).encode() + b'\r\n')


class ExecuteTest(base.BaseTestCase):

    def monitor(self, answers=(), **options):
        return self.useFixture(Monitor(dict(answers), **options))

    def test_answers(self):
        monitor = self.monitor({'query-jobs': [{'id': 'x'}], 'stop': {}})
        for _ in range(2):
            self.assertEqual([{}, [{'id': 'x'}]], qmp.execute(
                monitor.path, [('stop', {'a': 1}), ('query-jobs', {})], 10))
        self.assertIn(('stop', {'a': 1}), monitor.asked)

    def test_a_refused_command_ends_it(self):
        monitor = self.monitor({'stop': ValueError('not now'), 'cont': {}})
        error = self.assertRaises(
            qmp.CommandFailed, qmp.execute, monitor.path,
            [('stop', {}), ('cont', {})], 10)
        self.assertEqual('QEMU refuses stop: not now', str(error))
        self.assertEqual('GenericError', error.kind)
        self.assertNotIn('cont', [name for name, _ in monitor.asked])
        # As privsep carries it from one process to another.
        again = qmp.CommandFailed(*error.args)
        self.assertEqual(str(error), str(again))

    def test_no_answer(self):
        monitor = self.monitor(silent=True)
        self.assertRaisesRegex(
            qmp.MonitorUnavailable, 'within 0.2 s', qmp.execute,
            monitor.path, [('stop', {})], 0.2)

    def test_qemu_ends(self):
        monitor = self.monitor({'stop': None})
        self.assertRaises(qmp.MonitorUnavailable, qmp.execute,
                          monitor.path, [('stop', {})], 10)

    def test_no_qemu(self):
        path = os.path.join(self.useFixture(fixtures.TempDir()).path, 'x')
        self.assertRaisesRegex(
            qmp.MonitorUnavailable, 'No such file', qmp.execute, path,
            [('stop', {})], 10)


class IsThereTest(base.BaseTestCase):

    def test_each(self):
        path = os.path.join(self.useFixture(fixtures.TempDir()).path, 'x')
        self.assertFalse(qmp.is_there(path))
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen(0)
            for _ in range(4):
                # Also while others wait for it.
                self.assertTrue(qmp.is_there(path))
        # Its QEMU was killed.
        self.assertFalse(qmp.is_there(path))
