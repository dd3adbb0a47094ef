# SPDX-License-Identifier: Apache-2.0
"""See that no loop device of a domain that is off is left.

See :mod:`xen44_driver.xen.loops`.
"""

from __future__ import annotations

from collections.abc import Collection
import os
import time

from oslo_log import log as logging

from xen44_driver import privsep
from xen44_driver.xen import loops

LOG = logging.getLogger(__name__)

#: Seconds that libxl has to remove the loop devices of a domain that has
#: ended. It gives each device twenty itself.
PATIENCE = 30.0

# Seconds between two looks.
_LOOK_INTERVAL = 0.2


def wait_until_removed(uuid: str, timeout: float) -> None:
    """Wait until a domain that is off has no loop devices.

    They are removed if libxl has not done so in time. Until a device is gone,
    dom0's kernel may still write to its file.

    :param uuid: the domain's UUID.
    :param timeout: seconds to wait in all.
    :raises TimeoutError: there still is one.
    """
    begin = time.monotonic()
    freed = False
    while names := _of(uuid):
        waited = time.monotonic() - begin
        if waited >= timeout:
            raise TimeoutError(
                f'{", ".join(names)} of domain {uuid}, which is off, was not '
                f'removed within {timeout:g} s')
        if waited >= min(PATIENCE, timeout / 2) and not freed:
            _free(names, uuid)
            freed = True
        time.sleep(_LOOK_INTERVAL)


def remove_leftovers(instances: str, running: Collection[str]) -> None:
    """Remove loop devices that ended domains have left behind.

    Failures are logged.

    :param instances: the directory of all instances.
    :param running: UUIDs of the domains that are not off.
    """
    directory = os.path.realpath(instances)
    for loop in list(loops.found()):
        if loop.instances == directory and loop.uuid not in running:
            _free([loop.name], loop.uuid)


def _of(uuid: str) -> list[str]:
    """Return the names of a domain's loop devices."""
    return sorted(loop.name for loop in loops.found() if loop.uuid == uuid)


def _free(names: Collection[str], uuid: str) -> None:
    for name in names:
        try:
            privsep.remove_loop(name, uuid)
        except OSError as error:
            LOG.error('%(name)s, of domain %(uuid)s, which is off, cannot be '
                      'removed: %(error)s',
                      {'name': name, 'uuid': uuid, 'error': error})
        else:
            LOG.warning('Removed %(name)s, which domain %(uuid)s had left',
                        {'name': name, 'uuid': uuid})
