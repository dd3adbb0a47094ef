# SPDX-License-Identifier: Apache-2.0
"""Start a guest and check that its QEMU has opened its disks.

libxl starts a guest without waiting for its QEMU to open the disks. If QEMU
cannot open one, because the file or its backing image is missing or damaged,
libvirt reports success all the same, and the guest waits for its disk for
ever.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import time

from oslo_config import cfg
from oslo_log import log as logging

from xen44_driver import faultpoints
from xen44_driver import privsep
from xen44_driver.core import evidence
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen import guest as xen_guest
from xen44_driver.xen import host as xen_host
from xen44_driver.xen import logs
from xen44_driver.xen import xenstore

CONF = cfg.CONF
LOG = logging.getLogger(__name__)

# Seconds before the second check, and at most between two checks. A check
# costs a process in dom0.
_FIRST_PAUSE = 0.1
_MAX_PAUSE = 1.0


class DiskNotOpened(errors.XenError):
    """A guest was started, but its QEMU did not open a disk.

    :ivar disk: the guest's disk.
    :ivar reason: QEMU's error message, or how long QEMU had.
    """

    def __init__(self, disk: domain.Disk, reason: str) -> None:
        super().__init__(
            f'disk {disk.target} of the guest, {disk.source}, cannot be '
            f'opened: {reason}')
        self.disk = disk
        self.reason = reason


# libxl's words for a QEMU that did not start in time (ERROR_TIMEDOUT, -9), and
# for a script that did not, such as that which makes loop devices.
_LATE = ('device model did not start: -9', 'because of timeout')
# Seconds before such a guest is started again, each time: about four minutes
# in all, with the starts themselves. Whatever keeps dom0 busy, such as other
# guests that boot, may last for minutes.
_RESTART_PAUSES = (5.0, 15.0, 30.0, 60.0)


def boot(
    host: xen_host.Host, guest: xen_guest.Guest,
    disks: Collection[domain.Disk], *, start: Callable[[], None],
    started: Callable[[], None] = lambda: None,
    opened: Callable[[], None] = lambda: None,
) -> None:
    """Start a guest and check that its QEMU has opened its disks.

    A guest whose QEMU did not start in time is started again, up to four
    times, after longer and longer pauses.

    :param host: the guest's host.
    :param guest: a guest that is off.
    :param disks: the disks that it was defined with.
    :param start: starts the guest, after :func:`monitor.make_ready`.
    :param started: called when it was started.
    :param opened: called when its disks are open.
    :raises DiskNotOpened: its QEMU cannot open a disk; the guest is off
        again.
    :raises xen44_driver.xen.errors.XenError: the guest cannot be started; the
        message quotes the logs of libxl and QEMU.
    :raises OSError: xenstore cannot be read; the guest is off again.
    """
    for pause in (*_RESTART_PAUSES, None):
        try:
            with evidence.explained(guest.name):
                start()
            faultpoints.reached('boot: domain started')
            break
        except errors.OperationFailed as error:
            if pause is None or not any(
                    words in error.message for words in _LATE):
                raise
            # libxl gives a QEMU ten seconds to answer, and a script forty,
            # which a busy dom0 does not keep, and leaves nothing behind when
            # it gives up.
            LOG.warning('%(name)s is started again in %(pause)g s: %(error)s',
                        {'name': guest.name, 'pause': pause,
                         'error': error.message})
            time.sleep(pause)
    try:
        started()
        wait_until_open(host, guest, disks)
        opened()
    except Exception:
        try:
            guest.destroy()
        except errors.XenError as error:
            # Only logged: the first error is the one to raise.
            LOG.error('%(name)s cannot be stopped: %(error)s',
                      {'name': guest.name, 'error': error})
        raise


def wait_until_open(
    host: xen_host.Host, guest: xen_guest.Guest,
    disks: Iterable[domain.Disk],
) -> None:
    """Wait until a guest's QEMU has opened its disks.

    Two kinds of disk are not checked. For disks that dom0's kernel serves,
    libxl itself waits for the hotplug scripts. CD-ROMs are emulated: the
    guest's QEMU opens them before libxl continues, and exits if it cannot.

    If the guest ends or reboots meanwhile, nothing more is checked.

    :param host: the guest's host.
    :param guest: a guest that was just started.
    :param disks: the disks that it was defined with.
    :raises DiskNotOpened: a disk cannot be opened, or was not opened within
        ``[xen44] disk_open_timeout``; the guest still runs.
    :raises OSError: xenstore cannot be read.
    """
    expected = {xenstore.disk_number(disk.target): disk for disk in disks
                if not disk.by_kernel and disk.device == 'disk'}
    domid = _domid(host, guest)
    if not expected or domid is None:
        return
    began = time.monotonic()
    for looks, _ in enumerate(pauses(CONF.xen44.disk_open_timeout), 1):
        if privsep.backends_are_open(domid, list(expected)):
            LOG.debug('QEMU of %(name)s opened its %(disks)s disks within '
                      '%(seconds).3f s, seen at look %(looks)s',
                      {'name': guest.name, 'disks': len(expected),
                       'seconds': time.monotonic() - began, 'looks': looks})
            return
        if _domid(host, guest) != domid:
            LOG.debug('%s has ended before its disks were seen to be open',
                      guest.name)
            return
        _check_log(guest, expected)
    _check_all(host, guest, domid, expected)


def _domid(
    host: xen_host.Host, guest: xen_guest.Guest, *, ask: bool = False,
) -> int | None:
    """Return Xen's number of a guest, or None if it does not run.

    :param ask: ask libvirt instead of reading the cache.
    """
    try:
        if ask:
            guest.state()
        return host.record(guest.uuid).id
    except errors.DomainNotFound:
        return None


def pauses(timeout: float) -> Iterator[None]:
    """Yield at once, after ever longer pauses, and when the time is over.

    :param timeout: the time, in seconds.
    """
    end = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    yield
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(pause, left))
        pause = min(2 * pause, _MAX_PAUSE)
        yield


def _check_log(
    guest: xen_guest.Guest, expected: Mapping[int, domain.Disk],
) -> None:
    """Look in QEMU's log for disks that it could not open.

    :raises DiskNotOpened: the log names an expected disk.
    """
    reasons = logs.qemu_disk_reasons(_qemu_log(guest))
    for number, disk in expected.items():
        if number in reasons:
            raise DiskNotOpened(disk, reasons[number])


def _check_all(
    host: xen_host.Host, guest: xen_guest.Guest, domid: int,
    expected: Mapping[int, domain.Disk],
) -> None:
    """Raise an error for the first disk that is not open; time is over.

    :raises DiskNotOpened: a disk is not open, and the guest still runs.
    """
    found = {backend.number: backend for backend in
             xenstore.backends(privsep.read_backends(domid))}
    missing = [number for number in expected
               if number not in found or not found[number].is_open]
    if not missing or _domid(host, guest, ask=True) != domid:
        return
    number = missing[0]
    reason = (f'QEMU did not do so within {CONF.xen44.disk_open_timeout} s '
              f'([xen44] disk_open_timeout)')
    said = '; '.join(filter(None, (
        found[number].error if number in found else None,
        *logs.qemu_reasons(_qemu_log(guest)))))
    raise DiskNotOpened(
        expected[number], f'{reason}; it said: {said}' if said else reason)


def _qemu_log(guest: xen_guest.Guest) -> str:
    """Return the log of a guest's QEMU, or '' if it cannot be read."""
    try:
        log = privsep.read_log_end(
            privsep.LogKind.QEMU, guest.name, evidence.MAX_BYTES)
    except OSError as error:
        LOG.warning("Cannot read the log of %(name)s's QEMU: %(error)s",
                    {'name': guest.name, 'error': error})
        return ''
    return (log or b'').decode(errors='replace')
