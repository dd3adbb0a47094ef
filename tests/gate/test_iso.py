# SPDX-License-Identifier: Apache-2.0
"""ISO images: an HVM guest boots from CD-ROM, beside an empty disk."""

from __future__ import annotations

import json
import pathlib
import tempfile
from typing import Any
from typing import ClassVar

from lxml import etree

from labkit import images
from labkit import util
from tests.gate import base
from tests.gate import guest as guest_lib

#: What the boot sector writes to the serial port.
TEXT = 'booted from a CD-ROM'

#: Seconds until firmware has looked at the empty disk and the CD-ROM.
BOOT_TIMEOUT = 600

#: A boot sector, 16-bit code that runs wherever it is loaded. It halts with
#: interrupts on: Xen takes a vCPU that halts without for one that is off.
BOOT_SECTOR = bytes.fromhex(
    'fb'         # 00       sti
    'fc'         # 01       cld
    'e8 00 00'   # 02       call here
    '5e'         # 05 here: pop si
    '83 c6 1e'   # 06       add si, text - here
    '2e ac'      # 09 next: cs lodsb
    '84 c0'      # 0b       test al, al
    '74 11'      # 0d       jz halt
    '88 c4'      # 0f       mov ah, al
    'ba fd 03'   # 11       mov dx, 0x3fd   ; COM1's line status
    'ec'         # 14 full: in al, dx
    'a8 20'      # 15       test al, 0x20   ; room for a byte
    '74 fb'      # 17       jz full
    '88 e0'      # 19       mov al, ah
    'b2 f8'      # 1b       mov dl, 0xf8    ; COM1's data
    'ee'         # 1d       out dx, al
    'eb e9'      # 1e       jmp next
    'f4'         # 20 halt: hlt
    'eb fd'      # 21       jmp halt
)                # 23 text


def make_iso(directory: pathlib.Path) -> pathlib.Path:
    """Make an ISO image that BIOSes boot (El Torito, no emulation).

    :param directory: where it and what it is made of are left.
    """
    tree = directory / 'tree'
    tree.mkdir()
    code = BOOT_SECTOR + TEXT.encode() + b'\r\n\0'
    (tree / 'boot.bin').write_bytes(code.ljust(2048, b'\0'))
    iso = directory / 'boot.iso'
    util.run(['genisoimage', '-quiet', '-o', iso, '-b', 'boot.bin',
              '-c', 'boot.catalog', '-no-emul-boot', '-boot-load-size', '4',
              tree])
    return iso


class Iso(base.GateCase):
    """One image for all tests."""

    _iso: ClassVar[pathlib.Path]
    _image: ClassVar[Any]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        directory = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls._iso = make_iso(pathlib.Path(directory))
        cls._image = cls.make_image(cls.addClassCleanup, cls._iso, 'iso')

    @base.unhurried
    def test_boots_hvm(self) -> None:
        guest = self.make_server(
            self.addCleanup, image=self._image,
            flavor=self.make_flavor(self.addCleanup, guest_type='hvm'))
        guest.wait_for_status('ACTIVE')
        directory = f'{base.INSTANCES}/{guest.id}'
        disks = self.disks(guest)
        self.assertEqual(('disk', f'{directory}/disk.raw'), disks['hda'])
        self.assertEqual(('cdrom', f'{directory}/disk.iso'), disks['hdc'])
        blank = json.loads(self.dom0(
            'qemu-img', 'info', '--force-share', '--output=json',
            '-f', 'raw', f'{directory}/disk.raw'))
        self.assertEqual(2**30, blank['virtual-size'])
        self.wait_for_boot(guest)

    def disks(self, guest: guest_lib.Guest) -> dict[str, tuple[str, str]]:
        """A guest's disks by their names: what each is, and its file."""
        domain = etree.fromstring(
            self.dom0('virsh', 'dumpxml', guest.domain))
        return {disk.find('target').get('dev'):
                (disk.get('device'), disk.find('source').get('file'))
                for disk in domain.iterfind('devices/disk')}

    def wait_for_boot(self, guest: guest_lib.Guest) -> None:
        """Wait until a guest has booted from its CD-ROM."""
        util.wait_for(f'{guest.name} to boot from its CD-ROM',
                      lambda: TEXT in guest.console(), BOOT_TIMEOUT,
                      interval=3)

    @base.slow
    def test_rescues_with_stable_devices(self) -> None:
        """All disks keep their names beside the CD-ROM of the rescue."""
        iso = self.make_image(self.addCleanup, self._iso, 'iso',
                              hw_rescue_device='cdrom', hw_rescue_bus='ide')
        guest = self.make_server(
            self.addCleanup, image=self.image(images.DIRECT),
            flavor=self.make_flavor(self.addCleanup, guest_type='hvm',
                                    swap=64))
        guest.wait_for_status('ACTIVE')
        before = self.disks(guest)
        self.assertEqual({'hda', 'hdb'}, set(before))
        self.cloud.compute.rescue_server(guest.id, image_ref=iso.id)
        guest.wait_for_status('RESCUE')
        self.assertEqual(
            {**before, 'hdc': ('cdrom', f'{base.INSTANCES}/{guest.id}/'
                                        'disk.rescue.iso')},
            self.disks(guest))
        self.wait_for_boot(guest)
        self.cloud.compute.unrescue_server(guest.id)
        guest.wait_for_status('ACTIVE')
        self.assertEqual(before, self.disks(guest))
        self.assertNotIn('rescue', self.dom0(
            'ls', f'{base.INSTANCES}/{guest.id}'))

    @base.slow
    def test_is_refused_without_drive(self) -> None:
        for guest_type in ('pv', 'pvh'):
            guest = self.make_server(
                self.addCleanup, image=self._image,
                flavor=self.make_flavor(self.addCleanup,
                                        guest_type=guest_type))
            self.assert_refused(guest, 'aborted', 'ISO image', 'CD-ROM',
                                'hw_vm_mode=hvm')
