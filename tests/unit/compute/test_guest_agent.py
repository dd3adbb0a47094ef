# SPDX-License-Identifier: Apache-2.0
"""Passwords and frozen file systems, through a guest's agent."""

import os
import socket
from unittest import mock

import fixtures
from nova import exception
from nova import objects

from tests.unit import base
from tests.unit.xen import fakeagent
from xen44_driver import handover
from xen44_driver import privsep
from xen44_driver.compute import machine
from xen44_driver.compute import password
from xen44_driver.compute import quiesce
from xen44_driver.storage import kinds
from xen44_driver.xen import agent
from xen44_driver.xen.events import DomainRecord
from xen44_driver.xen.events import DomainState
from xen44_driver.xen.guesttype import GuestType

KEY = ('ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC6lq9yDHGgoOTXpVwVX5x8v7m6kIEB'
       'K9sOaF0xTBBCE3TjZB8lCMAFXIJTxCQGa0a0pQ0Lo4lT0JZ9q7X1H0m6T6y0bJf7b6n'
       'broken')


class AgentCase(base.TestCase):
    """An instance with an agent.

    :ivar there: whether QEMU listens.
    """

    def setUp(self):
        super().setUp()
        self.guest = fakeagent.GuestAgent()
        self.there = True
        for where, name, value in (
                (privsep, 'send_socket', self.send),
                (agent, 'SYNC_TIMEOUT', 0.3), (agent, 'FREEZE_TIMEOUT', 0.3)):
            self.useFixture(fixtures.MockPatchObject(where, name, value))
        self.node = base.node()
        self.instance = self.make()
        self.files = self.node.files(self.instance)
        self.files.create()

    def make(self, *, has_agent=True, **values):
        instance = base.instance(**values)
        machine.keep(instance, machine.Machine(
            guest_type=GuestType.PV, agent=has_agent,
            disks=(kinds.DiskRecord(kind='overlay', name='/dev/xvda',
                                    file='disk.qcow2', target='xvda'),)))
        return instance

    def send(self, kind, uuid, address):
        self.assertEqual(('agent', base.UUID), (kind, uuid))
        if not self.there:
            return False
        ours, theirs = socket.socketpair()
        self.guest.serve(theirs)
        with ours:
            handover.send(ours.fileno(), address)
        return True

    @property
    def marked(self):
        return os.path.exists(self.files.frozen)


class PasswordTest(AgentCase):

    def test_user(self):
        for values, user in (
                ({}, 'root'), ({'os_type': 'windows'}, 'Administrator'),
                ({'system_metadata': {'image_os_admin_user': 'me'},
                  'os_type': 'windows'}, 'me')):
            self.guest.passwords.clear()
            password.set_admin(self.make(**values), 'secret')
            self.assertEqual({user: 'secret'}, self.guest.passwords)

    def test_no_channel(self):
        for instance in (self.make(has_agent=False), base.instance()):
            self.assertRaises(exception.QemuGuestAgentNotEnabled,
                              password.set_admin, instance, 'secret')

    def test_nobody_answers(self):
        for there in (True, False):
            self.there = there
            self.guest.deaf.add('guest-sync-delimited')
            error = self.assertRaises(
                exception.InstanceAgentNotEnabled, password.set_admin,
                self.instance, 'secret')
            self.assertIn('does not answer', str(error))

    def test_refused(self):
        self.guest.answers['guest-set-user-password'] = (
            b'{"error": {"desc": "secret is too short"}}\n')
        error = self.assertRaises(
            exception.InstancePasswordSetFailed, password.set_admin,
            self.instance, 'secret')
        self.assertIn('*** is too short', str(error))

    def test_never_logged(self):
        log = self.useFixture(fixtures.FakeLogger(level=0))
        with mock.patch.object(objects.Instance, 'save'):
            password.set_admin(self.make(key_data=KEY), 'secret')
        self.assertIn('is not kept', log.output)
        self.assertNotIn('secret', log.output)

    def test_kept_encrypted(self):
        instance = self.make(key_data='ssh-rsa AAAA')
        with (mock.patch.object(password.crypto, 'ssh_encrypt_text',
                                return_value=b'\0' * 300),
              mock.patch.object(objects.Instance, 'save') as save):
            password.set_admin(instance, 'secret')
        save.assert_called_once_with()
        self.assertEqual('A' * 255, instance.system_metadata['password_0'])
        self.assertEqual('A' * 145, instance.system_metadata['password_1'])


class QuiesceTest(AgentCase):

    def record(self, state):
        self.node.host.records.return_value = {base.UUID: DomainRecord(
            uuid=base.UUID, name='x', id=7, state=state)}

    def test_freeze_and_thaw(self):
        quiesce.freeze(self.node, self.instance)
        self.assertTrue(self.guest.frozen)
        self.assertTrue(self.marked)
        quiesce.thaw(self.node, self.instance)
        self.assertFalse(self.guest.frozen)
        self.assertFalse(self.marked)
        quiesce.thaw(self.node, self.instance)

    def test_no_channel(self):
        for action in (quiesce.freeze, quiesce.thaw):
            self.assertRaises(exception.QemuGuestAgentNotEnabled, action,
                              self.node, self.make(has_agent=False))

    def fails(self, action):
        return str(self.assertRaises(
            exception.InstanceQuiesceFailed, action, self.node,
            self.instance))

    def test_nobody_answers(self):
        self.guest.deaf.add('guest-sync-delimited')
        self.assertIn('nothing answers', self.fails(quiesce.freeze))
        # It was not asked to freeze.
        self.assertFalse(self.marked)

    def test_freezes_too_slowly(self):
        self.guest.deaf.add('guest-fsfreeze-freeze')
        self.fails(quiesce.freeze)
        self.assertEqual('guest-fsfreeze-thaw', self.guest.commands[-1])
        self.assertFalse(self.marked)

    def test_does_not_thaw(self):
        error = b'{"error": {"desc": "no"}}\n'
        self.guest.answers = {'guest-fsfreeze-freeze': error,
                              'guest-fsfreeze-thaw': error}
        self.assertIn('no', self.fails(quiesce.freeze))
        self.assertEqual(['guest-fsfreeze-freeze'] + (
            ['guest-fsfreeze-thaw'] * 3), self.guest.commands)
        self.assertTrue(self.marked)
        self.assertIn('does not thaw', self.fails(quiesce.thaw))
        self.assertTrue(self.marked)

    def test_mend(self):
        self.record(DomainState.RUNNING)
        quiesce.mend(self.node)
        self.assertEqual([], self.guest.commands)
        quiesce.freeze(self.node, self.instance)
        quiesce.mend(self.node)
        self.assertFalse(self.guest.frozen)
        self.assertFalse(self.marked)

    def test_mend_what_is_off(self):
        quiesce.freeze(self.node, self.instance)
        self.record(DomainState.SHUTDOWN)
        quiesce.mend(self.node)
        self.assertFalse(self.marked)
        self.assertEqual(['guest-fsfreeze-freeze'], self.guest.commands)

    def test_mend_what_does_not_answer(self):
        quiesce.freeze(self.node, self.instance)
        self.record(DomainState.RUNNING)
        self.there = False
        quiesce.mend(self.node)
        self.assertTrue(self.marked)
