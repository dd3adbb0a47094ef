# SPDX-License-Identifier: Apache-2.0
"""Guests whose image names a kernel and a ramdisk, and what may reach them."""

from __future__ import annotations

from labkit import config
from labkit import guest as guest_images
from labkit import images
from tests.gate import base


class DirectKernel(base.GateCase):
    """PV and PVH guests; HVM ones boot so in :mod:`tests.gate.test_guests`."""

    @base.slow
    def test_pvh(self) -> None:
        guest = self.make_server(
            self.addCleanup, image=self.image(images.DIRECT),
            flavor=self.make_flavor(self.addCleanup, guest_type='pvh'))
        guest.wait_for_status('ACTIVE')
        self.assertRegex(guest.wait_for_login(), r'guest type: PVH\b')
        guest.wait_for_ssh()
        self.assertEqual(guest_images.CMDLINE, guest.ssh('cat /proc/cmdline'))

    @base.unhurried
    def test_pv_behind_security_group(self) -> None:
        group = self.cloud.network.create_security_group(
            name=self._name('group'), description='lets nobody in')
        self.addCleanup(self.cloud.network.delete_security_group, group.id)
        guest = self.make_server(
            self.addCleanup, image=self.image(images.DIRECT),
            flavor=self.make_flavor(self.addCleanup, guest_type='pv'),
            groups=(group.name,))
        guest.wait_for_status('ACTIVE')
        # It is up, with its address, and may be reached by nobody.
        console = guest.wait_for_login()
        self.assertRegex(console, r'guest type: PV\b')
        self.assertIn(f'{guest.address}/24', console)
        self.assertFalse(guest.reachable())
        self.cloud.network.create_security_group_rule(
            security_group_id=group.id, direction='ingress',
            ethertype='IPv4', protocol='tcp', port_range_min=22,
            port_range_max=22, remote_ip_prefix=config.LAB_NET_CIDR)
        guest.wait_for_ssh()
        self.assertEqual(guest_images.CMDLINE, guest.ssh('cat /proc/cmdline'))
