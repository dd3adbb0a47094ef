# SPDX-License-Identifier: Apache-2.0
"""What needs a distribution's guest: its cloud-init, and its whole kernel."""

from __future__ import annotations

from collections.abc import Mapping
import json
import shlex
from typing import Any
from typing import ClassVar

from labkit import guest as guest_images
from labkit import util
from tests.gate import base
from tests.gate import guest as guest_lib

#: systemd and cloud-init's Python take minutes under emulation.
BOOT_TIMEOUT = 900

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


class DebianCase(base.GateCase):
    """Debian 13 as PV, booted by grub from its own disk; slow."""

    _image: ClassVar[Any] = None

    def boot(self, specs: Mapping[str, str] | None = None) -> guest_lib.Guest:
        """Boot a guest; do not wait for its login.

        :param specs: extra specs of its flavor.
        """
        cls = type(self)
        if cls._image is None:
            cls._image = self.make_image(
                self.addClassCleanup, guest_images.debian_guest(), 'qcow2')
        flavor = self.make_flavor(self.addCleanup, guest_type='pv', ram=512,
                                  disk=2, specs=specs)
        guest = self.make_server(
            self.addCleanup, image=cls._image, flavor=flavor, user='debian',
            user_data=guest_lib.USER_DATA)
        # The first use of the image unpacks a gigabyte under emulation.
        guest.wait_for_status('ACTIVE', 900)
        return guest


class Debian(DebianCase):
    """A distribution's own cloud-init takes what it is given."""

    @base.slow
    def test_cloud_init_finds_its_data(self) -> None:
        """It runs on a config drive that nobody has asked for.

        PV and PVH guests have no DMI, by which cloud-init recognizes
        OpenStack. Without a config drive it switches itself off.
        """
        guest = self.boot()
        self.assertFalse(guest.server().has_config_drive)
        guest.wait_for_login(BOOT_TIMEOUT)
        guest.wait_for_ssh(BOOT_TIMEOUT)
        # It exits with 2 for what it could do without.
        status = guest.ssh('cloud-init status --wait --long',
                           check=False, timeout=BOOT_TIMEOUT)
        self.assertIn('status: done', status)
        self.assertIn('DataSourceConfigDrive', status)
        self.assertEqual(guest.id, guest.ssh('cloud-init query instance_id'))
        self.assertEqual(guest.name, guest.ssh('hostname'))
        self.assertEqual(f'user data of {guest.name}',
                         guest.ssh('sudo cat /root/user-data'))
        # The file system grew with the flavor's disk; its own data is less.
        size = guest.ssh('df --output=size --block-size=1M / | tail -n 1')
        self.assertGreater(int(size), 1900)


class EventChannels(DebianCase):
    """A guest uses event channels up to its limit, and no more.

    The small guest's kernel has no ``/dev/xen/evtchn``.
    """

    @base.slow
    def test_limits_of_flavor(self) -> None:
        guest = self.boot({'xen44:max_event_channels': '2500',
                           'xen44:max_grant_frames': '128'})
        limits = self.limits(guest)
        self.assertEqual(2500, limits.get('event_channels'))
        self.assertEqual(128, limits.get('max_grant_frames'))
        self.prepare(guest)
        self.assertIn('Using FIFO-based ABI', guest.ssh('sudo dmesg'))
        self.assertEqual((2000, ''), self.bind(guest, 2000))
        self.assertGreater(self.in_xen(guest), 2000)
        # Its vCPU and devices have some.
        got, failure = self.bind(guest, 3000)
        self.assertIn('No space left', failure)
        self.assertIn(got, range(2400, 2500))
        self.assertLessEqual(self.in_xen(guest), 2500)

    @base.slow
    def test_default_of_libxl(self) -> None:
        guest = self.boot()
        # libxl shows no default, or its own.
        self.assertIn(self.limits(guest).get('event_channels'), (None, 1023))
        self.prepare(guest)
        got, failure = self.bind(guest, 2000)
        self.assertIn('No space left', failure)
        self.assertIn(got, range(900, 1023))
        self.assertLessEqual(self.in_xen(guest), 1023)

    def limits(self, guest: guest_lib.Guest) -> Mapping[str, Any]:
        """What libxl was told of a guest, limits among it."""
        domain, = json.loads(self.dom0('xl', 'list', '-l', guest.domain))
        build: Mapping[str, Any] = domain['config']['b_info']
        return build

    def prepare(self, guest: guest_lib.Guest) -> None:
        """Wait for a guest that programs can bind event channels in."""
        guest.wait_for_ssh(BOOT_TIMEOUT)
        guest.ssh('sudo modprobe xen-evtchn')

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
