# SPDX-License-Identifier: Apache-2.0
"""The QEMU that emulates a Xen host: Debian 13's, on Debian 12 too.

Its 10.0 is better than Debian 12's 7.2 at what a paravirtualized dom0 does
most, page faults: a process starts there in half the time. And what is
measured on one machine holds on another.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib

from labkit import cache
from labkit import debian
from labkit import util


@dataclasses.dataclass(frozen=True)
class Program:
    """A program of Debian 13's QEMU.

    :ivar package: Debian's name of what it comes in.
    :ivar firmware: where its firmware lies, below usr/share.
    """

    name: str
    package: str
    firmware: tuple[str, ...]

    def _tree(self) -> pathlib.Path:
        def build(scratch: pathlib.Path, log: pathlib.Path) -> None:
            with util.step(f'QEMU of Debian 13: {self.name}'):
                debian.need_tools()
                debian.packages(scratch / 'result', 'extract',
                                [self.package], log)

        return cache.directory('qemu', cache.recipe(self.package), build)

    def path(self) -> pathlib.Path:
        """Where it is.

        :raises util.LabError: its packages cannot be unpacked.
        """
        return self._tree() / 'usr/bin' / self.name

    def command(self) -> list[str]:
        """It and its first arguments; it runs from where it was unpacked.

        :raises util.LabError: its packages cannot be unpacked.
        """
        usr = self._tree() / 'usr'
        argv: list[str | pathlib.Path] = [
            usr / 'lib64/ld-linux-x86-64.so.2', '--argv0', self.name,
            '--library-path', usr / 'lib/x86_64-linux-gnu',
            usr / 'bin' / self.name]
        for name in self.firmware:
            argv += ['-L', usr / 'share' / name]
        return [os.fspath(arg) for arg in argv]

    def version(self) -> str:
        """The line that names it; a snapshot fits no other."""
        return util.run([*self.command(), '--version']).stdout.splitlines()[0]


#: The boot loader of ``-kernel`` and the BIOS.
X86_64 = Program('qemu-system-x86_64', 'qemu-system-x86', ('qemu', 'seabios'))
AARCH64 = Program('qemu-system-aarch64', 'qemu-system-arm', ('qemu',))
#: Run a program of arm64, and of armhf, on this machine, without the kernel's
#: help: they are linked statically, and what they run cannot start anything.
AARCH64_USER = Program('qemu-aarch64', 'qemu-user', ())
ARM_USER = Program('qemu-arm', 'qemu-user', ())
