# SPDX-License-Identifier: Apache-2.0
"""The driver's own loaders find what real distributions' disks boot.

grub's emulator runs the very configuration that the loaders have, on disks
that each layout's own tools make.
"""

import os
import pathlib
import re
import subprocess
import threading

from oslotest import base

from tests import bootdisks
from xen44_driver.xen import arch
from xen44_driver.xen import grub

#: What grub prints at last: it has booted, or waits for somebody.
END = re.compile(r'\[booted .*]|Press any key|Failed to boot|grub> ', re.S)

MENU = 'echo "[booted root=$root prefix=$prefix]"; exit\n'

# Of Debian 5, shortened.
LEGACY = '''\
# menu.lst - See: grub(8), info grub, update-grub(8)
default\t\t1
timeout\t\t1
color cyan/blue white/blue
### BEGIN AUTOMAGIC KERNELS LIST
## ## Start Default Options ##
# kopt=root=/dev/sda1 ro

title\t\tDebian GNU/Linux, kernel 2.6.18-6-xen-amd64
root\t\t{0}
kernel\t\t/boot/vmlinuz-2.6.18 root=/dev/sda1 ro quiet
initrd\t\t/boot/initrd.img-2.6.18
savedefault

title\t\tDebian GNU/Linux, kernel 2.6.26-2-amd64
root\t\t{0}
kernel\t\t/boot/vmlinuz-2.6.26 root=/dev/sda1 ro
initrd\t\t/boot/initrd.img-2.6.26
'''


# What update-grub of Debian 12 writes, with the consoles of its cloud images;
# shortened.
DEBIAN = '''\
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
if [ x"${feature_menuentry_id}" = xy ]; then
  menuentry_id_option="--id"
else
  menuentry_id_option=""
fi
export menuentry_id_option
function load_video {
  if [ x$feature_all_video_module = xy ]; then
    insmod all_video
  fi
}
serial --speed=115200
terminal_input console serial
terminal_output console serial
set timeout=0
set menu_color_normal=cyan/blue
menuentry 'Debian GNU/Linux' --class debian --class os \
$menuentry_id_option 'gnulinux-simple-78656e34' {
	load_video
	insmod gzio
	if [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
	insmod part_gpt
	insmod ext2
	search --fs-uuid --set=root 78656e34-3400-4000-8000-6775657374ff
	echo	'Loading Linux 6.1.0-56-amd64 ...'
	linux	/boot/vmlinuz-6.1.0-56-amd64 root=UUID=78656e34 ro console=hvc0
	echo	'Loading initial ramdisk ...'
	initrd	/boot/initrd.img-6.1.0-56-amd64
}
submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'more' {
	menuentry 'Debian GNU/Linux, with Linux 6.1.0-56-amd64' --class debian {
		linux	/boot/vmlinuz-6.1.0-56-amd64 root=UUID=78656e34 ro
	}
}
'''


class GrubTestCase(base.BaseTestCase):
    """Disks, and grub's emulator."""

    def setUp(self):
        super().setUp()
        self.work = pathlib.Path(self.create_tempfiles(
            [('nothing', '')])[0]).parent
        self.disks = bootdisks.Disks(self.work)

    def boot(self, *disks, platform='emu'):
        """What grub prints as it boots the first of these disks.

        :param platform: what it takes itself for.
        """
        # Its own disks would be hd0.
        devices = self.work / 'device.map'
        devices.write_text(''.join(
            f'(hd{number}) {path}\n' for number, path in enumerate(disks, 1)))
        memory = self.work / 'memory'
        memory.write_bytes(grub.memory_disk('x86_64-xen', ()))
        start = self.disks.tree({'grub.cfg': (
            f'set root_disk=hd1\nset grub_platform={platform}\n'
            'export root_disk grub_platform\n'
            'normal (memdisk)/grub.cfg\n')})
        emulator = subprocess.Popen(
            ['grub-emu', f'--device-map={devices}', f'--directory={start}',
             '--root=host', f'--memdisk={memory}'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={**os.environ, 'TERM': 'vt100'})
        # If it hangs.
        timer = threading.Timer(120, emulator.kill)
        timer.start()
        text = ''
        try:
            while not END.search(text):
                piece = os.read(emulator.stdout.fileno(), 65536)
                if not piece:
                    break
                text += piece.decode(errors='replace')
        finally:
            timer.cancel()
            emulator.kill()
            emulator.communicate()
        text = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', text)
        # It breaks lines at the terminal's width.
        return ' '.join(text.split())


class LayoutTest(GrubTestCase):

    def assert_boots(self, place, *disks):
        """grub reads the configuration there.

        :param place: a device, and the directory.
        """
        device, directory = place
        self.assertIn(f'[booted root={device} prefix=({device}){directory}]',
                      self.boot(*disks))

    def test_file_systems(self):
        for disk in (
                self.disks.ext4({'boot/grub/grub.cfg': MENU}),
                self.disks.ext4({'boot/grub/grub.cfg': MENU}, '-O', (
                    '64bit,metadata_csum,metadata_csum_seed,orphan_file,'
                    'fast_commit,large_dir,encrypt,verity')),
                self.disks.xfs('boot/grub/grub.cfg', MENU),
                self.disks.btrfs({'boot/grub/grub.cfg': MENU})):
            self.assert_boots(('hd1', '/boot/grub'), disk)

    def test_directories(self):
        for directory in ('boot/grub', 'boot/grub2', 'grub', 'grub2'):
            self.assert_boots(('hd1', f'/{directory}'), self.disks.ext4(
                {f'{directory}/grub.cfg': MENU}))

    def test_subvolumes(self):
        # To grub, a subvolume is a directory. mkfs.btrfs makes real ones
        # since 6.12.
        for subvolume in ('@', '@rootfs', 'root'):
            self.assert_boots(
                ('hd1,gpt1', f'/{subvolume}/boot/grub'),
                self.disks.disk('gpt', self.disks.btrfs(
                    {f'{subvolume}/boot/grub/grub.cfg': MENU})))

    def test_partitions(self):
        boot = self.disks.ext4({'grub2/grub.cfg': MENU})
        root = self.disks.xfs('etc/fstab', 'x')
        self.assert_boots(('hd1,gpt2', '/grub2'),
                          self.disks.disk('gpt', root, boot))
        self.assert_boots(('hd1,msdos1', '/grub2'),
                          self.disks.disk('dos', boot, root))

    def test_logical_volume(self):
        self.assert_boots(('lvm/vg0-root', '/boot/grub2'), self.disks.disk(
            'gpt', self.disks.lvm(
                self.disks.ext4({'boot/grub2/grub.cfg': MENU}))))

    def test_configuration_without_entries(self):
        """The next one is read, such as that of a copy of /boot."""
        self.assert_boots(('hd1,gpt2', '/boot/grub'), self.disks.disk(
            'gpt', self.disks.ext4({'grub/grub.cfg': 'true\n'}),
            self.disks.ext4({'boot/grub/grub.cfg': MENU})))

    def test_nothing_is_found(self):
        """A volume is not booted in place of the root disk."""
        text = self.boot(self.disks.ext4({'etc/fstab': 'x'}),
                         self.disks.ext4({'boot/grub/grub.cfg': MENU}))
        self.assertIn('xen44: no boot configuration was found', text)
        self.assertNotIn('[booted', text)

    def test_nothing_is_booted(self):
        """An error is not taken for a disk without a configuration."""
        text = self.boot(self.disks.ext4(
            {'boot/grub/grub.cfg': 'linux /vmlinuz-of-another-disk\nboot\n'}))
        self.assertIn('xen44: the configuration of the root disk', text)
        self.assertNotIn('no boot configuration', text)

    def test_entries_of_fedora(self):
        files = {
            f'loader/entries/{name}.conf': bootdisks.ENTRY.format(version, '')
            for name, version in (
                ('aa-6.16.3', '6.16.3'), ('aa-6.17.1', '6.17.1'),
                ('aa-0-rescue', '0-rescue'), ('zz-rescue', '0-rescue'))}
        files['grub2/grub.cfg'] = 'insmod blscfg\nblscfg\n' + MENU
        boot = self.disks.ext4(files)
        self.assertIn(
            'Loading /vmlinuz-6.17.1 root=UUID=4f68bce3-e8cd ro '
            'rootflags=subvol=root console=ttyS0,115200n8 ',
            self.boot(self.disks.disk('gpt', boot)))
        # That which the guest says, with its variables.
        environment = self.work / 'grubenv'
        bootdisks.run('grub-editenv', environment, 'create')
        bootdisks.run('grub-editenv', environment, 'set',
                      'saved_entry=aa-6.16.3', 'kernelopts=quiet rhgb')
        files['grub2/grubenv'] = environment.read_text()
        boot = self.disks.ext4(files)
        text = self.boot(self.disks.disk('gpt', boot))
        self.assertIn('Loading /vmlinuz-6.16.3 ', text)
        self.assertIn('console=ttyS0,115200n8 quiet rhgb', text)

    def test_entries_in_the_root_file_system(self):
        disk = self.disks.ext4({
            'boot/loader/entries/aa-6.17.1.conf': bootdisks.ENTRY.format(
                '6.17.1', '/boot'),
            'boot/grub2/grub.cfg': 'blscfg\n'})
        self.assertIn('Loading /boot/vmlinuz-6.17.1 ', self.boot(disk))

    def test_legacy(self):
        for root, device in (('(hd0,0)', 'hd1,1'), ('(hd0)', 'hd1')):
            disk = self.disks.ext4({'boot/grub/menu.lst': LEGACY.format(root)})
            if root != '(hd0)':
                disk = self.disks.disk('dos', disk)
            self.assertIn(
                f'Loading ({device})/boot/vmlinuz-2.6.26 root=/dev/sda1 ro',
                self.boot(disk))


class PVTest(GrubTestCase):

    def test_kernel_that_is_none(self):
        """Whoever reads the console is told what to do.

        grub's emulator boots no kernel at all.
        """
        disk = self.disks.ext4({'boot/grub/grub.cfg': DEBIAN}, '-U',
                               '78656e34-3400-4000-8000-6775657374ff')
        self.assertRegex(
            self.boot(disk, platform='xen'),
            'Loading Linux 6.1.0-56-amd64.*a PV guest cannot start this kernel'
            '.*Loading initial ramdisk')
        self.assertNotIn('a PV guest', self.boot(disk, platform='xen_pvh'))

    def test_entries_of_fedora(self):
        """What reads entries and what boots a kernel have the same name."""
        disk = self.disks.ext4({
            'boot/loader/entries/aa-6.17.1.conf': bootdisks.ENTRY.format(
                '6.17.1', '/boot'),
            'boot/grub2/grub.cfg': 'blscfg\n'})
        text = self.boot(disk, platform='xen')
        self.assertIn('Loading /boot/vmlinuz-6.17.1 ', text)
        self.assertIn('a PV guest cannot start this kernel', text)


class BuildTest(GrubTestCase):
    """The loaders are built of the modules that the distribution has."""

    def test_build(self):
        directory = str(self.work / 'loaders')
        platforms = [profile.grub for profile
                     in arch.load('x86_64').profiles.values() if profile.grub]
        built = grub.build(directory, platforms)
        for platform, loader in zip(platforms, built, strict=True):
            self.assertEqual(loader, grub.find(directory, platform))
            content = pathlib.Path(loader.path).read_bytes()
            self.assertIn(b'Xen', content)
            for text in (b'xen44: no boot configuration', b'bls.cfg',
                         f'grub/{platform}/linux.mod'.encode()):
                self.assertIn(text, content)
            self.assertEqual([], list(grub.problems(directory, platform)))
        # The same again is the same.
        self.assertEqual(built, grub.build(directory, platforms))
