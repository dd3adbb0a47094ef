# SPDX-License-Identifier: Apache-2.0
"""The small guest's kernel, compiled from Debian's source package.

A distribution's kernel is four times as large, and reading and unpacking it
is most of a guest's boot under emulation. The one file boots in every way
there is: grub's PV loader unpacks gzip, and all drivers are built in.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import re

from labkit import cache
from labkit import config
from labkit import debian
from labkit import util

CONFIG = config.LAB / 'guest/small/kernel.config'
#: What ARM's has otherwise, and what that for 32 bits has otherwise than it.
AARCH64_CONFIG = config.LAB / 'guest/aarch64/kernel.config'
ARMV7L_CONFIG = config.LAB / 'guest/armv7l/kernel.config'

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
#: Seconds: of a machine a third as fast, behind all that is built beside it.
_TIMEOUT = 3600


@dataclasses.dataclass(frozen=True)
class _Kernel:
    """A kernel to make.

    :ivar configs: its configuration; what a later one says counts.
    :ivar image: what to make, and where it is made below ``arch``.
    :ivar packages: packages that make it, beside the usual ones.
    :ivar make: arguments of make, beside the usual ones.
    """

    configs: tuple[pathlib.Path, ...]
    image: str
    directory: str
    packages: tuple[str, ...] = ()
    make: tuple[str, ...] = ()

    @property
    def config(self) -> str:
        return ''.join(path.read_text() for path in self.configs)


_KERNELS = {
    'x86_64': _Kernel((CONFIG,), 'bzImage', 'x86/boot'),
    # Not packed: dom0's emulated CPU would have to unpack it.
    'aarch64': _Kernel(
        (CONFIG, AARCH64_CONFIG), 'Image', 'arm64/boot',
        packages=('gcc-aarch64-linux-gnu',),
        make=('ARCH=arm64', 'CROSS_COMPILE=aarch64-linux-gnu-')),
    # Xen knows no other form of it, and that unpacks itself.
    'armv7l': _Kernel(
        (CONFIG, AARCH64_CONFIG, ARMV7L_CONFIG), 'zImage', 'arm/boot',
        packages=('gcc-arm-linux-gnueabihf',),
        make=('ARCH=arm', 'CROSS_COMPILE=arm-linux-gnueabihf-')),
}


def _refused(wanted: str, got: str) -> list[str]:
    """Lines of our configuration that Linux' own rules did not accept.

    An option that this Linux does not have is as good as one that is off.
    """
    last = {found[1]: found[0] for found in re.finditer(
        r'^(?:# )?(CONFIG_\w+)(?:=| is not set).*$', wanted, re.MULTILINE)}
    lines = got.splitlines()
    on = {line.partition('=')[0] for line in lines if '=' in line}
    return [line for option, line in last.items()
            if (line not in lines if '=' in line else option in on)]


def _build(wanted: _Kernel, scratch: pathlib.Path,
           log: pathlib.Path) -> None:
    util.say(f'guest kernel: it compiles for {_MINUTES} minutes on two cores '
             f'(log: {log})')
    with util.step('guest kernel: compile'):
        debian.need_tools()
        tree = debian.Tree(scratch / 'tree',
                           (*_PACKAGES, *wanted.packages), log)
        (tree.path / 'usr/bin/awk').symlink_to('mawk')
        (tree.path / 'kernel.config').write_text(wanted.config)
        archive = tree.only('usr/src/linux-source-*.tar.xz')
        tree.run('tar', '-C', archive.parent, '-xf', archive)
        source = archive.with_name(archive.name.removesuffix('.tar.xz'))

        make: tuple[str | pathlib.Path, ...] = (
            *_LATER, *_MAKE, *wanted.make, '-C', source,
            f'-j{os.cpu_count()}')
        tree.run(*make, 'allnoconfig', logged=True)
        refused = _refused(wanted.config,
                           (source / '.config').read_text())
        if refused:
            raise util.LabError(f'{CONFIG.name}: this Linux does not take '
                                + ', '.join(refused))
        tree.run(*make, wanted.image, timeout=_TIMEOUT, logged=True)
        result = scratch / 'result'
        result.mkdir()
        (source / 'arch' / wanted.directory / wanted.image).rename(
            result / 'vmlinuz')


def configs(architecture: str) -> tuple[pathlib.Path, ...]:
    """What configures the kernel of an architecture."""
    return _KERNELS[architecture].configs


def kernel(architecture: str = 'x86_64') -> pathlib.Path:
    """The kernel, compiled if it is not cached.

    It is a bzImage; for aarch64 an Image, for armv7l a zImage.

    :param architecture: what it is for; it is compiled on x86_64 always.
    :raises util.LabError: it cannot be compiled.
    """
    wanted = _KERNELS[architecture]
    # By what it is made of alone: our code changes more often than that, and
    # it takes longer than all else.
    key = cache.recipe(debian.SUITE, *_PACKAGES, *wanted.packages, *_MAKE,
                       *wanted.make, *wanted.configs)
    build = functools.partial(_build, wanted)
    # One architecture's do not push another's out.
    kind = ('kernel' if architecture == 'x86_64'
            else f'{architecture}-kernel')
    return cache.directory(kind, key, build) / 'vmlinuz'
