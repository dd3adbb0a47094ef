# SPDX-License-Identifier: Apache-2.0
"""The custom actions, which CloudStack itself knows nothing of."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import json
import os
from typing import Any

from oslo_utils import fileutils
from oslo_utils import units

from xen44_driver import faultpoints
from xen44_driver.cloudstack import describe
from xen44_driver.cloudstack import dom0host
from xen44_driver.cloudstack import payload as payload_lib
from xen44_driver.cloudstack import templates
from xen44_driver.cloudstack import vmrecord
from xen44_driver.cloudstack import vms
from xen44_driver.core import consolelog
from xen44_driver.core import monitor
from xen44_driver.storage import disksnapshots
from xen44_driver.storage import kinds
from xen44_driver.storage import layout
from xen44_driver.storage import usage
from xen44_driver.storage.kinds import kind
from xen44_driver.xen import errors
from xen44_driver.xen import guest as xen_guest
from xen44_driver.xen.events import DomainState

Answer = Mapping[str, Any]

#: Bytes of the longest console log, as JSON. CloudStack reads 64 KiB.
MAX_LOG = 50_000

_SNAPSHOT = r'[A-Za-z][A-Za-z0-9_.-]{0,62}'
_SNAPSHOT_WORDS = ('1 to 63 letters, digits and _.-, the first of them a '
                   'letter')


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """A custom action that is carried out on a VM.

    :ivar dom0: this host.
    :ivar vm: the VM.
    :ivar files: paths of its files.
    :ivar record: what it is.
    :ivar parameters: parameters of the action.
    """

    dom0: dom0host.Dom0Host
    vm: payload_lib.Vm
    files: layout.InstanceFiles
    record: vmrecord.VmRecord
    parameters: payload_lib.Details

    @property
    def root(self) -> kinds.Kind:
        """Its root disk."""
        return kinds.load(self.record.root, self.files.directory)

    def guest(self) -> xen_guest.Guest:
        """Return its domain.

        :raises Refused: there is none.
        """
        guest = vms.guest_of(self.dom0, self.vm)
        if guest is None:
            raise vms.Refused('there is no domain of this VM on this host')
        return guest

    def need_off(self) -> None:
        """Require that the VM is off, and nobody uses its disks.

        :raises Refused: it is on.
        """
        guest = vms.guest_of(self.dom0, self.vm)
        if guest is not None and not guest.state().is_off:
            raise vms.Refused('the VM is on; stop it first')
        monitor.wait_until_closed(self.vm.uuid, self.dom0.left(60))

    def snapshots(self) -> list[disksnapshots.Snapshot]:
        """Return the snapshots of its root disk.

        :raises Refused: the disk can have none.
        """
        if self.record.root.format != 'qcow2':
            raise vms.Refused(
                f'the disk is {self.record.root.format}; only qcow2 disks '
                'have snapshots')
        return disksnapshots.find(self.root.path)

    def snapshot(self, *, exists: bool) -> str:
        """Return the name of the snapshot that the action is about.

        :param exists: whether it has to exist; otherwise it must not.
        :raises SpecError: it is no name, or the name of another one.
        """
        name = self.parameters.text('snap_name', _SNAPSHOT, _SNAPSHOT_WORDS)
        if name is None:
            raise errors.SpecError(
                'parameters.snap_name', None, _SNAPSHOT_WORDS)
        names = [snapshot.name for snapshot in self.snapshots()]
        if exists and name not in names:
            raise errors.SpecError(
                'parameters.snap_name', name, names or 'none, there is none')
        if not exists and name in names:
            raise errors.SpecError(
                'parameters.snap_name', name, 'another name, it exists')
        return name

    def save(self, record: vmrecord.VmRecord) -> None:
        """Keep a changed record."""
        vmrecord.save(self.files, record)


def _list_snapshots(case: _Case) -> Answer:
    return _print([
        {'name': snapshot.name, 'created': f'{snapshot.created:%F %T} UTC',
         'description': case.record.snapshots.get(snapshot.name, '')}
        for snapshot in case.snapshots()] or 'There are no snapshots')


def _create_snapshot(case: _Case) -> Answer:
    if case.parameters.flag('snap_save_memory'):
        raise vms.Refused(
            'snapshots with memory are not supported; allowed: '
            'snap_save_memory=false, of a VM that is off')
    text = case.parameters.text(
        'snap_description', r'[^\x00-\x1f\x7f]{1,255}',
        'at most 255 characters on one line') or ''
    name = case.snapshot(exists=False)
    case.need_off()
    path = case.root.path
    vms.require_space(
        case.dom0, case.record.root,
        usage.growth(path, more_snapshots=1) - usage.growth(path))
    # The description first: without a snapshot it does no harm.
    case.save(dataclasses.replace(case.record, snapshots={
        **case.record.snapshots, name: text}))
    faultpoints.reached('cloudstack snapshot: recorded')
    disksnapshots.create(path, name)
    return _say(f'Snapshot {name} created')


def _restore_snapshot(case: _Case) -> Answer:
    name = case.snapshot(exists=True)
    case.need_off()
    disksnapshots.restore(case.root.path, name)
    faultpoints.reached('cloudstack snapshot: restored')
    return _say(f'Snapshot {name} restored')


def _delete_snapshot(case: _Case) -> Answer:
    name = case.snapshot(exists=True)
    case.need_off()
    disksnapshots.delete(case.root.path, name)
    faultpoints.reached('cloudstack snapshot: deleted')
    case.save(dataclasses.replace(case.record, snapshots={
        other: text for other, text in case.record.snapshots.items()
        if other != name}))
    return _say(f'Snapshot {name} deleted')


def _suspend(case: _Case) -> Answer:
    guest = case.guest()
    state = guest.state()
    if state.is_off:
        raise vms.Refused('the VM is off')
    if state is not DomainState.PAUSED:
        guest.suspend()
    return _say('Instance suspended')


def _resume(case: _Case) -> Answer:
    guest = case.guest()
    state = guest.state()
    if state.is_off:
        raise vms.Refused('the VM is off')
    if state is DomainState.PAUSED:
        guest.resume()
    return _say('Instance resumed')


def _console_log(case: _Case) -> Answer:
    lines = case.parameters.number('lines', 1, 100_000)
    log = consolelog.read(
        case.vm.name, case.files.serial_log, MAX_LOG).decode(
            errors='replace')
    if lines is not None:
        log = ''.join(log.splitlines(keepends=True)[-lines:])
    # Some characters are longer in JSON.
    while (over := len(json.dumps(log)) - MAX_LOG) > 0:
        log = log[max(over // 6, 1):]
    return _print(log)


def _attach_iso(case: _Case) -> Answer:
    profile = case.dom0.options().arch.profile(case.record.guest_type)
    if not profile.cdrom:
        raise vms.Refused(
            f'a {case.record.guest_type} guest has no CD-ROM drive')
    name = case.parameters.file('iso')
    if name is None:
        raise errors.SpecError(
            'parameters.iso', None, 'the name of a file in '
            f'{case.dom0.images_directory}')
    source = case.dom0.template(name, 'iso')
    case.need_off()
    image = case.dom0.images.disk(source, limit=None)
    if image.format != 'iso':
        # The store may have it as the image of a disk.
        raise errors.SpecError('parameters.iso', name, 'an ISO image')
    disk = kinds.DiskRecord(
        kind='cdrom', name='iso', file=vmrecord.ISO_FILE,
        target=describe.ISO_TARGET, device='cdrom',
        base=templates.base_of(image))
    # Made first: a record never names what is not there.
    kinds.load(disk, case.files.directory).prepare(vms.tools_of(case.dom0))
    case.save(case.record.without(vmrecord.ISO_FILE).with_disk(disk))
    return _say(f'{name} is in the drive from the next start on')


def _detach_iso(case: _Case) -> Answer:
    disk = case.record.disk(vmrecord.ISO_FILE)
    if disk is None:
        return _say('There is no ISO image in the drive')
    case.need_off()
    case.save(case.record.without(vmrecord.ISO_FILE))
    kinds.load(disk, case.files.directory).remove()
    return _say('The drive is gone from the next start on')


def _resize_root_disk(case: _Case) -> Answer:
    asked = case.parameters.number('size_gb', 1, 65536)
    if asked is None:
        raise errors.SpecError('parameters.size_gb', None,
                               'a whole number of GiB')
    size, now = asked * units.Gi, case.root.measure()
    if size < now:
        raise errors.SpecError(
            'parameters.size_gb', asked,
            f'{-(-now // units.Gi)} or more: a disk can only grow')
    case.need_off()
    vms.require_space(case.dom0, case.record.root, size - now)
    case.root.grow(size)
    faultpoints.reached('cloudstack resize: disk grown')
    case.save(case.record.with_root(dataclasses.replace(
        case.record.root, size=size)))
    return _say(f'The root disk has {asked} GiB')


def _reinstall(case: _Case) -> Answer:
    base = kind.base_of(case.record.root)
    source = case.dom0.template(templates.file_name(base.id))
    case.need_off()
    image = case.dom0.images.disk(
        source, limit=case.record.root.size or None)
    if image.format == 'iso':
        raise vms.Refused(f'{source.path} is an ISO image now')
    root = dataclasses.replace(
        case.record.root, base=templates.base_of(image))
    new = kinds.load(dataclasses.replace(
        root, file=vmrecord.NEW_ROOT_FILE.format(format=root.format)),
        case.files.directory)
    with fileutils.remove_path_on_error(new.path):
        new.prepare(vms.tools_of(case.dom0))
        faultpoints.reached('cloudstack reinstall: disk made')
        # First: the store keeps the image of a disk that exists anyway.
        case.save(dataclasses.replace(
            case.record.with_root(root), snapshots={}))
        faultpoints.reached('cloudstack reinstall: recorded')
        os.rename(new.path, case.root.path)
    return _say('The root disk was made anew from its image')


def _domain_xml(case: _Case) -> Answer:
    return _print(case.guest().xml())


def _say(message: str) -> Answer:
    return {'status': 'success', 'message': message}


def _print(message: object) -> Answer:
    """Return an answer that CloudStack's user interface shows."""
    return {'status': 'success', 'message': message, 'printmessage': 'true'}


def _changing(
    function: Callable[[_Case], Answer],
) -> Callable[[dom0host.Dom0Host, payload_lib.Payload], Answer]:
    """Hold the VM's lock during an action."""
    def act(
        dom0: dom0host.Dom0Host, payload: payload_lib.Payload,
    ) -> Answer:
        with dom0.locked(payload.vm()):
            return function(_case(dom0, payload))

    return act


def _looking(
    function: Callable[[_Case], Answer],
) -> Callable[[dom0host.Dom0Host, payload_lib.Payload], Answer]:
    """Wait for no other action."""
    def act(
        dom0: dom0host.Dom0Host, payload: payload_lib.Payload,
    ) -> Answer:
        return function(_case(dom0, payload))

    return act


def _case(
    dom0: dom0host.Dom0Host, payload: payload_lib.Payload,
) -> _Case:
    vm = payload.vm()
    files = dom0.files(vm.uuid)
    return _Case(dom0=dom0, vm=vm, files=files,
                 record=vms.record_of(dom0, vm), parameters=payload.parameters)


def _migrate(
    dom0: dom0host.Dom0Host, payload: payload_lib.Payload,
) -> Answer:
    raise vms.Refused('VMs cannot be moved to other hosts')


#: Every custom action by its name in lower case.
ACTIONS: Mapping[
    str, Callable[[dom0host.Dom0Host, payload_lib.Payload], Answer]] = {
    'listsnapshots': _changing(_list_snapshots),
    'createsnapshot': _changing(_create_snapshot),
    'restoresnapshot': _changing(_restore_snapshot),
    'deletesnapshot': _changing(_delete_snapshot),
    'suspend': _changing(_suspend),
    'resume': _changing(_resume),
    'consolelog': _looking(_console_log),
    'attachiso': _changing(_attach_iso),
    'detachiso': _changing(_detach_iso),
    'resizerootdisk': _changing(_resize_root_disk),
    'reinstall': _changing(_reinstall),
    'domainxml': _looking(_domain_xml),
    'migrate': _migrate,
}
