# SPDX-License-Identifier: Apache-2.0
"""The small guest's kernel, compiled from Debian's source package.

A distribution's kernel is four times as large, and reading and unpacking it
is most of a guest's boot under emulation. The one file boots in every way
there is: grub's PV loader unpacks gzip, and all drivers are built in.
"""

from __future__ import annotations

import os
import pathlib

from labkit import cache
from labkit import config
from labkit import debian
from labkit import util

CONFIG = config.LAB / 'guest/small/kernel.config'

_PACKAGES = (
    'linux-source', 'gcc', 'libc6-dev', 'libelf-dev', 'make', 'flex', 'bison',
    'bc', 'perl', 'xz-utils', 'bash', 'dash', 'coreutils', 'diffutils',
    'findutils', 'grep', 'gzip', 'mawk', 'sed', 'tar')
#: The same source gives the same kernel, whoever compiles it.
_MAKE = ('make', '-s', 'KCONFIG_ALLCONFIG=/kernel.config',
         f'KBUILD_BUILD_TIMESTAMP=@{debian.EPOCH}',
         'KBUILD_BUILD_USER=xen44', 'KBUILD_BUILD_HOST=lab')
#: Others wait for what is built beside it; nobody waits for the kernel first.
_LATER = ('nice', '-n', '10')
_MINUTES = 4
_TIMEOUT = 5 * _MINUTES * 60


def _refused(wanted: str, got: str) -> list[str]:
    """Lines of our configuration that Linux' own rules did not accept."""
    lines = got.splitlines()
    return [line for line in wanted.splitlines()
            if 'CONFIG_' in line and line not in lines]


def _build(scratch: pathlib.Path, log: pathlib.Path) -> None:
    util.say(f'guest kernel: it compiles for {_MINUTES} minutes on two cores '
             f'(log: {log})')
    with util.step('guest kernel: compile'):
        debian.need_tools()
        tree = debian.Tree(scratch / 'tree', _PACKAGES, log)
        (tree.path / 'usr/bin/awk').symlink_to('mawk')
        (tree.path / 'kernel.config').write_text(CONFIG.read_text())
        archive = tree.only('usr/src/linux-source-*.tar.xz')
        tree.run('tar', '-C', archive.parent, '-xf', archive)
        source = archive.with_name(archive.name.removesuffix('.tar.xz'))

        make = (*_LATER, *_MAKE, '-C', source, f'-j{os.cpu_count()}')
        tree.run(*make, 'allnoconfig', logged=True)
        refused = _refused(CONFIG.read_text(),
                           (source / '.config').read_text())
        if refused:
            raise util.LabError(f'{CONFIG.name}: this Linux does not take '
                                + ', '.join(refused))
        tree.run(*make, 'bzImage', timeout=_TIMEOUT, logged=True)
        result = scratch / 'result'
        result.mkdir()
        (source / 'arch/x86/boot/bzImage').rename(result / 'vmlinuz')


def kernel() -> pathlib.Path:
    """A bzImage, compiled if it is not cached.

    :raises util.LabError: it cannot be compiled.
    """
    # By what it is made of alone: our code changes more often than that, and
    # it takes longer than all else.
    key = cache.recipe(debian.SUITE, *_PACKAGES, *_MAKE, CONFIG)
    return cache.directory('kernel', key, _build) / 'vmlinuz'
