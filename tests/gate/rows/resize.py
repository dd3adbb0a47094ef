# SPDX-License-Identifier: Apache-2.0
"""Resize on the same host; needs ``allow_resize_to_same_host``."""

from __future__ import annotations

from typing import Any

from tests.gate import base
from tests.gate import guest as guest_lib


class Resize:
    """The guest gets another flavor, and its own back with the old disk."""

    @base.slow
    def test_resize_and_revert(self: Any) -> None:
        guest = self.running()
        guest.ssh('echo before > /root/resized && sync')
        before = guest.boot_id()
        larger = self.make_flavor(
            self.addCleanup, guest_type=self.guest_type, ram=224, disk=2,
            swap=32, ephemeral=1)
        self.cloud.compute.resize_server(guest.id, larger.id)
        guest.wait_for_status('VERIFY_RESIZE')
        guest.wait_for_reboot(before)
        self.assertEqual('2048', guest.ssh(
            'echo $(($(cat /sys/block/xvda/size) / 2048))'))
        self.assertEqual('before', guest.ssh('cat /root/resized'))
        guest.ssh('echo after > /root/resized && sync')
        resized = guest.boot_id()
        self.cloud.compute.revert_server_resize(guest.id)
        guest.wait_for_status('ACTIVE')
        guest.wait_for_reboot(resized)
        self.assertEqual('1024', guest.ssh(
            'echo $(($(cat /sys/block/xvda/size) / 2048))'))
        self.assertEqual('before', guest.ssh('cat /root/resized'))
        self.assertEqual([guest.id], directories(self, guest))


class ConfirmedResize:
    """A stopped guest gets another flavor for good."""

    @base.slow
    def test_resize_and_confirm(self: Any) -> None:
        guest = self.running()
        guest.ssh('echo before > /root/resized && sync')
        self.cloud.compute.stop_server(guest.id)
        guest.wait_for_status('SHUTOFF', guest_lib.STOP_TIMEOUT)
        larger = self.make_flavor(
            self.addCleanup, guest_type=self.guest_type, disk=2, ephemeral=1)
        self.cloud.compute.resize_server(guest.id, larger.id)
        guest.wait_for_status('VERIFY_RESIZE')
        self.cloud.compute.confirm_server_resize(guest.id)
        guest.wait_for_status('SHUTOFF')
        self.cloud.compute.start_server(guest.id)
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        # Its disk lies on the one from before.
        self.assertEqual('before', guest.ssh('cat /root/resized'))
        self.assertEqual('2048', guest.ssh(
            'echo $(($(cat /sys/block/xvda/size) / 2048))'))
        self.assertEqual([guest.id], directories(self, guest))
        # It is not the class's guest any more.
        self.remove_server(guest.id)


def directories(case: Any, guest: guest_lib.Guest) -> list[str]:
    """Names of a guest's directories in dom0."""
    return case.dom0(
        'find', base.INSTANCES, '-maxdepth', '1', '-name', f'{guest.id}*',
        '-printf', r'%f\n').split()
