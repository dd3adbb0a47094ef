# SPDX-License-Identifier: Apache-2.0
"""The guests' images: a small one of our own, and Debian with cloud-init.

The small guest behaves like CirrOS and is put together from Debian 13's
packages: a kernel compiled from its source (``labkit.kernel``), busybox,
dropbear, and the scripts in ``lab/guest/small``. One disk boots as PV and PVH
(grub's Xen builds read its grub.cfg) and as HVM (grub in the boot record).
Its kernel finds that disk by itself; the initrd is for images that have one.
On ARM it boots by kernel and initrd alone: its disk has no boot loader.
The other image is Debian with Debian's kernel. Those that Debian's own tools
make in full are in ``labkit.stockguest``.

``python3 -m labkit.guest [small|debian|aarch64]`` builds what is not there yet
and prints the paths and sizes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
import gzip
import os
import pathlib
import shlex
import shutil
import struct
import sys

from labkit import cache
from labkit import config
from labkit import debian
from labkit import initrd
from labkit import kernel
from labkit import qemu
from labkit import util

RECIPES = config.LAB / 'guest'

#: The small guest's other architectures: Debian's name, and what runs their
#: programs here.
FOREIGN = {'aarch64': ('arm64', qemu.AARCH64_USER),
           'armv7l': ('armhf', qemu.ARM_USER)}

#: What makes an initrd and a disk.
DISK_TOOLS = (*initrd.TOOLS, 'e2fsprogs')
#: What makes it boot by itself.
GRUB_PACKAGES = ('grub-common', 'grub-pc-bin')
SMALL_PACKAGES = (*initrd.CONTENT, 'busybox-static', 'dropbear-bin',
                  'chiark-really', 'e2fsprogs', 'util-linux')
#: Programs busybox has not, or not well enough; their libraries come along.
ROOT_PROGRAMS = ('usr/sbin/dropbear', 'usr/bin/dropbearkey',
                 'usr/sbin/really', 'usr/sbin/blkid', 'usr/sbin/mke2fs',
                 'usr/sbin/resize2fs')
ROOT_DIRECTORIES = ('boot/grub', 'dev', 'etc/dropbear', 'home/xen44', 'mnt',
                    'proc', 'root', 'run', 'sys', 'tmp', 'usr/local/bin',
                    'var/lib/cloud', 'var/log')
#: grub's modules for the BIOS, read sector by sector: no more than needed.
BIOS_MODULES = ('biosdisk', 'part_msdos', 'ext2', 'linux', 'normal',
                'configfile', 'test')

#: Debian's guest gets its kernel without the package's scripts, and an initrd
#: a tenth as large as initramfs-tools makes it. The kernel is the ordinary
#: one: the cloud kernel has no Xen keyboard for PV consoles.
KERNEL_PACKAGES = (*DISK_TOOLS, *GRUB_PACKAGES, *initrd.CONTENT,
                   'linux-image-amd64')
#: Modules of its initrd, each with what it depends on.
INITRD_MODULES = ('xen-blkfront', 'ext4')
DEBIAN_PACKAGES = (
    'systemd-sysv', 'udev', 'dbus', 'systemd-resolved', 'openssh-server',
    'cloud-init', 'netplan.io', 'dhcpcd-base', 'iproute2', 'iputils-ping',
    'sudo', 'e2fsprogs', 'kmod', 'procps', 'util-linux')
#: Not unpacked: nobody reads them in a guest.
DEBIAN_EXCLUDED = ('doc', 'info', 'lintian', 'locale', 'man')
#: Units that a guest of an hour's life does not need.
DEBIAN_MASKED = (
    'apt-daily.timer', 'apt-daily-upgrade.timer', 'dpkg-db-backup.timer',
    'e2scrub_all.timer', 'e2scrub_reap.service', 'fstrim.timer',
    'logrotate.timer', 'cloud-init-hotplugd.socket',
    'systemd-binfmt.service', 'systemd-pstore.service',
    'systemd-timesyncd.service', 'systemd-tpm2-setup.service',
    'systemd-tpm2-setup-early.service')
#: Password of Debian's root on its consoles; ssh takes no password for root.
DEBIAN_PASSWORD = 'xen44'  # noqa: S105 - a test image's, for all to know

#: ext4 as grub reads it: no metadata_csum, no orphan_file. The resize inode
#: lets it grow while mounted, uninit_bg makes that quick.
EXT4_FEATURES = ('none,has_journal,ext_attr,resize_inode,dir_index,filetype,'
                 'extent,64bit,flex_bg,sparse_super,large_file,huge_file,'
                 'dir_nlink,extra_isize,uninit_bg')
LABEL = 'guestroot'
SECTOR = 512
#: Bytes of the boot record before the partition table and the disk's number.
BOOT_CODE = 440
PARTITION_START = 2048
SMALL_MIB = 128
DEBIAN_MIB = 1000
FS_UUID = '78656e34-3400-4000-8000-6775657374ff'

#: Kernel arguments for a direct boot of the small guest's kernel and initrd,
#: with its disk as the first one.
CMDLINE = 'root=/dev/xvda1 quiet console=hvc0'


@dataclasses.dataclass(frozen=True)
class GuestFiles:
    """The small guest.

    :ivar disk_qcow2: its whole disk as a qcow2 file.
    :ivar disk_raw: the same disk, raw and sparse.
    :ivar kernel: of :func:`labkit.kernel.kernel`, for images with kernel_id.
    :ivar ramdisk: its initrd, for images with ramdisk_id.
    """

    disk_qcow2: pathlib.Path
    disk_raw: pathlib.Path
    kernel: pathlib.Path
    ramdisk: pathlib.Path


def cached(kind: str, build: Callable[[pathlib.Path, pathlib.Path], None],
           *parts: pathlib.Path) -> pathlib.Path:
    """The cached guest of this kind, as :func:`cache.directory`.

    :param parts: files and directories it depends on, beside our code.
    """
    def with_tools(scratch: pathlib.Path, log: pathlib.Path) -> None:
        with util.step(f'guest image: {kind}'):
            debian.need_tools()
            util.need_packages('qemu-utils')
            (scratch / 'result').mkdir()
            build(scratch, log)

    code = pathlib.Path(__file__), pathlib.Path(debian.__file__)
    return cache.directory(f'guest-{kind}', cache.recipe(*code, *parts),
                           with_tools)


def _kernel_elf(bzimage: bytes) -> bytes:
    """The packed kernel inside a bzImage, still packed.

    Offsets are of Linux' Documentation/arch/x86/boot.rst.

    :raises util.LabError: it is no bzImage with a zstd payload.
    """
    setup_sectors = bzimage[0x1f1]
    offset, length = struct.unpack_from('<II', bzimage, 0x248)
    start = (setup_sectors + 1) * SECTOR + offset
    # The payload's last four bytes are its unpacked length.
    payload = bzimage[start:start + length - 4]
    if payload[:4] != b'\x28\xb5\x2f\xfd':
        raise util.LabError("Debian's kernel is not packed with zstd "
                            'any more')
    return payload


def _pv_kernel(tree: debian.Tree, bzimage: pathlib.Path,
               target: pathlib.Path) -> None:
    """Pack the kernel anew so that grub's PV loader can unpack it."""
    packed, plain = tree.work / 'vmlinux.zst', tree.work / 'vmlinux'
    packed.write_bytes(_kernel_elf(bzimage.read_bytes()))
    tree.run('zstd', '-q', '-d', '-f', '-o', plain, packed)
    target.write_bytes(gzip.compress(plain.read_bytes(), 9,
                                     mtime=debian.EPOCH))


def _copy_program(tree: debian.Tree, root: pathlib.Path, name: str) -> None:
    """Copy a program and the libraries the loader finds for it."""
    target = root / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(tree.path / name, target)
    loader = tree.only('usr/lib*/ld-linux-*.so.*')
    needed = {tree.inside(loader)}
    for line in tree.run(loader, '--list', f'/{name}').splitlines():
        words = line.split()
        if '=>' in words and words[2].startswith('/'):
            needed.add(words[2])
    for library in needed:
        # /lib and /lib64 lead into /usr, here and there.
        copy = root / 'usr' / library.lstrip('/').removeprefix('usr/')
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists():
            shutil.copy2(tree.path / library.lstrip('/'), copy)


def _root(tree: debian.Tree, root: pathlib.Path) -> None:
    """Make the root file system: busybox, dropbear and ``small/root``."""
    root.mkdir()
    debian.merge_usr(root)
    for name in ROOT_DIRECTORIES:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ROOT_PROGRAMS:
        _copy_program(tree, root, name)
    (root / 'usr/sbin/mkfs.ext4').symlink_to('mke2fs')
    shutil.copy2(tree.path / 'etc/mke2fs.conf', root / 'etc')
    shutil.copytree(RECIPES / 'small/root', root, dirs_exist_ok=True)
    (root / 'etc/mtab').symlink_to('/proc/mounts')
    (root / 'var/run').symlink_to('/run')

    busybox = tree.path / 'usr/bin/busybox'
    shutil.copy2(busybox, root / 'usr/bin')
    for applet in tree.run(busybox, '--list-full').split():
        place = 'sbin' if 'sbin/' in applet else 'bin'
        link = root / 'usr' / place / pathlib.Path(applet).name
        if not any(os.path.lexists(root / 'usr' / other / link.name)
                   for other in ('bin', 'sbin')):
            link.symlink_to('/usr/bin/busybox')

    # Whoever may write inittab, really(8) makes root; see usr/bin/sudo.
    group = 1000
    for name, mode in (('etc/inittab', 0o664), ('usr/sbin/really', 0o4750)):
        os.chown(root / name, 0, group)
        (root / name).chmod(mode)
    for home, user in (('root', 0), ('home/xen44', 1000)):
        keys = root / home / '.ssh/authorized_keys'
        keys.parent.mkdir(mode=0o700)
        keys.touch(mode=0o600)
        for path in (root / home, keys.parent, keys):
            os.chown(path, user, group if user else 0)
    # ping and su; busybox gives the right up itself in everything else.
    (root / 'usr/bin/busybox').chmod(0o4755)
    (root / 'etc/shadow').chmod(0o600)
    for name in ('root', 'var/lib/cloud'):
        (root / name).chmod(0o700)


def _disk(tree: debian.Tree, root: pathlib.Path, size: int,
          disk: pathlib.Path) -> None:
    """A disk with ``root`` on its only partition.

    :param size: MiB.
    """
    with open(disk, 'wb') as image:
        image.truncate(size << 20)
    tree.run('mke2fs', '-q', '-t', 'ext4', '-F', '-O', EXT4_FEATURES,
             '-b', '4096', '-L', LABEL, '-U', FS_UUID, '-m', '0',
             '-E', f'offset={PARTITION_START * SECTOR},root_owner=0:0,'
             f'hash_seed={FS_UUID}', '-d', root, disk,
             f'{size - (PARTITION_START * SECTOR >> 20)}M')
    # Bootable, type Linux, at 2048. Its end lies past the end of any disk,
    # and Linux cuts it there: nothing to do when the disk grows.
    partition = struct.pack('<B3sB3sII', 0x80, b'\xfe\xff\xff', 0x83,
                            b'\xfe\xff\xff', PARTITION_START,
                            0xffffffff - PARTITION_START)
    with open(disk, 'r+b') as image:
        image.seek(BOOT_CODE)
        image.write(b'xen4\0\0' + partition + bytes(48) + b'\x55\xaa')


def _make_bootable(tree: debian.Tree, disk: pathlib.Path) -> None:
    """Put grub into the disk's boot record."""
    core = tree.work / 'core.img'
    early = tree.work / 'core.cfg'
    shutil.copyfile(RECIPES / 'small/core.cfg', early)
    tree.run('grub-mkimage', '-O', 'i386-pc', '-c', early, '-o', core,
             '-p', '(hd0,msdos1)/boot/grub', *BIOS_MODULES)
    if core.stat().st_size > (PARTITION_START - 1) * SECTOR:
        raise util.LabError("grub's core does not fit before the partition")
    boot = (tree.path / 'usr/lib/grub/i386-pc/boot.img').read_bytes()
    with open(disk, 'r+b') as image:
        image.write(boot[:BOOT_CODE])
        image.seek(SECTOR)
        image.write(core.read_bytes())


def _build_small(architecture: str, scratch: pathlib.Path,
                 log: pathlib.Path) -> None:
    boots = architecture not in FOREIGN
    result = scratch / 'result'
    if boots:
        tools = tree = debian.Tree(
            scratch / 'tree',
            (*DISK_TOOLS, *GRUB_PACKAGES, *SMALL_PACKAGES), log)
    else:
        tools = debian.Tree(scratch / 'tree', DISK_TOOLS, log)
        debian_name, emulator = FOREIGN[architecture]
        tree = debian.Tree(tools.work / 'guest', SMALL_PACKAGES, log,
                           f'--architectures={debian_name}',
                           debian.NO_UPDATES, emulator=emulator.path())
    root = tools.work / 'root'
    _root(tree, root)
    vmlinuz = kernel.kernel(architecture)
    shutil.copyfile(vmlinuz, root / 'boot/vmlinuz')
    disk = tools.work / 'disk.raw'
    _disk(tools, root, SMALL_MIB, disk)
    if boots:
        _make_bootable(tools, disk)

    shutil.copyfile(vmlinuz, result / 'vmlinuz')
    shutil.copyfile(initrd.build(tools, tree.path), result / 'initrd')
    # Both from one source; qemu-img keeps the raw one sparse.
    for form in ('qcow2', 'raw'):
        util.run(['qemu-img', 'convert', '-f', 'raw', '-O', form, disk,
                  result / f'disk.{form}'])


def small_guest(architecture: str = 'x86_64') -> GuestFiles:
    """The small guest, built if it is not cached.

    :param architecture: its own: that of a host, or ``armv7l``.
    :raises util.LabError: it cannot be built.
    """
    files = cached('small' if architecture == 'x86_64' else architecture,
                   functools.partial(_build_small, architecture),
                   RECIPES / 'small', *kernel.configs(architecture),
                   pathlib.Path(initrd.__file__),
                   pathlib.Path(kernel.__file__))
    return GuestFiles(files / 'disk.qcow2', files / 'disk.raw',
                      files / 'vmlinuz', files / 'initrd')


def debian_root(root: pathlib.Path, log: pathlib.Path, *options: str,
                packages: Sequence[str] = (),
                suite: str = debian.SUITE) -> None:
    """Install Debian with cloud-init into a directory.

    :param options: more options of mmdebstrap.
    :param packages: those that it has besides.
    :param suite: the release of Debian.
    :raises util.LabError: see :func:`debian.packages`.
    """
    mask = shlex.join(['systemctl', 'mask', *DEBIAN_MASKED])
    debian.packages(
        root, 'apt', (*DEBIAN_PACKAGES, *packages), log,
        *(f'--dpkgopt=path-exclude=/usr/share/{name}/*'
          for name in DEBIAN_EXCLUDED),
        f'--customize-hook=sync-in {RECIPES / "debian/root"} /',
        f'--customize-hook=chroot "$1" {mask}',
        f'--customize-hook=echo root:{DEBIAN_PASSWORD} | '
        'chroot "$1" chpasswd',
        # Every instance makes its own.
        '--customize-hook=rm -f "$1"/etc/ssh/ssh_host_*',
        '--customize-hook=echo debian > "$1/etc/hostname"',
        *options, suite=suite)


def _build_debian(scratch: pathlib.Path, log: pathlib.Path) -> None:
    result = scratch / 'result'
    tools = debian.Tree(scratch / 'tree', KERNEL_PACKAGES, log)
    vmlinuz = tools.only('boot/vmlinuz-*')
    release = vmlinuz.name.removeprefix('vmlinuz-')
    drivers = initrd.modules(tools, tools.path, INITRD_MODULES)

    root = tools.work / 'root'
    debian_root(root, log, '--customize-hook=: > "$1/etc/fstab"')
    shutil.copytree(RECIPES / 'debian/boot', root / 'boot',
                    dirs_exist_ok=True)

    modules = f'usr/lib/modules/{release}'
    shutil.copytree(tools.path / modules, root / modules)
    shutil.copyfile(vmlinuz, root / 'boot/vmlinuz')
    _pv_kernel(tools, vmlinuz, root / 'boot/vmlinux.gz')
    shutil.copyfile(initrd.build(tools, tools.path, drivers),
                    root / 'boot/initrd')
    disk = tools.work / 'disk.raw'
    _disk(tools, root, DEBIAN_MIB, disk)
    _make_bootable(tools, disk)
    util.run(['qemu-img', 'convert', '-c', '-f', 'raw', '-O', 'qcow2', disk,
              result / 'disk.qcow2'], timeout=600)


def debian_guest() -> pathlib.Path:
    """Debian 13 with cloud-init, a qcow2 file; built if it is not cached.

    It boots like the small guest, as PV, PVH and HVM, and takes its
    configuration from a config drive or the metadata service.

    :raises util.LabError: it cannot be built.
    """
    return cached('debian', _build_debian, RECIPES / 'debian',
                  RECIPES / 'small/core.cfg', initrd.SCRIPT,
                  pathlib.Path(initrd.__file__)) / 'disk.qcow2'


def main(argv: Sequence[str] | None = None) -> int:
    """Build the images asked for; print their paths and sizes."""
    parser = argparse.ArgumentParser(
        prog='python3 -m labkit.guest', description="The guests' images.")
    parser.add_argument('kind', nargs='?', default='small',
                        choices=('small', 'debian', *FOREIGN),
                        help='%(default)s for x86; others are the small '
                        'one, too')
    kind = parser.parse_args(argv).kind
    try:
        paths = ((debian_guest(),) if kind == 'debian' else
                 dataclasses.astuple(small_guest(
                     'x86_64' if kind == 'small' else kind)))
    except util.LabError as error:
        print(error, file=sys.stderr)
        return 1
    for path in paths:
        print(f'{path.stat().st_blocks * 512 / 2**20:8.1f} MiB  {path}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
