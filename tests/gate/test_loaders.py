# SPDX-License-Identifier: Apache-2.0
"""The driver's own loaders boot PV and PVH guests from others' disks."""

from __future__ import annotations

import pathlib
import tempfile
from typing import ClassVar

from labkit import guest as guest_images
from labkit import util
from tests import bootdisks
from tests.gate import base
from tests.gate import guest as guest_lib
from tests.gate import loaders

MENU = 'echo "[booted root=$root prefix=$prefix]"\nsleep 3600\n'

PARTITION = guest_images.PARTITION_START * guest_images.SECTOR


class Loaders(loaders.LoadersCase):
    """A disk with nothing but grub's configuration is enough to see that.

    What a whole distribution makes is in ``test_stock_debian``.
    """

    _disks: ClassVar[bootdisks.Disks]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls._disks = bootdisks.Disks(pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())))

    def boot(self, kind: str, disk: pathlib.Path) -> guest_lib.Guest:
        """Start a server of a guest type from a raw disk."""
        guest = self.make_server(
            self.addCleanup, image=self.make_image(
                self.addCleanup, disk, 'raw'),
            flavor=self.make_flavor(self.addCleanup, guest_type=kind))
        guest.wait_for_status('ACTIVE')
        self.assert_own_loader(guest)
        return guest

    def assert_boots(self, disk: pathlib.Path, device: str,
                     directory: str) -> None:
        """PV and PVH guests read the configuration there."""
        text = f'[booted root={device} prefix=({device}){directory}]'
        for kind in ('pv', 'pvh'):
            guest = self.boot(kind, disk)
            util.wait_for(
                f'grub of {guest.name} to find its configuration',
                lambda guest=guest: text in guest.console(),
                guest_lib.LOGIN_TIMEOUT, interval=3)
            self.remove_server(guest.id)

    @base.slow
    def test_xfs_of_red_hat(self) -> None:
        self.assert_boots(
            self._disks.disk('gpt', self._disks.xfs(
                'boot/grub2/grub.cfg', MENU)),
            'xen/xvda,gpt1', '/boot/grub2')

    @base.slow
    def test_boot_partition(self) -> None:
        self.assert_boots(
            self._disks.disk('dos', self._disks.ext4(
                {'grub2/grub.cfg': MENU})),
            'xen/xvda,msdos1', '/grub2')

    @base.slow
    def test_subvolume(self) -> None:
        self.assert_boots(
            self._disks.btrfs({'@/boot/grub/grub.cfg': MENU}),
            'xen/xvda', '/@/boot/grub')

    @base.slow
    def test_entries_of_fedora(self) -> None:
        """Up to the system: with the entry's kernel and its arguments."""
        disk = self._disks.work / 'fedora.img'
        util.run(['cp', '--sparse=always',
                  guest_images.small_guest().disk_raw, disk])
        entry = self._disks.work / 'entry'
        entry.write_text(
            'title A kernel (of 2026)\nversion 1\nlinux /boot/vmlinuz\n'
            'options root=/dev/xvda1 rw rootwait=30 quiet\n'
            'options console=hvc0 xen44_entry=1\n')
        grub = self._disks.work / 'grub.cfg'
        grub.write_text('blscfg\n')
        util.run(['debugfs', '-w', '-f', '-', f'{disk}?offset={PARTITION}'],
                 input='rm /boot/grub/grub.cfg\nrmdir /boot/grub\n'
                       'mkdir /boot/grub2\n'
                       'mkdir /boot/loader\nmkdir /boot/loader/entries\n'
                       f'write {grub} /boot/grub2/grub.cfg\n'
                       f'write {entry} /boot/loader/entries/a-1.conf\n')
        for kind in ('pv', 'pvh'):
            guest = self.boot(kind, disk)
            guest.wait_for_login()
            guest.wait_for_ssh()
            self.assertIn('xen44_entry=1', guest.ssh('cat /proc/cmdline'))
            self.remove_server(guest.id)
