# SPDX-License-Identifier: Apache-2.0
"""Operations on a domain."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
import contextlib
import enum
import os
import time
from typing import Any
from typing import TypeVar

import libvirt
from lxml import etree
from oslo_log import log as logging

from xen44_driver.xen import errors
from xen44_driver.xen import savedmemory
from xen44_driver.xen import statistics
from xen44_driver.xen.domain import commandline
from xen44_driver.xen.domain import console
from xen44_driver.xen.domain import disk as disk_lib
from xen44_driver.xen.domain import interface as interface_lib
from xen44_driver.xen.domain import metadata
from xen44_driver.xen.domain import spice
from xen44_driver.xen.domain import xml
from xen44_driver.xen.events import DomainRecord
from xen44_driver.xen.events import DomainState
from xen44_driver.xen.watch import Watch

LOG = logging.getLogger(__name__)
T = TypeVar('T')

# Seconds between two looks into the cache while waiting, and between two
# questions to libvirt, in case an event was lost.
_LOOK_INTERVAL = 0.1
_ASK_INTERVAL = 5.0

# What libvirt's errors have where it failed and did not say why.
_NO_REASON = (None, libvirt.VIR_ERR_INTERNAL_ERROR)


class Terminal(enum.Enum):
    """An interactive console of a running guest.

    ``XEN`` is Xen's console, a terminal of dom0; ``SERIAL`` is a serial port
    behind a socket of the guest's QEMU.
    """

    XEN = 'xen'
    SERIAL = 'serial'


class Guest:
    """A domain; created by :class:`xen44_driver.xen.host.Host`.

    An object is cheap and has no state of its own: the state of the domain is
    in the watch's cache, which is up to date when a method returns.

    Every method can raise :class:`DomainNotFound` (the domain is undefined),
    :class:`ConnectionFailed` (libvirt cannot be reached) and
    :class:`OperationFailed` (libvirt or Xen failed).

    :ivar uuid: the domain's UUID.
    :ivar name: the domain's name.
    """

    def __init__(self, watch: Watch, uuid: str, name: str) -> None:
        self.uuid = uuid
        self.name = name
        self._watch = watch

    def __repr__(self) -> str:
        return f'Guest({self.uuid}, {self.name})'

    @property
    def id(self) -> int | None:
        """Xen's number of the domain; None if it is off. From the cache."""
        record = self._watch.get(self.uuid)
        return None if record is None else record.id

    @property
    def _save_file(self) -> str:
        return savedmemory.path(self.name)

    def start(self, *, paused: bool = False) -> None:
        """Start the domain; return when its devices exist.

        A managed-save image of the domain is removed first: libvirt would
        resume its memory, in spite of a newer definition.

        :param paused: whether it does nothing before :meth:`resume`.
        """
        with self._watch.operation(self.uuid) as ticket:
            # libvirt's libxl driver does not support
            # VIR_DOMAIN_START_FORCE_BOOT.
            self.forget_memory()
            flags = libvirt.VIR_DOMAIN_START_PAUSED if paused else 0
            domain = self._change(
                'domainCreate', lambda domain: domain.createWithFlags(flags))
            # The answer contains the new id, so ID() needs no call.
            self._now(DomainState.PAUSED if paused else DomainState.RUNNING,
                      domain.ID(), ticket)

    def save_memory(self) -> None:
        """Save the domain's memory in its file and stop the domain.

        :raises OperationFailed: the memory could not be saved. libvirt does
            not clean up: the domain may run or hang, suspended in Xen, and
            there may be a part of the file.
        """
        with self._watch.operation(self.uuid) as ticket:
            self._change('domainManagedSave',
                         lambda domain: domain.managedSave(0))
            self._now(DomainState.SHUTDOWN, None, ticket)

    def restore_memory(self) -> None:
        """Start the domain with its saved memory; leave it paused.

        The saved memory is kept. Remove it (:meth:`forget_memory`) before the
        domain runs: the next start of the domain, such as a reboot by the
        guest, would restore it again, on disks that have changed.

        libvirt's own start of a domain with saved memory removes the file
        before it tries to restore it, so a failure would lose the memory.
        """
        with self._watch.operation(self.uuid) as ticket:
            session = self._watch.connection.session()
            session.call('domainRestore', session.raw.restoreFlags,
                         self._save_file, None, libvirt.VIR_DOMAIN_SAVE_PAUSED,
                         domain=self.uuid)
            self._now(DomainState.PAUSED, session.lookup(self.uuid).ID(),
                      ticket)

    def has_saved_memory(self) -> bool:
        """Return whether libvirt knows of saved memory of the domain.

        It does not know of what a failed save left.
        """
        return bool(self._ask('domainHasManagedSaveImage',
                              lambda domain: domain.hasManagedSaveImage()))

    def forget_memory(self) -> bool:
        """Remove saved memory of the domain.

        :returns: whether there was any.
        """
        # libvirt is not asked whether there is any: it does not know of the
        # file that a failed save left, and would yet restore it.
        try:
            self._change('domainManagedSaveRemove',
                         lambda domain: domain.managedSaveRemove())
        except errors.OperationFailed as error:
            # So it fails, without a reason, where there is no file.
            if error.code not in _NO_REASON or os.path.lexists(
                    self._save_file):
                raise
            return False
        LOG.warning('Removed saved memory of domain %s (%s)', self.uuid,
                    self.name)
        return True

    def wake(self) -> None:
        """Wake the domain if libvirt calls it suspended (to RAM)."""
        self._change('domainPMWakeup', lambda domain: domain.pMWakeup(0))
        self.state()

    def is_busy(self) -> bool:
        """Return whether libvirt is carrying out an operation on it."""
        job = self._ask('domainGetJobInfo', lambda domain: domain.jobInfo())
        return bool(job[0] != libvirt.VIR_DOMAIN_JOB_NONE)

    def dump_core(self, path: str) -> None:
        """Write the domain's memory to a file for a debugger.

        A running domain is paused until the file is written, and then runs
        on. libvirt sends no events about that.

        :param path: an absolute path; root in dom0 writes this file.
        """
        try:
            self._change('domainCoreDump',
                         lambda domain: domain.coreDump(path, 0))
        finally:
            # Somebody may have asked meanwhile and been told "paused".
            self.state()

    def cpu_limits(self) -> Mapping[str, int]:
        """Return ``weight`` and ``cap`` of the running domain.

        The weight is the domain's share of busy CPUs; Xen's default is 256.
        The cap limits all its vCPUs together, in percent of one CPU of the
        host; 0 is no limit.
        """
        found: Mapping[str, int] = self._ask(
            'domainGetSchedulerParameters',
            lambda domain: domain.schedulerParameters())
        return found

    def limit_cpus(self, *, weight: int, cap: int) -> None:
        """Change what :meth:`cpu_limits` returns, until the next start."""
        self._change(
            'domainSetSchedulerParameters',
            lambda domain: domain.setSchedulerParameters(
                {'weight': weight, 'cap': cap}))

    def statistics(self) -> statistics.Statistics:
        """Return what the running domain has used."""
        return statistics.gather(self._ask)

    def resume(self) -> None:
        """Resume the domain after :meth:`suspend` or a paused start."""
        with self._watch.operation(self.uuid) as ticket:
            domain = self._change('domainResume',
                                  lambda domain: domain.resume())
            self._now(DomainState.RUNNING, self.id or domain.ID(), ticket)

    def suspend(self) -> None:
        """Pause the domain; it keeps its memory."""
        with self._watch.operation(self.uuid) as ticket:
            domain = self._change('domainSuspend',
                                  lambda domain: domain.suspend())
            self._now(DomainState.PAUSED, self.id or domain.ID(), ticket)

    def shutdown(self) -> None:
        """Ask the guest to shut down; return when its kernel has heard that.

        libxl waits 60 s for that, and libvirt does nothing else with the
        domain meanwhile.

        :raises OperationFailed: it has not heard it; an HVM guest's kernel
            may not know Xen.
        """
        self._change('domainShutdown', lambda domain: domain.shutdownFlags(
            libvirt.VIR_DOMAIN_SHUTDOWN_PARAVIRT))

    def press_power_button(self) -> None:
        """Press an HVM guest's power button; do not wait.

        :raises OperationFailed: the guest has none.
        """
        self._change('domainShutdown', lambda domain: domain.shutdownFlags(
            libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN))

    def destroy(self) -> None:
        """Stop the domain at once; do nothing if it is off."""
        with self._watch.operation(self.uuid) as ticket:
            try:
                self._change('domainDestroy', lambda domain: domain.destroy())
            except errors.OperationFailed as error:
                # The error is "domain is not running".
                if error.code != libvirt.VIR_ERR_OPERATION_INVALID:
                    raise
            self._now(DomainState.SHUTDOWN, None, ticket)

    def undefine(self) -> None:
        """Remove the definition, and a managed-save image if there is one.

        Do nothing if the domain is undefined. A running domain would continue
        to run; destroy it first.
        """
        with self._watch.operation(self.uuid) as ticket:
            with contextlib.suppress(errors.DomainNotFound):
                self._change(
                    'domainUndefine', lambda domain: domain.undefineFlags(
                        libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE))
            record = self._watch.get(self.uuid)
            runs = record is not None and not record.state.is_off
            self._watch.learn(self.uuid, record if runs else None, ticket)

    def state(self) -> DomainState:
        """Return the domain's state; ask libvirt, not the cache.

        :raises DomainNotFound: the domain does not exist.
        """
        record = self._watch.observe(self.uuid)
        if record is None:
            raise errors.DomainNotFound(self.uuid)
        return record.state

    def definition(
        self,
    ) -> tuple[metadata.InstanceMetadata | None, tuple[disk_lib.Disk, ...]]:
        """Return :meth:`metadata` and :meth:`disks`, by one call."""
        whole = self._whole(live=False)
        return metadata.from_xml(whole), _disks(whole)

    def metadata(self) -> metadata.InstanceMetadata | None:
        """Return what the domain's definition says of its instance.

        :returns: None if the domain has no metadata of this driver.
        """
        return metadata.from_xml(self._whole(live=False))

    def terminal(self) -> Terminal | None:
        """Return which interactive console the domain has.

        :returns: None if it is an HVM guest whose serial port has no socket.
        """
        domain = self._xml()
        # A serial port in <devices>, of an older version, has no socket.
        _, serial_socket = console.from_xml(
            domain, commandline.from_xml(domain))
        if serial_socket is not None:
            return Terminal.SERIAL
        return None if xml.text(domain, 'os/type') == 'hvm' else Terminal.XEN

    def vnc_address(self) -> tuple[str, int] | None:
        """Return where the VNC server of the domain's screen listens.

        :returns: an address of this host and the port; None if the domain has
            no screen or is off.
        """
        domain = self._xml()
        graphics = domain.find("devices/graphics[@type='vnc']")
        # A domain without an id is not running.
        if graphics is None or domain.get('id') is None:
            return None
        port = int(graphics.get('port', '-1'))
        if port < 0:
            return None
        # Older versions of the driver let it listen on other addresses.
        listen = graphics.get('listen', '127.0.0.1')
        loopback = {'0.0.0.0': '127.0.0.1', '::': '::1'}  # noqa: S104
        return loopback.get(listen, listen), port

    def has_spice(self) -> bool:
        """Return whether the domain's screen has a SPICE server."""
        return spice.from_xml(commandline.from_xml(self._xml())) is not None

    def xml(self) -> str:
        """Return libvirt's XML of the domain now, without passwords."""
        return str(self._ask(
            'domainGetXMLDesc', lambda domain: domain.XMLDesc(0)))

    def kept_xml(self) -> str:
        """Return the XML that would define the domain anew, with passwords."""
        flags = (libvirt.VIR_DOMAIN_XML_INACTIVE
                 | libvirt.VIR_DOMAIN_XML_SECURE)
        return str(self._ask(
            'domainGetXMLDesc', lambda domain: domain.XMLDesc(flags)))

    def _xml(self) -> etree._Element:
        return xml.parse(self.xml())

    def interfaces(self, *, live: bool) -> tuple[interface_lib.Interface, ...]:
        """Return the network interfaces that libvirt lists for the domain.

        :param live: of the running domain; otherwise of its definition. They
            are the same if the domain is off.
        """
        return tuple(filter(None, map(
            interface_lib.from_xml,
            self._whole(live=live).iterfind('devices/interface'))))

    def disks(self, *, live: bool) -> tuple[disk_lib.Disk, ...]:
        """Return the disks that libvirt lists for the domain.

        :param live: see :meth:`interfaces`.
        """
        return _disks(self._whole(live=live))

    def _whole(self, *, live: bool) -> etree._Element:
        flags = 0 if live else libvirt.VIR_DOMAIN_XML_INACTIVE
        return xml.parse(str(self._ask(
            'domainGetXMLDesc', lambda domain: domain.XMLDesc(flags))))

    def attach_device(self, device: str, *, live: bool) -> None:
        """Attach a device.

        :param device: the device's XML.
        :param live: to the running domain; otherwise to its definition, which
            applies from the next start on.
        """
        self._change('domainAttachDeviceFlags',
                     lambda domain: domain.attachDeviceFlags(
                         device, _affected(live)))

    def detach_device(self, device: str, *, live: bool) -> None:
        """Detach a device.

        libxl gives a running guest ten seconds to let it go, and as long again
        after it has taken the device away.

        :param device: XML that identifies the device.
        :param live: from the running domain; otherwise from its definition.
        """
        self._change('domainDetachDeviceFlags',
                     lambda domain: domain.detachDeviceFlags(
                         device, _affected(live)))

    def wait_for(self, states: Collection[DomainState],
                 timeout: float) -> bool:
        """Wait until the domain is in one of several states.

        This looks into the cache, which events fill. Every few seconds and at
        the end it also asks libvirt.

        :param states: the states, such as
            :data:`xen44_driver.xen.events.OFF`.
        :param timeout: time to wait, in seconds.
        :returns: whether the domain reached one of the states in time.
        :raises DomainNotFound: the domain was undefined meanwhile.
        """
        end = time.monotonic() + timeout
        ask_at = time.monotonic() + _ASK_INTERVAL
        while self._known().state not in states:
            now = time.monotonic()
            if now >= end:
                return self.state() in states
            if now >= ask_at:
                self.state()
                ask_at = now + _ASK_INTERVAL
            time.sleep(min(_LOOK_INTERVAL, max(end - now, 0)))
        return True

    def _known(self) -> DomainRecord:
        record = self._watch.get(self.uuid)
        if record is None:
            raise errors.DomainNotFound(self.uuid)
        return record

    def _change(self, operation: str,
                function: Callable[[Any], object]) -> Any:
        """Call a libvirt function that changes the domain; never repeat it.

        :returns: libvirt's ``virDomain``.
        """
        session = self._watch.connection.session()
        domain = session.domain(self.uuid)
        session.call(operation, function, domain, domain=self.uuid)
        return domain

    def _ask(self, operation: str, function: Callable[[Any], T]) -> T:
        """Call a libvirt function that only asks about the domain."""
        return self._watch.connection.twice(lambda session: session.call(
            operation, function, session.domain(self.uuid),
            domain=self.uuid))

    def _now(self, state: DomainState, id_: int | None, ticket: int) -> None:
        if id_ is not None and id_ < 0:
            id_ = None
        self._watch.learn(self.uuid, DomainRecord(
            uuid=self.uuid, name=self.name, state=state, id=id_), ticket)


def _disks(whole: etree._Element) -> tuple[disk_lib.Disk, ...]:
    return tuple(filter(None, map(
        disk_lib.from_xml, whole.iterfind('devices/disk'))))


def _affected(live: bool) -> int:
    return int(libvirt.VIR_DOMAIN_AFFECT_LIVE if live
               else libvirt.VIR_DOMAIN_AFFECT_CONFIG)
