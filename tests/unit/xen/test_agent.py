# SPDX-License-Identifier: Apache-2.0
"""What is said to a guest agent, and what is made of its answers."""

import socket
from unittest import mock

from oslotest import base

from tests.unit.xen import fakeagent
from xen44_driver.xen import agent
from xen44_driver.xen import errors


class AgentTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.guest = fakeagent.GuestAgent()
        self.theirs = theirs
        self.agent = agent.Agent(ours)
        for name in ('SYNC_TIMEOUT', 'COMMAND_TIMEOUT', 'FREEZE_TIMEOUT'):
            patcher = mock.patch.object(agent, name, 0.5)
            patcher.start()
            self.addCleanup(patcher.stop)

    def serve(self):
        self.guest.serve(self.theirs)

    def test_commands(self):
        self.serve()
        self.agent.sync()
        self.agent.set_password('root', 'pässword')
        self.assertEqual({'root': 'pässword'}, self.guest.passwords)
        self.assertEqual(2, self.agent.freeze())
        self.assertTrue(self.guest.frozen)
        self.assertEqual(2, self.agent.thaw())
        self.assertEqual(0, self.agent.thaw())

    def test_in_step(self):
        # The end of an answer to somebody else, and whole ones.
        self.guest.noise = (b'": 1}}\n{"return": 5}\n'
                            b'\xff{"return": 7}\n\xff{"return": []}\n'
                            b'\xff{"error": {"desc": "x"}}\n\xffno JSON\n')
        self.serve()
        self.agent.sync()
        self.assertEqual(2, self.agent.freeze())

    def silent(self, method):
        return str(self.assertRaises(errors.AgentSilent, method))

    def refused(self, method, *args):
        return str(self.assertRaises(errors.AgentRefused, method, *args))

    def test_nobody_answers(self):
        self.assertIn('nothing answers', self.silent(self.agent.sync))

    def test_nobody_reads(self):
        self.guest.deaf.add('guest-fsfreeze-freeze')
        self.serve()
        self.agent.sync()
        self.silent(self.agent.freeze)

    def test_guest_ends(self):
        self.theirs.close()
        self.silent(self.agent.sync)

    def test_endless(self):
        for noise in (b'x' * 70_000, b'\xff' + b'x' * 70_000,
                      b'\xff{}\n' * 2000):
            with mock.patch.object(agent, 'MAX_SKIPPED', 5000):
                self.guest.noise = noise
                ours, theirs = socket.socketpair()
                self.guest.serve(theirs)
                with ours:
                    self.refused(agent.Agent(ours).sync)

    def test_longest_answer(self):
        answer = b'{"return": 2}'.ljust(8192) + b'\n'
        self.guest.answers['guest-fsfreeze-thaw'] = answer
        self.serve()
        self.agent.sync()
        with mock.patch.object(agent, 'MAX_ANSWER', 8192):
            self.assertEqual(2, self.agent.thaw())
        with mock.patch.object(agent, 'MAX_ANSWER', 8191):
            self.assertIn('8191', self.refused(self.agent.thaw))

    def test_errors_of_a_guest(self):
        self.serve()
        self.agent.sync()
        self.assertEqual('no such user', self.refused(
            self.agent.set_password, 'nobody', 'x'))
        for answer, reason in (
                (b'{"error": {"desc": "a\\u0007\\nb"}}', 'a b'),
                (b'{"error": {"desc": "' + b'x' * 9000 + b'"}}', 'x' * 120),
                (b'{"error": {"desc": ["x"]}}', "['x']"),
                (b'{"error": 5}', 'no reason'), (b'5', 'no reason'),
                (b'{"error": {"desc": ""}}', 'no reason'),
                (b'{"return": true}', 'no number'),
                (b'{"return": "5"}', 'no number'),
                (b'[' * 30_000, 'not JSON'), (b'\xff\xfe', 'not JSON'),
                (b'x' * 70_000, 'more than 65536 bytes')):
            self.guest.answers['guest-fsfreeze-thaw'] = answer + b'\n'
            self.assertIn(reason, self.refused(self.agent.thaw))
            if len(answer) > 60_000:
                break

    def test_no_part_of_a_password_is_told(self):
        self.serve()
        self.agent.sync()
        self.guest.answers['guest-set-user-password'] = (
            b'{"error": {"desc": "' + b'x' * 115 + b'secret"}}\n')
        self.assertNotIn('secr', self.refused(
            self.agent.set_password, 'root', 'secret'))

    def test_password_is_not_told(self):
        self.serve()
        self.agent.sync()
        self.guest.answers['guest-set-user-password'] = (
            b'{"error": {"desc": "cannot set secret (c2VjcmV0)"}}\n')
        self.assertEqual('cannot set *** (***)', self.refused(
            self.agent.set_password, 'root', 'secret'))
