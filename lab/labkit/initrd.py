# SPDX-License-Identifier: Apache-2.0
"""Initial RAM disks: klibc's shell, some drivers, and a script.

``lab/guest/small/initrd`` is the script. It mounts the disk that ``root=``
names, or a guest's first one, and hands over to its init.
"""

from __future__ import annotations

from collections.abc import Sequence
import os
import pathlib
import shutil

from labkit import config
from labkit import debian

SCRIPT = config.LAB / 'guest/small/initrd'
#: What makes one, and what is in it.
TOOLS = ('cpio', 'zstd', 'kmod', 'xz-utils')
CONTENT = ('klibc-utils',)
KLIBC_TOOLS = ('sh', 'cat', 'insmod', 'mount', 'umount', 'run-init', 'sleep')


def modules(tools: debian.Tree, root: pathlib.Path,
            names: Sequence[str]) -> list[pathlib.Path]:
    """These modules of the only kernel in ``root``, and what they need.

    :param root: the tree itself, or a directory in it.
    :returns: their files, in the order to load them.
    """
    directory = next((root / 'usr/lib/modules').iterdir())
    tools.run('depmod', '-b', root, directory.name)
    found: list[pathlib.Path] = []
    for name in names:
        # Lines "insmod PATH", and "builtin NAME" for what needs no file.
        for line in tools.run('modprobe', '-d', root, '-S', directory.name,
                              '-D', '-a', name).splitlines():
            verb, path = line.split()[:2]
            file = tools.path / path.lstrip('/')
            if verb == 'insmod' and file not in found:
                found.append(file)
    return found


def _unpack_module(tools: debian.Tree, packed: pathlib.Path,
                   target: pathlib.Path) -> None:
    """Unpacked modules make a smaller initrd and load faster."""
    target.parent.mkdir(parents=True, exist_ok=True)
    copy = tools.work / packed.name
    shutil.copyfile(packed, copy)
    tools.run('xz', '-d', copy)
    copy.with_suffix('').rename(target)


def build(tools: debian.Tree, source: pathlib.Path,
          drivers: Sequence[pathlib.Path] = ()) -> pathlib.Path:
    """Make an initrd of klibc's programs, packed with zstd.

    :param tools: has :data:`TOOLS`.
    :param source: has :data:`CONTENT`; the tree itself, or a directory.
    :param drivers: from :func:`modules`.
    """
    root = tools.work / 'initrd'
    shutil.copytree(SCRIPT, root)
    for name in ('dev', 'modules', 'proc', 'root', 'usr/bin', 'usr/lib'):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / 'lib').symlink_to('usr/lib')
    for name in KLIBC_TOOLS:
        shutil.copy2(source / 'usr/lib/klibc/bin' / name, root / 'usr/bin')
    library, = source.glob('usr/lib/klibc-*.so')
    shutil.copy2(library, root / 'usr/lib')
    for number, module in enumerate(drivers, start=10):
        _unpack_module(tools, module, root / 'modules'
                       / f'{number}-{module.stem}')
    names = ['.', *sorted(str(path.relative_to(root))
                          for path in root.rglob('*'))]
    for name in names:
        os.utime(root / name, (debian.EPOCH, debian.EPOCH),
                 follow_symlinks=False)
    archive = tools.work / 'initrd.cpio'
    tools.run('cpio', '--quiet', '-o', '-H', 'newc', '--reproducible',
              '-R', '0:0', '-D', root, '-O', archive,
              input='\n'.join(names) + '\n')
    packed = archive.with_suffix('.zst')
    tools.run('zstd', '-q', '--ultra', '-22', '-o', packed, archive)
    return packed
