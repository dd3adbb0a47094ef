# SPDX-License-Identifier: Apache-2.0
"""Guests' images as Debian's own tools make them.

Unlike those of ``labkit.guest``, nothing on these disks is fitted to the lab's
boot loaders: a GPT with a BIOS boot partition; ext4 with all that mke2fs turns
on in the release; its kernel as it is packed, with the initrd of its
initramfs-tools; its grub in the boot record, and the configuration that its
``update-grub`` writes.

The last two need to see the disk that they are on. So the disk boots once, in
QEMU, and runs them in place of an init.

``python3 -m labkit.stockguest NAME`` builds an image if it is not there yet.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import dataclasses
import functools
import pathlib
import shutil
import sys

from labkit import debian
from labkit import guest
from labkit import qemu
from labkit import util

RECIPE = guest.RECIPES / 'stock'

#: What makes a partition table, and what is in it.
TOOLS = ('e2fsprogs', 'fdisk')
#: What a distribution's image has besides what the lab's Debian has.
#: zstd and busybox are what initramfs-tools recommends.
PACKAGES = ('grub-pc', 'initramfs-tools', 'zstd', 'busybox')

#: Partitions as in Debian's cloud images, but for UEFI's: that with grub's
#: core is number 14, and the root, at the end of the disk, is number 1.
PARTITIONS = '''\
label: gpt
disk14: start=1MiB, size=3MiB, type=21686148-6449-6E6F-744E-656564454649
disk1: start={start}MiB, size={size}MiB, type=linux
'''
#: MiB.
DISK_SIZE = 2048
ROOT_START = 4
ROOT_SIZE = DISK_SIZE - ROOT_START - 1
ROOT = f'root=UUID={guest.FS_UUID}'

#: What the first boot says at last (lab/guest/stock/root/finish).
FINISHED = 'xen44: finished'
#: Seconds that the first boot has.
FINISH_TIMEOUT = 900


@dataclasses.dataclass(frozen=True)
class Stock:
    """A Debian.

    :ivar suite: its release.
    :ivar kernel: the package of its kernel.
    :ivar options: more options of mmdebstrap.
    """

    suite: str
    kernel: str = 'linux-image-amd64'
    options: tuple[str, ...] = ()


#: By name.
STOCKS = {
    'bookworm': Stock('bookworm'),
    'trixie': Stock('trixie'),
    # The last release with a kernel for 32 bits.
    'i386': Stock('bookworm', 'linux-image-686-pae', (
        '--architectures=i386', debian.NO_UPDATES)),
}


def _finish(disk: pathlib.Path, kernel: pathlib.Path, initrd: pathlib.Path,
            log: pathlib.Path) -> None:
    """Boot the disk once, and have it run what needs a disk.

    :param log: where its console goes.
    :raises util.LabError: that failed, or took too long.
    """
    console = disk.with_suffix('.console')
    util.run([*qemu.X86_64.command(), '-accel', 'tcg', '-m', '512',
              '-display', 'none', '-nic', 'none', '-no-reboot',
              '-serial', f'file:{console}',
              '-drive', f'file={disk},format=raw,if=virtio',
              '-kernel', kernel, '-initrd', initrd,
              '-append', f'{ROOT} ro console=ttyS0 panic=-1 init=/finish'],
             timeout=FINISH_TIMEOUT, log=log)
    said = console.read_text(errors='replace')
    with open(log, 'a', encoding='utf-8') as file:
        file.write(said)
    if FINISHED not in said:
        raise util.LabError('the first boot of the guest failed', log)


def _build(stock: Stock, scratch: pathlib.Path, log: pathlib.Path) -> None:
    # mmdebstrap asks it whether programs of another architecture run here.
    util.need_packages('arch-test')
    tools = debian.Tree(scratch / 'tree', TOOLS, log)
    root = tools.work / 'root'
    guest.debian_root(
        root, log, *stock.options,
        # There is no disk yet.
        '--essential-hook=echo grub-pc grub-pc/install_devices_empty boolean '
        'true | chroot "$1" debconf-set-selections',
        f'--customize-hook=echo "UUID={guest.FS_UUID} / ext4 '
        'errors=remount-ro 0 1" > "$1/etc/fstab"',
        f'--customize-hook=sync-in {RECIPE / "root"} /',
        packages=(*PACKAGES, stock.kernel), suite=stock.suite)
    kernel, = root.glob('boot/vmlinuz-*')
    initrd, = root.glob('boot/initrd.img-*')

    # The release's features of a new file system.
    shutil.copy2(root / 'etc/mke2fs.conf', tools.path / 'etc')
    disk = tools.work / 'disk.raw'
    with open(disk, 'wb') as image:
        image.truncate(DISK_SIZE << 20)
    tools.run('sfdisk', '--quiet', disk,
              input=PARTITIONS.format(start=ROOT_START, size=ROOT_SIZE))
    tools.run('mke2fs', '-q', '-t', 'ext4', '-F', '-U', guest.FS_UUID,
              '-E', f'offset={ROOT_START << 20}', '-d', root, disk,
              f'{ROOT_SIZE}M')
    _finish(disk, kernel, initrd, log)
    util.run(['qemu-img', 'convert', '-c', '-f', 'raw', '-O', 'qcow2', disk,
              scratch / 'result/disk.qcow2'], timeout=900)


def stock_guest(name: str) -> pathlib.Path:
    """One of :data:`STOCKS`, a qcow2 file; built if it is not cached.

    It takes its configuration from a config drive, as Debian's cloud images.

    :raises util.LabError: it cannot be built.
    """
    return guest.cached(
        f'stock-{name}', functools.partial(_build, STOCKS[name]), RECIPE,
        guest.RECIPES / 'debian/root',
        pathlib.Path(__file__)) / 'disk.qcow2'


def main(argv: Sequence[str] | None = None) -> int:
    """Build the image asked for; print its path and size."""
    parser = argparse.ArgumentParser(
        prog='python3 -m labkit.stockguest',
        description="Guests' images as Debian's own tools make them.")
    parser.add_argument('name', choices=STOCKS)
    try:
        path = stock_guest(parser.parse_args(argv).name)
    except util.LabError as error:
        print(error, file=sys.stderr)
        return 1
    print(f'{path.stat().st_blocks * 512 / 2**20:8.1f} MiB  {path}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
