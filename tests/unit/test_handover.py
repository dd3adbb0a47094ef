# SPDX-License-Identifier: Apache-2.0
"""Files are handed over between processes, by what root opens."""

import os
import pty
import socket
import termios
from unittest import mock

import fixtures
from oslo_concurrency import processutils

from tests.unit import base
from xen44_driver import handover
from xen44_driver import privsep
from xen44_driver.xen import sockets


class HandoverTest(base.TestCase):

    def test_a_file(self):
        read, write = os.pipe()

        def send(address):
            handover.send(write, address)
            os.close(write)
            return True

        got = handover.receive(send)
        self.assertFalse(os.get_inheritable(got))
        os.write(got, b'x')
        os.close(got)
        with open(read, 'rb') as pipe:
            self.assertEqual(b'x', pipe.read())

    def test_no_file(self):
        addresses = []

        def send(address):
            self.assertEqual(
                0o700, os.stat(os.path.dirname(address)).st_mode & 0o777)
            addresses.append(address)
            return False

        self.assertIsNone(handover.receive(send))
        self.assertFalse(os.path.exists(os.path.dirname(addresses[0])))

    def test_a_receiver_that_ended(self):
        self.assertRaises(OSError, handover.send, 0, '/nowhere/file')


class PrivsepTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.directory = os.path.join(self.instances, 'run')
        for where, name, value in (
                (privsep.sys_admin_pctxt, 'client_mode', False),
                (sockets, 'DIRECTORY', self.directory)):
            self.useFixture(fixtures.MockPatchObject(where, name, value))
        os.mkdir(self.directory)

    def send(self, kind='agent'):
        return handover.receive(
            lambda address: privsep.send_socket(kind, base.UUID, address))

    def test_socket(self):
        self.assertIsNone(self.send())
        path = sockets.path(base.UUID, 'agent')
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            self.assertIsNone(self.send())
            server.listen(0)
            with socket.socket(fileno=self.send()) as client:
                accepted, _ = server.accept()
                accepted.sendall(b'x')
                accepted.close()
                self.assertEqual(b'x', client.recv(9))
            # A queue that is full is not waited for.
            held = [self.send() for _ in range(3)]
            self.assertIsNone(held[-1])
            for descriptor in filter(None, held):
                os.close(descriptor)
        self.assertIsNone(self.send())
        privsep.remove_sockets(base.UUID)
        self.assertEqual([], os.listdir(self.directory))
        privsep.remove_sockets(base.UUID)

    def test_no_other_sockets(self):
        for args in (('agent', '../x', '/a'), ('x', base.UUID, '/a')):
            self.assertRaises(ValueError, privsep.send_socket, *args)
        self.assertRaises(ValueError, privsep.remove_sockets, '../x')

    def console(self, **xenstore):
        with mock.patch.object(processutils, 'execute', **xenstore) as run:
            got = handover.receive(
                lambda address: privsep.send_console(7, address))
        run.assert_called_with(
            'xenstore-read', '/local/domain/7/console/tty', timeout=mock.ANY)
        return got

    def test_console(self):
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        got = self.console(return_value=(os.ttyname(slave) + '\n', ''))
        os.close(slave)
        # Raw: what the guest writes is not sent back to it.
        self.assertFalse(termios.tcgetattr(got)[3] & termios.ECHO)
        os.write(got, b'x')
        self.assertEqual(b'x', os.read(master, 9))
        os.close(got)

    def test_console_of_another_guest(self):
        # The domain ends, and its terminal is given away, before it is open.
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        self.addCleanup(os.close, slave)
        self.assertIsNone(self.console(side_effect=[
            (os.ttyname(slave) + '\n', ''),
            processutils.ProcessExecutionError(
                stderr="xenstore-read: couldn't read path /local")]))

    def test_no_console(self):
        for text in ('', '/dev/sda\n', '/dev/pts/../sda\n',
                     '/dev/pts/987654\n'):
            self.assertIsNone(self.console(return_value=(text, '')))
        self.assertIsNone(self.console(
            side_effect=processutils.ProcessExecutionError(
                stderr="xenstore-read: couldn't read path /local")))
        self.assertRaises(ValueError, privsep.send_console, '7/..', '/a')
