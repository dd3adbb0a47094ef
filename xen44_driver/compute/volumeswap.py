# SPDX-License-Identifier: Apache-2.0
"""Give a running guest another volume in place of one that it has.

Cinder asks for it to move a volume that a guest uses to another backend
(``os-migrate_volume``, ``os-retype``): it makes a volume there, has Nova swap
them, and then gives it the id of the first one. So for the instance it is the
same volume on the same link, and libvirt's definition of the domain stays.

The guest's QEMU copies the volume (``blockdev-mirror``), and from then on
writes to both. Then the link is changed, so that a guest that reboots has the
new one, which is equal, and Nova's record of the connection, so that Nova
starts the guest with it. Before that record a failure leads back to the old
volume, and after it an interrupted swap is finished. Last, QEMU leaves the old
one.

dom0's kernel cannot copy what it serves, so both have to be files.
"""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import dataclasses
from typing import Any

from nova import context as nova_context
from nova import exception
from nova import objects
from nova.volume import cinder
from oslo_log import log as logging
from oslo_serialization import jsonutils

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
from xen44_driver.core import backends
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

#: Seconds until a QEMU that writes to both volumes must have left the first.
COMPLETE_TIMEOUT = 300.0


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
        says what is allowed, and the guest has the volume that it had.
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
        undo.add(connections.give_up, instance, new_info)
        connections.connect(context, instance, new_info)
        faultpoints.reached('swap volume: connected')
        undo.add_first(mirror.abandon)
        mirror.copy(new_info['data']['device_path'])
        faultpoints.reached('swap volume: copied')
        undo.add(privsep.link_volume, instance.uuid, old,
                 privsep.volume_device(instance.uuid, old))
        privsep.link_volume(
            instance.uuid, old, new_info['data']['device_path'])
        mirror.check()
        faultpoints.reached('swap volume: link changed')
        mapping = objects.BlockDeviceMapping.get_by_volume_and_instance(
            context, old, instance.uuid)
        undo.add(volumes.note, mapping, mapping.connection_info)
        volumes.note(mapping, _as_volume(new_info, old))
        faultpoints.reached('swap volume: noted')
        # From a guest that has left the old one nothing leads back.
        undo.add_first(mirror.abandon)
        mirror.complete()
    faultpoints.reached('swap volume: swapped')
    # Nothing may fail here: Cinder would delete the volume that the guest has.
    undo_lib.attempt(instance, mirror.close)
    undo_lib.attempt(instance, privsep.unlink_volume, instance.uuid, new)
    undo_lib.attempt(instance, _remember, instance, machine, record, mirror)
    LOG.info('Its volume %(old)s is what was %(new)s now',
             {'old': old, 'new': new}, instance=instance)


def mend(node: compute_node.Node) -> None:
    """Finish what an earlier process was swapping, or lead back."""
    for uuid, record in node.host.records().items():
        if record.state.is_off:
            continue
        try:
            _mend(node.host.guest(uuid), record.id)
        except (errors.XenError, exception.NovaException, OSError) as error:
            LOG.warning('It cannot be seen whether a volume of %(uuid)s was '
                        'being swapped: %(error)s',
                        {'uuid': uuid, 'error': error})


def _mend(guest: xen_guest.Guest, domid: int | None) -> None:
    uuid = guest.uuid
    linked = privsep.linked_volumes(uuid)
    disks = guest.disks(live=True) if linked else ()
    # What is copied to has a link, and is no disk of the guest.
    others = {*linked}.difference(disk.serial for disk in disks)
    mine = [disk for disk in disks if disk.serial and not disk.by_kernel]
    if not (others and mine):
        return
    files = {one['node-name']: one.get('file') for one in monitor.execute(
        uuid, 'query-named-block-nodes', {'flat': True}, domid=domid)}
    for disk in mine:
        old = str(disk.serial)
        noted = _noted(uuid, old)
        for new in others:
            target = blocks.swapped_node(disk, new)
            if target not in files:
                continue
            if noted == files[target]:
                try:
                    _finish(guest, disk, new)
                except (blockjobs.JobFailed, qmp.CommandFailed) as error:
                    LOG.error('%s', error)
                    _report(guest, disk, 'what it was', str(noted))
                return
            # First this: it fails if QEMU has left the old one.
            blockjobs.clear(uuid, JOB, [target], domid=domid)
            if noted:
                privsep.link_volume(uuid, old, noted)
            privsep.unlink_volume(uuid, new)
            LOG.warning('Ended the interrupted copy of volume %(old)s to '
                        'volume %(new)s; the guest of %(uuid)s goes on with '
                        'the first', {'old': old, 'new': new, 'uuid': uuid})
            return
        device = privsep.volume_device(uuid, old)
        if noted and device != noted:
            # It has rebooted since.
            _report(guest, disk, device, noted)


def _report(
    guest: xen_guest.Guest, disk: domain.Disk, device: str, noted: str,
) -> None:
    """Say that a guest has another volume than Nova starts it with.

    :param device: the file that it has, or what it is.
    :param noted: the file that Nova starts it with.
    """
    LOG.error(
        'Nova was ended while it swapped a volume. The disk %(disk)s of '
        '%(uuid)s is %(device)s, and Nova takes it for %(noted)s. What the '
        'guest writes to it is lost when Nova starts it anew',
        {'disk': disk.target, 'uuid': guest.uuid, 'device': device,
         'noted': noted})


def _finish(guest: xen_guest.Guest, disk: domain.Disk, new: str) -> None:
    """Finish a swap of which Nova has a record."""
    mirror = _Mirror(guest, disk, new)
    mirror.complete()
    mirror.close()
    privsep.unlink_volume(guest.uuid, new)
    LOG.warning('Finished the interrupted swap of volume %(old)s for volume '
                '%(new)s, which the guest of %(uuid)s has now. Cinder may not '
                'know of it yet (os-migrate_volume_completion)',
                {'old': disk.serial, 'new': new, 'uuid': guest.uuid})


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
        # What an earlier one has left.
        blockjobs.clear(
            self._guest.uuid, JOB, [self._target], domid=self._domid)
        # As xen-block opens the disks.
        self._execute('blockdev-add', {
            'driver': self._disk.format, 'node-name': self._target,
            'discard': 'unmap', 'file': {
                'driver': 'file', 'filename': path, 'discard': 'unmap',
                'locking': 'off'}})
        self._execute('blockdev-mirror', {
            'job-id': JOB, 'device': self._source.node,
            'target': self._target, 'sync': 'full',
            'copy-mode': 'write-blocking', 'auto-dismiss': False})
        self._wait('ready')

    def check(self) -> None:
        """Check that the guest has not rebooted and still writes to both.

        :raises JobFailed: it does not.
        """
        if not self._is_same_guest():
            raise blockjobs.JobFailed('the guest stopped or rebooted')
        self._wait('ready')

    def complete(self) -> None:
        """Have the guest use the other file only.

        A guest that reboots meanwhile does so, too. While nobody can see what
        QEMU does, both files are equal, so the other one is the right one.

        :raises JobFailed: the guest uses the first one only.
        :raises xen44_driver.xen.qmp.CommandFailed: QEMU does not leave it.
        """
        if self._source.node == self._target:
            return
        refused: qmp.CommandFailed | None = None
        for _ in backends.pauses(COMPLETE_TIMEOUT):
            try:
                job = blockjobs.find(self._guest.uuid, JOB, self._domid)
                if job and job['status'] == 'ready' and not refused:
                    self._execute('job-complete', {'id': JOB})
            except qmp.CommandFailed as error:
                # It may be another QEMU already.
                refused = error
            except qmp.MonitorUnavailable as error:
                LOG.debug('%s; asking again', error)
            else:
                if job is None:
                    LOG.info('The guest of %s stopped or rebooted meanwhile',
                             self._guest.uuid)
                    return
                if job['status'] == 'concluded':
                    if job.get('error'):
                        raise blockjobs.JobFailed(str(job['error']))
                    return
                if refused:
                    raise refused
        LOG.warning('The QEMU of %(uuid)s has not said within %(seconds)g s '
                    'that it writes to the new volume only',
                    {'uuid': self._guest.uuid, 'seconds': COMPLETE_TIMEOUT})

    def close(self) -> None:
        """Have QEMU close the files that were the disk before."""
        if not self._is_same_guest():
            return
        now = self._find().node
        nodes = [one['node-name'] for one in monitor.execute(
            self._guest.uuid, 'query-named-block-nodes', {'flat': True},
            domid=self._domid)]
        blockjobs.clear(
            self._guest.uuid, JOB,
            [name for name in nodes
             if name != now and blocks.is_node_of(name, self._disk)],
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


def _remember(
    instance: objects.Instance, machine: machine_lib.Machine,
    record: kinds.DiskRecord, mirror: _Mirror,
) -> None:
    """Keep the limits of a volume's new type, and set them."""
    volume = str(record.volume_id)
    if attachments.recorded(machine, volume) != record:
        machine = attachments.remember(instance, record)
        mirror.limit(machine.volume_limits.get(volume, disklimits.NONE))


def _as_volume(info: Mapping[str, Any], volume: str) -> str:
    """Return how a volume is connected, as Nova keeps it.

    :param info: what Cinder says of its connection.
    :param volume: the id that Cinder is going to give it.
    """
    return str(jsonutils.dumps({
        **info, 'serial': volume, 'volume_id': volume,
        'data': {**info['data'], 'volume_id': volume}}))


def _noted(uuid: str, volume: str) -> str | None:
    """Return the file of a volume, by what Nova keeps of its connection."""
    mapping = objects.BlockDeviceMapping.get_by_volume_and_instance(
        nova_context.get_admin_context(), volume, uuid)
    info = jsonutils.loads(mapping.connection_info or '{}')
    found: str | None = info.get('data', {}).get('device_path')
    return found
