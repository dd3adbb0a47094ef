# SPDX-License-Identifier: Apache-2.0
"""A server whose disk cannot be opened is not ACTIVE, and says why."""

from __future__ import annotations

import json
from typing import Any

from labkit import guest as guest_images
from labkit import util
from tests.gate import base
from tests.gate import guest as guest_lib


class BrokenDisks(base.GateCase):
    """What happens to an instance's files behind Nova's back."""

    def setUp(self) -> None:
        super().setUp()
        # An image of its own: others use the cached ones. Its guest is not
        # asked to shut down: it has hardly begun to boot.
        self.image_ = self.make_image(
            self.addCleanup, guest_images.small_guest().disk_qcow2, 'qcow2',
            os_shutdown_timeout='0')

    @base.slow
    def test_disk_and_image(self) -> None:
        """Four starts of one PVH guest, of which none has to boot."""
        guest = self.make_server(
            self.addCleanup, image=self.image_,
            flavor=self.make_flavor(self.addCleanup, guest_type='pvh'))
        guest.wait_for_status('ACTIVE')
        self.stop(guest)
        disk, base_file = self.chain(guest)

        # Garbage for a disk: QEMU is the first to see that.
        self.dom0('mv', disk, f'{disk}.kept')
        self.dom0('truncate', '--size=1M', disk)
        fault = self.refuse_reboot(guest)
        self.assertIn(disk, fault)
        self.dom0('mv', f'{disk}.kept', disk)

        # Without its base, which Glance has: it is fetched again.
        self.dom0('rm', base_file)
        self.reboot(guest)
        # Not wait_for_status: until then it is in ERROR.
        util.wait_for(f'{guest.name} to be ACTIVE',
                      lambda: guest.server().status == 'ACTIVE',
                      guest_lib.ACTIVE_TIMEOUT)
        self.assertEqual([disk, base_file], self.chain(guest))
        self.stop(guest)

        # Without its base, which Glance has no more.
        self.cloud.image.delete_image(self.image_.id)
        self.dom0('rm', base_file)
        fault = self.refuse_reboot(guest)
        for words in (base_file, self.image_.id):
            self.assertIn(words, fault)

    def stop(self, guest: guest_lib.Guest) -> None:
        """Stop a server and wait for it."""
        self.cloud.compute.stop_server(guest.id)
        guest.wait_for_status('SHUTOFF', guest_lib.STOP_TIMEOUT)

    def reboot(self, guest: guest_lib.Guest) -> None:
        """Reboot a server hard; do not wait for it."""
        self.cloud.compute.reboot_server(guest.id, 'HARD')

    def refuse_reboot(self, guest: guest_lib.Guest) -> str:
        """Reboot a server hard: it ends in ERROR, and does not run.

        :returns: its fault.
        """
        self.reboot(guest)
        fault = self.assert_fault(guest)
        self.assertNotEqual(0, self.host.ssh(
            ['xl', 'domid', guest.domain], check=False).returncode)
        return fault

    def chain(self, guest: guest_lib.Guest) -> list[str]:
        """The file of a server's root disk, and the one it is based on."""
        disk = self.dom0(
            'find', f'/var/lib/nova/instances/{guest.id}', '-name',
            'disk*.qcow2', '-o', '-name', 'disk').split()[0]
        known: list[dict[str, Any]] = json.loads(self.dom0(
            'qemu-img', 'info', '--force-share', '--backing-chain',
            '--output=json', disk))
        return [image['filename'] for image in known]
