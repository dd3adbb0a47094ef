# SPDX-License-Identifier: Apache-2.0
"""Set the limits of guests that have rebooted themselves.

The limits on CPUs and disks end with a domain and its QEMU. When a guest
reboots itself, it gets new ones, without limits until the event of it is
handled here. A guest may also have rebooted while nova-compute was away.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import threading

from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_log import log as logging

from xen44_driver.compute import cpulimits
from xen44_driver.compute import disklimits
from xen44_driver.compute import machine as machine_lib
from xen44_driver.compute import node as compute_node
from xen44_driver.core import backends
from xen44_driver.xen import domain
from xen44_driver.xen import errors as xen_errors
from xen44_driver.xen import threads

LOG = logging.getLogger(__name__)

#: How often setting the limits of a guest is tried.
ATTEMPTS = 3


class Limiter:
    """Sets limits in a thread of its own, as a guest's QEMU may be slow.

    :param set_limits: sets the limits of the domain with a UUID; returns
        whether it has them now.
    """

    def __init__(self, set_limits: Callable[[str], bool]) -> None:
        self._set_limits = set_limits
        # The attempts that each domain has left, in the order of their turns.
        self._waiting: dict[str, int] = {}
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    def started(self, uuid: str) -> None:
        """Have the limits of a domain set soon; never wait.

        :param uuid: the domain's UUID.
        """
        self._add(uuid, ATTEMPTS)

    def _add(self, uuid: str, attempts: int) -> None:
        with self._wake:
            self._waiting[uuid] = max(attempts, self._waiting.get(uuid, 0))
            self._wake.notify()
            if self._thread is None:
                self._thread = threads.start(self._run, 'xen44-limits')

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting:
                    self._wake.wait()
                uuid = next(iter(self._waiting))
                left = self._waiting.pop(uuid) - 1
            try:
                done = self._set_limits(uuid)
            except Exception:
                LOG.exception('Setting the limits of domain %s failed', uuid)
                continue
            if not done and left:
                self._add(uuid, left)


def restore(node: compute_node.Node, uuid: str) -> bool:
    """Set the limits of a guest that may have rebooted itself.

    Failures are logged. Costs one libvirt call for a guest without limits.

    :param uuid: UUID of its domain.
    :returns: whether it has its limits now, or is off.
    """
    try:
        guest = node.host.guest(uuid)
        found, disks = guest.definition()
        if found is None or found.machine is None:
            return True
        machine = machine_lib.Machine.from_json(found.machine)
        cpulimits.apply(guest, machine.cpu_limits)
        volumes = _of_volumes(uuid, disks)
        if machine.disk_limits != disklimits.NONE or volumes:
            # Not those that dom0's kernel serves.
            files = [disk for disk in disks if disk.type == 'file']
            backends.wait_until_open(node.host, guest, files)
            disklimits.apply(uuid, files, machine.disk_limits, volumes)
    except xen_errors.DomainNotFound:
        return True
    except (exception.NovaException, xen_errors.XenError, OSError) as error:
        LOG.warning('The limits of domain %(uuid)s, which has started, are '
                    'not set: %(error)s', {'uuid': uuid, 'error': error})
        return False
    return True


def _of_volumes(
    uuid: str, disks: Iterable[domain.Disk],
) -> dict[str, disklimits.Limits]:
    """Return the limits on a guest's volumes, by Cinder's ids.

    Its domain does not know those that were attached since it was started.
    """
    if not any(disk.serial and disk.type == 'file' for disk in disks):
        return {}
    machine = machine_lib.recall(objects.Instance.get_by_uuid(
        nova_context.get_admin_context(), uuid,
        expected_attrs=['system_metadata']))
    return machine.volume_limits if machine else {}
