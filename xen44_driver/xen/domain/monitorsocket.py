# SPDX-License-Identifier: Apache-2.0
"""The socket of a monitor of a domain's QEMU, written as QEMU arguments.

libxl gives each QEMU two monitors: one for itself and one for statistics
(xentop). A monitor serves one client at a time, so the driver has a third one
of its own. It is part of the domain's definition, so it is also there after
the guest's own reboots.
"""

from __future__ import annotations

from collections.abc import Sequence
import itertools

from xen44_driver.xen import sockets

# libxl's own ids are libxl-cmd and libxenstat-cmd.
_ID = 'xen44-monitor'
_MONITOR = ('-mon', f'chardev={_ID},mode=control')


def arguments(uuid: str, *, wanted: bool) -> tuple[str, ...]:
    """Return QEMU's arguments for the monitor.

    QEMU removes an old socket of that path, and does not wait for a client.

    :param uuid: the domain's UUID.
    :param wanted: whether the domain has this monitor.
    """
    if not wanted:
        return ()
    path = sockets.monitor_path(uuid)
    return ('-chardev', f'socket,id={_ID},path={path},server=on,wait=off',
            *_MONITOR)


def from_xml(qemu: Sequence[str]) -> bool:
    """Return whether a domain has this monitor.

    :param qemu: all arguments for QEMU.
    """
    return _MONITOR in itertools.pairwise(qemu)
