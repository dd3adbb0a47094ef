# SPDX-License-Identifier: Apache-2.0
"""See whether dom0's LVM looks into guests' disks.

A guest can write to its disk what it likes, so dom0 would activate volume
groups that a guest invented, perhaps with the names of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
import os
import re
import shutil
import subprocess

from oslo_concurrency import processutils

#: Names of devices that guests' disks may have: of each kind that os-brick and
#: this driver give volumes, and of files that dom0's kernel serves.
DEVICES = ('/dev/sdzz', '/dev/nvme99n1', '/dev/rbd99', '/dev/dm-99',
           '/dev/mapper/crypt-volume', '/dev/loop99')

#: Seconds that LVM has to tell its configuration.
TIMEOUT = 30

#: The list of devices that LVM may use, if it has one.
DEVICES_FILE = '/etc/lvm/devices/{}'

_SETTINGS = ('global_filter', 'filter', 'use_devicesfile', 'devicesfile')


def problems() -> Iterator[str]:
    """Check that LVM does not look at devices that may be guests' disks."""
    # User nova may have no directories of the administrator's programs.
    program = shutil.which('lvmconfig', path=os.pathsep.join(
        (os.environ.get('PATH', os.defpath), '/usr/sbin', '/sbin')))
    if program is None:
        return
    try:
        text, _ = processutils.execute(
            program, '--typeconfig', 'full',
            *(f'devices/{name}' for name in _SETTINGS), timeout=TIMEOUT)
    except (OSError, processutils.ProcessExecutionError,
            subprocess.TimeoutExpired) as error:
        yield f'Cannot see whether LVM looks into guests\' disks: {error}'
        return
    settings = {name: _strings(value) for name, separator, value in (
        line.partition('=') for line in text.splitlines()) if separator}
    if _has_devices_file(text, settings):
        return
    seen = [device for device in DEVICES if all(
        _accepts(settings.get(name, ()), device)
        for name in ('global_filter', 'filter'))]
    if seen:
        yield ('LVM in dom0 looks at what guests write to their disks, if '
               f'these are named such as {", ".join(seen)}: it may activate '
               'volume groups that a guest invented. Let devices/'
               'global_filter in /etc/lvm/lvm.conf accept dom0\'s own '
               'devices only, such as [ "a|^/dev/sda|", "r|.*|" ]')


def _strings(value: str) -> tuple[str, ...]:
    return tuple(re.findall(r'"((?:[^"\\]|\\.)*)"', value))


def _has_devices_file(
    text: str, settings: dict[str, tuple[str, ...]],
) -> bool:
    """Return whether LVM uses only the devices that a file lists."""
    return ('use_devicesfile=1' in text.split() and any(
        os.path.exists(DEVICES_FILE.format(name))
        for name in settings.get('devicesfile', ())))


def _accepts(patterns: Iterable[str], device: str) -> bool:
    """Return whether a filter lets LVM see a device.

    :param patterns: such as ``a|^/dev/sda|`` and ``r|.*|``, of which the
        first one counts that fits; see lvm.conf(5).
    """
    for pattern in patterns:
        # The second character encloses the expression.
        if re.search(pattern[2:-1], device):
            return pattern.startswith('a')
    return True
