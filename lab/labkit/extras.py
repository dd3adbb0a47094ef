# SPDX-License-Identifier: Apache-2.0
"""What one test needs in dom0, and dom0's image does not have.

It is unpacked before the tests run, where there are downloads.
"""

from __future__ import annotations

from collections.abc import Sequence
import pathlib

from labkit import cache
from labkit import debian
from labkit.host import XenHost


def unpacked(name: str, packages: Sequence[str],
             *options: str) -> pathlib.Path:
    """A directory with all of some packages; unpacked if it is not cached.

    :param name: of its kind, in the cache.
    :param packages: Debian's names of them; what they depend on is there, too.
    :param options: more options of mmdebstrap.
    :raises util.LabError: the packages cannot be had.
    """
    def build(scratch: pathlib.Path, log: pathlib.Path) -> None:
        debian.need_tools()
        debian.packages(scratch / 'result', 'extract', packages, log, *options)

    return cache.directory(
        name, cache.recipe(debian.SUITE, *packages, *options), build)


def install(host: XenHost, directory: pathlib.Path) -> None:
    """Have the files in dom0, until the lab starts anew.

    What dom0 has stays as it is.

    :param directory: from :func:`unpacked`.
    """
    host.copy_to(f'{directory}/usr/', '/usr/', '--ignore-existing',
                 '--omit-dir-times', '--exclude=/share')
    host.ssh(['ldconfig'])
    host.ssh(['udevadm', 'control', '--reload'])
