# SPDX-License-Identifier: Apache-2.0
"""Guests whose disks dom0's kernel serves (``xen44:disk_class=kernel``)."""

from __future__ import annotations

from typing import Any

from labkit import util
from tests.gate import base
from tests.gate import guest as guest_lib

#: Root, ephemeral and swap disk, and the config drive.
DISKS = 4

#: Seconds to copy the disk of a guest that is off, and to send it.
IMAGE_TIMEOUT = 600


class ByKernel:
    """A life without a QEMU."""

    guest_type: str

    @base.slow
    def test_life(self: Any) -> None:
        guest = self.make_server(
            self.addCleanup, config_drive=True,
            user_data=guest_lib.USER_DATA, flavor=self.make_flavor(
                self.addCleanup, guest_type=self.guest_type, swap=64,
                ephemeral=1, specs={'xen44:disk_class': 'kernel'}))
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        self.assert_by_kernel(guest)
        # The config drive was read.
        self.assertIn('user data', guest.ssh('cat /root/user-data'))
        guest.ssh('echo written > /root/written; sync')

        before = guest.boot_id()
        self.cloud.compute.reboot_server(guest.id, 'HARD')
        guest.wait_for_status('ACTIVE')
        guest.wait_for_reboot(before)
        self.assert_by_kernel(guest)
        before = guest.boot_id()
        guest.leave('reboot')
        guest.wait_for_reboot(before)
        self.assert_by_kernel(guest)
        self.assertEqual('written', guest.ssh('cat /root/written'))

        self.assert_running_snapshot(guest)
        self.cloud.compute.stop_server(guest.id)
        guest.wait_for_status('SHUTOFF', guest_lib.STOP_TIMEOUT)
        self.assertEqual([], self.loops(guest))
        image = self.take(guest)
        util.wait_for(
            f'the image of {guest.name}',
            lambda: self.cloud.image.get_image(image.id).status == 'active',
            IMAGE_TIMEOUT, interval=2)

        guest.wait_for_status('SHUTOFF')
        self.cloud.compute.start_server(guest.id)
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        self.assertEqual('written', guest.ssh('cat /root/written'))
        traces = self.traces(guest)
        self.remove_server(guest.id)
        traces.wait_for_none(self.host, self.cloud)

    def assert_by_kernel(self: Any, guest: guest_lib.Guest) -> None:
        """It has no QEMU, and one loop device for each disk."""
        self.assertEqual('', self.host.ssh(
            f'pgrep -a qemu | grep -F -- {guest.domain}', check=False).stdout)
        self.assertEqual(DISKS, len(self.loops(guest)))
        domid = self.dom0('xl', 'domid', guest.domain).strip()
        self.assertEqual(DISKS, len(self.dom0(
            'xenstore-list', f'/local/domain/0/backend/vbd/{domid}').split()))

    def loops(self: Any, guest: guest_lib.Guest) -> list[str]:
        """The files of a server that are on loop devices."""
        return [file for file in self.dom0(
            'losetup', '--list', '--noheadings', '--output',
            'BACK-FILE').splitlines() if guest.id in file]

    def take(self: Any, guest: guest_lib.Guest) -> Any:
        image = self.cloud.compute.create_server_image(
            guest.id, self._name('image'))
        self.addCleanup(self.cloud.image.delete_image, image.id)
        return image

    def assert_running_snapshot(self: Any, guest: guest_lib.Guest) -> None:
        """Made where the file system shares blocks, else refused by name."""
        image = self.take(guest)
        done = util.wait_for(
            f'an image of {guest.name}, or none',
            lambda: self._end_of(image), IMAGE_TIMEOUT, interval=2)
        shares = self.dom0('stat', '-f', '-c', '%T', base.INSTANCES).strip()
        util.say(f'  {guest.name}: on {shares}, the snapshot while it ran is '
                 f'{done}')
        if shares.startswith('ext'):
            self.assertEqual('refused', done)
            self.assertIn('while the instance is stopped or paused', self.dom0(
                'grep', 'No image was made', '/var/log/nova/nova-compute.log'))
        guest.wait_for_status('ACTIVE')

    def _end_of(self: Any, image: Any) -> str:
        found = self.cloud.image.find_image(image.id)
        if found is None or found.status == 'deleted':
            return 'refused'
        return 'made' if found.status == 'active' else ''


class PV(ByKernel, base.GateCase):
    """A PV guest."""

    guest_type = 'pv'


class PVH(ByKernel, base.GateCase):
    """A PVH guest."""

    guest_type = 'pvh'
