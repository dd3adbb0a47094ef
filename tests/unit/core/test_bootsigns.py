# SPDX-License-Identifier: Apache-2.0
"""What guests that do not boot leave on their consoles."""

from tests.unit import base
from xen44_driver.core import bootsigns

PANIC = b"""\
[    1.204562] VFS: Cannot open root device "xvda9" or unknown-block(0,0)
[    1.204570] Please append a correct "root=" boot option
[    1.204581] Kernel panic - not syncing: VFS: Unable to mount root fs on """


class BootSignsTest(base.TestCase):

    def assert_problem(self, expected, console):
        problem = bootsigns.problem(console)
        self.assertIsNotNone(problem, console)
        self.assertIn(expected, problem)

    def test_kernels(self):
        self.assert_problem('root=', PANIC + b'unknown-block(0,0)\r\n[ 1.2] C')
        self.assert_problem('no init', b'[    2.0] Kernel panic - not syncing:'
                            b' No working init found.  Try passing init=')
        self.assert_problem('no init', b'[    2.0] Kernel panic - not syncing:'
                            b' Attempted to kill init! exitcode=0x00007f00')
        self.assert_problem('panicked', b'[    9.1] Kernel panic - not '
                            b'syncing: Fatal exception in interrupt\n')

    def test_initrds(self):
        self.assert_problem(
            'initrd has xen-blkfront', b'Gave up waiting for root file system '
            b'device.\nALERT!  UUID=1-2 does not exist.  Dropping to a shell!'
            b'\n\n\nBusyBox v1.37.0\n\n(initramfs) ')
        self.assert_problem('initrd has xen-blkfront',
                            b'BusyBox v1.37.0\r\n\r\n(initramfs) ')
        self.assert_problem(
            'emergency mode', b'Generating "/run/initramfs/rdsosreport.txt"\n'
            b'\n\nEntering emergency mode. Exit the shell to continue.\n')
        self.assert_problem('/etc/fstab', b'You are in emergency mode. After '
                            b'logging in, type "journalctl -xb"')

    def test_grub(self):
        self.assert_problem(
            'xen44-host build-loaders', b'\x1b[H\x1b[J\x1b[1;1H  GNU GRUB  '
            b'version 2.12-9\r\n\r\n\r\n\x1b[4;80Hgrub> \x1b[4;7H')
        self.assert_problem(
            'whole disk', b'xen44: no boot configuration was found on the '
            b'root disk (xvda):\r\nno grub.cfg\r\n')
        self.assert_problem(
            "grub's own files", b"error: no such device: 1-2.\n"
            b'Entering rescue mode...\ngrub rescue> ')
        self.assert_problem(
            'PVH or HVM', b'Loading Linux ...\nerror: not xen image.\n'
            b'Loading initial ramdisk ...\n'
            b'error: you need to load the kernel first.\n\n'
            b'Press any key to continue...')
        self.assert_problem(
            'what is missing', b"error: file `/boot/vmlinuz' not found.\r\n"
            b'\r\nPress any key to continue...')
        # As the driver's own loader leaves it.
        self.assert_problem(
            'what is missing', b'\x1b[H\x1b[J\x1b[1;1H'
            b"error: file `/boot/vmlinuz' not found.\r\n"
            b'error: you need to load the kernel first.\r\n'
            b'xen44: the configuration of the root disk (xvda) has booted '
            b'nothing:\r\nits errors are above.\r\n'
            b'\x1b[H\x1b[J\x1b[1;1H\x1b[2;25HGNU GRUB  version 2.12-9\r\n\r\n'
            b'\x1b[?25h\r\n\r\ngrub> ')

    def test_menu_of_grub(self):
        menu = (b'\x1b[2J GNU GRUB  version 2.12\r\n +-----+\r\n\r\n Use the '
                b'^ and v keys to select which entry is highlighted.\r\n '
                b"Press enter to boot the selected OS, `e' to edit the "
                b"commands before booting or `c' for a command-line.\r\n"
                b'\x1b[5;3H\x1b[0;7m*Debian GNU/Linux     \x1b[0m\x1b[5;78H')
        self.assert_problem('menu', menu)
        self.assert_problem('what is missing', b"error: file `/x' not found."
                            b'\n\nPress any key to continue...\n' + menu)
        self.assertIsNone(bootsigns.problem(
            menu + b'\x1b[23;4HThe highlighted entry will be executed '
            b'automatically in 5s.    '))
        self.assertIsNone(bootsigns.problem(
            menu + b"\x1b[2J  Booting `Debian GNU/Linux'\r\n\r\nLoading"))

    def test_firmware(self):
        self.assert_problem('BOOTX64.EFI', b'BdsDxe: No bootable option or '
                            b'device was found.\r\n')
        self.assert_problem('BOOTX64.EFI', b'UEFI Interactive Shell v2.2\r\n'
                            b'EDK II\r\nShell> ')
        # EDK2 for ARM is one of the loaders.
        self.assert_problem('BOOTAA64.EFI', b'Shell> ')
        # Where a start-up script left it.
        self.assert_problem('BOOTX64.EFI', b'UEFI Interactive Shell v2.2\r\n'
                            b'EDK II\r\nShell> fs0:\r\n'
                            b'\x1b[1m\x1b[33m\x1b[40mFS0:\\> \x1b[0m')

    def test_guests_that_boot(self):
        for console in (
                b'',
                # grub does without its font, and without an environment.
                b"error: file `/boot/grub/fonts/unicode.pf2' not found.\n"
                b"error: invalid environment block.\n"
                b'[    0.000000] Linux version 6.12.0\n',
                # Somebody types, or a script goes on.
                b'grub> ls\n',
                b'grub> boot\n[    0.000000] Linux version 6.12.0\n',
                b'Press any key to continue...\n[    0.000000] Linux',
                b'not xen image\nlogin: ',
                # startup.nsh boots it, and its kernel is quiet.
                b'UEFI Interactive Shell v2.2\r\nEDK II\r\nPress ESC in 1 '
                b'seconds to skip startup.nsh or any other key to continue.'
                b'\r\nShell> fs0:\\vmlinuz.efi root=/dev/xvda1 quiet\r\n'
                b'EFI stub: Loaded initrd from command line option\r\n',
                b'(initramfs) exit\nDebian GNU/Linux 13\nlogin: '):
            self.assertIsNone(bootsigns.problem(console), console)

    def test_only_the_end(self):
        self.assertIsNone(bootsigns.problem(
            PANIC + b'.' * bootsigns.MAX_BYTES))

    def test_text_that_a_tenant_chose(self):
        """It ends: no pattern tries the same text in many ways."""
        for piece in (b'error: not xen image ', b'\nALERT! ', b'ALERT! ',
                      b'\x1b[', b'\x1b[0;', b'\n' * 40 + b'x',
                      b'\nPress any key to continue...', b'grub> ',
                      b'\nFS0:>', b'FS0:'):
            text = piece * (bootsigns.MAX_BYTES // len(piece))
            self.assertIsNone(bootsigns.problem(text + b'.'), piece)
            bootsigns.problem(text + b'\ngrub> ')
