# SPDX-License-Identifier: Apache-2.0
"""Disks with the layouts of distributions, made by each layout's own tools."""

from __future__ import annotations

from collections.abc import Mapping
import os
import pathlib
import struct
import subprocess

#: A whole file system's size.
SIZE = '64M'
#: The least that mkfs.xfs makes.
XFS_SIZE = '300M'
BTRFS_SIZE = '120M'

#: A boot entry of Fedora's: a version, and the directory of the kernel.
ENTRY = '''\
title Fedora Linux ({0}.fc43.x86_64) 43 (Cloud Edition)
version {0}.fc43.x86_64
linux {1}/vmlinuz-{0}
initrd {1}/initramfs-{0}.img $tuned_initrd
options root=UUID=4f68bce3-e8cd ro rootflags=subvol=root console=ttyS0,115200n8
options $kernelopts
grub_users $grub_users
grub_arg --unrestricted
grub_class fedora
'''

#: LVM's description of a volume group with one logical volume.
VOLUME_GROUP = '''\
vg0 {{
id = "{0}1"
seqno = 1
format = "lvm2"
status = ["RESIZEABLE", "READ", "WRITE"]
flags = []
extent_size = 2048
physical_volumes {{
pv0 {{
id = "{0}2"
status = ["ALLOCATABLE"]
flags = []
pe_start = 2048
pe_count = {1}
}}
}}
logical_volumes {{
root {{
id = "{0}3"
status = ["READ", "WRITE", "VISIBLE"]
flags = []
segment_count = 1
segment1 {{
start_extent = 0
extent_count = {1}
type = "striped"
stripe_count = 1
stripes = ["pv0", 0]
}}
}}
}}
}}
contents = "Text Format Volume Group"
version = 1
'''


class Disks:
    """Makes disks, and file systems for them.

    :param work: the directory to make them in.
    """

    def __init__(self, work: pathlib.Path) -> None:
        self.work = work
        self._count = 0

    def file(self, size: str) -> pathlib.Path:
        """Make an empty file.

        :param size: as ``truncate`` takes it.
        """
        self._count += 1
        path = self.work / f'{self._count}.img'
        run('truncate', f'--size={size}', path)
        return path

    def tree(self, files: Mapping[str, str]) -> pathlib.Path:
        """Make a directory.

        :param files: contents of its files, by path.
        """
        self._count += 1
        top = self.work / f'tree{self._count}'
        for name, text in files.items():
            path = top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return top

    def ext4(self, files: Mapping[str, str], *options: str) -> pathlib.Path:
        """Make an ext4.

        :param options: further options of mke2fs.
        """
        path = self.file(SIZE)
        run('mke2fs', '-q', '-t', 'ext4', *options, '-d', self.tree(files),
            path)
        return path

    def xfs(self, name: str, text: str) -> pathlib.Path:
        """Make an XFS with one file."""
        top = self.tree({'content': text})
        *directories, last = name.split('/')
        prototype = top / 'prototype'
        prototype.write_text('\n'.join((
            '/', '0 0', 'd--755 0 0',
            *(f'{directory} d--755 0 0' for directory in directories),
            f'{last} ---644 0 0 {top}/content', *'$' * len(directories), '$',
            '')))
        path = self.file(XFS_SIZE)
        run('mkfs.xfs', '-q', '-p', prototype, path)
        return path

    def btrfs(self, files: Mapping[str, str]) -> pathlib.Path:
        """Make a btrfs."""
        path = self.file(BTRFS_SIZE)
        run('mkfs.btrfs', '-q', '--rootdir', self.tree(files), path)
        return path

    def esp(self, configuration: str) -> pathlib.Path:
        """Make a FAT with a grub that UEFI boots without being told.

        :param configuration: of this grub; it may echo, sleep and halt.
        """
        top = self.tree({'grub.cfg': configuration})
        program = top / 'BOOTX64.EFI'
        run('grub-mkstandalone', '--format=x86_64-efi', f'--output={program}',
            '--install-modules=normal echo sleep halt', '--locales=',
            '--fonts=', '--themes=', f'boot/grub/grub.cfg={top}/grub.cfg')
        path = self.file(SIZE)
        run('mformat', '-i', path, '-F', '::')
        run('mmd', '-i', path, '::/EFI', '::/EFI/BOOT')
        run('mcopy', '-i', path, program, '::/EFI/BOOT')
        return path

    def lvm(self, file_system: pathlib.Path) -> pathlib.Path:
        """Make a physical volume with a file system as vg0/root.

        LVM's own tools need device mapper. Without checksums, which grub does
        not look at.
        """
        mib = 1 << 20
        extents = file_system.stat().st_size // mib
        uuid = 'xen44x-xen4-xen4-xen4-xen4-xen4-xen44'
        text = VOLUME_GROUP.format(uuid, extents).encode() + b'\0'
        head = bytearray(mib)
        for offset, content in (
                (512, b'LABELONE' + struct.pack('<QII', 1, 0, 32)
                 + b'LVM2 001'),
                # The physical volume: its data, and its descriptions.
                (544, f'{uuid}2'.replace('-', '').encode() + struct.pack(
                    '<9Q', (extents + 1) * mib, mib, 0, 0, 0,
                    4096, mib - 4096, 0, 0)),
                (4096, bytes(4) + b' LVM2 x[5A%r0N*>' + struct.pack(
                    '<IQQQQII', 1, 4096, mib - 4096, 512, len(text), 0, 0)),
                (4608, text)):
            head[offset:offset + len(content)] = content
        path = self.file(f'{extents + 1}M')
        with open(path, 'r+b') as volume:
            volume.write(head)
        run('dd', f'if={file_system}', f'of={path}', 'bs=1M', 'seek=1',
            'conv=notrunc,sparse')
        return path

    def disk(self, label: str, *file_systems: pathlib.Path) -> pathlib.Path:
        """Make a disk with partitions.

        :param label: ``gpt`` or ``dos``.
        """
        sizes = [file_system.stat().st_size >> 20
                 for file_system in file_systems]
        path = self.file(f'{sum(sizes) + 2}M')
        script, start = [f'label: {label}'], 1
        for size, file_system in zip(sizes, file_systems, strict=True):
            script.append(f'start={start}MiB, size={size}MiB, type='
                          + ('linux' if label == 'gpt' else '83'))
            run('dd', f'if={file_system}', f'of={path}', 'bs=1M',
                f'seek={start}', 'conv=notrunc,sparse')
            start += size
        run('sfdisk', '--quiet', path, text='\n'.join(script) + '\n')
        return path


def run(*command: object, text: str | None = None) -> None:
    """Run a tool, which may be one of root's.

    :param text: its standard input.
    """
    subprocess.run(
        [str(part) for part in command], check=True, capture_output=True,
        text=True, input=text, timeout=300,
        env={**os.environ, 'PATH': f'{os.environ["PATH"]}:/usr/sbin:/sbin'})
