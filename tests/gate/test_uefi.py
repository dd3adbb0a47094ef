# SPDX-License-Identifier: Apache-2.0
"""HVM guests that boot by UEFI, from the path for removable disks."""

from __future__ import annotations

import json
import pathlib
import tempfile
from typing import Any
from typing import ClassVar

from labkit import compute
from labkit import util
from tests import bootdisks
from tests.gate import base
from tests.gate import guest as guest_lib

#: Debian 13's, of the package ovmf.
FIRMWARE = '/usr/share/ovmf/OVMF.fd'

TEXT = '[booted by efi]'

#: Seconds until firmware has looked at every device.
BOOT_TIMEOUT = 600


class Uefi(base.GateCase):

    _disk: ClassVar[pathlib.Path]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        work = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory()))
        disks = bootdisks.Disks(work)
        cls._disk = disks.disk('gpt', disks.esp(
            'echo "[booted by $grub_platform]"\nsleep 3600\n'))

    @base.slow
    def test_boots_again_and_again(self) -> None:
        guest = self.make_server(
            self.addCleanup, image=self.make_image(
                self.addCleanup, self._disk, 'raw', hw_firmware_type='uefi'),
            flavor=self.make_flavor(self.addCleanup, guest_type='hvm',
                                    ram=256))
        guest.wait_for_status('ACTIVE')
        self.wait_for_text(guest)
        self.assertIn(
            f"<loader readonly='yes' type='pflash'>{FIRMWARE}</loader>",
            self.dom0('virsh', 'dumpxml', guest.domain))
        # Without the variables of the first time.
        self.cloud.compute.reboot_server(guest.id, 'HARD')
        guest.wait_for_status('ACTIVE')
        self.wait_for_text(guest)

    @base.slow
    def test_is_tried_by_a_command(self) -> None:
        self.addCleanup(self.host.ssh, [
            'rm', '--force', '/var/lib/xen44/uefi.json'])
        self.assertEqual('WARN', self.check()['result'])
        found = self.run_json('probe-uefi', '--timeout', str(BOOT_TIMEOUT))
        self.assertTrue(found['works'], found)
        self.assertEqual({'result': 'PASS', 'texts': []}, {
            key: self.check()[key] for key in ('result', 'texts')})
        self.assertNotIn('xen44-uefi-probe',
                         self.dom0('virsh', 'list', '--all', '--name'))

    def check(self) -> Any:
        """What xen44-host check says of the firmware."""
        found, = (check for check in self.run_json('check')['checks']
                  if check['check'] == 'uefi')
        return found

    def run_json(self, *argv: str) -> Any:
        """Run xen44-host, which succeeds; returns what it prints."""
        done = self.host.ssh(
            [f'{compute.VENV}/bin/xen44-host', *argv, '--json'],
            timeout=BOOT_TIMEOUT + 300)
        return json.loads(done.stdout)

    def wait_for_text(self, guest: guest_lib.Guest) -> None:
        """Wait until a guest's grub has written to the serial port."""
        util.wait_for(f'{guest.name} to boot by UEFI',
                      lambda: TEXT in guest.console(), BOOT_TIMEOUT,
                      interval=3)

    @base.slow
    def test_stateless(self) -> None:
        """The scheduler asks the host for it; the domain is the same."""
        # Nova reports once a minute what the host has.
        util.wait_for(
            'Placement to know of UEFI',
            lambda: {'COMPUTE_FIRMWARE_UEFI',
                     'COMPUTE_SECURITY_STATELESS_FIRMWARE'} <= self.traits(),
            300, interval=5)
        guest = self.make_server(
            self.addCleanup, image=self.make_image(
                self.addCleanup, self._disk, 'raw', hw_firmware_type='uefi',
                hw_firmware_stateless='true'),
            flavor=self.make_flavor(self.addCleanup, guest_type='hvm',
                                    ram=256))
        guest.wait_for_status('ACTIVE')
        self.wait_for_text(guest)

    @base.slow
    def test_is_refused_without_firmware(self) -> None:
        for guest_type in ('pv', 'pvh'):
            guest = self.make_server(
                self.addCleanup, image=self.make_image(
                    self.addCleanup, self._disk, 'raw',
                    hw_firmware_type='uefi'),
                flavor=self.make_flavor(self.addCleanup,
                                        guest_type=guest_type))
            self.assert_refused(guest, 'aborted', 'hw_firmware_type', 'bios')
