# SPDX-License-Identifier: Apache-2.0
"""Rescue and unrescue."""

from __future__ import annotations

from typing import Any

from tests.gate import base


class Rescue:
    """The guest boots from another disk, and sees its own as the second."""

    @base.unhurried
    def test_rescue_and_unrescue(self: Any) -> None:
        guest = self.running()
        before = guest.boot_id()
        guest.ssh('echo of the old root > /root/rescued && sync')
        self.cloud.compute.rescue_server(
            guest.id, image_ref=self.image(self.image_name).id)
        guest.wait_for_status('RESCUE')
        guest.wait_for_reboot(before)
        rescued = guest.boot_id()
        self.assertEqual('', guest.ssh(
            'cat /root/rescued 2>/dev/null', check=False))
        self.assertEqual('1024', guest.ssh(
            'echo $(($(cat /sys/block/xvdb/size) / 2048))'))
        directory = f'{base.INSTANCES}/{guest.id}'
        self.assertIn('disk.rescue', self.dom0('ls', directory))
        self.cloud.compute.unrescue_server(guest.id)
        guest.wait_for_status('ACTIVE')
        guest.wait_for_reboot(rescued)
        self.assertEqual('of the old root', guest.ssh('cat /root/rescued'))
        self.assertNotIn('rescue', self.dom0('ls', directory))


class SlowRescue(Rescue):
    """The same, where it takes longest."""

    @base.slow
    def test_rescue_and_unrescue(self: Any) -> None:
        super().test_rescue_and_unrescue()
