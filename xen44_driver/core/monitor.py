# SPDX-License-Identifier: Apache-2.0
"""Use the monitors (QMP) of the QEMU processes that serve guests' disks.

What a monitor changes lasts until the guest stops or reboots: then it has
another QEMU.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import time
from typing import Any

from xen44_driver import privsep
from xen44_driver.core import loopdevices
from xen44_driver.xen import blocks
from xen44_driver.xen import domain
from xen44_driver.xen import qmp

#: Seconds that QEMU has to execute a command; more than it ever needs, unless
#: dom0 is very busy.
TIMEOUT = 30.0

#: Seconds that the QEMU of a domain that is off has to end, or its loop
#: devices to go. There may be a lot to write.
CLOSE_TIMEOUT = 300.0

# Seconds between two looks whether a QEMU has ended.
_LOOK_INTERVAL = 0.2


def execute(
    uuid: str, command: str, arguments: Mapping[str, Any] | None = None,
    timeout: float = TIMEOUT, *, domid: int | None = None,
) -> Any:
    """Execute one command in the monitor of a guest's QEMU.

    :param uuid: the domain's UUID.
    :param command: one of :data:`xen44_driver.privsep.MONITOR_COMMANDS`.
    :param arguments: its arguments. No value may come from a tenant.
    :param timeout: seconds to wait for the answer.
    :param domid: Xen's number of the domain, for domains that were started
        without the driver's own monitor.
    :returns: QEMU's answer.
    :raises xen44_driver.xen.qmp.MonitorUnavailable: the guest is off or
        has no QEMU, or QEMU did not answer; the command may have been
        executed.
    :raises xen44_driver.xen.qmp.CommandFailed: QEMU refused the command.
    """
    return execute_all(
        uuid, [(command, arguments or {})], timeout, domid=domid)[0]


def execute_all(
    uuid: str, commands: Sequence[qmp.Command], timeout: float = TIMEOUT, *,
    domid: int | None = None,
) -> list[Any]:
    """Execute commands one after the other; stop at the first that fails.

    The parameters and exceptions are those of :func:`execute`.

    :param commands: names and arguments of the commands.
    :returns: QEMU's answers.
    """
    answers: list[Any] = privsep.execute_monitor(
        uuid, list(commands), timeout, domid)
    return answers


def block_statistics(
    uuid: str, disks: Iterable[domain.Disk], *, domid: int | None = None,
) -> dict[str, blocks.Statistics]:
    """Return the statistics of a running guest's disks.

    libvirt has none of disks that QEMU serves.

    :param uuid: the domain's UUID.
    :param disks: the disks that it was defined with.
    :param domid: as for :func:`execute`.
    :returns: statistics by the disk's target.
    :raises xen44_driver.xen.qmp.MonitorUnavailable: see :func:`execute`.
    """
    found, counters = execute_all(
        uuid, [('query-block', {}), ('query-blockstats', {})], domid=domid)
    return blocks.statistics(found, counters, disks)


def make_ready(uuid: str) -> None:
    """Make sure that a domain that is off can be started.

    Its last QEMU would write to the disks of the new one, and remove the new
    one's monitor.

    :param uuid: the domain's UUID.
    :raises TimeoutError: see :func:`wait_until_closed`.
    """
    privsep.make_socket_dir()
    wait_until_closed(uuid)


def wait_until_closed(uuid: str, timeout: float = CLOSE_TIMEOUT) -> None:
    """Wait until nothing has the disks of a domain that is off open.

    Xen destroys a domain without waiting for its QEMU, which may still have
    to write what it has of the disks. libvirt calls a domain off that has
    shut down by itself while libxl still removes its loop devices. Call this
    before such a disk's file is read or renamed.

    :param uuid: the domain's UUID.
    :param timeout: seconds to wait.
    :raises TimeoutError: its QEMU has not ended, or a loop device is left.
    """
    end = time.monotonic() + timeout
    while privsep.monitor_is_there(uuid):
        if time.monotonic() > end:
            raise TimeoutError(
                f'the QEMU of domain {uuid}, which is off, has not ended '
                f'within {timeout:g} s')
        time.sleep(_LOOK_INTERVAL)
    loopdevices.wait_until_removed(uuid, timeout)
