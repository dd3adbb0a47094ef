# SPDX-License-Identifier: Apache-2.0
"""Jobs that copy a guest's disk inside its QEMU, while the guest runs."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import time
from typing import Any

from oslo_log import log as logging

from xen44_driver.core import monitor
from xen44_driver.xen import errors
from xen44_driver.xen import qmp

LOG = logging.getLogger(__name__)

#: Seconds without progress after which a job is given up.
STALLED = 300.0

#: Seconds that a job has to end after it was cancelled.
CANCEL_TIMEOUT = 60.0

# Seconds between two looks at a job: at first, and at most.
_FIRST_PAUSE = 0.2
_MAX_PAUSE = 2.0


class JobFailed(errors.XenError):
    """A job ended without success, or made no progress."""


class JobGone(JobFailed):
    """A job ended with its QEMU, as the guest stopped or rebooted."""

    def __init__(self, job: str) -> None:
        super().__init__(
            f'the guest stopped or rebooted meanwhile, which ends {job}; its '
            'disk is as it was')


def wait(
    uuid: str, job: str, *, same_guest: Callable[[], bool],
    domid: int | None = None, status: str = 'concluded',
) -> None:
    """Wait until a job has succeeded, for as long as it makes progress.

    :param uuid: the domain's UUID.
    :param job: the job's id. The job does not dismiss itself.
    :param same_guest: whether the guest still has the QEMU that it had when
        the job was started.
    :param domid: as for :func:`xen44_driver.core.monitor.execute`.
    :param status: the status to wait for, of those with which it has
        succeeded: ``concluded``, or ``ready`` to be completed.
    :raises JobFailed: the job failed (the message is QEMU's), or made no
        progress for :data:`STALLED` seconds.
    :raises JobGone: it ended with its QEMU.
    """
    last, since = None, time.monotonic()
    pause = _FIRST_PAUSE
    while True:
        try:
            found = find(uuid, job, domid)
        except qmp.MonitorUnavailable as error:
            if not same_guest():
                raise JobGone(job) from error
            # dom0 may be busy.
            LOG.debug('%s; asking again', error)
        else:
            if found is None:
                raise JobGone(job)
            if found['status'] == 'concluded':
                if found.get('error'):
                    raise JobFailed(str(found['error']))
                return
            if found['status'] == status:
                return
            if found['current-progress'] != last:
                last, since = found['current-progress'], time.monotonic()
        if time.monotonic() - since > STALLED:
            raise JobFailed(
                f'the copy has made no progress for {STALLED:g} s')
        time.sleep(pause)
        pause = min(2 * pause, _MAX_PAUSE)


def clear(
    uuid: str, job: str, nodes: Iterable[str], *, domid: int | None = None,
) -> None:
    """Cancel a job and remove what it used; safe to repeat.

    :param uuid: the domain's UUID.
    :param job: the job's id.
    :param nodes: names of block nodes to remove.
    :param domid: as for :func:`xen44_driver.core.monitor.execute`.
    :raises xen44_driver.xen.qmp.MonitorUnavailable: the guest has no QEMU (any
        more), or QEMU does not answer.
    :raises xen44_driver.xen.qmp.CommandFailed: a node is still in use.
    :raises JobFailed: the job has not ended in time.
    """
    end = time.monotonic() + CANCEL_TIMEOUT
    asked = False
    while (found := find(uuid, job, domid)) is not None:
        if found['status'] == 'concluded':
            monitor.execute(uuid, 'job-dismiss', {'id': job}, domid=domid)
            break
        if not asked:
            try:
                monitor.execute(uuid, 'job-cancel', {'id': job}, domid=domid)
            except qmp.CommandFailed as error:
                # It is ending by itself.
                LOG.debug('%s', error)
            asked = True
        if time.monotonic() > end:
            raise JobFailed(f'{job} has not ended within '
                            f'{CANCEL_TIMEOUT:g} s after it was cancelled')
        time.sleep(_FIRST_PAUSE)
    there = {node['node-name'] for node in monitor.execute(
        uuid, 'query-named-block-nodes', {'flat': True}, domid=domid)}
    for node in nodes:
        if node in there:
            monitor.execute(
                uuid, 'blockdev-del', {'node-name': node}, domid=domid)


def find(uuid: str, job: str, domid: int | None) -> dict[str, Any] | None:
    """Return QEMU's record of a job; None if it does not have it.

    :param uuid: the domain's UUID.
    :param job: the job's id.
    :param domid: as for :func:`xen44_driver.core.monitor.execute`.
    :raises xen44_driver.xen.qmp.MonitorUnavailable: see there.
    """
    for found in monitor.execute(uuid, 'query-jobs', domid=domid):
        if found['id'] == job:
            return dict(found)
    return None
