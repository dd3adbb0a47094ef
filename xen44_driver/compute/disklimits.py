# SPDX-License-Identifier: Apache-2.0
"""Limit what guests read and write, as their flavors and volumes ask for.

A flavor's limits are for each disk of the host, and a volume has those of its
type in Cinder (QoS specs). A guest's QEMU enforces them, and they end with it:
they are set again after each start, also after a reboot by the guest itself.
Until then, which is less than a second, a guest has no limits.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
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

# The limits, and QEMU's names of them.
_QEMU = {
    'total_bytes_sec': 'bps', 'read_bytes_sec': 'bps_rd',
    'write_bytes_sec': 'bps_wr', 'total_iops_sec': 'iops',
    'read_iops_sec': 'iops_rd', 'write_iops_sec': 'iops_wr'}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits on a disk of a guest; 0 for no limit.

    The names are those of the extra specs, and of Cinder's QoS specs, which
    alone have bursts (``_max``).

    :ivar read_bytes_sec: bytes per second that it reads.
    :ivar write_bytes_sec: bytes per second that it writes.
    :ivar total_bytes_sec: bytes per second of both together.
    :ivar read_iops_sec: number of reads per second.
    :ivar write_iops_sec: number of writes per second.
    :ivar total_iops_sec: number of both together per second.
    :ivar read_bytes_sec_max: as without ``_max``, for a second.
    :ivar write_bytes_sec_max: as without ``_max``, for a second.
    :ivar total_bytes_sec_max: as without ``_max``, for a second.
    :ivar read_iops_sec_max: as without ``_max``, for a second.
    :ivar write_iops_sec_max: as without ``_max``, for a second.
    :ivar total_iops_sec_max: as without ``_max``, for a second.
    :ivar size_iops_sec: bytes of which a larger request counts as several.
    """

    read_bytes_sec: int = 0
    write_bytes_sec: int = 0
    total_bytes_sec: int = 0
    read_iops_sec: int = 0
    write_iops_sec: int = 0
    total_iops_sec: int = 0
    read_bytes_sec_max: int = 0
    write_bytes_sec_max: int = 0
    total_bytes_sec_max: int = 0
    read_iops_sec_max: int = 0
    write_iops_sec_max: int = 0
    total_iops_sec_max: int = 0
    size_iops_sec: int = 0

    def throttle(self) -> dict[str, int]:
        """Return them as arguments of QEMU's ``block_set_io_throttle``."""
        bursts = {f'{qemu}_max': getattr(self, f'{name}_max')
                  for name, qemu in _QEMU.items()}
        return {
            **{qemu: getattr(self, name) for name, qemu in _QEMU.items()},
            **{name: value for name, value in (
                *bursts.items(), ('iops_size', self.size_iops_sec)) if value}}


#: No limits.
NONE = Limits()

_NAMES = [field.name for field in dataclasses.fields(Limits)]


def of_flavor(flavor: objects.Flavor) -> Limits:
    """Return the limits that a flavor asks for.

    :raises nova.exception.InvalidInput: a value is not possible, or a total
        is asked for beside reads or writes; the message names the extra spec
        and what is allowed.
    """
    specs = (flavor.extra_specs if 'extra_specs' in flavor else None) or {}
    return _limits({name: specs[f'{_PREFIX}{name}'] for name in _QEMU
                    if f'{_PREFIX}{name}' in specs}, 'the flavor', _PREFIX)


def of_specs(specs: Mapping[str, str]) -> Limits:
    """Return the limits that Cinder's QoS specs of a volume ask for.

    Others than those of :class:`Limits` are for others.

    :raises nova.exception.InvalidInput: as of :func:`of_flavor`, or a burst
        is less than what it is a burst of.
    """
    what = "the volume's type"
    limits = _limits({name: str(specs[name]) for name in _NAMES
                      if name in specs}, what, '')
    for name in _QEMU:
        burst = getattr(limits, f'{name}_max')
        # QEMU refuses it.
        if burst and not 0 < getattr(limits, name) <= burst:
            raise exception.InvalidInput(
                reason=f'{what} asks for {name}_max {burst}; allowed: with '
                       f'{name}, and not less than that')
    return limits


def _limits(specs: Mapping[str, str], what: str, prefix: str) -> Limits:
    """Return limits.

    :param specs: the limits by their names.
    :param what: what asks for them, for messages.
    :param prefix: what it has before each name, for messages.
    """
    limits = Limits(**{
        name: _number(text, f'{what} asks for {prefix}{name}')
        for name, text in specs.items()})
    for unit in ('bytes', 'iops'):
        total = f'total_{unit}_sec'
        for part in (f'read_{unit}_sec', f'write_{unit}_sec'):
            # QEMU refuses both.
            if getattr(limits, total) and getattr(limits, part):
                raise exception.InvalidInput(
                    reason=f'{what} asks for {prefix}{total} and '
                           f'{prefix}{part}; allowed: a total, or limits '
                           'for reads and writes')
    return limits


def _number(text: str, asked: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= number <= MAX_LIMIT:
        raise exception.InvalidInput(
            reason=f'{asked} {text!r}; allowed: 0 (no limit) to {MAX_LIMIT}')
    return number


def apply(
    uuid: str, disks: Iterable[domain.Disk], limits: Limits,
    volumes: Mapping[str, Limits], *, domid: int | None = None,
) -> None:
    """Set the limits of a running guest's disks, and see that they have them.

    CD-ROMs are not limited.

    :param uuid: the domain's UUID.
    :param disks: the disks that it was defined with; QEMU has opened them.
    :param limits: those of disks that are not volumes.
    :param volumes: those of volumes that QEMU serves, by Cinder's ids.
    :param domid: as for :func:`xen44_driver.core.monitor.execute`.
    :raises xen44_driver.xen.errors.XenError: a disk does not have them.
    """
    limited = [
        (disk, asked.throttle()) for disk in disks
        if disk.device == 'disk' and (
            asked := limits if disk.serial is None
            else volumes.get(disk.serial, NONE)) != NONE]
    if not limited:
        return
    failure: qmp.CommandFailed | None = None
    for device, wanted in _devices(uuid, limited, domid):
        try:
            monitor.execute(uuid, 'block_set_io_throttle',
                            {'id': device.device, **wanted}, domid=domid)
        except qmp.CommandFailed as error:
            # PV drivers may have unplugged an emulated disk just now.
            failure = error
    for device, wanted in _devices(uuid, limited, domid):
        if any(wanted[name] != value
               for name, value in device.throttle.items()):
            raise errors.OperationFailed(
                'block_set_io_throttle', uuid, None,
                f'the disk {device.node} was to have {wanted}, and has '
                f'{device.throttle}') from failure


def _devices(
    uuid: str, limited: Iterable[tuple[domain.Disk, dict[str, int]]],
    domid: int | None,
) -> Iterator[tuple[blocks.Attached, dict[str, int]]]:
    """Yield the devices of disks, in the guest's QEMU, with their limits.

    :raises xen44_driver.xen.errors.XenError: it does not have a disk.
    """
    answer = monitor.execute(uuid, 'query-block', domid=domid)
    for disk, wanted in limited:
        devices = blocks.attached(answer, disk)
        if not devices:
            raise errors.OperationFailed(
                'query-block', uuid, None,
                f"the guest's QEMU does not have the disk {disk.target}")
        for device in devices:
            yield device, wanted
