# SPDX-License-Identifier: Apache-2.0
"""Facts about the host, which are asked once per connection."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any

import libvirt
from oslo_log import log as logging

from xen44_driver.xen import arch
from xen44_driver.xen import capabilities
from xen44_driver.xen import errors
from xen44_driver.xen.connection import Connection
from xen44_driver.xen.connection import Session

LOG = logging.getLogger(__name__)

#: Oldest supported libvirt: that of Debian 12, the oldest one whose source was
#: read for this driver. The XML needs 6.3 (maxEventChannels).
MIN_LIBVIRT = (9, 0, 0)
#: The first libvirt that starts an HVM guest with the UEFI firmware that its
#: XML names. An older one lets Xen start the one that it was built with.
MIN_LIBVIRT_FIRMWARE = (9, 2, 0)
#: Oldest supported Xen: the first one with FIFO event channels, which large
#: hosts need. PVH needs 4.10; the capabilities tell whether the host has it.
MIN_XEN = (4, 4, 0)

# The first name of each host, by URI. It is Nova's name of the node, so it is
# kept while the process lives, even if libvirt reports another name later.
_names: dict[str, str] = {}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostVersions:
    """The versions of the host's software.

    :ivar libvirt: version of the daemon: major, minor, release.
    :ivar xen: version of the hypervisor: major, minor, 0. libvirt does not
        tell the third number.
    """

    libvirt: tuple[int, int, int]
    xen: tuple[int, int, int]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostMemory:
    """The host's memory, in MiB.

    :ivar total_mib: all memory that Xen has.
    :ivar dom0_mib: the most of it that dom0 may take.
    :ivar free_mib: memory that no domain has now.
    """

    total_mib: int
    dom0_mib: int
    free_mib: int

    @property
    def xen_mib(self) -> int:
        """Memory that Xen needs for itself."""
        # 32 bytes for each page of 4 KiB (struct page_info), and Xen's heap.
        # Measured: 63 of 6143 MiB were taken before the first guest started.
        return self.total_mib // 128 + 16

    @property
    def dom0_is_unbounded(self) -> bool:
        """Whether dom0 may take all memory (no ``dom0_mem=max:``)."""
        return self.dom0_mib >= self.total_mib - self.xen_mib


class Facts:
    """Asks libvirt about the host.

    :param connection: the connection to libvirt.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._answers: tuple[Session, dict[str, Any]] | None = None
        self._warned: set[str] = set()

    def versions(self) -> HostVersions:
        """Return the versions of libvirt and Xen."""
        return HostVersions(
            libvirt=_version(self._once(
                'connectGetLibVersion', lambda raw: raw.getLibVersion())),
            xen=_version(self._once(
                'connectGetVersion', lambda raw: raw.getVersion())))

    def check(self, min_libvirt: tuple[int, ...],
              min_xen: tuple[int, ...]) -> None:
        """Check that the driver supports the host.

        :raises HostUnsupported: the hypervisor is not Xen, or Xen or libvirt
            is too old; the message says what was found and what is needed.
        """
        kind = self._once('connectGetType', lambda raw: raw.getType())
        if kind != 'Xen':
            raise errors.HostUnsupported(
                f'libvirt at {self._connection.uri} runs {kind} guests; '
                'Xen is needed')
        versions = self.versions()
        for name, found, needed in (('libvirt', versions.libvirt, min_libvirt),
                                    ('Xen', versions.xen, min_xen)):
            if found < needed:
                raise errors.HostUnsupported(
                    f'{name} {dotted(found)} is too old; '
                    f'{dotted(needed)} or newer is needed')

    def hostname(self) -> str:
        """Return the host's name, the first that libvirt reported.

        The name may depend on a resolver and change when libvirtd restarts.
        Nova would then take this host for a new one and delete the records of
        the old one.

        :raises ConnectionFailed: the name is not known yet, and libvirt cannot
            be reached.
        """
        uri = self._connection.uri
        first = _names.get(uri)
        try:
            name = str(self._once('connectGetHostname',
                                  lambda raw: raw.getHostname()))
        except errors.ConnectionFailed:
            if first is None:
                raise
            return first
        first = _names.setdefault(uri, name)
        if name != first:
            self._once_only(
                logging.ERROR, 'hostname',
                'libvirt calls this host %(name)s now; it stays %(first)s '
                'until this service is started anew. See what `hostname -f` '
                'says in dom0, and why', {'name': name, 'first': first})
        return first

    def capabilities(self) -> capabilities.Capabilities:
        """Return what the host can do.

        :raises HostUnsupported: the host cannot run Xen guests.
        """
        answers = self._answers_of(self._connection.session())
        if 'capabilities' not in answers:
            text = self._once('connectGetCapabilities',
                              lambda raw: raw.getCapabilities())
            name = capabilities.host_arch(text)
            answers['capabilities'] = capabilities.parse(
                text,
                {machine: self._domain_capabilities(name, machine)
                 for machine in capabilities.machines(text).values()},
                self._cpu_features(text))
        found: capabilities.Capabilities = answers['capabilities']
        return found

    def _domain_capabilities(self, name: str, machine: str) -> str:
        return str(self._connection.twice(lambda session: session.call(
            'connectGetDomainCapabilities', session.raw.getDomainCapabilities,
            None, name, machine, 'xen', 0)))

    def _cpu_features(self, text: str) -> frozenset[str]:
        """Return the features that the host's CPU model implies.

        :param text: the XML of the host's capabilities.
        :returns: an empty set if libvirt cannot tell.
        """
        cpu = capabilities.host_cpu(text)
        if cpu is None:
            return frozenset()
        try:
            return capabilities.cpu_features(
                self._connection.twice(lambda session: session.call(
                    'connectBaselineCPU', session.raw.baselineCPU, [cpu],
                    libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES)))
        except (errors.OperationFailed, errors.SpecError) as error:
            self._once_only(
                logging.WARNING, 'cpu',
                'CPU features that the host\'s CPU model implies are not '
                'known, so traits will be missing: %(error)s',
                {'error': error})
            return frozenset()

    def cpus(self) -> int:
        """Return the number of CPUs that Xen has."""
        return int(self._node_info()[2])

    def memory(self) -> HostMemory:
        """Return the host's memory; needs one libvirt call."""
        free = self._connection.twice(lambda session: session.call(
            'nodeGetFreeMemory', session.raw.getFreeMemory))
        # libvirt's Python module converts libvirt's KiB to MiB.
        total = int(self._node_info()[1])
        _state, max_kib, kib, *_rest = self._once(
            'domainGetInfo', lambda raw: raw.lookupByID(0).info())
        # Without dom0_mem=max: on Xen's command line, dom0 has no limit: the
        # reported maximum is larger than the host's memory.
        if (max_kib // 1024 > total
                or arch.load(self.capabilities().arch).fixed_dom0_memory):
            dom0 = kib
        else:
            dom0 = max_kib
        return HostMemory(total_mib=total, dom0_mib=dom0 // 1024,
                          free_mib=int(free) // 1024 ** 2)

    def _node_info(self) -> list[Any]:
        info: list[Any] = self._once('nodeGetInfo', lambda raw: raw.getInfo())
        return info

    def _once(self, operation: str, ask: Callable[[Any], Any]) -> Any:
        """Ask something whose answer does not change during a session."""
        answers = self._answers_of(self._connection.session())
        if operation not in answers:
            answers[operation] = self._connection.twice(
                lambda session: session.call(operation, ask, session.raw))
        return answers[operation]

    def _answers_of(self, session: Session) -> dict[str, Any]:
        if self._answers is None or self._answers[0] is not session:
            self._answers = session, {}
        return self._answers[1]

    def _once_only(self, level: int, what: str, message: str,
                   values: dict[str, Any]) -> None:
        """Log a message unless it was logged before."""
        if what not in self._warned:
            self._warned.add(what)
            LOG.log(level, message, values)


def _version(number: int) -> tuple[int, int, int]:
    """Split a version number: major * 10^6 + minor * 10^3 + release."""
    return number // 10 ** 6, number // 1000 % 1000, number % 1000


def dotted(version: tuple[int, ...]) -> str:
    """Return a version as people write it."""
    return '.'.join(map(str, version))
