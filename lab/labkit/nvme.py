# SPDX-License-Identifier: Apache-2.0
"""NVMe-oF over TCP in dom0, whose kernel is the target and the host of it.

The kernel's part is in Debian's; the programs are not in dom0's image.
"""

from __future__ import annotations

import pathlib
import uuid

from labkit import debian
from labkit import extras
from labkit.host import XenHost

#: What a host runs, and the library with which Cinder sets up the target.
PACKAGES = ('nvme-cli', 'nvmetcli')

#: Modules of dom0's kernel: the target, and the host.
MODULES = ('nvmet-tcp', 'nvme-tcp')

#: The target's configuration in dom0.
TARGET = '/sys/kernel/config/nvmet'


def tools() -> pathlib.Path:
    """A directory with the programs; unpacked if it is not cached.

    :raises util.LabError: the packages cannot be had.
    """
    # Debian 13 has no nvmetcli. It is Python, with no more than Python below.
    return extras.unpacked('nvme', PACKAGES, *debian.ALSO_NEXT)


def install(host: XenHost) -> None:
    """Have the programs in dom0, and its name as a host of NVMe-oF.

    Debian's package makes the name where it is installed.
    """
    extras.install(host, tools())
    identity = str(uuid.uuid4())
    for name, text in (
            ('hostnqn', f'nqn.2014-08.org.nvmexpress:uuid:{identity}'),
            ('hostid', identity)):
        host.ssh(['install', '-D', '--mode=644', '/dev/stdin',
                  f'/etc/nvme/{name}'], input=f'{text}\n')
