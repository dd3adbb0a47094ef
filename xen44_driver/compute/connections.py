# SPDX-License-Identifier: Apache-2.0
"""Connect this host to volumes, and disconnect it.

os-brick does it, with root's powers of its own (``[privsep_osbrick]``). The
guest has the volume through a link (:mod:`xen44_driver.xen.volumelinks`). The
links also tell which volumes other instances of this host still use.

A connection can be made again at any time, and every start of an instance
does so: this host, or the target, may have been rebooted.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
import os
from typing import Any

from castellan import key_manager
from nova import conf
from nova import context as nova_context
from nova import exception
from nova import objects
from nova import utils as nova_utils
from nova.virt import block_device as virt_block_device
from nova.volume import cinder
from os_brick import encryptors
from os_brick import exception as brick_exception
from os_brick.initiator import connector as brick
from oslo_concurrency import lockutils
from oslo_concurrency import processutils
from oslo_log import log as logging

from xen44_driver import faultpoints
from xen44_driver import privsep
from xen44_driver.compute import machine as machine_lib
from xen44_driver.compute import sharing
from xen44_driver.compute import transports
from xen44_driver.compute import volumefiles
from xen44_driver.compute import volumes
from xen44_driver.core import backends
from xen44_driver.core import monitor
from xen44_driver.core import undo as undo_lib
from xen44_driver.xen.diskclass import DiskClass

CONF = conf.CONF
LOG = logging.getLogger(__name__)

#: Seconds until dom0's kernel must have closed a device that a guest has lost.
BUSY_TIMEOUT = 20
#: Seconds until a device that os-brick has named must be there.
DEVICE_TIMEOUT = 10

# What closes every kind of encrypted device.
_ANY_ENCRYPTION = {'control_location': 'front-end', 'provider': 'luks'}


def properties() -> dict[str, Any]:
    """Return what Cinder has to know of this host to connect volumes to it."""
    found: dict[str, Any] = brick.get_connector_properties(
        nova_utils.get_root_helper(), CONF.my_block_storage_ip,
        CONF.xen44.volume_use_multipath, CONF.xen44.volume_enforce_multipath,
        host=CONF.host)
    return found


def connect(
    context: nova_context.RequestContext, instance: objects.Instance,
    connection_info: dict[str, Any],
    encryption: Mapping[str, Any] | None = None,
) -> None:
    """Connect this host to a volume, and make the link to it.

    :param connection_info: what Cinder says of the connection. The device on
        this host is noted in it, which Nova keeps.
    :param encryption: how the volume is encrypted; None to ask Cinder, if it
        is.
    :raises nova.exception.InvalidVolume: this host cannot have such a volume.
    :raises os_brick.exception.BrickException: it cannot be connected; a part
        may be, so :func:`disconnect` is to be called.
    """
    volume = volumes.id_of(connection_info)
    transport = transports.of(connection_info)
    encryption = _encryption(context, volume, connection_info, encryption)
    data = connection_info['data']
    with lockutils.lock(_lock(volume)):
        if encryption and (old := privsep.unlink_volume(
                instance.uuid, volume)):
            # Open since the last start, perhaps on another device.
            _encryptor({**connection_info, 'data': {
                **data, 'device_path': old}}, _ANY_ENCRYPTION).detach_volume()
        device = _connector(connection_info).connect_volume(data)['path']
        if isinstance(device, bytes):
            device = device.decode()
        data['device_path'] = device
        if transport.block:
            _wait_for(device)
        faultpoints.reached('volume: connected')
        if encryption:
            _open(context, connection_info, encryption)
            faultpoints.reached('volume: decrypted')
        if connection_info.get('multiattach') and transport.block:
            device = sharing.make(instance.uuid, volume, device)
            faultpoints.reached('volume: shared')
        privsep.link_volume(instance.uuid, volume, device)
        if transports.file_format(
                connection_info, DiskClass.QEMU) == 'qcow2':
            volumefiles.check(instance.uuid, volume, os.path.basename(device))
    if transport.block and (specs := transports.qos_specs(connection_info)):
        LOG.warning('Volume %(volume)s is not limited, as its type asks '
                    '(%(specs)s): dom0\'s kernel serves it, and has no limits',
                    {'volume': volume, 'specs': ', '.join(specs)},
                    instance=instance)
    LOG.info('Connected volume %(volume)s by %(protocol)s: %(device)s',
             {'volume': volume, 'protocol': transport.protocol,
              'device': device}, instance=instance)


def _wait_for(device: str) -> None:
    """Wait until a device is there; :func:`connect` fails if it is not.

    os-brick sees a volume of NVMe-oF in its controller's directory in sysfs,
    where the kernel has it before it makes the device that leads to it.
    """
    for _ in backends.pauses(DEVICE_TIMEOUT):
        if os.path.exists(device):
            return


def disconnect(
    instance: objects.Instance, connection_info: Mapping[str, Any], *,
    force: bool = False,
) -> None:
    """Remove an instance's link to a volume, and disconnect this host from it.

    It stays connected if another instance of this host has a link to it. Safe
    to repeat.

    :param connection_info: what Cinder says of the connection.
    :param force: do not fail if the volume does not answer; what the host has
        not written to it yet is lost.
    :raises os_brick.exception.BrickException: it cannot be disconnected.
    :raises oslo_concurrency.processutils.ProcessExecutionError: the same.
    """
    volume = volumes.id_of(connection_info)
    with lockutils.lock(_lock(volume)):
        device = privsep.unlink_volume(instance.uuid, volume)
        faultpoints.reached('volume: link removed')
        if connection_info.get('multiattach'):
            sharing.remove(instance.uuid, volume)
        if privsep.volume_is_linked(volume):
            LOG.info('Another instance of this host uses volume %s', volume,
                     instance=instance)
            return
        data = {**connection_info['data']}
        if device and not data.get('device_path'):
            # Nova has asked Cinder anew since.
            data['device_path'] = device
        info = {**connection_info, 'data': data}
        if data.get('encrypted') and data.get('device_path'):
            _encryptor(info, _ANY_ENCRYPTION).detach_volume()
            faultpoints.reached('volume: encryption closed')
        try:
            _let_go(info, force=force)
        except brick_exception.VolumeDeviceNotFound as error:
            LOG.info('It was not connected: %s', error, instance=instance)
    LOG.info('Disconnected volume %s', volume, instance=instance)


def _let_go(connection_info: Mapping[str, Any], *, force: bool) -> None:
    """Have os-brick disconnect this host from a volume.

    dom0's kernel closes a device a moment after the guest has lost it, and
    udev may look into it then. Not every transport waits for that.
    """
    transport = transports.of(connection_info)
    connector = _connector(connection_info)
    data = connection_info['data']
    noted = data.get('device_path')
    # The link of an encrypted volume, which os-brick removes, is its own.
    if transport.find and not (
            data.get('encrypted') and os.path.lexists(noted or '')):
        # It may be another volume's by now, or not be noted: an attachment was
        # interrupted.
        data = {**data, 'device_path': transport.find(data)}
    failed: processutils.ProcessExecutionError | None = None
    for _ in backends.pauses(BUSY_TIMEOUT):
        try:
            connector.disconnect_volume(
                data, data, force=force, ignore_errors=force)
        except processutils.ProcessExecutionError as error:
            if transport.busy is None or error.exit_code != transport.busy:
                raise
            failed = error
        else:
            return
    if failed:
        raise failed


def extend(
    context: nova_context.RequestContext, instance: objects.Instance,
    connection_info: Mapping[str, Any],
) -> int | None:
    """Let this host see that a volume of an instance has become larger.

    :param connection_info: what Cinder says of the connection.
    :returns: bytes of the volume's device, as the guest gets it; None for a
        file.
    :raises nova.exception.VolumeExtendFailed: the host does not see its size.
    """
    volume = volumes.id_of(connection_info)
    if not transports.of(connection_info).block:
        return None
    encryption = _encryption(context, volume, connection_info, None)
    with lockutils.lock(_lock(volume)):
        size = _connector(connection_info).extend_volume(
            connection_info['data'])
        if encryption:
            size = _encryptor(connection_info, encryption).extend_volume(
                context, **encryption)
        if connection_info.get('multiattach'):
            sharing.extend(instance.uuid, volume,
                           connection_info['data']['device_path'])
    if not size:
        raise exception.VolumeExtendFailed(
            volume_id=volume, reason='its device has no size on this host')
    return int(size)


def connect_all(
    context: nova_context.RequestContext, instance: objects.Instance,
    machine: machine_lib.Machine,
    block_device_info: Mapping[str, Any] | None, *,
    undo: undo_lib.Undo | None = None,
) -> None:
    """Connect this host to the volumes of an instance, which is off.

    :param machine: the instance's record, which has its volumes.
    :param block_device_info: its volumes; None for those that Nova has
        recorded.
    :param undo: takes the undo step of each, if they are to be disconnected
        after a failure.
    :raises nova.exception.DiskNotFound: Nova does not know one of them.
    :raises os_brick.exception.BrickException: one cannot be connected.
    """
    wanted = {disk.volume_id for disk in machine.disks
              if disk.kind == 'volume'}
    linked = privsep.linked_volumes(instance.uuid)
    if not (wanted or linked):
        return
    # The guest's last QEMU may still have them open.
    monitor.wait_until_closed(instance.uuid)
    if block_device_info is None:
        block_device_info = volumes.known(context, instance)
    mappings = volumes.mappings(block_device_info)
    # A rescued guest does not have all that are the instance's.
    undo_lib.attempt(instance, _unlink, instance, {*linked}.difference(
        wanted, (volumes.id_of(mapping['connection_info'])
                 for mapping in mappings)))
    for mapping in mappings:
        connection_info = mapping['connection_info']
        volume = volumes.id_of(connection_info)
        if volume not in wanted:
            continue
        if undo:
            undo.add(give_up, instance, connection_info)
        connect(context, instance, connection_info)
        # Nova has to know the device, too.
        mapping.save()  # type: ignore[attr-defined]
        wanted.remove(volume)
    if wanted:
        raise exception.DiskNotFound(
            location=f'volume {", ".join(map(str, wanted))}')


def renewed(
    context: nova_context.RequestContext, instance: objects.Instance,
) -> dict[str, Any]:
    """Return the block device info of an instance that Nova was resizing.

    Nova has Cinder give up the connections to its volumes, and make them anew
    at the end. Those that were not made when Nova was interrupted are made
    here.

    :raises nova.exception.NovaException: Cinder refuses, or does not answer.
    """
    found = volumes.known(context, instance)
    api = cinder.API()
    lost = [mapping for mapping in volumes.mappings(found)
            if (attachment := mapping['attachment_id']) and not
            api.attachment_get(context, attachment)['connection_info']]
    connector = properties() if lost else {}
    for mapping in lost:
        attachment = mapping['attachment_id']
        api.attachment_update(
            context, attachment, connector, mapping['mount_device'])
        api.attachment_complete(context, attachment)
        LOG.warning('Its connection to volume %s was lost; Cinder has made '
                    'it anew', volumes.id_of(mapping['connection_info']),
                    instance=instance)
    virt_block_device.refresh_conn_infos(lost, context, instance, api, None)
    return found


def disconnect_all(
    instance: objects.Instance, block_device_info: Mapping[str, Any] | None,
) -> None:
    """Disconnect this host from the volumes of an instance, which is off.

    Never fails: a volume that is not there any more must not keep an instance.

    :param block_device_info: its volumes.
    """
    mappings = volumes.mappings(block_device_info)
    if mappings:
        undo_lib.attempt(instance, monitor.wait_until_closed, instance.uuid)
    for mapping in mappings:
        undo_lib.attempt(
            instance, give_up, instance, mapping['connection_info'])
    undo_lib.attempt(instance, _unlink_all, instance)


def _unlink_all(instance: objects.Instance) -> None:
    _unlink(instance, privsep.linked_volumes(instance.uuid))


def _unlink(instance: objects.Instance, strangers: Collection[str]) -> None:
    """Remove links to volumes of which Nova tells nothing any more.

    As after an attachment that failed and could not be undone. Otherwise this
    host would stay connected to the volume when others detach it.
    """
    for volume in strangers:
        with lockutils.lock(_lock(volume)):
            device = privsep.unlink_volume(instance.uuid, volume)
            sharing.remove(instance.uuid, volume)
        LOG.warning('It does not have volume %(volume)s any more, and this '
                    'host may still be connected to it: %(device)s',
                    {'volume': volume, 'device': device}, instance=instance)


def give_up(
    instance: objects.Instance, connection_info: Mapping[str, Any],
) -> None:
    """Disconnect a volume by force, as after a failure."""
    disconnect(instance, connection_info, force=True)


def _lock(volume: str) -> str:
    return f'xen44-volume-{volume}'


def _connector(connection_info: Mapping[str, Any]) -> Any:
    """Return os-brick's connector for a volume."""
    protocol = transports.of(connection_info).protocol
    return brick.InitiatorConnector.factory(
        protocol, nova_utils.get_root_helper(),
        use_multipath=CONF.xen44.volume_use_multipath,
        enforce_multipath=CONF.xen44.volume_enforce_multipath,
        device_scan_attempts=CONF.xen44.num_volume_scan_tries,
        # Ceph: the kernel's block device, not librbd.
        do_local_attach=True,
        # NFS
        conn=connection_info['data'],
        nfs_mount_point_base=CONF.xen44.nfs_mount_point_base,
        nfs_mount_options=CONF.xen44.nfs_mount_options)


def _encryption(
    context: nova_context.RequestContext, volume: str,
    connection_info: Mapping[str, Any],
    encryption: Mapping[str, Any] | None,
) -> Mapping[str, Any] | None:
    """Return how a volume is encrypted; None if it is not.

    :param encryption: None to ask Cinder.
    :raises nova.exception.InvalidVolume: this host cannot decrypt it. The
        guest must not get it: it would write over the header.
    """
    if not encryption:
        if not connection_info['data'].get('encrypted'):
            return None
        encryption = encryptors.get_encryption_metadata(
            context, cinder.API(), volume, connection_info)
    provider = encryption.get('provider')
    provider = encryptors.LEGACY_PROVIDER_CLASS_TO_FORMAT_MAP.get(
        provider, provider)
    allowed = tuple(encryptors.FORMAT_TO_FRONTEND_ENCRYPTOR_MAP)
    where = str(encryption.get('control_location')).lower()
    if where != 'front-end' or provider not in allowed:
        raise exception.InvalidVolume(
            reason=f'volume {volume} is encrypted by {provider!r} at '
                   f'{where!r}; allowed: {", ".join(allowed)} at front-end')
    if not transports.of(connection_info).block:
        raise exception.InvalidVolume(
            reason=f'volume {volume} is encrypted, and it is a file; allowed: '
                   'encrypted volumes that are block devices')
    if connection_info.get('multiattach'):
        # The second instance would close what the first one has open.
        raise exception.InvalidVolume(
            reason=f'volume {volume} is encrypted, and several instances may '
                   'have it (multiattach); allowed: one of both')
    return encryption


def _encryptor(
    connection_info: Mapping[str, Any], encryption: Mapping[str, Any],
) -> Any:
    return encryptors.get_volume_encryptor(
        root_helper=nova_utils.get_root_helper(),
        keymgr=key_manager.API(CONF), connection_info=connection_info,
        **encryption)


def _open(
    context: nova_context.RequestContext,
    connection_info: Mapping[str, Any], encryption: Mapping[str, Any],
) -> None:
    """Have the device of an encrypted volume lead to its decrypted content."""
    encryptor = _encryptor(connection_info, encryption)
    # It may be open, if an earlier operation was interrupted.
    encryptor.detach_volume(**encryption)
    encryptor.attach_volume(context, **encryption)
