# SPDX-License-Identifier: Apache-2.0
"""Who is let in to a guest's console, and what is carried."""

import contextlib
import os
import socket
import time
from unittest import mock

from oslotest import base

from xen44_driver import relay


class RelayCase(base.BaseTestCase):
    """A relay whose devices are sockets.

    :ivar ends: the guest's ends of the devices that were opened.
    :ivar there: whether the guest is there.
    """

    lasting = True

    def setUp(self):
        super().setUp()
        self.ends = []
        self.there = True
        patcher = mock.patch.object(relay, 'REOPEN_INTERVAL', 0.05)
        patcher.start()
        self.addCleanup(patcher.stop)
        self.relay = relay.Relay(
            relay.listen('127.0.0.1', range(20000, 30000)), self.open,
            lasting=self.lasting)
        self.addCleanup(self.relay.close)

    def open(self):
        if not self.there:
            return None
        ours, theirs = socket.socketpair()
        theirs.settimeout(60)
        self.ends.append(theirs)
        self.addCleanup(theirs.close)
        with ours:
            return os.dup(ours.fileno())

    def connect(self, path=None, *, also=b''):
        client = socket.create_connection(
            ('127.0.0.1', self.relay.port), timeout=60)
        self.addCleanup(client.close)
        client.sendall(f'CONNECT {path or self.relay.path} HTTP/1.1\r\n\r\n'
                       .encode() + also)
        return client

    def welcome(self, **values):
        client = self.connect(**values)
        self.read(client, b'HTTP/1.1 200 OK\r\n\r\n')
        return client

    def read(self, end, wanted):
        got = b''
        while len(got) < len(wanted) and (part := end.recv(
                len(wanted) - len(got))):
            got += part
        self.assertEqual(wanted, got)

    def ended(self, client):
        with contextlib.suppress(ConnectionResetError):
            while client.recv(65536):
                pass

    def wait(self, condition):
        end = time.monotonic() + 60
        while not condition():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)

    def end_of_guest(self, count=1):
        self.wait(lambda: len(self.ends) >= count)
        return self.ends[count - 1]


class LastingTest(RelayCase):

    def test_both_ways(self):
        client = self.welcome(also=b'typed')
        guest = self.end_of_guest()
        self.read(guest, b'typed')
        guest.sendall(b'\0\xfflogin:')
        self.read(client, b'\0\xfflogin:')
        client.sendall(b'root\n')
        self.read(guest, b'root\n')

    def test_no_device_without_client(self):
        client = self.welcome()
        guest = self.end_of_guest()
        client.close()
        self.assertEqual(b'', guest.recv(1))
        self.assertEqual(1, len(self.ends))

    def test_secret(self):
        for path in ('/', '/wrong', f'{self.relay.path}x'):
            client = self.connect(path)
            self.read(client, b'HTTP/1.1 403')
            self.ended(client)
        for text in (b'\n' * 5000, b'GET / HTTP/1.1\r\n\r\n', b'\r\n\r\n'):
            client = socket.create_connection(
                ('127.0.0.1', self.relay.port), timeout=60)
            self.addCleanup(client.close)
            client.sendall(text)
            self.ended(client)
        self.assertEqual([], self.ends)

    def test_greeting_takes_too_long(self):
        with mock.patch.object(relay, 'GREETING_TIMEOUT', 0.05):
            client = socket.create_connection(
                ('127.0.0.1', self.relay.port), timeout=60)
            self.addCleanup(client.close)
            self.ended(client)

    def test_too_many_clients(self):
        with mock.patch.object(relay, 'MAX_CLIENTS', 1):
            client = self.welcome()
            self.ended(self.connect())
            self.end_of_guest().sendall(b'x')
            self.read(client, b'x')

    def test_takes_over(self):
        old = self.welcome()
        self.end_of_guest()
        # A stranger does not.
        self.ended(self.connect('/wrong'))
        new = self.welcome()
        self.read(old, relay._TAKEN_OVER)
        self.ended(old)
        guest = self.end_of_guest(2)
        guest.sendall(b'x')
        self.read(new, b'x')

    def test_guest_boots_again(self):
        client = self.welcome()
        # It is opened after the welcome.
        guest = self.end_of_guest()
        self.there = False
        guest.close()
        time.sleep(0.1)
        client.sendall(b'to nobody')
        time.sleep(0.1)
        self.there = True
        guest = self.end_of_guest(2)
        client.sendall(b'x')
        self.read(guest, b'x')
        guest.sendall(b'y')
        self.read(client, b'y')

    def test_guest_cannot_be_opened(self):
        problems = [OSError('no privsep'), ValueError('no'), None]

        def fail():
            if (problem := problems.pop(0) if problems else None) is None:
                return RelayCase.open(self)
            raise problem

        self.relay._open_device = fail
        self.welcome(also=b'')
        self.end_of_guest()

    def test_guest_never_waits(self):
        with mock.patch.object(relay, 'MAX_TO_CLIENT', 1000):
            client = self.welcome()
            guest = self.end_of_guest()
            for _ in range(400):
                guest.sendall(b'x' * 65536)
        self.assertTrue(client.recv(1))

    def test_close(self):
        client = self.welcome()
        self.relay.close()
        self.assertFalse(self.relay.alive)
        self.ended(client)
        # The port is free again.
        with socket.create_server(('127.0.0.1', self.relay.port)):
            pass
        self.relay.close()


class NotLastingTest(RelayCase):

    lasting = False

    def test_many_clients(self):
        clients = [self.welcome(), self.welcome()]
        self.wait(lambda: len(self.ends) == 2)
        for guest in self.ends:
            guest.sendall(b'RFB')
        for client in clients:
            self.read(client, b'RFB')

    def test_end_of_one(self):
        client, other = self.welcome(), self.welcome()
        self.wait(lambda: len(self.ends) == 2)
        self.ends[0].close()
        self.ended(client)
        self.ends[1].sendall(b'x')
        self.read(other, b'x')

    def test_nothing_there(self):
        self.there = False
        client = self.connect()
        # Nova's proxy looks for this.
        self.read(client, b'HTTP/1.1 503')
        self.ended(client)

    def test_nothing_is_lost(self):
        size = 200 * 65536
        with mock.patch.object(relay, 'MAX_TO_CLIENT', 1000):
            client = self.welcome()
            guest = self.end_of_guest()
            guest.setblocking(False)
            sent = got = 0
            while got < size:
                with contextlib.suppress(BlockingIOError):
                    sent += guest.send(b'x' * min(65536, size - sent))
                if sent == size:
                    guest.setblocking(True)
                got += len(client.recv(65536))
        self.assertEqual(size, got)


class ListenTest(base.BaseTestCase):

    def test_first_free_port(self):
        with relay.listen('127.0.0.1', range(20000, 30000)) as first:
            port = first.getsockname()[1]
            with relay.listen('127.0.0.1', range(port, port + 100)) as second:
                self.assertGreater(second.getsockname()[1], port)
            self.assertRaises(relay.NoFreePort, relay.listen, '127.0.0.1',
                              range(port, port + 1))

    def test_no_such_address(self):
        self.assertRaises(OSError, relay.listen, '192.0.2.1',
                          range(20000, 20001))


class RelaysTest(base.BaseTestCase):

    def test_relays(self):
        made = []

        def make():
            made.append(mock.Mock(alive=True))
            return made[-1]

        relays = relay.Relays()
        first = relays.get('a', 'vnc', make)
        self.assertIs(first, relays.get('a', 'vnc', make))
        second = relays.get('a', 'serial', make)
        third = relays.get('b', 'serial', make)
        # One whose thread has ended is replaced.
        third.alive = False
        fourth = relays.get('b', 'serial', make)
        self.assertIsNot(third, fourth)
        relays.close('a')
        relays.close('a')
        for closed in (first, second):
            closed.close.assert_called_once_with()
        fourth.close.assert_not_called()
        relays.close()
        fourth.close.assert_called_once_with()
