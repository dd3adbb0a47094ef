# SPDX-License-Identifier: Apache-2.0
"""Give a running guest another volume in place of one that it has.

Cinder asks for it to move a volume that a guest uses to another backend
(``os-migrate_volume``, ``os-retype``): it makes a volume there, has Nova swap
them, and then gives it the id of the first one. So for the instance it is the
same volume on the same link, and neither its record nor libvirt's definition
changes, but for the limits that the volume's type asks for.

The guest's QEMU copies the volume (``blockdev-mirror``). Once all is copied,
each write goes to both. Then the link is changed: a guest that reboots has the
new one, which is equal. Then QEMU leaves the old one.

dom0's kernel cannot copy what it serves, so both have to be files.
"""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import dataclasses
import itertools
from typing import Any

from nova import context as nova_context
from nova import exception
from nova import objects
from nova.volume import cinder
from oslo_log import log as logging

from xen44_driver import faultpoints
from xen44_driver import privsep
from xen44_driver.compute import attachments
from xen44_driver.compute import blockjobs
from xen44_driver.compute import connections
from xen44_driver.compute import disklimits
from xen44_driver.compute import machine as machine_lib
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import power
from xen44_driver.compute import transports
from xen44_driver.compute import volumes
from xen44_driver.core import monitor
from xen44_driver.core import undo as undo_lib
from xen44_driver.storage import kinds
from xen44_driver.xen import arch as arch_lib
from xen44_driver.xen import blocks
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen import guest as xen_guest
from xen44_driver.xen import qmp

LOG = logging.getLogger(__name__)

#: Name of the job in QEMU.
JOB = 'xen44-swap'


def swap(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, old_info: Mapping[str, Any],
    new_info: dict[str, Any],
) -> None:
    """Copy a volume of a running guest to another, and swap them.

    :param old_info: what Cinder says of the connection of the volume that the
        instance has.
    :param new_info: the same of the other one. Its file on this host is noted
        in it, which Nova keeps.
    :raises nova.exception.InvalidVolume: this host cannot do so; the message
        says what is allowed, and nothing was done.
    :raises xen44_driver.xen.errors.XenError: the volume cannot be copied, or
        the guest stopped or rebooted meanwhile; it has the volume that it had.
    """
    old, new = volumes.id_of(old_info), volumes.id_of(new_info)
    machine = power.machine_of(node, context, instance, None)
    record = _record_after(context, instance, machine,
                           node.arch.profile(machine.guest_type),
                           old_info, new_info)
    disk = machine.device(record, node.files(instance).directory)
    guest = node.host.guest(instance.uuid)
    if disk.by_kernel or disk.bus != 'xen' or guest.state().is_off:
        raise _refused(old, 'unless it runs or is paused, and QEMU serves the '
                            'disk without emulating it')
    mirror = _Mirror(guest, disk, new)
    with undo_lib.Undo(instance) as undo:
        undo.add(_disconnect, instance, new_info)
        connections.connect(context, instance, new_info)
        faultpoints.reached('swap volume: connected')
        undo.add(mirror.abandon)
        mirror.copy(new_info['data']['device_path'])
        faultpoints.reached('swap volume: copied')
        privsep.exchange_volume_links(instance.uuid, old, new)
        undo.add(privsep.exchange_volume_links, instance.uuid, old, new)
        faultpoints.reached('swap volume: links exchanged')
        mirror.complete()
    faultpoints.reached('swap volume: swapped')
    undo_lib.attempt(instance, mirror.close)
    undo_lib.attempt(instance, privsep.unlink_volume, instance.uuid, new)
    before = machine.volume_limits.get(old)
    limits = attachments.remember(instance, record).volume_limits.get(old)
    if limits != before:
        undo_lib.attempt(instance, mirror.limit, limits or disklimits.NONE)
    LOG.info('Its volume %(old)s is what was %(new)s now',
             {'old': old, 'new': new}, instance=instance)


def mend(node: compute_node.Node) -> None:
    """End what an earlier process was swapping.

    Nova knows of nothing but the old volumes then.
    """
    for uuid, record in node.host.records().items():
        if record.state.is_off:
            continue
        try:
            _mend(uuid, node.host.guest(uuid), record.id)
        except (errors.XenError, OSError) as error:
            LOG.warning('It cannot be seen whether a volume of %(uuid)s was '
                        'being swapped: %(error)s',
                        {'uuid': uuid, 'error': error})


def _mend(uuid: str, guest: xen_guest.Guest, domid: int | None) -> None:
    linked = privsep.linked_volumes(uuid)
    disks = guest.disks(live=True) if linked else ()
    # What is copied to has a link, and is no disk of the guest.
    others = {*linked}.difference(disk.serial for disk in disks)
    mine = [disk for disk in disks if disk.serial and not disk.by_kernel]
    if not (others and mine):
        return
    found, nodes = monitor.execute_all(uuid, [
        ('query-block', {}), ('query-named-block-nodes', {'flat': True}),
    ], domid=domid)
    files = {one['node-name']: one.get('file') for one in nodes}
    for disk, new in itertools.product(mine, others):
        old, target = str(disk.serial), blocks.swapped_node(disk, new)
        if target not in files:
            continue
        now = blocks.in_use(found, disk)
        if now and now.node == target:
            LOG.error(
                'Nova was ended when the disk %(disk)s of %(uuid)s had become '
                'volume %(new)s, and takes it for volume %(old)s. What the '
                'guest writes to it is lost when Nova starts it anew',
                {'disk': disk.target, 'uuid': uuid, 'new': new, 'old': old})
            continue
        if privsep.volume_device(uuid, old) == files[target]:
            privsep.exchange_volume_links(uuid, old, new)
        blockjobs.clear(uuid, JOB, [target], domid=domid)
        privsep.unlink_volume(uuid, new)
        LOG.warning('Ended an interrupted copy of volume %(old)s to volume '
                    '%(new)s; the guest of %(uuid)s goes on with the first',
                    {'old': old, 'new': new, 'uuid': uuid})


class _Mirror:
    """A disk of a guest that its QEMU copies to another file.

    :param disk: the disk.
    :param volume: Cinder's id of the volume to which it is copied.
    """

    def __init__(
        self, guest: xen_guest.Guest, disk: domain.Disk, volume: str,
    ) -> None:
        self._guest = guest
        self._disk = disk
        self._domid = guest.id
        self._target = blocks.swapped_node(disk, volume)
        self._source = self._find()

    def copy(self, path: str) -> None:
        """Copy the disk to a file, and from then on write to both.

        :param path: path of the file.
        """
        # As xen-block opens the disks.
        cache = {'direct': True}
        self._execute('blockdev-add', {
            'driver': self._disk.format, 'node-name': self._target,
            'discard': 'unmap', 'cache': cache,
            'file': {'driver': 'file', 'filename': path, 'discard': 'unmap',
                     'cache': cache}})
        self._execute('blockdev-mirror', {
            'job-id': JOB, 'device': self._source.node,
            'target': self._target, 'sync': 'full',
            'copy-mode': 'write-blocking', 'auto-dismiss': False})
        self._wait('ready')

    def complete(self) -> None:
        """Have the guest use the other file only.

        A guest that reboots meanwhile does so, too.
        """
        try:
            self._execute('job-complete', {'id': JOB})
            self._wait('concluded')
            if self._find().node != self._target:
                raise blockjobs.JobFailed(
                    f'QEMU has not left the node {self._source.node}')
        except errors.XenError:
            if self._is_same_guest():
                raise

    def close(self) -> None:
        """Have QEMU close the file that the guest does not use any more."""
        if self._is_same_guest():
            blockjobs.clear(self._guest.uuid, JOB, [self._source.node],
                            domid=self._domid)

    def abandon(self) -> None:
        """Stop copying; it may not have begun, or its QEMU may be gone."""
        try:
            blockjobs.clear(self._guest.uuid, JOB, [self._target],
                            domid=self._domid)
        except qmp.MonitorUnavailable:
            with contextlib.suppress(errors.DomainNotFound):
                if self._is_same_guest():
                    raise

    def limit(self, limits: disklimits.Limits) -> None:
        """Set the disk's limits; a guest that has rebooted has them."""
        if self._is_same_guest():
            self._execute('block_set_io_throttle', {
                'id': self._source.device, **limits.throttle()})

    def _is_same_guest(self) -> bool:
        return (not self._guest.state().is_off
                and self._guest.id == self._domid)

    def _execute(self, command: str, arguments: Mapping[str, Any]) -> None:
        monitor.execute(
            self._guest.uuid, command, arguments, domid=self._domid)

    def _wait(self, status: str) -> None:
        blockjobs.wait(self._guest.uuid, JOB, domid=self._domid,
                       same_guest=self._is_same_guest, status=status)

    def _find(self) -> blocks.Attached:
        """Return the disk as the guest has it now.

        :raises xen44_driver.xen.errors.OperationFailed: QEMU does not have it.
        """
        found = blocks.in_use(monitor.execute(
            self._guest.uuid, 'query-block', domid=self._domid), self._disk)
        if found is None:
            raise errors.OperationFailed(
                'query-block', self._guest.uuid, None,
                f"the guest's QEMU does not have the disk {self._disk.target}")
        return found


def _record_after(
    context: nova_context.RequestContext, instance: objects.Instance,
    machine: machine_lib.Machine, profile: arch_lib.Profile,
    old_info: Mapping[str, Any], new_info: Mapping[str, Any],
) -> kinds.DiskRecord:
    """Return the record of a volume as it is to be after the swap.

    :raises nova.exception.InvalidVolume: this host cannot swap them.
    """
    old = volumes.id_of(old_info)
    record = attachments.recorded(machine, old)
    if record is None:
        raise _refused(old, 'as that does not have it on this host')
    if any(transports.of(info).block for info in (old_info, new_info)):
        raise _refused(
            old, "as dom0's kernel serves block devices, which it cannot "
                 'copy; allowed: from a file to a file (nfs), or to detach it')
    # Nova itself asks for it since 2025.
    status = cinder.API().get(context, old).get('migration_status')
    if status != 'migrating':
        raise _refused(old, f'as its migration_status is {status!r}; allowed: '
                            "'migrating', by Cinder's migrate or retype")
    new = volumes.record(
        instance, new_info, record.name, profile,
        instance.image_meta.properties.get('hw_disk_bus'), machine.disk_class)
    if new.format != record.format:
        raise _refused(old, f'as it is {record.format}, and the other one '
                            f'{new.format}; allowed: of one format')
    return dataclasses.replace(record, limits=new.limits)


def _refused(volume: str, why: str) -> exception.InvalidVolume:
    return exception.InvalidVolume(
        reason=f'volume {volume} cannot be swapped for another one while an '
               f'instance has it, {why}')


def _disconnect(
    instance: objects.Instance, connection_info: Mapping[str, Any],
) -> None:
    connections.disconnect(instance, connection_info, force=True)
