# SPDX-License-Identifier: Apache-2.0
"""nova-compute is killed (-9) at each named point of its operations.

Then it starts again, and the user goes on. tests/functional/test_killed.py
does the same on doubles.
"""

from __future__ import annotations

from collections.abc import Callable
import datetime
from typing import Any
from typing import ClassVar

import openstack

from labkit import compute
from labkit import config
from labkit import images
from labkit import util
from labkit.cloud import Cloud
from tests.gate import base
from tests.gate import guest as guest_lib
from tests.gate.rows import resize

#: The file that names the point, in a directory where nova-compute can remove
#: it, and what makes nova-compute read it.
DIRECTORY = '/run/nova-fault-point'
FILE = f'{DIRECTORY}/point'
DROP_IN = '/etc/systemd/system/nova-compute.service.d/zz-fault-point.conf'
SERVICE = f'''[Service]
UnsetEnvironment=
Environment=XEN44_FAULT_POINT={FILE}
'''

#: Seconds until an operation reaches its point, and until what it left is
#: mended.
REACHED_TIMEOUT = 400
MENDED_TIMEOUT = 400


class KillPointsCase(base.GateCase):
    """Kills nova-compute; one PV guest of a class goes through all of it."""

    _guest: ClassVar[guest_lib.Guest | None] = None

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.host.ssh(['install', '-d', '-o', 'nova', DIRECTORY])
        cls.host.ssh(['tee', DROP_IN], input=SERVICE)
        cls.addClassCleanup(cls._switch_off)
        cls._restart()

    @classmethod
    def _switch_off(cls) -> None:
        cls.host.ssh(['rm', '-rf', DROP_IN, DIRECTORY])
        cls._restart()

    @classmethod
    def _restart(cls) -> None:
        cls.host.ssh(['systemctl', 'daemon-reload'])
        compute.restart(cls.host, Cloud())

    def present(self) -> guest_lib.Guest:
        """The guest, ACTIVE, with ssh into it."""
        cls = type(self)
        if cls._guest is None or not cls._guest.exists():
            cls._guest = self.make_server(
                self.addClassCleanup, image=self.image(images.DIRECT),
                flavor=self.make_flavor(self.addClassCleanup,
                                        guest_type='pv'))
        cls._guest.wait_for_status('ACTIVE')
        cls._guest.wait_for_ssh()
        return cls._guest

    def kill(self, guest: guest_lib.Guest, point: str,
             ask: Callable[..., Any], *args: Any, expected: str,
             **options: Any) -> None:
        """Ask for something, and kill nova-compute at a point of it.

        :param ask: what asks; it may get no answer.
        :param expected: the server's state when that is mended.
        """
        self.name_point(point)
        try:
            ask(*args, **options)
        except openstack.exceptions.HttpException as error:
            # The API waits for the answer to an attachment. A refusal is
            # another matter.
            if (error.status_code or 500) < 500:
                raise
            util.say(f'  {point}: {error}')
        self.wait_until_mended(guest, point, expected)

    def name_point(self, point: str) -> None:
        """Have nova-compute end itself at a point."""
        self.host.ssh(['tee', FILE], input=point)
        self.host.ssh(['chown', 'nova', FILE])

    def wait_until_mended(self, guest: guest_lib.Guest, point: str,
                          expected: str) -> None:
        """Wait until nova-compute was killed, and what it left is mended."""
        util.wait_for(
            f'nova-compute to be killed at {point!r}',
            lambda: self.host.ssh(['test', '-e', FILE],
                                  check=False).returncode != 0,
            REACHED_TIMEOUT, interval=1)
        # Later than the last report of the killed one.
        begin = datetime.datetime.now(datetime.UTC)
        Cloud().wait_compute(self.host.name, compute.START_TIMEOUT, begin)

        def mended() -> bool:
            server = guest.server()
            return server.status == expected and not server.task_state

        util.wait_for(f'{guest.name} to be {expected}, killed at {point!r}',
                      mended, MENDED_TIMEOUT, interval=1)
        util.say(f'  killed at {point!r}: {expected}')

    def runs(self, guest: guest_lib.Guest) -> bool:
        """Whether Xen runs the guest."""
        return guest.domain in self.dom0('xl', 'list')


class KillPoints(KillPointsCase):
    """All but volumes."""

    @base.slow
    def test_suspend(self) -> None:
        guest = self.present()
        before = guest.boot_id()
        for point, after in (('suspend: checked', 'ACTIVE'),
                             ('suspend: memory saved', 'SUSPENDED')):
            self.kill(guest, point, self.cloud.compute.suspend_server,
                      guest.id, expected=after)
            self.assertEqual(after == 'ACTIVE', self.runs(guest))
        for point, after in (('resume: ports plugged', 'SUSPENDED'),
                             ('boot: domain started', 'ACTIVE'),
                             ('resume: memory restored', 'ACTIVE'),
                             ('resume: domain resumed', 'ACTIVE')):
            if guest.server().status == 'ACTIVE':
                self.cloud.compute.suspend_server(guest.id)
                guest.wait_for_status('SUSPENDED')
            self.kill(guest, point, self.cloud.compute.resume_server,
                      guest.id, expected=after)
            if after == 'ACTIVE':
                guest.wait_for_ssh()
                # Its memory was kept.
                self.assertEqual(before, guest.boot_id(), point)

    @base.slow
    def test_snapshot(self) -> None:
        guest = self.present()
        before = guest.boot_id()
        for point in ('snapshot: file made', 'snapshot: target open',
                      'snapshot: copy begun', 'snapshot: disk copied',
                      'snapshot: uploaded'):
            self.kill(guest, point, self.cloud.compute.create_server_image,
                      guest.id, f'killed at {point}', expected='ACTIVE')
            self.addCleanup(self.remove_image, f'killed at {point}')
            self.assertEqual(before, guest.boot_id())
            self.assertEqual('', self.dom0(
                'find', f'{base.INSTANCES}/snapshots', '-type', 'f'))
        image = self.cloud.compute.create_server_image(
            guest.id, 'of the survivor', wait=True)
        self.cloud.image.delete_image(image)

    def remove_image(self, name: str) -> None:
        """Remove what an interrupted snapshot left in Glance, if it did."""
        image = self.cloud.image.find_image(name)
        if image:
            self.cloud.image.delete_image(image)

    @base.slow
    def test_rescue(self) -> None:
        guest = self.present()
        directory = f'{base.INSTANCES}/{guest.id}'
        for point, after in (('rescue: disks made', 'SHUTOFF'),
                             ('rescue: record kept', 'SHUTOFF'),
                             ('power on: domain defined', 'SHUTOFF'),
                             ('rescue: guest booted', 'RESCUE')):
            self.kill(guest, point, self.cloud.compute.rescue_server,
                      guest.id, image_ref=self.image(images.DIRECT).id,
                      expected=after)
            if after == 'SHUTOFF':
                self.assertNotIn('rescue', self.dom0('ls', directory))
                self.cloud.compute.start_server(guest.id)
                guest.wait_for_status('ACTIVE')
        for point, after in (('power on: domain defined', 'RESCUE'),
                             ('unrescue: guest booted', 'ACTIVE')):
            self.kill(guest, point, self.cloud.compute.unrescue_server,
                      guest.id, expected=after)
        guest.wait_for_ssh()
        self.assertNotIn('rescue', self.dom0('ls', directory))

    @base.slow
    def test_resize(self) -> None:
        guest = self.present()
        guest.ssh('echo kept > /root/kept && sync')
        larger = self.make_flavor(self.addCleanup, guest_type='pv', ram=224,
                                  disk=2)
        for point, after in (('resize: domain stopped', 'ACTIVE'),
                             ('resize: disks set aside', 'ACTIVE'),
                             ('resize: disks made', 'VERIFY_RESIZE'),
                             ('resize: disks complete', 'VERIFY_RESIZE'),
                             ('resize: domain defined', 'VERIFY_RESIZE')):
            self.kill(guest, point, self.cloud.compute.resize_server,
                      guest.id, larger.id, expected=after)
            guest.wait_for_ssh()
            if after != 'ACTIVE':
                self.revert(guest, point == 'resize: domain defined')
            self.assertEqual('kept', guest.ssh('cat /root/kept'), point)
            self.assertEqual([guest.id], resize.directories(self, guest))

    def revert(self, guest: guest_lib.Guest, killed: bool) -> None:
        """Revert a resize, killed in the middle of that or not."""
        if killed:
            self.kill(guest, 'revert: disks restored',
                      self.cloud.compute.revert_server_resize, guest.id,
                      expected='ACTIVE')
        else:
            self.cloud.compute.revert_server_resize(guest.id)
            guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()

    @base.slow
    def test_interfaces(self) -> None:
        guest = self.present()
        network = self.cloud.network.find_network(
            config.LAB_NET, ignore_missing=False)
        for point in ('attach: port plugged', 'attach: interface attached',
                      'detach: interface undefined',
                      'detach: interface detached'):
            port = self.cloud.network.create_port(network_id=network.id)
            self.addCleanup(self.cloud.network.delete_port, port.id)
            if point.startswith('attach'):
                self.kill(guest, point, self.attach, guest, port,
                          expected='ACTIVE')
            else:
                self.attach(guest, port)
                self.kill(guest, point,
                          self.cloud.compute.delete_server_interface,
                          port.id, guest.id, expected='ACTIVE')
            # The user takes it away.
            self.cloud.compute.delete_server_interface(
                port.id, guest.id, ignore_missing=True)
            util.wait_for(
                f'one interface of {guest.name}',
                lambda: len(self.dom0('xl', 'network-list', guest.domain)
                            .splitlines()) == 2, 120, interval=2)
            self.assertEqual(1, self.dom0(
                'virsh', 'dumpxml', '--inactive', guest.domain).count(
                    '<interface'))

    def attach(self, guest: guest_lib.Guest, port: Any) -> None:
        """Attach a port to the guest."""
        self.cloud.compute.create_server_interface(guest.id, port_id=port.id)

    @base.slow
    def test_spawn(self) -> None:
        flavor = self.make_flavor(self.addCleanup, guest_type='pv')
        for point in ('spawn: ports plugged', 'spawn: disks made',
                      'spawn: domain defined', 'spawn: guest booted'):
            self.name_point(point)
            guest = self.make_server(
                self.addCleanup, image=self.image(images.DIRECT),
                flavor=flavor)
            self.wait_until_mended(guest, point, 'ERROR')
            traces = self.traces(guest)
            self.remove_server(guest.id)
            traces.wait_for_none(self.host, self.cloud)
