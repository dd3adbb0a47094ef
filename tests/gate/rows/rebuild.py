# SPDX-License-Identifier: Apache-2.0
"""Rebuild."""

from __future__ import annotations

from typing import Any

from tests.gate import base


class Rebuild:
    """The guest gets a new root disk, and keeps its address and its name."""

    def test_rebuild(self: Any) -> None:
        guest = self.running()
        guest.ssh('echo of the old disk > /root/old && sync')
        before, address = guest.boot_id(), guest.address
        self.cloud.compute.rebuild_server(
            guest.id, image=self.image(self.image_name).id)
        guest.wait_for_status('ACTIVE')
        guest.wait_for_reboot(before)
        self.assertEqual('', guest.ssh('cat /root/old 2>/dev/null',
                                       check=False))
        self.assertEqual(address, guest.address)
        self.assertEqual(guest.name, guest.ssh('hostname'))


class SlowRebuild(Rebuild):
    """The same, where it takes longest."""

    @base.slow
    def test_rebuild(self: Any) -> None:
        super().test_rebuild()
