# SPDX-License-Identifier: Apache-2.0
"""A guest uses event channels up to its limit, and no more."""

from __future__ import annotations

import shlex
from typing import Any
from typing import ClassVar

from labkit import guest as guest_images
from labkit import util
from tests.gate import base
from tests.gate import guest as guest_lib
from tests.gate.rows import event_channels
from tests.gate.test_debian import BOOT_TIMEOUT

#: Binds event channels to nobody (``IOCTL_EVTCHN_BIND_UNBOUND_PORT`` of
#: xen/evtchn.h, to domain 0), says how many it got, and keeps them.
BIND = """
import fcntl, signal, struct, sys
got, failure = 0, ''
with open('/dev/xen/evtchn', 'rb+', buffering=0) as device:
    try:
        while got < int(sys.argv[1]):
            fcntl.ioctl(device, 0x44502, struct.pack('I', 0))
            got += 1
    except OSError as error:
        failure = error.strerror
    with open('/run/bound', 'w') as file:
        print(got, failure, file=file)
    signal.pause()
"""
BIND_TIMEOUT = 300


class EventChannels(base.GateCase):
    """Debian 13: the small guest's kernel has no ``/dev/xen/evtchn``."""

    _image: ClassVar[Any] = None

    def boot(self, **specs: str) -> guest_lib.Guest:
        """Boot a guest."""
        cls = type(self)
        if cls._image is None:
            cls._image = self.make_image(
                self.addClassCleanup, guest_images.debian_guest(), 'qcow2')
        flavor = self.make_flavor(
            self.addCleanup, guest_type='pv', ram=512, disk=2, specs=specs)
        guest = self.make_server(
            self.addCleanup, image=cls._image, flavor=flavor, user='debian')
        # The first use of the image unpacks a gigabyte under emulation.
        guest.wait_for_status('ACTIVE', 900)
        guest.wait_for_ssh(BOOT_TIMEOUT)
        guest.ssh('sudo modprobe xen-evtchn')
        return guest

    def bind(self, guest: guest_lib.Guest, wanted: int) -> tuple[int, str]:
        """Bind event channels in a guest, and keep them bound.

        :returns: how many it got, and why it did not get more.
        """
        guest.ssh('sudo systemctl stop channels; sudo rm -f /run/bound',
                  check=False)
        guest.ssh('sudo systemd-run --unit=channels --collect python3 -c '
                  f'{shlex.quote(BIND)} {wanted}')
        # An open file may be empty yet.
        said = util.wait_for(
            f'event channels of {guest.name}',
            lambda: guest.ssh('cat /run/bound', check=False), BIND_TIMEOUT)
        number, _, failure = said.partition(' ')
        return int(number), failure.strip()

    def in_xen(self, guest: guest_lib.Guest) -> int:
        """How many event channels Xen has for a guest."""
        return int(self.host.ssh(
            '/usr/lib/xen*/bin/lsevtchn '
            f'"$(xl domid {guest.domain})" | wc -l').stdout)

    @base.slow
    def test_more_than_libxls_default(self) -> None:
        guest = self.boot(**event_channels.TABLE_SPECS)
        self.assertIn('Using FIFO-based ABI', guest.ssh('sudo dmesg'))
        self.assertEqual((2000, ''), self.bind(guest, 2000))
        self.assertGreater(self.in_xen(guest), 2000)
        # Its vCPU and devices have some, and port 0 is never used.
        got, failure = self.bind(guest, 3000)
        self.assertIn('No space left', failure)
        self.assertIn(got, range(2400, 2500))
        self.assertLessEqual(self.in_xen(guest), 2500)

    @base.slow
    def test_libxls_default(self) -> None:
        guest = self.boot()
        got, failure = self.bind(guest, 2000)
        self.assertIn('No space left', failure)
        self.assertIn(got, range(900, 1023))
        self.assertLessEqual(self.in_xen(guest), 1023)
