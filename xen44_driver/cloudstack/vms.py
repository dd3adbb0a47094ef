# SPDX-License-Identifier: Apache-2.0
"""Make, start, stop and remove VMs; each function is safe to repeat.

CloudStack kills an action that takes too long, at any moment, and may ask for
another one, or the same again, at once. The caller holds the VM's lock.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os

from oslo_config import cfg
from oslo_log import log as logging

from xen44_driver import faultpoints
from xen44_driver import privsep
from xen44_driver.cloudstack import describe
from xen44_driver.cloudstack import dom0host
from xen44_driver.cloudstack import payload as payload_lib
from xen44_driver.cloudstack import screens
from xen44_driver.cloudstack import seed
from xen44_driver.cloudstack import templates
from xen44_driver.cloudstack import vmrecord
from xen44_driver.core import backends
from xen44_driver.core import consolelog
from xen44_driver.core import monitor
from xen44_driver.core import stopping
from xen44_driver.core import undo as undo_lib
from xen44_driver.storage import kernel
from xen44_driver.storage import kinds
from xen44_driver.storage import layout
from xen44_driver.storage import usage
from xen44_driver.storage.kinds import kind
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen import guest as xen_guest
from xen44_driver.xen import overhead
from xen44_driver.xen.events import DomainState

CONF = cfg.CONF
LOG = logging.getLogger(__name__)

#: Seconds after its last use after which the copy of an image is removed, if
#: no disk needs it.
IMAGE_AGE = 24 * 3600

#: Where Linux lists network devices.
NETWORK_DEVICES = '/sys/class/net'


class Refused(Exception):
    """An action is not possible now; the message says why."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A VM that was found to be possible.

    :ivar vm: the VM.
    :ivar hardware: what it is to have.
    :ivar record: what it is.
    :ivar spec: its domain.
    """

    vm: payload_lib.Vm
    hardware: payload_lib.Hardware
    record: vmrecord.VmRecord
    spec: domain.DomainSpec


def plan(
    dom0: dom0host.Dom0Host, payload: payload_lib.Payload,
    record: vmrecord.VmRecord,
) -> Plan:
    """Describe a VM, and check that this host can have it.

    Nothing is changed.

    :param dom0: this host.
    :param payload: what CloudStack passed.
    :param record: what the VM is.
    :raises SpecError: something that is asked for is not possible.
    :raises Refused: something is missing on this host.
    """
    vm, hardware = payload.vm(), payload.hardware()
    _require_name(dom0, vm)
    spec = describe.build(
        vm, hardware, record, host=payload.host, files=dom0.files(vm.uuid),
        options=dom0.options())
    if record.loader and not os.path.isfile(record.loader):
        raise Refused(
            f'a {record.guest_type} guest cannot boot from its own disk '
            f'here: there is no file {record.loader}')
    for interface in spec.interfaces:
        if not os.path.isdir(os.path.join(
                NETWORK_DEVICES, interface.bridge)):
            raise Refused(f'this host has no bridge {interface.bridge}')
    return Plan(vm=vm, hardware=hardware, record=record, spec=spec)


def _require_name(dom0: dom0host.Dom0Host, vm: payload_lib.Vm) -> None:
    """Refuse a name that is another domain's, and so are the logs of it.

    :raises Refused: another domain has the name of this VM.
    """
    for uuid, other in {**dom0.host.records(), **dom0.host.foreign()}.items():
        if other.name == vm.name and uuid != vm.uuid:
            raise Refused(
                f'domain {uuid} of this host has the name {vm.name}')


def record_of(
    dom0: dom0host.Dom0Host, vm: payload_lib.Vm,
) -> vmrecord.VmRecord:
    """Return what a VM is.

    :param dom0: this host.
    :param vm: the VM.
    :raises xen44_driver.cloudstack.vmrecord.RecordUnreadable: there is no
        such VM here, or its record is damaged.
    :raises Refused: it has another name, whose logs would be another guest's.
    """
    record = vmrecord.load(dom0.files(vm.uuid))
    if record.name != vm.name:
        raise Refused(
            f'VM {vm.uuid} has the name {record.name} on this host, not '
            f'{vm.name}')
    return record


def check_memory(dom0: dom0host.Dom0Host, planned: Plan) -> None:
    """Refuse a VM for which Xen has too little memory now.

    :param dom0: this host.
    :param planned: the VM, which does not run.
    :raises Refused: there is too little memory.
    """
    lack = overhead.shortage(
        dom0.host.memory(), planned.record.guest_type,
        planned.hardware.memory_mib, planned.hardware.vcpus)
    if lack is not None:
        raise Refused(lack)


def wanted(
    dom0: dom0host.Dom0Host, payload: payload_lib.Payload,
) -> tuple[describe.Wanted, Plan]:
    """Decide what a new VM is, and check that this host can have it.

    :param dom0: this host.
    :param payload: what CloudStack passed.
    :returns: what the template asks for, and the VM.
    :raises SpecError: something that is asked for is not possible.
    :raises Refused: something is missing on this host.
    """
    vm = payload.vm()
    found = describe.decide(vm, payload.root_disk_gb(), dom0.options())
    dom0.template(found.image, found.image_format)
    for name in filter(None, (found.kernel, found.ramdisk)):
        dom0.template(name)
    return found, plan(dom0, payload, found.record)


def create(dom0: dom0host.Dom0Host, payload: payload_lib.Payload) -> None:
    """Make a VM and start it; if that fails, remove all that was made.

    What an earlier, interrupted or failed attempt left is removed first.

    :param dom0: this host.
    :param payload: what CloudStack passed.
    """
    found, planned = wanted(dom0, payload)
    vm, files = planned.vm, dom0.files(planned.vm.uuid)
    remove(dom0, vm)
    check_memory(dom0, planned)
    store = dom0.images
    image = store.disk(
        dom0.template(found.image, found.image_format),
        limit=planned.record.root.size or None)
    if image.format == 'iso':
        raise errors.SpecError(
            'image', found.image, 'an image of a disk, not an ISO image')
    faultpoints.reached('cloudstack create: image fetched')
    record = planned.record.with_root(dataclasses.replace(
        planned.record.root, base=templates.base_of(image)))
    require_space(dom0, record.root)
    with undo_lib.Undo(vm) as undo:
        undo.add(files.delete)
        files.create()
        vmrecord.save(files, record)
        faultpoints.reached('cloudstack create: recorded')
        for disk in record.disks:
            kinds.load(disk, files.directory).prepare(
                tools_of(dom0, payload))
            faultpoints.reached('cloudstack create: one disk made')
        for name, copy, path in (
                (found.kernel, kernel.copy_kernel, files.kernel),
                (found.ramdisk, kernel.copy_ramdisk, files.ramdisk)):
            if name:
                copy(store, dom0.template(name), path)
        # A domain that cannot be removed may run: its files stay.
        undo.add_first(stopping.remove_domain, dom0.host, vm)
        undo.add(privsep.remove_console_log, vm.name)
        # That of an earlier VM with this name.
        privsep.remove_console_log(vm.name)
        boot(dom0, dataclasses.replace(planned, record=record))
        faultpoints.reached('cloudstack create: booted')


def require_space(
    dom0: dom0host.Dom0Host, root: kinds.DiskRecord,
    size: int | None = None,
) -> None:
    """Refuse a disk that could not grow to its size.

    :param dom0: this host.
    :param root: the root disk.
    :param size: bytes by which the disks grow; None for all of it.
    :raises Refused: there is too little space.
    """
    need = size if size is not None else (
        root.size or kind.base_of(root).virtual_size)
    space = usage.measure(dom0.storage_path)
    free = space.free - space.promised
    if need > free:
        raise Refused(
            f'the disk needs {need} bytes, and {dom0.storage_path} has '
            f'{max(free, 0)} that are free and not promised to other disks')


def boot(dom0: dom0host.Dom0Host, planned: Plan) -> None:
    """Define the domain of a VM that is off, and start it.

    :param dom0: this host.
    :param planned: the VM; its disks exist.
    :raises xen44_driver.xen.errors.XenError: it cannot be started.
    """
    spec = planned.spec
    if spec.serial_log:
        consolelog.prepare(spec.serial_log)
    dom0.define(spec)
    faultpoints.reached('cloudstack: domain defined')
    guest = dom0.host.guest(spec.uuid)

    def start() -> None:
        monitor.make_ready(spec.uuid)
        guest.start()

    backends.boot(dom0.host, guest, spec.disks, start=start)


def start(dom0: dom0host.Dom0Host, payload: payload_lib.Payload) -> None:
    """Start a VM that exists, with the interfaces and sizes it is to have.

    :param dom0: this host.
    :param payload: what CloudStack passed.
    """
    vm = payload.vm()
    planned = plan(dom0, payload, record_of(dom0, vm))
    guest = guest_of(dom0, vm)
    if guest is not None and not (state := guest.state()).is_off:
        require_state(vm.name, state)
        if state is DomainState.PAUSED:
            guest.resume()
        return
    check_memory(dom0, planned)
    _start(dom0, payload, planned)


def _start(
    dom0: dom0host.Dom0Host, payload: payload_lib.Payload, planned: Plan,
) -> None:
    """Start a VM that is off."""
    record, files = planned.record, dom0.files(planned.vm.uuid)
    if record.root.kind == 'overlay':
        templates.ensure(dom0.images, dom0.images_directory,
                         kind.base_of(record.root))
    drive = record.disk(vmrecord.SEED_FILE)
    if drive is not None:
        # Addresses may be other ones now.
        kinds.load(drive, files.directory).prepare(tools_of(dom0, payload))
    faultpoints.reached('cloudstack start: prepared')
    boot(dom0, planned)


def require_state(name: str, state: DomainState) -> None:
    """Refuse to take a domain for on or off in doubt.

    :param name: the domain's name.
    :param state: its state.
    :raises Refused: libvirt does not know it.
    """
    if state is DomainState.NOSTATE:
        raise Refused(f'libvirt cannot tell the state of domain {name}')


def stop(dom0: dom0host.Dom0Host, vm: payload_lib.Vm) -> None:
    """Stop a VM; its guest is asked first. One that is absent is off.

    :param dom0: this host.
    :param vm: the VM.
    """
    guest = guest_of(dom0, vm)
    if guest is None:
        return
    with contextlib.suppress(errors.DomainNotFound):
        timeout = dom0.stop_timeout(vm)
        # A guest that is paused cannot do anything.
        if guest.state() is DomainState.RUNNING and not stopping.shut_down(
                guest, vm, timeout=timeout, retry_interval=0):
            LOG.warning('The guest did not shut down within %s s; stopping '
                        'it', timeout, instance=vm)
        faultpoints.reached('cloudstack stop: guest asked')
        guest.destroy()


def reboot(dom0: dom0host.Dom0Host, payload: payload_lib.Payload) -> None:
    """Reboot a VM; one that is off is started.

    Meanwhile CloudStack must not take it for off: it would stop it.

    :param dom0: this host.
    :param payload: what CloudStack passed.
    """
    vm = payload.vm()
    # Refuse the impossible while it still runs.
    planned = plan(dom0, payload, record_of(dom0, vm))
    mark = dom0.reboot_mark(vm.uuid)
    layout.create_private(mark)
    try:
        stop(dom0, vm)
        faultpoints.reached('cloudstack reboot: stopped')
        # Its memory is not asked for: Xen may still be cleaning it.
        _start(dom0, payload, planned)
    finally:
        os.unlink(mark)


def is_rebooting(dom0: dom0host.Dom0Host, uuid: str) -> bool:
    """Return whether an action is rebooting a VM now.

    :param dom0: this host.
    :param uuid: the VM's UUID.
    """
    # The mark of a killed reboot has nobody who holds the lock.
    return os.path.exists(dom0.reboot_mark(uuid)) and dom0.is_locked(uuid)


def remove(dom0: dom0host.Dom0Host, vm: payload_lib.Vm) -> None:
    """Remove a VM, or what is left of it.

    :param dom0: this host.
    :param vm: the VM.
    :raises OSError: its files cannot be removed.
    """
    stopping.remove_domain(dom0.host, vm)
    faultpoints.reached('cloudstack delete: domain removed')
    undo_lib.attempt(vm, screens.end, vm.uuid)
    privsep.remove_sockets(vm.uuid)
    files = dom0.files(vm.uuid)
    # Without a record it has never been started, and has no log. Another
    # name would be another guest's.
    with contextlib.suppress(vmrecord.RecordUnreadable):
        privsep.remove_console_log(vmrecord.load(files).name)
    if not files.delete():
        raise OSError(f'{files.directory} cannot be removed, see the log')
    dom0.images.age((), IMAGE_AGE, remove=True)


def guest_of(
    dom0: dom0host.Dom0Host, vm: payload_lib.Vm,
) -> xen_guest.Guest | None:
    """Return a VM's domain, or None if there is none.

    :param dom0: this host.
    :param vm: the VM.
    :raises Refused: a domain of somebody else has its UUID.
    """
    with contextlib.suppress(errors.DomainNotFound):
        return dom0.host.guest(vm.uuid)
    other = dom0.host.foreign().get(vm.uuid)
    if other is not None:
        raise Refused(
            f'domain {other.name} has the UUID of this VM, and was not made '
            'for CloudStack')
    return None


def tools_of(
    dom0: dom0host.Dom0Host, payload: payload_lib.Payload | None = None,
) -> kinds.Tools:
    """Return the functions that make a VM's disks.

    :param dom0: this host.
    :param payload: what CloudStack passed, for the config drive.
    """
    def write_seed(path: str) -> None:
        if payload is None:
            raise ValueError('a config drive needs the payload')
        seed.write(path, seed.contents(
            payload.vm(), payload.hardware().nics, payload.ssh_keys(),
            payload.user_data()), CONF.xen44_cloudstack.mkisofs_cmd)

    def no_file_system(path: str, name: str, label: str | None) -> None:
        raise NotImplementedError('no disk of CloudStack has a file system')

    return kinds.Tools(
        image_path=dom0.images.path, copying=contextlib.nullcontext(),
        make_file_system=no_file_system, write_config_drive=write_seed)
