# SPDX-License-Identifier: Apache-2.0
"""A libvirt that forgets everything: what Host and Guest call, no more.

Stands in for the module ``libvirt`` in xen44_driver.xen.connection. Constants
and exceptions are the real ones.
"""

from collections.abc import Callable
import dataclasses
import pathlib
import re
import threading
from typing import Any

import libvirt

CAPS = pathlib.Path(__file__).parent / 'data' / 'caps'
URI = 'xen:///system'


def error(code: int, message: str = 'so it is',
          domain: int = libvirt.VIR_FROM_LIBXL) -> libvirt.libvirtError:
    """An error as libvirt raises it."""
    made = libvirt.libvirtError(message)
    made.err = (code, domain, message, libvirt.VIR_ERR_ERROR,
                message, None, None, 0, 0)
    return made


def uuid(number: int) -> str:
    """A UUID to tell domains apart."""
    return f'{number:08x}-1111-4111-8111-111111111111'


@dataclasses.dataclass
class State:
    """A domain, as the daemon has it.

    :ivar ours: whether it has our metadata.
    :ivar job: whether an operation on it goes on in the daemon.
    :ivar saved: whether there is an image of its memory.
    :ivar devices: what was attached, and by which flags.
    """

    uuid: str
    name: str
    xml: str = '<domain type="xen"/>'
    ours: bool = True
    job: bool = False
    saved: bool = False
    scheduler: dict[str, int] = dataclasses.field(
        default_factory=lambda: {'weight': 256, 'cap': 0})
    id: int = -1
    state: int = libvirt.VIR_DOMAIN_SHUTOFF
    reason: int = libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN
    devices: list[tuple[str, int]] = dataclasses.field(default_factory=list)


class Libvirt:
    """The module, and the daemon behind it."""

    def __init__(self) -> None:
        self.domains = {uuid(0): State(
            uuid(0), 'Domain-0', id=0, state=libvirt.VIR_DOMAIN_RUNNING)}
        self.calls: list[str] = []
        self.connections: list[Connection] = []
        self.type = 'Xen'
        self.version = 4020000
        self.lib_version = 11003000
        self.hostname = 'xenhost'
        self.dom0_max_mib = 2560
        self.baseline = '<cpu><model>pentium</model></cpu>'
        #: Raised by the next opening, as long as it is set.
        self.down: libvirt.libvirtError | None = None
        #: Raised, once, by the call of that name.
        self.fail: dict[str, libvirt.libvirtError] = {}
        #: Domains that a start woke from saved memory.
        self.woken: list[str] = []
        #: UUIDs and paths of core dumps.
        self.dumped: list[tuple[str, str]] = []
        #: Namespaces of metadata that were asked for.
        self.namespaces: set[str] = set()
        #: Run, once, in the middle of the call of that name.
        self.during: dict[str, Callable[[], object]] = {}
        self._next_id = 1

    def __getattr__(self, name: str) -> Any:
        return getattr(libvirt, name)

    def registerErrorHandler(self, handler: Any, context: Any) -> None:
        pass

    def virEventRegisterDefaultImpl(self) -> None:
        pass

    def virEventRunDefaultImpl(self) -> None:
        threading.Event().wait()

    def open(self, uri: str) -> 'Connection':
        self.called('open')
        if self.down is not None:
            raise self.down
        self.connections.append(Connection(self))
        return self.connections[-1]

    # For tests

    def add(self, number: int, *, running: bool = True,
            ours: bool = True) -> State:
        """A domain that is there already."""
        state = State(uuid(number), f'guest-{number}', ours=ours)
        self.domains[state.uuid] = state
        if running:
            self.run(state)
        return state

    def run(self, state: State) -> None:
        """A domain starts, without an event."""
        state.id, self._next_id = self._next_id, self._next_id + 1
        state.state = libvirt.VIR_DOMAIN_RUNNING

    def stop(self, state: State,
             reason: int = libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN) -> None:
        """A domain stops, without an event."""
        state.id, state.reason = -1, reason
        state.state = libvirt.VIR_DOMAIN_SHUTOFF

    def emit(self, state: State, event: int, detail: int = 0) -> None:
        """An event arrives."""
        for connection in self.connections:
            if connection.open and connection.on_event:
                connection.on_event(connection, Domain(self, state), event,
                                    detail, None)

    def drop(self, *, unnoticed: bool = False) -> None:
        """The daemon ends, and every connection with it."""
        for connection in self.connections:
            connection.open = False
            if connection.on_close and not unnoticed:
                connection.on_close(
                    connection, libvirt.VIR_CONNECT_CLOSE_REASON_EOF, None)

    def called(self, name: str) -> None:
        """Every call that would reach the daemon begins here."""
        self.calls.append(name)
        self.during.pop(name, lambda: None)()
        if failure := self.fail.pop(name, None):
            raise failure


class Connection:
    """A virConnect."""

    def __init__(self, daemon: Libvirt) -> None:
        self._daemon = daemon
        self.open = True
        self.on_close: Any = None
        self.on_event: Any = None

    def called(self, name: str) -> None:
        self._daemon.called(name)
        if not self.open:
            raise error(libvirt.VIR_ERR_INTERNAL_ERROR,
                        'client socket is closed', libvirt.VIR_FROM_RPC)

    def isAlive(self) -> int:
        return int(self.open)

    def setKeepAlive(self, interval: int, count: int) -> int:
        return 0

    def registerCloseCallback(self, callback: Any, opaque: Any) -> None:
        self.on_close = callback

    def unregisterCloseCallback(self) -> None:
        self.on_close = None

    def domainEventRegisterAny(self, domain: Any, event: int, callback: Any,
                               opaque: Any) -> int:
        self.called('domainEventRegisterAny')
        self.on_event = callback
        return 0

    def close(self) -> int:
        self.open = False
        return 0

    def getType(self) -> str:
        self.called('getType')
        return self._daemon.type

    def getVersion(self) -> int:
        self.called('getVersion')
        return self._daemon.version

    def getLibVersion(self) -> int:
        self.called('getLibVersion')
        return self._daemon.lib_version

    def getHostname(self) -> str:
        self.called('getHostname')
        return self._daemon.hostname

    def baselineCPU(self, cpus: list[str], flags: int) -> str:
        self.called('baselineCPU')
        assert flags == libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES
        assert cpus[0].startswith('<cpu>')
        return self._daemon.baseline

    def getInfo(self) -> list[Any]:
        self.called('getInfo')
        return ['x86_64', 6143, 2, 2596, 1, 1, 2, 1]

    def getFreeMemory(self) -> int:
        self.called('getFreeMemory')
        return 3520 * 1024 ** 2

    def getCapabilities(self) -> str:
        self.called('getCapabilities')
        return (CAPS / 'capabilities.xml').read_text()

    def getDomainCapabilities(self, emulator: str | None, arch: str,
                              machine: str, virt: str, flags: int) -> str:
        self.called('getDomainCapabilities')
        return (CAPS / f'domcapabilities-{machine}.xml').read_text()

    def restoreFlags(self, path: str, xml: str | None, flags: int) -> int:
        self.called('restore')
        assert flags == libvirt.VIR_DOMAIN_SAVE_PAUSED
        assert xml is None
        state = next(state for state in self._daemon.domains.values()
                     if path.endswith(f'/{state.name}.save'))
        assert state.saved
        self._daemon.woken.append(state.uuid)
        self._daemon.run(state)
        state.state = libvirt.VIR_DOMAIN_PAUSED
        self._daemon.emit(state, libvirt.VIR_DOMAIN_EVENT_STARTED)
        return 0

    def listAllDomains(self, flags: int) -> list['Domain']:
        self.called('listAllDomains')
        return [Domain(self._daemon, state)
                for state in self._daemon.domains.values()]

    def lookupByUUIDString(self, uuid: str) -> 'Domain':
        self.called('lookupByUUIDString')
        if uuid not in self._daemon.domains:
            raise error(libvirt.VIR_ERR_NO_DOMAIN)
        return Domain(self._daemon, self._daemon.domains[uuid], self)

    def lookupByID(self, number: int) -> 'Domain':
        return self.lookupByUUIDString(uuid(number))

    def defineXML(self, xml: str) -> 'Domain':
        self.called('defineXML')
        its_uuid = re.findall('<uuid>(.*)</uuid>', xml)[0]
        name = re.findall('<name>(.*)</name>', xml)[0]
        for other in self._daemon.domains.values():
            if other.name == name and other.uuid != its_uuid:
                raise error(libvirt.VIR_ERR_OPERATION_FAILED,
                            f"domain '{name}' already exists with uuid")
        state = self._daemon.domains.setdefault(
            its_uuid, State(its_uuid, name))
        state.xml = xml
        state.ours = 'urn:xen44-driver:instance:1' in xml
        self._daemon.emit(state, libvirt.VIR_DOMAIN_EVENT_DEFINED)
        return Domain(self._daemon, state, self)


class Domain:
    """A virDomain: a name for a domain, with the id that it had."""

    def __init__(self, daemon: Libvirt, state: State,
                 connection: Connection | None = None) -> None:
        self._daemon = daemon
        self._state = state
        self._id = state.id
        self._connection = connection or daemon.connections[-1]

    def _called(self, name: str, *, running: bool | None = None) -> State:
        self._connection.called(name)
        state = self._daemon.domains.get(self._state.uuid)
        if state is None:
            raise error(libvirt.VIR_ERR_NO_DOMAIN)
        if running not in (None, state.id > 0):
            raise error(libvirt.VIR_ERR_OPERATION_INVALID)
        return state

    def UUIDString(self) -> str:
        return self._state.uuid

    def name(self) -> str:
        return self._state.name

    def ID(self) -> int:
        return self._id

    def state(self, flags: int) -> list[int]:
        state = self._called('state')
        return [state.state, state.reason]

    def info(self) -> list[int]:
        state = self._called('info')
        max_mib = self._daemon.dom0_max_mib if state.id == 0 else 256
        return [state.state, max_mib * 1024, 192 * 1024, 2, 38 * 10 ** 9]

    def XMLDesc(self, flags: int) -> str:
        return self._called('XMLDesc').xml

    def attachDeviceFlags(self, xml: str, flags: int) -> int:
        self._called('attachDeviceFlags').devices.append((xml, flags))
        return 0

    def detachDeviceFlags(self, xml: str, flags: int) -> int:
        self._called('detachDeviceFlags').devices.remove((xml, flags))
        return 0

    def metadata(self, kind: int, uri: str, flags: int) -> str:
        assert kind == libvirt.VIR_DOMAIN_METADATA_ELEMENT
        self._daemon.namespaces.add(uri)
        if not self._called('metadata').ours:
            raise error(libvirt.VIR_ERR_NO_DOMAIN_METADATA)
        return '<instance/>'

    def jobInfo(self) -> list[int]:
        job = self._called('jobInfo').job
        return [libvirt.VIR_DOMAIN_JOB_UNBOUNDED if job
                else libvirt.VIR_DOMAIN_JOB_NONE, 1]

    def hasManagedSaveImage(self, flags: int = 0) -> int:
        return int(self._called('hasManagedSaveImage').saved)

    def managedSave(self, flags: int) -> int:
        state = self._called('managedSave', running=True)
        self._daemon.stop(state, libvirt.VIR_DOMAIN_SHUTOFF_SAVED)
        state.saved = True
        self._daemon.emit(state, libvirt.VIR_DOMAIN_EVENT_STOPPED,
                          libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED)
        return 0

    def pMWakeup(self, flags: int) -> int:
        state = self._called('pMWakeup', running=True)
        assert state.state == libvirt.VIR_DOMAIN_PMSUSPENDED
        state.state = libvirt.VIR_DOMAIN_RUNNING
        return 0

    def coreDump(self, path: str, flags: int) -> int:
        state = self._called('coreDump', running=True)
        self._daemon.dumped.append((state.uuid, path))
        return 0

    def schedulerParameters(self) -> dict[str, int]:
        return self._called('schedulerParameters', running=True).scheduler

    def setSchedulerParameters(self, values: dict[str, int]) -> int:
        self._called('setSchedulerParameters',
                     running=True).scheduler = values
        return 0

    def getCPUStats(self, total: bool) -> list[dict[str, int]]:
        assert not total
        self._called('getCPUStats', running=True)
        return [{'cpu_time': 31108293123}, {'cpu_time': 7322155515}]

    def interfaceStats(self, device: str) -> tuple[int, ...]:
        self._called('interfaceStats', running=True)
        return 2080, 18, 0, 1, 1596, 12, 0, 0

    def blockStats(self, device: str) -> tuple[int, ...]:
        self._called('blockStats', running=True)
        if device != 'xvdd':
            raise error(libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
                        'unsupported disk driver qemu')
        return 3, 12288, 1, 512, 0

    def managedSaveRemove(self, flags: int = 0) -> int:
        state = self._called('managedSaveRemove')
        if not state.saved:
            # There is no file to remove.
            raise error(libvirt.VIR_ERR_INTERNAL_ERROR)
        state.saved = False
        return 0

    def createWithFlags(self, flags: int) -> int:
        state = self._called('create', running=False)
        assert flags in (0, libvirt.VIR_DOMAIN_START_PAUSED)
        if state.saved:
            self._daemon.woken.append(state.uuid)
        self._daemon.run(state)
        if flags:
            state.state = libvirt.VIR_DOMAIN_PAUSED
        self._id = state.id
        self._daemon.emit(state, libvirt.VIR_DOMAIN_EVENT_STARTED)
        return 0

    def destroy(self) -> int:
        state = self._called('destroy', running=True)
        self._daemon.stop(state, libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED)
        self._daemon.emit(state, libvirt.VIR_DOMAIN_EVENT_STOPPED,
                          libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED)
        return 0

    def suspend(self) -> int:
        state = self._called('suspend', running=True)
        state.state = libvirt.VIR_DOMAIN_PAUSED
        self._daemon.emit(state, libvirt.VIR_DOMAIN_EVENT_SUSPENDED)
        return 0

    def resume(self) -> int:
        state = self._called('resume', running=True)
        state.state = libvirt.VIR_DOMAIN_RUNNING
        self._daemon.emit(state, libvirt.VIR_DOMAIN_EVENT_RESUMED)
        return 0

    def shutdownFlags(self, flags: int) -> int:
        button = flags & libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN
        self._called('powerButton' if button else 'shutdown', running=True)
        return 0

    def undefineFlags(self, flags: int) -> int:
        state = self._called('undefine')
        del self._daemon.domains[state.uuid]
        self._daemon.emit(state, libvirt.VIR_DOMAIN_EVENT_UNDEFINED)
        return 0
