# SPDX-License-Identifier: Apache-2.0
"""A guest's console log, and where its screen is."""

import os
import pathlib
import socket
import stat
import time
from unittest import mock

import fixtures
from nova import exception

from tests.unit import base
from xen44_driver import handover
from xen44_driver import privsep
from xen44_driver.compute import consoles
from xen44_driver.compute import lifecycle
from xen44_driver.core import consolelog
from xen44_driver.storage import layout
from xen44_driver.xen import errors as xen_errors
from xen44_driver.xen import events as xen_events
from xen44_driver.xen.events import DomainState
from xen44_driver.xen.guest import Terminal

ROOT = pathlib.Path(__file__).parents[3]


class ConsoleTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.node = base.node()
        self.addCleanup(self.node.relays.close)
        self.node.host.record.return_value.state = DomainState.RUNNING
        self.instance = base.instance()

    def output(self, serial=None, xen=None):
        if serial is not None:
            files = layout.InstanceFiles(self.instances, base.UUID)
            files.create()
            with open(files.serial_log, 'wb') as log:
                log.write(serial)
        with mock.patch.object(
                privsep, 'read_console_log', return_value=xen):
            return consoles.output(self.node, self.instance)

    def test_output(self):
        self.assertEqual('', self.output())
        self.assertEqual('xen', self.output(xen=b'xen'))
        self.assertEqual('serialxen', self.output(serial=b'serial',
                                                  xen=b'xen'))
        # Nova makes bytes of it again, one of each character.
        self.assertEqual(b'\xc3\xff', self.output(
            serial=b'\xc3\xff').encode('latin-1'))

    def test_only_the_end(self):
        most = consoles.MAX_BYTES
        said = self.output(serial=b'x' * most, xen=b'login:')
        self.assertEqual(most, len(said))
        self.assertTrue(said.endswith('xlogin:'))
        # A long one does not hide the other.
        said = self.output(serial=b'boot:', xen=b'x' * most)
        self.assertEqual(most, len(said))
        self.assertTrue(said.startswith('boot:x'))
        said = self.output(serial=b's' * most, xen=b'x' * most)
        self.assertEqual('s' * (most // 2) + 'x' * (most // 2), said)

    def test_only_the_end_is_read(self):
        files = layout.InstanceFiles(self.instances, base.UUID)
        files.create()
        with open(files.serial_log, 'wb') as log:
            log.truncate(2 ** 40)
            log.seek(0, os.SEEK_END)
            log.write(b'end')
        # Nothing was ever written to the rest.
        self.assertEqual('end', self.output())

    def test_no_domain(self):
        self.node.host.record.side_effect = xen_errors.DomainNotFound('x')
        self.assertRaises(xen_errors.DomainNotFound, self.output,
                          serial=b'of an earlier life')

    def test_forget(self):
        with mock.patch.object(privsep, 'remove_console_log') as remove:
            consoles.forget(self.instance)
        remove.assert_called_once_with(self.instance.name)

    def test_prepare(self):
        path = os.path.join(self.instances, 'console.log')
        consolelog.prepare(path)
        self.assertEqual(0o600, stat.S_IMODE(os.stat(path).st_mode))
        with open(path, 'w') as log:
            log.write('earlier boot')
        consolelog.prepare(path)
        with open(path) as log:
            self.assertEqual('earlier boot', log.read())

    def test_vnc(self):
        self.flags(enabled=True, server_proxyclient_address='192.0.2.7',
                   group='vnc')
        guest = self.node.host.guest.return_value
        with socket.create_server(('127.0.0.1', 0)) as server:
            guest.vnc_address.return_value = server.getsockname()
            screen = consoles.vnc(self.node, self.instance)
            self.assertEqual('192.0.2.7', screen.host)
            self.assertIn(screen.port, range(6900, 7900))
            # Nova's proxy asks again whether the port is right.
            self.assertEqual(
                screen.port, consoles.vnc(self.node, self.instance).port)
            with self.connect(screen):
                viewer, _ = server.accept()
                viewer.close()
        guest.vnc_address.return_value = None
        self.assertRaises(exception.ConsoleTypeUnavailable, consoles.vnc,
                          self.node, self.instance)
        self.node.host.record.return_value.state = DomainState.SHUTDOWN
        self.assertRaises(exception.InstanceNotReady, consoles.vnc,
                          self.node, self.instance)

    def test_vnc_of_another_guest(self):
        # The guest ends, and its port is given away, before it is reached.
        record = self.node.host.record.return_value
        record.id = 7
        address = self.node.host.guest.return_value.vnc_address
        with socket.create_server(('127.0.0.1', 0)) as server:
            taken = server.getsockname()
            address.return_value = taken
            opened = consoles._open_vnc(self.node, base.UUID)
            os.close(opened)
            for later in (None, ('127.0.0.1', 5900)):
                address.side_effect = [taken, later]
                self.assertIsNone(consoles._open_vnc(self.node, base.UUID))

            def reboots():
                record.id += 1
                return taken

            address.side_effect = reboots
            self.assertIsNone(consoles._open_vnc(self.node, base.UUID))

    def test_spice(self):
        def refused(error):
            self.assertRaises(error, consoles.spice, self.node, self.instance)

        refused(exception.ConsoleTypeUnavailable)
        self.flags(enabled=True, server_proxyclient_address='192.0.2.7',
                   group='spice')
        guest = self.node.host.guest.return_value
        guest.has_spice.return_value = False
        refused(exception.ConsoleTypeUnavailable)
        guest.has_spice.return_value = True
        self.node.host.record.return_value.id = 7
        ours, qemus = socket.socketpair()
        self.addCleanup(qemus.close)
        opened = []

        def send(kind, uuid, address):
            opened.append((kind, uuid))
            handover.send(ours.fileno(), address)
            ours.close()
            return True

        self.useFixture(fixtures.MockPatchObject(
            privsep, 'send_socket', send))
        found = consoles.spice(self.node, self.instance)
        self.assertEqual(('192.0.2.7', None), (found.host, found.tlsPort))
        self.assertIn(found.port, range(7900, 8700))
        # Nova's proxy asks again whether the port is right.
        self.assertEqual(
            found.port, consoles.spice(self.node, self.instance).port)
        with self.connect(found) as client:
            client.sendall(b'REDQ')
            self.assertEqual(b'REDQ', qemus.recv(99))
        self.assertEqual([('spice', base.UUID)], opened)
        self.node.host.record.return_value.id = None
        self.assertIsNone(consoles._open_spice(self.node, base.UUID))
        self.node.host.record.return_value.state = DomainState.SHUTDOWN
        refused(exception.InstanceNotReady)

    def connect(self, console):
        """Connect as Nova's proxies do."""
        client = socket.create_connection(('127.0.0.1', console.port), 5)
        client.sendall(
            f'CONNECT {console.internal_access_path} HTTP/1.1\r\n\r\n'
            .encode())
        self.assertEqual(b'HTTP/1.1 200', client.recv(12))
        return client

    def test_serial(self):
        self.flags(enabled=True, group='serial_console')
        self.node.host.record.return_value.id = 7
        guest = self.node.host.guest.return_value
        opened = []

        def send(*where):
            opened.append(where[:-1])
            return False

        for name in ('send_console', 'send_socket'):
            self.useFixture(fixtures.MockPatchObject(privsep, name, send))
        for kind, where in ((Terminal.XEN, (7,)),
                            (Terminal.SERIAL, ('serial', base.UUID))):
            guest.terminal.return_value = kind
            with self.connect(consoles.serial(self.node, self.instance)):
                end = time.monotonic() + 60
                while not opened and time.monotonic() < end:
                    time.sleep(0.01)
            self.assertEqual(where, opened[0])
            self.node.relays.close(base.UUID)
            opened.clear()
        # A guest that is off, or gone, is asked for nothing.
        guest.terminal.reset_mock()
        self.node.host.record.return_value.id = None
        self.assertIsNone(consoles._open_serial(self.node, base.UUID))
        self.node.host.record.side_effect = xen_errors.DomainNotFound('x')
        self.assertIsNone(consoles._open_serial(self.node, base.UUID))
        self.assertIsNone(consoles._open_vnc(self.node, base.UUID))
        guest.terminal.assert_not_called()

    def test_no_serial(self):
        def refused(error):
            return str(self.assertRaises(
                error, consoles.serial, self.node, self.instance))

        self.assertIn('serial', refused(exception.ConsoleTypeUnavailable))
        self.flags(enabled=True, group='serial_console')
        guest = self.node.host.guest.return_value
        guest.terminal.return_value = None
        refused(exception.ConsoleTypeUnavailable)
        guest.terminal.return_value = Terminal.XEN
        self.flags(port_range='20000:20000', group='serial_console')
        self.assertIn(
            '127.0.0.1',
            refused(exception.SocketPortRangeExhaustedException))
        self.node.host.record.return_value.state = DomainState.SHUTDOWN
        refused(exception.InstanceNotReady)


class EventsTest(base.TestCase):

    def test_what_nova_is_told(self):
        emit = mock.Mock()
        started = mock.Mock()
        watch = mock.Mock()
        forward = lifecycle.forwarder(emit, started, watch)
        for kind in xen_events.EventKind:
            forward(xen_events.DomainEvent(
                uuid=base.UUID, name='x', kind=kind,
                state=DomainState.RUNNING))
        self.assertEqual(
            ['Started', 'Stopped', 'Stopped', 'Paused', 'Resumed'],
            [call.args[0].get_name() for call in emit.call_args_list])
        self.assertEqual(
            base.UUID, emit.call_args.args[0].get_instance_uuid())
        started.assert_called_once_with(base.UUID)
        self.assertEqual(
            ['STARTED', 'STOPPED', 'CRASHED', 'PAUSED', 'RESUMED'],
            [call.args[0].kind.name for call in watch.call_args_list])

    def test_nova_is_told_last(self):
        """It may wait for its conductor, while the guest boots."""
        told = mock.Mock()
        lifecycle.forwarder(told.emit, told.started, told.watch)(
            xen_events.DomainEvent(
                uuid=base.UUID, name='x', kind=xen_events.EventKind.STARTED,
                state=DomainState.RUNNING))
        self.assertEqual(['watch', 'started', 'emit'],
                         [call[0] for call in told.mock_calls])


class PrivsepTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.logs = os.path.join(self.instances, 'console')
        os.mkdir(self.logs)
        self.flags(console_log_dir=self.logs, group='xen44')
        patcher = mock.patch.object(
            privsep.sys_admin_pctxt, 'client_mode', False)
        patcher.start()
        self.addCleanup(patcher.stop)

    def write(self, name, text):
        with open(os.path.join(self.logs, name), 'w') as log:
            log.write(text)

    def test_read_and_remove(self):
        self.assertTrue(privsep.console_log_dir_readable())
        self.assertIsNone(privsep.read_console_log('a', 10))
        self.write('guest-a.log', '0123456789abc')
        self.assertEqual(b'3456789abc', privsep.read_console_log('a', 10))
        self.assertEqual(b'0123456789abc',
                         privsep.read_console_log('a', 100))
        self.assertTrue(privsep.remove_console_log('a'))
        self.assertFalse(privsep.remove_console_log('a'))

    def test_only_logs_of_consoles(self):
        for name in ('../x', '/etc/shadow', '', 'a\0b', 'a/../b'):
            self.assertRaises(ValueError, privsep.read_console_log, name, 1)
            self.assertRaises(ValueError, privsep.remove_console_log, name)
        os.symlink('/etc/hostname',
                   os.path.join(self.logs, 'guest-link.log'))
        self.assertRaises(OSError, privsep.read_console_log, 'link', 1)

    def test_trim(self):
        self.write('other', 'x' * 100)
        os.symlink('other', os.path.join(self.logs, 'guest-link.log'))
        self.write('guest-a.log', 'a' * 20)
        self.write('guest-b.log', 'b' * 21)
        self.write('guest-c.log', 'c' * 19 + 'end')
        with mock.patch.object(privsep, 'QEMU_LOG_DIR', self.logs):
            problems = privsep.trim_guest_logs(
                ['gone', 'link', '../x', 'a', 'b', 'c'], 20)
        for name, text in (('a', 'a' * 20), ('b', 'b' * 10),
                           ('c', 'ccccccc' + 'end')):
            self.assertEqual(
                text.encode(), privsep.read_console_log(name, 100))
        # A bad one keeps nobody's log from being shortened.
        self.assertEqual(3, len(problems))
        self.assertIn("console log of 'link'", problems[0])
        self.assertIn("console log of '../x'", problems[1])
        self.assertIn("QEMU log of '../x'", problems[2])
        self.assertEqual(
            100, os.path.getsize(os.path.join(self.logs, 'other')))

    def test_logrotate(self):
        rotated = (ROOT / 'etc/logrotate.d/xen44').read_text()
        for path in (f'{privsep.QEMU_LOG_DIR}/qemu-dm-*.log',
                     '/var/log/xen/console/guest-*.log'):
            self.assertIn(f'\n{path} {{\n', rotated)

    def test_no_directory(self):
        self.flags(console_log_dir='/nowhere', group='xen44')
        self.assertFalse(privsep.console_log_dir_readable())
