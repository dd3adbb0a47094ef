# SPDX-License-Identifier: Apache-2.0
"""Make an image of an instance's root disk, while the guest runs or is off.

Of a guest that runs or is paused, its QEMU copies the disk as of one moment
(``blockdev-backup``): before the guest overwrites a part that is not copied
yet, QEMU copies it. The guest's disk gets no overlay, so a reboot or a crash
in the middle ends the copy and harms nothing else. Of a guest that is off,
qemu-img copies the disk.

Where dom0's kernel serves the disk there is no QEMU. A file system that can
share blocks makes a clone of the disk's file as of one moment, while the guest
runs, and qemu-img copies the clone. On other file systems the guest has to be
off or paused, and qemu-img copies the disk itself.

In each case the copy is complete by itself, and compressed while it is
written. It is sent to Glance and removed.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import math
import os
from typing import Any

from nova import conf
from nova import context as nova_context
from nova import exception
from nova import objects
from nova.compute import task_states
from nova.compute import utils as compute_utils
from nova.privsep import qemu
from oslo_concurrency import processutils
from oslo_log import log as logging
from oslo_utils import fileutils
from oslo_utils import units

from xen44_driver import faultpoints
from xen44_driver.compute import blockjobs
from xen44_driver.compute import disk_class
from xen44_driver.compute import disks
from xen44_driver.compute import glance
from xen44_driver.compute import machine as machine_lib
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import quiesce
from xen44_driver.core import monitor
from xen44_driver.core import undo as undo_lib
from xen44_driver.storage import header
from xen44_driver.storage import kinds
from xen44_driver.storage import scratch as scratch_lib
from xen44_driver.storage import usage
from xen44_driver.xen import blocks
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen import guest as xen_guest
from xen44_driver.xen import qmp
from xen44_driver.xen.diskclass import DiskClass
from xen44_driver.xen.events import DomainState

CONF = conf.CONF
LOG = logging.getLogger(__name__)

#: Names of the job and of its target in QEMU.
JOB = 'xen44-snapshot'
TARGET = 'xen44-snapshot-target'

#: Clusters that QEMU copies at the same time, as many as its qcow2 compresses
#: at the same time (QCOW2_MAX_THREADS, block/qcow2.h). By default it copies
#: 64, and what the guest writes waits for all of them.
WORKERS = 4


def snapshot(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, image_id: str,
    update_task_state: Callable[..., None],
) -> None:
    """Make an image of an instance's root disk.

    :param image_id: the image, which Nova has made and which has no content.
    :param update_task_state: tells Nova how far it is.
    :raises nova.exception.ImageNotFound: the image was deleted.
    :raises nova.exception.NovaException: the image cannot be made.
    :raises xen44_driver.storage.scratch.NoRoom: the disk may not fit on the
        host a second time.
    :raises xen44_driver.xen.errors.XenError: the guest cannot be copied, or
        stopped or rebooted meanwhile; its disk is as it was.
    """
    machine = _machine(node, instance)
    min_disk = glance.min_disk(context, image_id)
    update_task_state(task_state=task_states.IMAGE_PENDING_UPLOAD)
    scratch = _scratch(instance.uuid)
    try:
        # Nova's limit of copies that run at the same time on the host.
        with compute_utils.disk_ops_semaphore:
            size = _copy(node, context, instance, machine, scratch)
        update_task_state(
            task_state=task_states.IMAGE_UPLOADING,
            expected_state=task_states.IMAGE_PENDING_UPLOAD)
        glance.upload(context, image_id, scratch.path, _metadata(
            instance, max(min_disk, math.ceil(size / units.Gi))))
        faultpoints.reached('snapshot: uploaded')
    except Exception as error:
        # Nova logs the errors of snapshots at the level DEBUG only.
        LOG.error('No image was made: %s', error, instance=instance)
        raise
    finally:
        undo_lib.attempt(instance, scratch.remove)


def mend(node: compute_node.Node) -> None:
    """Remove what is left of snapshots that an earlier process was taking."""
    for uuid, scratch in scratch_lib.leftovers(
            CONF.instances_path, CONF.host):
        record = node.host.records().get(uuid)
        try:
            if (record is not None and not record.state.is_off
                    and _has_qemu(node, uuid)):
                blockjobs.clear(uuid, JOB, [TARGET], domid=record.id)
        except errors.XenError as error:
            LOG.warning('The QEMU of %(uuid)s may go on with a snapshot that '
                        'was interrupted, until its guest reboots: %(error)s',
                        {'uuid': uuid, 'error': error})
        try:
            fileutils.delete_if_exists(node.files_of(uuid).clone)
            scratch.remove()
        except OSError as error:
            LOG.warning('An interrupted snapshot left %(path)s: %(error)s',
                        {'path': scratch.path, 'error': error})
        else:
            LOG.warning('Removed what an interrupted snapshot of %s had '
                        'copied', uuid)


def _has_qemu(node: compute_node.Node, uuid: str) -> bool:
    """Return whether a running guest has a disk that a QEMU serves."""
    return any(not disk.by_kernel
               for disk in node.host.guest(uuid).disks(live=True))


def _machine(
    node: compute_node.Node, instance: objects.Instance,
) -> machine_lib.Machine:
    """Return the record of an instance.

    :raises nova.exception.InstanceNotRunning: there is nothing of the
        instance on this host.
    :raises xen44_driver.xen.errors.OperationFailed: there is no record.
    """
    if (instance.uuid not in node.host.records()
            and not node.files(instance).exist()):
        raise exception.InstanceNotRunning(instance_id=instance.uuid)
    machine = machine_lib.recall(instance)
    if machine is None:
        raise errors.OperationFailed(
            'snapshot', instance.uuid, None,
            'an older version of the driver made the instance; reboot it '
            'hard once, which records what it is')
    return machine


def _scratch(uuid: str) -> scratch_lib.Scratch:
    return scratch_lib.Scratch(CONF.instances_path, CONF.host, uuid)


def _copy(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, machine: machine_lib.Machine,
    scratch: scratch_lib.Scratch,
) -> int:
    """Copy the root disk.

    :returns: bytes of the disk.
    """
    root = kinds.load(machine.root, node.files(instance).directory)
    need = _most(node, root)
    try:
        guest = node.host.guest(instance.uuid)
        state = guest.state()
    except errors.DomainNotFound:
        # The operator undefined it.
        state = DomainState.SHUTDOWN
    if state.is_off:
        disks.ensure_bases(node, context, machine)
        monitor.wait_until_closed(instance.uuid)
        scratch.create(0, need)
        _convert(root.path, root.record.format, scratch)
        LOG.info('Copied the disk of the guest, which is off',
                 instance=instance)
        return _size(root)
    if machine.disk_class is DiskClass.KERNEL:
        return _copy_file(node, instance, state, root, scratch, need)
    return _back_up(node, instance, guest, root.spec(), scratch, need)


def _size(root: kinds.Kind) -> int:
    """Return the bytes of a disk, as far as its file says."""
    if root.record.format == 'qcow2':
        # A guest cannot write the header of its overlay.
        return header.virtual_size(root.path) or 0
    return os.path.getsize(root.path)


def _most(node: compute_node.Node, root: kinds.Kind) -> int:
    """Return the most bytes of data that a copy of a disk has."""
    most = _allocated(root.path)
    base = root.record.base if root.record.kind == 'overlay' else None
    if base is not None:
        # The data of a qcow2 image may be compressed.
        most += (_allocated(node.images.store.path(base.id))
                 if base.format == 'raw' else base.virtual_size)
    return min(most, _size(root))


def _allocated(path: str) -> int:
    """Return the bytes that a file takes; 0 if it does not exist."""
    try:
        return os.stat(path).st_blocks * 512
    except FileNotFoundError:
        return 0


def _convert(
    source: str, its_format: str, scratch: scratch_lib.Scratch,
) -> None:
    """Copy a disk to which nothing is written."""
    format = CONF.xen44.snapshot_image_format
    qemu.unprivileged_convert_image(
        source, scratch.path, its_format, format, scratch.directory,
        format == 'qcow2')
    faultpoints.reached('snapshot: disk converted')


def _copy_file(
    node: compute_node.Node, instance: objects.Instance, state: DomainState,
    root: kinds.Kind, scratch: scratch_lib.Scratch, need: int,
) -> int:
    """Copy the disk of a guest that is not off and has no QEMU.

    :param state: the state of the guest.
    :param need: the most bytes that the copy may take.
    :returns: bytes of the disk.
    :raises nova.exception.QemuGuestAgentNotEnabled: the image requires that
        the guest is frozen (``os_require_quiesce``), which it cannot be.
    :raises xen44_driver.xen.errors.OperationFailed: the guest runs, and the
        file system cannot share blocks.
    """
    files = node.files(instance)
    if usage.shares_blocks(files.directory):
        scratch.create(0, need)
        try:
            with _frozen(node, instance):
                usage.clone(root.path, files.clone)
            faultpoints.reached('snapshot: file cloned')
            LOG.info('Cloned the disk, which shares its blocks, while the '
                     'guest went on', instance=instance)
            _convert(files.clone, root.record.format, scratch)
        finally:
            undo_lib.attempt(
                instance, fileutils.delete_if_exists, files.clone)
    elif state is DomainState.PAUSED:
        scratch.create(0, need)
        _convert(root.path, root.record.format, scratch)
        LOG.info('Copied the disk of the guest, which is paused',
                 instance=instance)
    else:
        raise errors.OperationFailed(
            'snapshot', instance.uuid, None,
            f"dom0's kernel serves the disk ({disk_class.EXTRA_SPEC} "
            f'{DiskClass.KERNEL}), and the file system of {files.directory} '
            'cannot share blocks; allowed: while the instance is stopped or '
            'paused')
    return _size(root)


def _back_up(
    node: compute_node.Node, instance: objects.Instance,
    guest: xen_guest.Guest, disk: domain.Disk, scratch: scratch_lib.Scratch,
    need: int,
) -> int:
    """Copy the disk of a guest that is not off, as it is at one moment.

    :param need: the most bytes that the copy may take.
    :returns: bytes of the disk.
    """
    uuid, domid = instance.uuid, guest.id

    def same_guest() -> bool:
        return not guest.state().is_off and guest.id == domid

    source = _find(uuid, disk, domid)
    format = CONF.xen44.snapshot_image_format
    with undo_lib.Undo(instance) as undo:
        scratch.create(source.size, need)
        if format == 'qcow2':
            processutils.execute(
                'qemu-img', 'create', '-q', '-f', 'qcow2', scratch.path,
                str(source.size))
        faultpoints.reached('snapshot: file made')
        undo.add(_abandon, uuid, domid, same_guest)
        monitor.execute(uuid, 'blockdev-add', {
            'driver': format, 'node-name': TARGET, 'discard': 'unmap',
            'file': {'driver': 'file', 'filename': scratch.path,
                     'discard': 'unmap'},
        }, domid=domid)
        faultpoints.reached('snapshot: target open')
        with _frozen(node, instance):
            monitor.execute(uuid, 'transaction', {'actions': [{
                'type': 'blockdev-backup', 'data': {
                    'job-id': JOB, 'device': source.node, 'target': TARGET,
                    'sync': 'full', 'compress': format == 'qcow2',
                    'x-perf': {'max-workers': WORKERS},
                    # So that its end can be seen.
                    'auto-dismiss': False,
                }}]}, domid=domid)
        faultpoints.reached('snapshot: copy begun')
        blockjobs.wait(uuid, JOB, same_guest=same_guest, domid=domid)
        if _find(uuid, disk, domid).node != source.node:
            raise errors.OperationFailed(
                'snapshot', uuid, None,
                'the guest changed from the emulated disk to the PV disk '
                'meanwhile, as it does when it boots; try again')
        # QEMU writes the last of the target when it closes it.
        blockjobs.clear(uuid, JOB, [TARGET], domid=domid)
        faultpoints.reached('snapshot: disk copied')
        if format == 'qcow2':
            # QEMU says nothing if that fails. 3 is for clusters that nothing
            # refers to.
            processutils.execute(
                'qemu-img', 'check', '-q', '-f', 'qcow2', scratch.path,
                check_exit_code=[0, 3])
    LOG.info('Copied the disk while the guest went on', instance=instance)
    return source.size


@contextlib.contextmanager
def _frozen(
    node: compute_node.Node, instance: objects.Instance,
) -> Iterator[None]:
    """Keep the file systems of a guest frozen, if it has a guest agent.

    Unless the image requires it (``os_require_quiesce``), a guest that does
    not freeze is copied as if its power had failed.

    :raises nova.exception.QemuGuestAgentNotEnabled: the image requires it,
        and the instance has no channel to an agent.
    :raises nova.exception.InstanceQuiesceFailed: the image requires it, and
        the guest does not freeze.
    """
    required = instance.image_meta.properties.get('os_require_quiesce')
    try:
        quiesce.freeze(node, instance)
    except exception.QemuGuestAgentNotEnabled:
        if required:
            raise
        yield
        return
    except exception.InstanceQuiesceFailed as error:
        if required:
            raise
        LOG.warning('Copying the disk of a guest that is not frozen: %s',
                    error, instance=instance)
        yield
        return
    try:
        yield
    finally:
        undo_lib.attempt(instance, quiesce.thaw, node, instance)


def _find(
    uuid: str, disk: domain.Disk, domid: int | None,
) -> blocks.Attached:
    """Return the disk in the guest's QEMU.

    :raises xen44_driver.xen.errors.OperationFailed: QEMU does not have it.
    """
    found = blocks.in_use(
        monitor.execute(uuid, 'query-block', domid=domid), disk)
    if found is None:
        raise errors.OperationFailed(
            'query-block', uuid, None,
            f"the guest's QEMU does not have the disk {disk.source}")
    return found


def _abandon(
    uuid: str, domid: int | None, same_guest: Callable[[], bool],
) -> None:
    """Cancel the copy; it may not have begun, or its QEMU may be gone."""
    try:
        blockjobs.clear(uuid, JOB, [TARGET], domid=domid)
    except qmp.MonitorUnavailable:
        with contextlib.suppress(errors.DomainNotFound):
            if same_guest():
                raise


def _metadata(instance: objects.Instance, min_disk: int) -> dict[str, Any]:
    """Return the metadata of an image of an instance.

    The properties of the instance's own image are there already: Nova put
    them in, among them ``hw_vm_mode``.

    :param min_disk: GiB.
    """
    properties = {
        'image_location': 'snapshot',
        'image_state': 'available',
        'owner_id': instance.project_id,
        'kernel_id': instance.kernel_id,
        'ramdisk_id': instance.ramdisk_id,
        'os_type': instance.os_type,
    }
    return {
        'status': 'active',
        'disk_format': CONF.xen44.snapshot_image_format,
        'container_format': 'bare',
        'min_disk': min_disk,
        'properties': {
            name: value for name, value in properties.items() if value},
    }
