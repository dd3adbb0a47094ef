# SPDX-License-Identifier: Apache-2.0
"""Who sees the screen of a VM, and how long its relay is there."""

import contextlib
import itertools
import json
import os
import pathlib
import socket
import stat
import threading
import time
from unittest import mock

import fixtures
from oslo_concurrency import processutils
from oslo_config import cfg
from oslo_config import fixture as config_fixture
from oslotest import base

from tests.cloudstack import rfb as rfb_ends
from xen44_driver import conf
from xen44_driver import privsep
from xen44_driver import relay
from xen44_driver.cloudstack import rfb
from xen44_driver.cloudstack import screens
from xen44_driver.xen import sockets

UUID = '7d1f6a52-93b4-4c0e-8a57-0b6f4c2d9e11'
UNIT = f'xen44-screen-{UUID}.service'
PORTS = range(20000, 30000)


class ScreenTestCase(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.host = mock.Mock()
        self.host.record.return_value.id = 7
        self.qemu()

    def qemu(self, **options):
        """Let the VM have another QEMU."""
        qemu = rfb_ends.Qemu(**options)
        self.addCleanup(qemu.close)
        self.host.guest.return_value.vnc_address.return_value = qemu.address

    def connect(self, port):
        client = socket.create_connection(('127.0.0.1', port), timeout=60)
        self.addCleanup(client.close)
        return client


class HandshakeTest(ScreenTestCase):

    def setUp(self):
        super().setUp()
        self.greeting = rfb.PasswordGreeting('S3cret_-')
        self.relay = relay.Relay(
            relay.listen('127.0.0.1', PORTS),
            lambda: screens.vnc.connect(self.host, UUID, rfb.enter),
            lasting=False, greeting=self.greeting)
        self.addCleanup(self.relay.close)

    def say(self, *words):
        """Say something, and return all that is answered."""
        client = self.connect(self.relay.port)
        said = b''
        with contextlib.suppress(ConnectionResetError):
            for word in words:
                said += rfb_ends.read(client, 1)
                client.sendall(word)
            while part := client.recv(4096):
                said += part
        return said

    def authenticate(self, password):
        client = self.connect(self.relay.port)
        return client, rfb_ends.authenticate(client, password)

    def test_known_responses(self):
        """Recorded handshakes of other servers and viewers."""
        for password, challenge, response in (
                ('pass1234', '84076F040550EEA9341967633B5F3855',
                 'DD96D21781A70DA49443279975404DD0'),
                ('123', '7963F9BB7BA6A42A085763808156F570',
                 '475B10D05648E4110D77F03916106F98')):
            greeting = rfb.PasswordGreeting(password)
            received = bytearray(b'RFB 003.008\n\2' + bytes.fromhex(response))
            with mock.patch('secrets.token_bytes',
                            return_value=bytes.fromhex(challenge)):
                self.assertEqual(
                    [b'RFB 003.008\n', b'\1\2', bytes.fromhex(challenge)],
                    [*greeting.meet(received)])
            self.assertEqual(b'', received)

    def test_password(self):
        client, error = self.authenticate('S3cret_-')
        self.assertIsNone(error)
        self.assertTrue(self.relay.in_use)
        client.sendall(b'\1ClientInit')
        self.assertEqual(b'\1ClientInit', rfb_ends.read(client, 11))

    def test_wrong_password(self):
        for password in ('', 'S3cret_', 's3cret_-', 'x' * 8):
            client, error = self.authenticate(password)
            self.assertEqual('Wrong password', error)
            self.assertEqual(b'', client.recv(1))
        self.assertFalse(self.relay.in_use)
        self.host.guest.assert_not_called()

    def test_result_of_a_failure(self):
        """1, failed; 2 is another word that RFB 3.8 does not have."""
        self.assertEqual(b'\0\0\0\1\0\0\0\2no', rfb._failed('no'))

    def test_challenges_differ(self):
        challenges = set()
        for _ in range(2):
            *_, last = itertools.islice(self.greeting.meet(
                bytearray(b'RFB 003.008\n\2')), 3)
            challenges.add(last)
        self.assertEqual(2, len(challenges))

    def test_nothing_but_the_password(self):
        for words in ((b'RFB 003.003\n',), (b'RFB 003.008\n', b'\1'),
                      (b'RFB 003.008\n', b'\0'), (b'GET / HTTP/1.1\r\n',)):
            said = self.say(*words)
            self.assertIn(said, (b'RFB 003.008\n', b'RFB 003.008\n\1\2'))
        self.host.guest.assert_not_called()

    def test_silent_client(self):
        with mock.patch.object(relay, 'GREETING_TIMEOUT', 0.05):
            self.assertEqual(b'RFB 003.008\n', self.say())

    def test_too_many_clients(self):
        with mock.patch.object(relay, 'MAX_CLIENTS', 1):
            self.authenticate('S3cret_-')
            self.assertEqual(b'', self.say())

    def test_no_guest(self):
        self.host.record.return_value.id = None
        _, error = self.authenticate('S3cret_-')
        self.assertIn('is off', error)

    def test_server_that_asks_for_a_password(self):
        self.qemu(kinds=b'\2')
        _, error = self.authenticate('S3cret_-')
        self.assertIn('is off', error)


class RelayServiceTest(ScreenTestCase):
    """The process that getconsole starts."""

    def setUp(self):
        super().setUp()
        self.place = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.path = self.place / f'{UUID}.screen'
        conf.register_opts(cfg.CONF)
        self.flags = self.useFixture(config_fixture.Config())
        self.flags.set_default('vnc_port_range', '20000:30000',
                               group='xen44_cloudstack')
        cfg.CONF([], default_config_files=[], default_config_dirs=[])
        for target, name, value in (
                (sockets, 'DIRECTORY', str(self.place)),
                (privsep, 'MONITOR_DIR', str(self.place)),
                (screens, '_LOOK_INTERVAL', 0.02),
                (privsep.sys_admin_pctxt, 'client_mode', False)):
            self.useFixture(fixtures.MockPatchObject(target, name, value))
        self.running = []
        self.commands = []
        self.useFixture(fixtures.MockPatchObject(
            processutils, 'execute', self.execute))
        self.addCleanup(self.end_all)

    def execute(self, *argv, check_exit_code=(0,)):
        """What systemd does."""
        self.commands.append(argv)
        if argv[0] == 'systemd-run':
            self.serve()
            return '', ''
        self.assertEqual(('systemctl', UNIT), (argv[0], argv[-1]))
        alive = any(thread.is_alive() for thread in self.running)
        if argv[1] == 'stop' and alive:
            self.path.unlink()
            self.end_all()
        code = 0 if alive else {'stop': 5, 'is-active': 3}[argv[1]]
        if code not in check_exit_code:
            raise processutils.ProcessExecutionError(exit_code=code)
        return '', ''

    def serve(self):
        """Run a service, and return when it is ready."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            address = f'{self.place}/notify'
            notified.bind(address)
            notified.settimeout(60)
            with fixtures.EnvironmentVariable('NOTIFY_SOCKET', address):
                thread = threading.Thread(target=self.run_service)
                thread.start()
                self.running.append(thread)
                self.assertEqual(b'READY=1', notified.recv(99))
            os.unlink(address)

    def run_service(self):
        # A service is ended by a signal; here its file goes.
        with contextlib.suppress(FileNotFoundError):
            screens.serve(self.host, UUID)

    def end_all(self):
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        for thread in self.running:
            thread.join(60)
            self.assertFalse(thread.is_alive())

    def starts(self):
        return sum(argv[0] == 'systemd-run' for argv in self.commands)

    def authenticate(self, screen):
        client = self.connect(screen.port)
        self.assertIsNone(rfb_ends.authenticate(client, screen.password))
        return client

    def wait(self, condition):
        end = time.monotonic() + 60
        while not condition():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)

    def test_offer(self):
        screen = screens.offer(UUID)
        self.assertIn(screen.port, PORTS)
        self.assertRegex(screen.password, r'\A[A-Za-z0-9_-]{8}\Z')
        self.assertNotIn(screen.password, repr(screen))
        self.assertNotIn(screen.password, repr(self.commands))
        self.assertEqual(0o600, stat.S_IMODE(self.path.stat().st_mode))
        self.authenticate(screen)
        # Others do not disturb those who look.
        self.assertEqual(screen, screens.offer(UUID))
        self.assertEqual(1, self.starts())

    def test_command(self):
        screens.offer(UUID)
        [argv] = [argv for argv in self.commands if argv[0] == 'systemd-run']
        at = argv.index('--')
        self.assertEqual(
            ('systemd-run', '--quiet', '--collect', f'--unit={UNIT}',
             f'--description=Screen of VM {UUID} for CloudStack',
             '--service-type=notify', '--property=TimeoutStartSec=600',
             '--property=NoNewPrivileges=yes',
             '--property=CapabilityBoundingSet='), argv[:at])
        self.assertEqual(('screen', UUID), argv[-2:])
        self.assertTrue(os.path.isabs(argv[at + 1]))

    def test_end(self):
        screens.end(UUID)
        self.assertEqual([], self.commands)
        screen = screens.offer(UUID)
        screens.end(UUID)
        self.assertFalse(self.path.exists())
        self.assertRaises(ConnectionRefusedError, self.connect, screen.port)
        self.assertNotEqual(
            screen.password, screens.offer(UUID).password)

    def test_killed(self):
        """The file of a relay that was killed is not believed."""
        for text in ('', json.dumps({'port': 1, 'password': 'x'})):
            self.path.write_text(text)
            self.assertNotEqual('x', screens.offer(UUID).password)
            self.end_all()
        self.assertEqual(2, self.starts())

    def test_idle(self):
        """It ends ten minutes after the last use, or the last question."""
        self.path.write_text('')
        carrier = mock.Mock(alive=True, in_use=False)
        clock = mock.Mock(now=0)
        clock.monotonic.side_effect = lambda: clock.now

        def sleep(seconds):
            clock.now += 100
            carrier.in_use = 200 <= clock.now < 1000
            if clock.now == 1500:
                os.utime(self.path, (1, 1))

        clock.sleep.side_effect = sleep
        with mock.patch.object(screens, 'time', clock):
            screens._wait(str(self.path), carrier)
        self.assertEqual(2100, clock.now)

    def test_ends_by_itself(self):
        self.useFixture(fixtures.MockPatchObject(screens, 'IDLE_TIMEOUT', 0))
        screens.offer(UUID)
        self.wait(lambda: not self.running[0].is_alive())
        self.assertFalse(self.path.exists())

    def test_failed_relay(self):
        screen = screens.offer(UUID)
        with mock.patch.object(relay.Relay, '_accept', side_effect=KeyError):
            with contextlib.suppress(ConnectionResetError):
                self.connect(screen.port)
            self.wait(lambda: not self.running[0].is_alive())
        self.assertFalse(self.path.exists())

    def test_wrong_passwords(self):
        """Those of a console that another VM had on this port harm nobody."""
        screen = screens.offer(UUID)
        inside = self.authenticate(screen)
        for _ in range(25):
            self.assertEqual('Wrong password', rfb_ends.authenticate(
                self.connect(screen.port), 'wrong'))
        self.assertEqual(screen, screens.offer(UUID))
        self.authenticate(screen)
        inside.sendall(b'x')
        self.assertEqual(b'x', rfb_ends.read(inside, 1))
        self.assertEqual(1, self.starts())

    def test_no_free_port(self):
        self.flags.config(vnc_port_range='20000:20000',
                          group='xen44_cloudstack')
        self.assertRaises(relay.NoFreePort, screens.offer, UUID)
        self.assertEqual(0, self.starts())

    def test_ports_are_not_novas(self):
        ports = [range(*map(int, text.split(':'))) for text in (
            cfg.CONF.xen44.vnc_port_range, cfg.CONF.xen44.spice_port_range)]
        cfg.CONF.clear_default('vnc_port_range', group='xen44_cloudstack')
        for novas in ports:
            self.assertFalse({*novas} & {*screens._ports()})
