# SPDX-License-Identifier: Apache-2.0
"""Interactive consoles and screens, as Nova's proxies reach them."""

import contextlib
import os
import pty
import socket
import time

from nova import context as nova_context
from nova import objects
from nova.tests.functional.api import client as api_client

from tests.functional import test_servers
from xen44_driver.xen import sockets


class ConsolesBase(test_servers.ServersBase):

    def authorized(self, server, protocol, type_):
        """Ask for a console; return what its proxy is told."""
        console = self.api.api_post(
            f'/servers/{server["id"]}/remote-consoles',
            {'remote_console': {'protocol': protocol, 'type': type_}}).body
        _, _, token = console['remote_console']['url'].replace(
            '%3D', '=').rpartition('token=')
        context = nova_context.get_admin_context()
        found = objects.ConsoleAuthToken.validate(context, token)
        self.assertTrue(self.compute.manager.validate_console_port(
            context, objects.Instance.get_by_uuid(context, server['id']),
            str(found.port), type_))
        return found

    def refused(self, status, server, protocol, type_):
        error = self.assertRaises(
            api_client.OpenStackApiException, self.authorized, server,
            protocol, type_)
        self.assertEqual(status, error.response.status_code)

    def connect(self, found, path=None):
        """Connect as a proxy does."""
        client = socket.create_connection((found.host, found.port), 10)
        self.addCleanup(client.close)
        path = path or found.internal_access_path
        client.sendall(f'CONNECT {path} HTTP/1.1\r\n\r\n'.encode())
        answer = b''
        while not answer.endswith(b'\r\n\r\n'):
            answer += client.recv(1)
        return client, answer

    def welcome(self, found):
        client, answer = self.connect(found)
        self.assertIn(b' 200 ', answer)
        return client

    def ended(self, client):
        with contextlib.suppress(ConnectionResetError):
            while client.recv(4096):
                pass


class SerialTest(ConsolesBase):
    """The serial console."""

    def setUp(self):
        super().setUp()
        self.flags(enabled=True, group='serial_console')
        self.ttys = {}
        self.stub_out('xen44_driver.privsep._xenstore', self.xenstore)
        self.stub_out('xen44_driver.relay.REOPEN_INTERVAL', 0.1)

    def xenstore(self, program, path, missing):
        """What xenconsoled does: a new terminal for each domain."""
        self.assertEqual('xenstore-read', program)
        _, _, _, domid, _, _ = path.split('/')
        if domid not in self.ttys:
            master, slave = pty.openpty()
            for descriptor in (master, slave):
                self.addCleanup(self.close, descriptor)
            self.ttys[domid] = master, slave
        return os.ttyname(self.ttys[domid][1])

    @staticmethod
    def close(descriptor):
        with contextlib.suppress(OSError):
            os.close(descriptor)

    def guest(self, server):
        """What the guest of a server reads and writes."""
        domid = str(self.domain(server).ID())
        end = time.monotonic() + 120
        while domid not in self.ttys:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)
        return self.ttys[domid][0]

    def test_xens_console(self):
        server = self.boot(flavor=self.flavor(xen44_guest_type='pvh'))
        found = self.authorized(server, 'serial', 'serial')
        self.assertEqual('127.0.0.1', found.host)
        self.assertIn(found.port, range(10000, 20000))
        client, answer = self.connect(found, '/guessed')
        self.assertIn(b' 403 ', answer)
        self.ended(client)
        self.assertEqual({}, self.ttys)

        client = self.welcome(found)
        guest = self.guest(server)
        client.sendall(b'root\n')
        self.assertEqual(b'root\n', os.read(guest, 99))
        os.write(guest, b'Password:')
        self.assertEqual(b'Password:', client.recv(99))
        # The log is xenconsoled's, and goes on.
        self.below.write_console(self.domain(server).name(), 'login:')
        self.assertIn('login:', self.api.post_server_action(
            server['id'], {'os-getConsoleOutput': {}})['output'])

        for descriptor in self.ttys[str(self.domain(server).ID())]:
            self.close(descriptor)
        self._reboot_server(server, hard=True)
        guest = self.guest(server)
        os.write(guest, b'booted')
        self.assertEqual(b'booted', client.recv(99))
        self.assertEqual(
            found.port, self.authorized(server, 'serial', 'serial').port)

        self._delete_server(server)
        self.ended(client)
        self.assertRaises(ConnectionRefusedError, self.connect, found)
        self.below.assert_nothing_left()

    def test_serial_port(self):
        server = self.boot(flavor=self.flavor(xen44_guest_type='hvm'))
        self.assertIn('logappend=on', self.domain(server).xml)
        path = sockets.path(server['id'], 'serial')
        with socket.socket(socket.AF_UNIX) as qemu:
            qemu.bind(path)
            qemu.listen()
            client = self.welcome(self.authorized(server, 'serial', 'serial'))
            guest, _ = qemu.accept()
            with guest:
                guest.sendall(b'login:')
                self.assertEqual(b'login:', client.recv(99))
        self._delete_server(server)
        self.below.assert_nothing_left()

    def test_serial_port_of_before(self):
        self.flags(enabled=False, group='serial_console')
        server = self.boot(flavor=self.flavor(xen44_guest_type='hvm'))
        self.refused(400, server, 'serial', 'serial')
        self.flags(enabled=True, group='serial_console')
        self.refused(400, server, 'serial', 'serial')
        self._reboot_server(server, hard=True)
        self.authorized(server, 'serial', 'serial')

    def test_guest_that_is_off(self):
        server = self._stop_server(self.boot())
        self.refused(409, server, 'serial', 'serial')

    def test_nova_compute_restarts(self):
        server = self.boot(flavor=self.flavor(xen44_guest_type='pvh'))
        client = self.welcome(self.authorized(server, 'serial', 'serial'))
        self.compute = self.restart_compute_service(self.compute)
        self.ended(client)
        client = self.welcome(self.authorized(server, 'serial', 'serial'))
        os.write(self.guest(server), b'x')
        self.assertEqual(b'x', client.recv(99))


class VncTest(ConsolesBase):
    """The screen of an HVM guest."""

    def setUp(self):
        super().setUp()
        self.flags(enabled=True, group='vnc')

    def test_screen(self):
        server = self.boot(flavor=self.flavor(xen44_guest_type='hvm'))
        # Whoever reaches this needs no secret: nobody but this host does.
        self.assertIn('listen="127.0.0.1"',
                      self.domain(server).xml.replace("'", '"'))
        self.assertIn('tablet', self.domain(server).xml)
        found = self.authorized(server, 'vnc', 'novnc')
        self.assertIn(found.port, range(6900, 7900))
        with socket.create_server(
                ('127.0.0.1', 5900 + self.domain(server).ID())) as qemu:
            clients = [self.welcome(found), self.welcome(found)]
            for client in clients:
                viewer, _ = qemu.accept()
                with viewer:
                    viewer.sendall(b'RFB 003.008\n')
                    self.assertEqual(b'RFB 003.008\n', client.recv(12))
                self.ended(client)
            _, answer = self.connect(found, '/guessed')
            self.assertIn(b' 403 ', answer)
        # There is nothing behind it now.
        _, answer = self.connect(found)
        self.assertIn(b' 503 ', answer)
        self._delete_server(server)
        self.assertRaises(ConnectionRefusedError, self.connect, found)
        self.below.assert_nothing_left()

    def test_no_screen(self):
        server = self.boot(flavor=self.flavor(xen44_guest_type='pvh'))
        self.refused(400, server, 'vnc', 'novnc')


class SpiceTest(ConsolesBase):
    """The same screen, shown by SPICE."""

    def setUp(self):
        super().setUp()
        self.flags(enabled=True, group='spice')

    def listen(self, server):
        """Listen where the QEMU of a server does."""
        qemu = socket.socket(socket.AF_UNIX)
        self.addCleanup(qemu.close)
        qemu.bind(sockets.path(server['id'], 'spice'))
        qemu.listen()
        return qemu

    def test_screen(self):
        self.flags(enabled=False, group='vnc')
        server = self.boot(flavor=self.flavor(xen44_guest_type='hvm'))
        xml = self.domain(server).xml
        self.assertIn('com.redhat.spice.0', xml)
        self.assertIn('<video', xml)
        self.assertIn('tablet', xml)
        self.assertNotIn('<graphics', xml)
        self.refused(400, server, 'vnc', 'novnc')
        found = self.authorized(server, 'spice', 'spice-html5')
        self.assertEqual('127.0.0.1', found.host)
        self.assertIn(found.port, range(7900, 8700))
        qemu = self.listen(server)
        # A viewer opens a connection for each of its channels.
        for client in [self.welcome(found), self.welcome(found)]:
            channel, _ = qemu.accept()
            with channel:
                client.sendall(b'REDQ')
                self.assertEqual(b'REDQ', channel.recv(99))
                channel.sendall(b'REDQ')
                self.assertEqual(b'REDQ', client.recv(99))
            self.ended(client)
        _, answer = self.connect(found, '/guessed')
        self.assertIn(b' 403 ', answer)
        qemu.close()
        _, answer = self.connect(found)
        self.assertIn(b' 503 ', answer)
        self._delete_server(server)
        self.assertRaises(ConnectionRefusedError, self.connect, found)
        self.below.assert_nothing_left()

    def test_direct_viewers_are_not_let_in(self):
        # Nova gives them no path.
        server = self.boot(flavor=self.flavor(xen44_guest_type='hvm'))
        found = self.authorized(server, 'spice', 'spice-direct')
        _, answer = self.connect(found)
        self.assertIn(b' 403 ', answer)

    def test_beside_vnc(self):
        self.flags(enabled=True, group='vnc')
        server = self.boot(flavor=self.flavor(xen44_guest_type='hvm'))
        ports = {self.authorized(server, *console).port for console in (
            ('vnc', 'novnc'), ('spice', 'spice-html5'))}
        self.assertEqual(2, len(ports))

    def test_guest_of_before(self):
        self.flags(enabled=False, group='spice')
        server = self.boot(flavor=self.flavor(xen44_guest_type='hvm'))
        self.refused(400, server, 'spice', 'spice-html5')
        self.flags(enabled=True, group='spice')
        self._reboot_server(server, hard=True)
        self.refused(400, server, 'spice', 'spice-html5')
        self._rebuild_server(server, self.image)
        self.authorized(server, 'spice', 'spice-html5')

    def test_no_screen(self):
        server = self.boot(flavor=self.flavor(xen44_guest_type='pvh'))
        self.refused(400, server, 'spice', 'spice-html5')
