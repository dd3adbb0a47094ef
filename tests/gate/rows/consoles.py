# SPDX-License-Identifier: Apache-2.0
"""Consoles that are typed into, and who can reach them."""

from __future__ import annotations

import contextlib
import socket
from typing import Any
from typing import ClassVar
import urllib.parse

from labkit import browser
from labkit import config
from labkit import util
from labkit import vnc
from tests.gate import base
from tests.gate import guest as guest_lib

#: Seconds for the websocket's whole life: a boot under emulation.
SESSION_TIMEOUT = guest_lib.LOGIN_TIMEOUT

MARK = 'seen-on-the-console'

SCREENS = config.LOGS / 'screens'

#: Seconds until something is on the screen of a guest that has booted.
SHOWN_TIMEOUT = 180


def connect(url: str) -> vnc.WebSocket:
    """Connect to a console that has no page of its own, by Nova's address."""
    parts = urllib.parse.urlsplit(url)
    if not parts.hostname or not parts.port:
        raise util.LabError(f'the address of a console has no port: {url}')
    return vnc.WebSocket(
        (parts.hostname, parts.port), f'{parts.path}?{parts.query}',
        SESSION_TIMEOUT)


def check_relays(test: Any, allowed: range) -> None:
    """See that there are relays, and that they ask for their path.

    :param test: a test of the gate.
    :param allowed: their ports.
    """
    ports = [int(line.split()[3].rpartition(':')[2])
             for line in test.dom0('ss', '-ltnH').splitlines()]
    relays = [port for port in ports if port in allowed]
    test.assertTrue(relays, ports)
    for port in relays:
        with socket.create_connection(
                (test.host.address, port), 10) as client:
            client.sendall(b'CONNECT /guessed HTTP/1.1\r\n\r\n')
            test.assertIn(b' 403 ', client.recv(99))


def screen(guest: guest_lib.Guest) -> str:
    """The characters that Linux shows on its screen."""
    return guest.ssh('cat /dev/vcs1')


def wait_for_prompt(guest: guest_lib.Guest) -> None:
    """Wait for a login prompt on the screen."""
    util.wait_for(f'login prompt on the screen of {guest.name}',
                  lambda: 'login:' in screen(guest), SHOWN_TIMEOUT)


class SerialConsole:
    """The console through nova-serialproxy.

    For PV, PVH (``/dev/hvc0``) and HVM (``/dev/ttyS0``).

    :cvar console_device: what the guest's console is inside.
    """

    console_device: ClassVar[str] = '/dev/hvc0'

    def test_serial_console(self: Any) -> None:
        guest = self.running()
        with self.serial(guest) as stream:
            # What is typed comes back with a prompt.
            stream.write(b'\n')
            self.read_until(stream, b'login:')
            guest.ssh(f'echo {MARK} > {self.console_device}')
            self.read_until(stream, MARK.encode())
            # The log is kept beside it.
            self.assertIn(MARK, guest.console())

    @base.slow
    def test_serial_console_over_a_boot(self: Any) -> None:
        guest = self.running()
        before = guest.boot_id()
        with self.serial(guest) as stream:
            self.cloud.compute.reboot_server(guest.id, 'HARD')
            guest.wait_for_status('ACTIVE')
            self.read_until(stream, guest_lib.READY.encode())
            guest.wait_for_reboot(before)

    def serial(self: Any, guest: guest_lib.Guest,
               ) -> contextlib.closing[vnc.WebSocket]:
        """Connect to a guest's console; closed at the end of ``with``."""
        url = self.cloud.compute.create_console(guest.id, 'serial')['url']
        return contextlib.closing(connect(url))

    def read_until(self: Any, stream: vnc.WebSocket, wanted: bytes) -> None:
        """Read until a text comes; fails when the session's time is over."""
        seen = b''
        while wanted not in seen:
            seen = (seen + stream.read(1))[-4096:]


class SlowSerialConsole(SerialConsole):
    """The same, where it takes longest."""

    @base.slow
    def test_serial_console(self: Any) -> None:
        super().test_serial_console()


class HiddenScreen:
    """Another host that reaches the ports of a screen sees nothing.

    For HVM.
    """

    def test_screen_is_hidden(self: Any) -> None:
        guest = self.running()
        # As ``virsh vncdisplay`` prints it: address, colon, display.
        address, _, display = self.dom0(
            'virsh', 'vncdisplay', guest.domain).strip().rpartition(':')
        self.assertEqual('127.0.0.1', address)
        self.assertRaises(OSError, socket.create_connection,
                          (self.host.address, 5900 + int(display)), 10)
        # The relay of the driver is there once somebody has asked.
        self.cloud.compute.create_console(guest.id, 'novnc')
        check_relays(self, range(6900, 7900))


class BrowserScreen:
    """The screen in a browser, where somebody types.

    For HVM.
    """

    @base.slow  # A browser takes the CPUs that emulate the host.
    def test_screen_in_a_browser(self: Any) -> None:
        guest = self.running()
        wait_for_prompt(guest)
        url = self.cloud.compute.create_console(guest.id, 'novnc')['url']
        path = SCREENS / f'{guest.name}-browser.png'
        browser.look(url, path, MARK)
        util.say(f'  {path}')
        util.wait_for('what was typed in the browser',
                      lambda: MARK in screen(guest), SHOWN_TIMEOUT)
