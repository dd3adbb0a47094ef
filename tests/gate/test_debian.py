# SPDX-License-Identifier: Apache-2.0
"""A distribution's own cloud-init takes what Nova and the driver give it."""

from __future__ import annotations

from labkit import guest as guest_images
from tests.gate import base
from tests.gate import guest as guest_lib

#: systemd and cloud-init's Python take minutes under emulation.
BOOT_TIMEOUT = 900


class Debian(base.GateCase):
    """Debian 13, booted by grub from its own disk; slow."""

    @base.slow
    def test_cloud_init_finds_its_data(self) -> None:
        """It runs on a config drive that nobody has asked for.

        PV and PVH guests have no DMI, by which cloud-init recognizes
        OpenStack. Without a config drive it switches itself off.
        """
        image = self.make_image(
            self.addCleanup, guest_images.debian_guest(), 'qcow2')
        flavor = self.make_flavor(self.addCleanup, guest_type='pv', ram=512,
                                  disk=2)
        guest = self.make_server(
            self.addCleanup, image=image, flavor=flavor, user='debian',
            user_data=guest_lib.USER_DATA)
        # The first use of the image unpacks a gigabyte under emulation.
        guest.wait_for_status('ACTIVE', 900)
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
