# SPDX-License-Identifier: Apache-2.0
"""Limit what guests read and write as their flavors ask for.

The limits are for each disk. A guest's QEMU enforces them, and they end with
it: they are set again after each start, also after a reboot by the guest
itself. Until then, which is less than a second, a guest has no limits.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses

from nova import exception
from nova import objects

from xen44_driver.core import monitor
from xen44_driver.xen import blocks
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen import qmp

#: QEMU's limit of a limit (``THROTTLE_VALUE_MAX``).
MAX_LIMIT = 10 ** 15

_PREFIX = 'quota:disk_'


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits on each disk of a guest; 0 for no limit.

    The names are those of the extra specs.

    :ivar read_bytes_sec: bytes per second that it reads.
    :ivar write_bytes_sec: bytes per second that it writes.
    :ivar total_bytes_sec: bytes per second of both together.
    :ivar read_iops_sec: number of reads per second.
    :ivar write_iops_sec: number of writes per second.
    :ivar total_iops_sec: number of both together per second.
    """

    read_bytes_sec: int = 0
    write_bytes_sec: int = 0
    total_bytes_sec: int = 0
    read_iops_sec: int = 0
    write_iops_sec: int = 0
    total_iops_sec: int = 0

    def throttle(self) -> dict[str, int]:
        """Return them as arguments of QEMU's ``block_set_io_throttle``."""
        return {'bps': self.total_bytes_sec, 'bps_rd': self.read_bytes_sec,
                'bps_wr': self.write_bytes_sec, 'iops': self.total_iops_sec,
                'iops_rd': self.read_iops_sec,
                'iops_wr': self.write_iops_sec}


#: No limits.
NONE = Limits()


def of_flavor(flavor: objects.Flavor) -> Limits:
    """Return the limits that a flavor asks for.

    :raises nova.exception.InvalidInput: a value is not possible, or a total
        is asked for beside reads or writes; the message names the extra spec
        and what is allowed.
    """
    specs = (flavor.extra_specs if 'extra_specs' in flavor else None) or {}
    limits = Limits(**{
        field.name: _number(specs, f'{_PREFIX}{field.name}')
        for field in dataclasses.fields(Limits)})
    for unit in ('bytes', 'iops'):
        total = f'total_{unit}_sec'
        for part in (f'read_{unit}_sec', f'write_{unit}_sec'):
            # QEMU refuses both.
            if getattr(limits, total) and getattr(limits, part):
                raise exception.InvalidInput(
                    reason=f'the flavor asks for {_PREFIX}{total} and '
                           f'{_PREFIX}{part}; allowed: a total, or limits '
                           'for reads and writes')
    return limits


def _number(specs: Mapping[str, str], name: str) -> int:
    text = specs.get(name, '0')
    number = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= number <= MAX_LIMIT:
        raise exception.InvalidInput(
            reason=f'the flavor asks for {name} {text!r}; allowed: 0 (no '
                   f'limit) to {MAX_LIMIT}')
    return number


def apply(uuid: str, disks: Iterable[domain.Disk], limits: Limits) -> None:
    """Set the limits of a running guest's disks, and see that they have them.

    CD-ROMs are not limited, and volumes are not: Cinder has limits for them.

    :param uuid: the domain's UUID.
    :param disks: the disks that it was defined with; QEMU has opened them.
    :raises xen44_driver.xen.errors.XenError: a disk does not have them.
    """
    limited = [disk for disk in disks
               if disk.device == 'disk' and disk.serial is None]
    if limits == NONE:
        return
    wanted = limits.throttle()
    failure: qmp.CommandFailed | None = None
    for device in _devices(uuid, limited):
        try:
            monitor.execute(uuid, 'block_set_io_throttle',
                            {'id': device.device, **wanted})
        except qmp.CommandFailed as error:
            # PV drivers may have unplugged an emulated disk just now.
            failure = error
    for device in _devices(uuid, limited):
        if device.throttle != wanted:
            raise errors.OperationFailed(
                'block_set_io_throttle', uuid, None,
                f'the disk {device.node} was to have {wanted}, and has '
                f'{device.throttle}') from failure


def _devices(
    uuid: str, disks: Iterable[domain.Disk],
) -> list[blocks.Attached]:
    """Return the devices of disks, in the guest's QEMU.

    :raises xen44_driver.xen.errors.XenError: it does not have a disk.
    """
    answer = monitor.execute(uuid, 'query-block')
    found = []
    for disk in disks:
        devices = blocks.attached(answer, disk)
        if not devices:
            raise errors.OperationFailed(
                'query-block', uuid, None,
                f"the guest's QEMU does not have the disk {disk.target}")
        found += devices
    return found
