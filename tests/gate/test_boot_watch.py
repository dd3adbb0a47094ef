# SPDX-License-Identifier: Apache-2.0
"""nova-compute's log says of a guest that does not boot what to do."""

from __future__ import annotations

import pathlib
import tempfile
from typing import ClassVar

from labkit import compute
from labkit import guest as guest_images
from labkit import util
from tests import bootdisks
from tests.gate import base

#: Seconds: a start under emulation, a few looks.
TIMEOUT = 240

#: Does not load what it names.
ERROR = 'linux /boot/vmlinuz-of-another-disk\nboot\n'
#: Stays in its menu, as nobody is there to choose.
MENU = 'set timeout=-1\nmenuentry nothing { true; }\n'
#: The small guest's kernel, and a disk that it does not have.
PANIC = 'linux /boot/vmlinuz root=/dev/xvdz9 console=hvc0\nboot\n'


class BootWatch(base.GateCase):
    """The loaders stay on the host."""

    _disks: ClassVar[bootdisks.Disks]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls._disks = bootdisks.Disks(pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())))
        cls.host.ssh([f'{compute.VENV}/bin/xen44-host', 'build-loaders'],
                     timeout=300)

    def disk(self, configuration: str) -> pathlib.Path:
        """The small guest's disk with another configuration of grub."""
        disk = self._disks.work / f'{self.id()}.img'
        util.run(['cp', '--sparse=always',
                  guest_images.small_guest().disk_raw, disk])
        grub = self._disks.work / 'grub.cfg'
        grub.write_text(configuration)
        start = guest_images.PARTITION_START * guest_images.SECTOR
        util.run(['debugfs', '-w', '-f', '-', f'{disk}?offset={start}'],
                 input='rm /boot/grub/grub.cfg\n'
                       f'write {grub} /boot/grub/grub.cfg\n')
        return disk

    def assert_said(self, disk: pathlib.Path, *words: str, kind: str = 'pv',
                    **properties: str) -> None:
        """A guest with this disk starts, and the log says what is wrong.

        :param words: what the log says of it.
        """
        guest = self.make_server(
            self.addCleanup, image=self.make_image(
                self.addCleanup, disk, 'raw', **properties),
            flavor=self.make_flavor(self.addCleanup, guest_type=kind))
        guest.wait_for_status('ACTIVE')

        def found() -> str:
            return self.host.ssh(
                ['grep', f'{guest.id}.*does not boot',
                 '/var/log/nova/nova-compute.log'], check=False).stdout

        said = util.wait_for(f'a word on {guest.name} in the log', found,
                             TIMEOUT, interval=3).strip()
        util.say(f'  {said}')
        for word in words:
            self.assertIn(word, said, guest.console())
        # Once.
        self.assertEqual(1, len(said.splitlines()), said)

    @base.slow
    def test_no_configuration(self) -> None:
        self.assert_said(self._disks.ext4({'a': 'file'}), 'no configuration')

    @base.slow
    def test_error(self) -> None:
        self.assert_said(self.disk(ERROR), 'what is missing')

    @base.slow
    def test_menu(self) -> None:
        self.assert_said(self.disk(MENU), 'menu')

    @base.slow
    def test_panic(self) -> None:
        self.assert_said(self.disk(PANIC), 'root=')

    @base.slow
    def test_pvh(self) -> None:
        self.assert_said(self.disk(PANIC), 'root=', kind='pvh')
