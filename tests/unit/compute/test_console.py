# SPDX-License-Identifier: Apache-2.0
"""What a guest says, and where its screen is."""

import os
from unittest import mock

from nova import exception

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import console
from xen44_driver.compute import events
from xen44_driver.storage import layout
from xen44_driver.xen import events as xen_events
from xen44_driver.xen import guest as xen_guest
from xen44_driver.xen.events import DomainState


class ConsoleTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.node = base.node()
        self.node.host.record.return_value.state = DomainState.RUNNING
        self.instance = base.instance()

    def output(self, serial=None, xen=None):
        if serial is not None:
            files = layout.InstanceFiles(base.UUID)
            files.create()
            with open(files.serial_log, 'wb') as log:
                log.write(serial)
        with mock.patch.object(
                privsep, 'read_console_log', return_value=xen):
            return console.output(self.node, self.instance)

    def test_output(self):
        self.assertEqual('', self.output())
        self.assertEqual('xen', self.output(xen=b'xen'))
        self.assertEqual('serialxen', self.output(serial=b'serial',
                                                  xen=b'xen'))
        # Nova makes bytes of it again, one of each character.
        self.assertEqual(b'\xc3\xff', self.output(
            serial=b'\xc3\xff').encode('latin-1'))

    def test_only_the_end(self):
        said = self.output(serial=b'x' * console.MAX_BYTES, xen=b'login:')
        self.assertEqual(console.MAX_BYTES, len(said))
        self.assertTrue(said.endswith('xlogin:'))

    def test_vnc(self):
        self.flags(enabled=True, server_proxyclient_address='192.0.2.7',
                   group='vnc')
        guest = self.node.host.guest.return_value
        guest.vnc.return_value = xen_guest.VncAddress(
            host='127.0.0.1', port=5901)
        screen = console.vnc(self.node, self.instance)
        self.assertEqual(('192.0.2.7', 5901), (screen.host, screen.port))
        guest.vnc.return_value = None
        self.assertRaises(exception.ConsoleTypeUnavailable, console.vnc,
                          self.node, self.instance)
        self.node.host.record.return_value.state = DomainState.SHUTDOWN
        self.assertRaises(exception.InstanceNotReady, console.vnc,
                          self.node, self.instance)


class EventsTest(base.TestCase):

    def test_what_nova_is_told(self):
        emit = mock.Mock()
        forward = events.forwarder(emit)
        for kind in xen_events.EventKind:
            forward(xen_events.DomainEvent(
                uuid=base.UUID, name='x', kind=kind,
                state=DomainState.RUNNING))
        self.assertEqual(
            ['Started', 'Stopped', 'Stopped', 'Paused', 'Resumed'],
            [call.args[0].get_name() for call in emit.call_args_list])
        self.assertEqual(
            base.UUID, emit.call_args.args[0].get_instance_uuid())


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

    def test_no_directory(self):
        self.flags(console_log_dir='/nowhere', group='xen44')
        self.assertFalse(privsep.console_log_dir_readable())
