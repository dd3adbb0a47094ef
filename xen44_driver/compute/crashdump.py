# SPDX-License-Identifier: Apache-2.0
"""Write the memory of guests to files for debuggers."""

from __future__ import annotations

import time

from nova import conf
from nova import exception
from nova import objects
from oslo_concurrency import lockutils
from oslo_log import log as logging
from oslo_utils import units

from xen44_driver import privsep
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import room
from xen44_driver.core import evidence
from xen44_driver.core import undo as undo_lib
from xen44_driver.xen import guest as xen_guest

CONF = conf.CONF
LOG = logging.getLogger(__name__)


def trigger(node: compute_node.Node, instance: objects.Instance) -> None:
    """Write an instance's memory to a file; the guest runs on.

    The guest is paused until the file is written.

    :raises nova.exception.TriggerCrashDumpNotSupported: the operator does not
        allow crash dumps.
    :raises nova.exception.InstanceNotReady: the instance is off.
    :raises nova.exception.Invalid: there is no room for the file.
    """
    if not CONF.xen44.crash_dump_directory:
        raise exception.TriggerCrashDumpNotSupported()
    guest = node.host.guest(instance.uuid)
    if guest.state().is_off:
        raise exception.InstanceNotReady(instance_id=instance.uuid)
    # Nova has no task for it, so that a user can ask again meanwhile.
    with lockutils.lock(f'crash-dump-{instance.uuid}'):
        _write(guest, instance)


def _write(guest: xen_guest.Guest, instance: objects.Instance) -> None:
    # Those that were interrupted, and the one that the new one replaces: two
    # may not fit.
    privsep.remove_crash_dumps(
        instance.uuid, CONF.xen44.crash_dumps_kept - 1)
    number = time.time_ns() // units.k
    with room.promised(privsep.crash_dump_room,
                       room.of_memory(instance.flavor.memory_mb),
                       'a crash dump'), undo_lib.Undo(instance) as undo:
        undo.add(privsep.remove_crash_dumps, instance.uuid,
                 CONF.xen44.crash_dumps_kept)
        with evidence.explained(guest.name):
            guest.dump_core(privsep.crash_dump_path(
                instance.uuid, number, whole=False))
        size = privsep.finish_crash_dump(instance.uuid, number)
    LOG.info('Wrote a crash dump of %(size)s MiB to %(path)s',
             {'size': size // units.Mi,
              'path': privsep.crash_dump_path(
                  instance.uuid, number, whole=True)}, instance=instance)


def forget(instance: objects.Instance) -> None:
    """Remove all crash dumps of an instance."""
    if CONF.xen44.crash_dump_directory:
        privsep.remove_crash_dumps(instance.uuid, 0)
