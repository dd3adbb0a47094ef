# SPDX-License-Identifier: Apache-2.0
"""The logs of a guest's consoles."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import os

from xen44_driver import logfile
from xen44_driver import privsep


def prepare(path: str) -> None:
    """Make the log of an HVM guest's serial port if it does not exist.

    QEMU would make it too, but owned by root and readable by everyone.

    :param path: the log.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Bytes in a guest's console log.

    :ivar serial: in the log of its serial port.
    :ivar xen: in that of Xen's console.
    """

    serial: int = 0
    xen: int = 0


def sizes(name: str, serial_log: str) -> Sizes:
    """Return how much a guest has written; parameters as for :func:`read`."""
    return Sizes(logfile.size(serial_log), privsep.console_log_size(name))


def read(name: str, serial_log: str, max_bytes: int,
         after: Sizes = Sizes()) -> bytes:
    """Return the end of a guest's console log.

    PV and PVH guests write to Xen's console, which xenconsoled logs. HVM
    guests write to their serial port, and with PV drivers also to Xen's
    console. The serial port's output comes first. If both logs are long, each
    gets half of the room.

    :param name: the domain's name.
    :param serial_log: path of the log of its serial port.
    :param max_bytes: the largest number of bytes to return.
    :param after: return only what was written after the logs had these sizes.
    :returns: the bytes, without NULs.
    """
    serial = _without_nul(
        logfile.read_end(serial_log, max_bytes, after=after.serial))
    xen = _without_nul(privsep.read_console_log(name, max_bytes, after.xen))
    room = max(max_bytes // 2, max_bytes - len(serial))
    xen = xen[-room:]
    return serial[max(0, len(serial) + len(xen) - max_bytes):] + xen


def trim(serial_logs: Mapping[str, str], max_bytes: int) -> Iterator[str]:
    """Shorten the logs of guests that are too long.

    They are the consoles' logs and those of the guests' QEMUs.

    :param serial_logs: paths of the logs of the guests' serial ports, by the
        names of their domains.
    :param max_bytes: a longer log is cut to its last ``max_bytes // 2`` bytes.
    :returns: a sentence for each log that could not be shortened.
    """
    for path in serial_logs.values():
        try:
            logfile.trim(path, max_bytes)
        except OSError as error:
            yield f'{path} cannot be shortened: {error}'
    if serial_logs:
        yield from privsep.trim_guest_logs([*serial_logs], max_bytes)


def _without_nul(log: bytes | None) -> bytes:
    """Return a log without NULs, which a sparse file has in its holes."""
    return (log or b'').replace(b'\0', b'')
