# SPDX-License-Identifier: Apache-2.0
"""The QEMU that emulates the Xen host: Debian 13's, on Debian 12 too.

Its 10.0 is better than Debian 12's 7.2 at what a paravirtualized dom0 does
most, page faults: a process starts there in half the time. And what is
measured on one machine holds on another.
"""

from __future__ import annotations

import os
import pathlib

from labkit import cache
from labkit import debian
from labkit import util

_PACKAGES = ('qemu-system-x86',)
_PROGRAM = 'qemu-system-x86_64'
#: Where its firmware lies: the boot loader of ``-kernel`` and the BIOS.
_FIRMWARE = ('qemu', 'seabios')


def _build(scratch: pathlib.Path, log: pathlib.Path) -> None:
    with util.step('QEMU of Debian 13'):
        debian.need_tools()
        debian.packages(scratch / 'result', 'extract', _PACKAGES, log)


def command() -> list[str]:
    """QEMU and its first arguments; it runs from where it was unpacked.

    :raises util.LabError: its packages cannot be unpacked.
    """
    tree = cache.directory('qemu', cache.recipe(*_PACKAGES), _build)
    usr = tree / 'usr'
    argv: list[str | pathlib.Path] = [
        usr / 'lib64/ld-linux-x86-64.so.2', '--argv0', _PROGRAM,
        '--library-path', usr / 'lib/x86_64-linux-gnu',
        usr / 'bin' / _PROGRAM]
    for name in _FIRMWARE:
        argv += ['-L', usr / 'share' / name]
    return [os.fspath(arg) for arg in argv]


def version() -> str:
    """The line that names it; a snapshot fits no other."""
    return util.run([*command(), '--version']).stdout.splitlines()[0]
