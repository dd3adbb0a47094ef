# SPDX-License-Identifier: Apache-2.0
"""What makes a host fit, or unfit, to be a compute node.

Two programs look at it: nova-compute when it starts
(:mod:`xen44_driver.compute.startup`), and ``xen44-host check``.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import enum
import grp
import os
import pwd
import shutil

from nova import conf
from nova import exception
from oslo_log import log as logging
from oslo_utils import units

from xen44_driver.compute import cpusets
from xen44_driver.compute import dom0
from xen44_driver.compute import lvmfilter
from xen44_driver.compute import nestedhvm
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import privileges
from xen44_driver.conf import opts
from xen44_driver.storage import usage as disk_usage
from xen44_driver.xen import errors
from xen44_driver.xen import eventchannels
from xen44_driver.xen import facts
from xen44_driver.xen import grub
from xen44_driver.xen import pci
from xen44_driver.xen.diskclass import DiskClass
from xen44_driver.xen.guesttype import GuestType

CONF = conf.CONF
LOG = logging.getLogger(__name__)


class Level(enum.StrEnum):
    """What a problem means: nova-compute cannot work, or guests are harmed."""

    FAIL = 'FAIL'
    WARN = 'WARN'


class CannotTell(Exception):
    """A check is not possible on this host; the message says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """A check of the host.

    :ivar key: its name for programs, which does not change.
    :ivar title: what is checked, for people.
    :ivar level: what a problem means.
    :ivar look: yields a text for each problem, with what to do about it. It
        raises :class:`CannotTell` if it cannot know.
    :ivar needs_host: whether it needs a connection to a supported host.
    """

    key: str
    title: str
    level: Level
    look: Callable[[], Iterable[str]]
    needs_host: bool = False

    def problems(self) -> list[str]:
        """Return the problems that are found.

        A check that only warns never fails: other programs' output is read,
        which must not keep nova-compute from starting.

        :raises CannotTell: the check is not possible.
        """
        found: list[str] = []
        try:
            for problem in self.look():
                found.append(problem)
        except CannotTell:
            raise
        except Exception as error:
            if self.level is Level.FAIL:
                raise
            LOG.debug('Cannot check: %s', self.title, exc_info=True)
            found.append(f'Not all could be checked: {self.title}: {error!r}')
        return found


def summary(node: compute_node.Node) -> str:
    """Return one line about the host's software and guest types.

    :param node: connected to its host.
    """
    versions = node.host.versions()
    loaders = ', '.join(f'{kind}: {loader.path}' for kind, loader
                        in node.loaders().items() if loader)
    return (f'Xen {facts.dotted(versions.xen)}, '
            f'libvirt {facts.dotted(versions.libvirt)}, {node.arch.name}, '
            f'guests: {", ".join(node.capabilities.guest_types)}, '
            f'loaders: {loaders or "none"}')


def _options() -> Iterator[str]:
    # oslo.config checks a value only when it is read.
    for group, options in opts.list_opts():
        for option in options:
            try:
                CONF[group.name][option.dest]
            except ValueError as error:
                yield f'[{group.name}] {option.name}: {error}'


def _missing_group() -> str:
    """Return a hint if this process lacks the group that may use libvirt."""
    try:
        group = grp.getgrnam('libvirt')
    except KeyError:
        return ''
    if os.geteuid() == 0 or group.gr_gid in {os.getegid(), *os.getgroups()}:
        return ''
    user = pwd.getpwuid(os.geteuid()).pw_name
    return f'; user {user} is not in the group {group.gr_name}'


def _directories() -> Iterator[str]:
    path = CONF.instances_path
    if not os.path.isdir(path):
        yield (f'instances_path {path!r} is not a directory: make it, for '
               'the user of nova-compute')
    elif not os.access(path, os.W_OK | os.X_OK):
        yield (f'instances_path {path!r} cannot be written: give it to the '
               'user of nova-compute')
    if ',' in path:
        yield (f'instances_path {path!r} holds a comma, which Xen takes for '
               'the end of a disk\'s name')


def _disk_tools() -> Iterator[str]:
    if shutil.which('qemu-img') is None:
        yield 'there is no qemu-img (Debian: package qemu-utils)'


def _space() -> Iterator[str]:
    path = CONF.instances_path
    if not os.path.isdir(path):
        raise CannotTell(f'there is no directory {path!r}')
    usage = disk_usage.measure(path)
    reserved = CONF.reserved_host_disk_mb * units.Mi
    if usage.free < usage.promised + reserved:
        yield (f'instances_path {path!r} has {usage.free // units.Mi} MiB of '
               f'free space. The disks of its instances may grow by '
               f'{usage.promised // units.Mi} MiB, and '
               f'reserved_host_disk_mb is {CONF.reserved_host_disk_mb}; an '
               'instance whose disk cannot grow loses data. Add space, or '
               'move instances to other hosts')


def _config_drives() -> Iterator[str]:
    if shutil.which(CONF.mkisofs_cmd) is None:
        yield (f'No config drives can be made: mkisofs_cmd is '
               f'{CONF.mkisofs_cmd}, and there is no such program (Debian: '
               'package genisoimage)')


def _spice() -> Iterator[str]:
    if CONF.spice.enabled and CONF.spice.require_secure:
        yield ('[spice] require_secure is true, and this driver has no '
               'encrypted SPICE consoles; allowed: false')


#: Whether the options have values that the driver can use.
OPTIONS = Check('options', 'values of the options', Level.FAIL, _options)


class HostChecks:
    """The checks of a host, except of the options.

    The privsep daemons are started in the background at once, as that takes
    longest.

    :param node: this compute node; :attr:`connection` connects it.
    :ivar ports_daemon: the start of os-vif's privsep daemon.
    :ivar connection: connects the node to its host.
    :ivar versions: whether the driver supports the host.
    :ivar ports: waits for os-vif's privsep daemon; nova-compute does not.
    :ivar others: all other checks.
    """

    def __init__(self, node: compute_node.Node) -> None:
        self.node = node
        self._ours = privileges.start(privileges.XEN)
        self.ports_daemon = privileges.start(privileges.PORTS)
        self.connection = Check(
            'libvirt', 'connection to libvirt', Level.FAIL, self._connection)
        self.versions = Check(
            'versions', 'versions of Xen and libvirt', Level.FAIL,
            self._versions, needs_host=True)
        self.ports = Check(
            'port-privileges', 'sudo and nova-rootwrap, for ports',
            Level.WARN, self._ports)
        self.others = (
            Check('privileges', 'sudo and nova-rootwrap, for the driver',
                  Level.FAIL, self._privileges),
            Check('guest-types', 'guest types', Level.FAIL,
                  self._guest_types, needs_host=True),
            Check('cpus', 'CPUs for guests', Level.FAIL, self._cpus,
                  needs_host=True),
            Check('dom0-cpus', 'CPUs that dom0 shares with guests',
                  Level.WARN, self._dom0_cpus),
            Check('instances-path', 'directory of the instances', Level.FAIL,
                  _directories),
            Check('disk-tools', 'qemu-img', Level.FAIL, _disk_tools),
            Check('spice', 'SPICE consoles', Level.FAIL, _spice),
            Check('space', 'space for the instances\' disks', Level.WARN,
                  _space),
            Check('loaders', 'boot loaders of PV and PVH guests', Level.WARN,
                  self._loaders, needs_host=True),
            Check('uefi', 'UEFI firmware of HVM guests', Level.WARN,
                  self._uefi, needs_host=True),
            Check('nested-hvm', 'guests that run guests', Level.WARN,
                  self._nested_hvm, needs_host=True),
            Check('pci-devices', 'PCI devices for guests', Level.WARN,
                  self._pci_devices, needs_host=True),
            Check('device-model', 'QEMU for Xen', Level.WARN,
                  self._device_model, needs_host=True),
            Check('dom0-memory', 'limit of dom0\'s memory', Level.WARN,
                  self._dom0_memory, needs_host=True),
            Check('grant-frames', 'grant frames of large guests',
                  Level.WARN, self._grant_frames, needs_host=True),
            Check('console-logs', 'logs of the guests\' consoles',
                  Level.WARN, self._console_logs),
            Check('log-rotation', 'rotation of the guests\' console logs',
                  Level.WARN, dom0.log_rotation),
            Check('config-drives', 'program for config drives', Level.WARN,
                  _config_drives),
            Check('guest-services', 'services that start and stop guests',
                  Level.WARN, dom0.guest_units),
            Check('unknown-domains', 'domains that libvirt does not know',
                  Level.WARN, self._unknown_domains, needs_host=True),
            Check('ovsdb', 'connection to Open vSwitch', Level.WARN,
                  dom0.switch),
            Check('bridge', 'integration bridge', Level.WARN,
                  dom0.integration_bridge),
            Check('bridge-filters', 'iptables on bridges', Level.WARN,
                  dom0.bridge_filters),
            Check('lvm-filter', 'LVM and guests\' disks', Level.WARN,
                  lvmfilter.problems),
        )

    @property
    def all(self) -> tuple[Check, ...]:
        """Every check, in an order in which they can be made."""
        return (self.connection, self.versions, *self.others, self.ports)

    def _connection(self) -> Iterator[str]:
        try:
            self.node.host.connect()
        except errors.ConnectionFailed as error:
            yield (f'{error}. Is libvirtd running, is this dom0, and may this '
                   f'user use libvirt? ([xen44] connection_uri is '
                   f'{CONF.xen44.connection_uri!r}{_missing_group()})')

    def _versions(self) -> Iterator[str]:
        try:
            self.node.host.check()
            self.node.arch  # noqa: B018 - raises if it is not supported
        except errors.HostUnsupported as error:
            yield str(error)

    def _privileges(self) -> Iterator[str]:
        try:
            privileges.result(privileges.XEN, self._ours)
        except exception.InvalidConfiguration as error:
            yield str(error)

    def _guest_types(self) -> Iterator[str]:
        node = self.node
        offered = node.capabilities.guest_types
        default = node.default_guest_type
        option = f'[xen44_{node.arch.name}] default_guest_type'
        if not offered:
            yield 'libvirt says that this host runs no guests at all'
        elif default not in offered:
            yield (f'{option} is {default}, and this host cannot run such '
                   f'guests; it can run: {", ".join(sorted(offered))}')

    def _cpus(self) -> Iterator[str]:
        node = self.node
        yield from cpusets.problems(
            cpusets.there(node.capabilities, node.host.cpus()))

    def _dom0_cpus(self) -> Iterator[str]:
        if CONF.compute.cpu_dedicated_set:
            yield from dom0.affinity(cpusets.dedicated())

    def _loaders(self) -> Iterator[str]:
        node = self.node
        for kind, loader in node.loaders().items():
            platform = node.arch.profile(kind).grub
            if loader is None or loader.sha256 is None:
                found = ('is not set' if loader is None else
                         f'is {loader.path}, and there is no such file')
                where = ('Debian: package grub-xen-host' if platform else
                         'firmware for it is not packaged')
                yield (f'{kind} guests cannot boot from their own disk: '
                       f'[xen44_{node.arch.name}] {kind}_loader {found}; '
                       f'only images with a kernel_id will boot ({where})')
                continue
            if platform is None:
                continue
            directory = node.options.loader_directory
            if loader.path == grub.path(directory, platform):
                for problem in grub.problems(directory, platform):
                    yield f'{problem}: run xen44-host build-loaders'

    def _uefi(self) -> Iterator[str]:
        firmware = self.node.uefi()
        if firmware and firmware.sha256 is None:
            yield ('images with hw_firmware_type=uefi are refused: '
                   f'[xen44_{self.node.arch.name}] uefi_firmware is '
                   f'{firmware.path}, and there is no such file (Debian: '
                   'package ovmf)')
        elif problem := self.node.uefi_refusal():
            yield f'images with hw_firmware_type=uefi are refused: {problem}'
        elif problem := self.node.uefi_problem():
            yield f'images with hw_firmware_type=uefi may not boot: {problem}'

    def _nested_hvm(self) -> Iterator[str]:
        if self.node.allows_nested_hvm and (
                problem := self.node.nested_hvm_problem()):
            yield f'flavors with {nestedhvm.EXTRA_SPEC} are refused: {problem}'

    def _pci_devices(self) -> Iterator[str]:
        if not CONF.pci.device_spec:
            return
        able = {kind for kind in self.node.capabilities.guest_types
                if self.node.arch.profile(kind).pci}
        if not able:
            yield ('[pci] device_spec is set, and Xen supports no PCI devices '
                   f'for guests on {self.node.arch.name}')
        elif missing := able - self.node.passthrough:
            yield ('[pci] device_spec is set, and guests of these types '
                   f'cannot have PCI devices: {", ".join(sorted(missing))}. '
                   'Does Xen use an IOMMU? xl info should list pv_directio '
                   'and hvm_directio among virt_caps: switch it on in the '
                   'firmware, and see xl dmesg')
        if not os.path.isdir(pci.BACKEND):
            yield ('[pci] device_spec is set, and dom0 cannot lend devices to '
                   'guests: load the module xen-pciback at boot '
                   '(/etc/modules-load.d)')

    def _device_model(self) -> Iterator[str]:
        profiles = self.node.arch.profiles.values()
        if any(DiskClass.QEMU in profile.disk_classes
               for profile in profiles):
            yield from dom0.device_model()

    def _dom0_memory(self) -> Iterator[str]:
        if self.node.host.memory().dom0_is_unbounded:
            yield ('dom0 may take all of the host\'s memory: give Xen the '
                   'options dom0_mem=SIZE,max:SIZE. Until then only '
                   f'reserved_host_memory_mb ({CONF.reserved_host_memory_mb}) '
                   'is kept from guests')

    def _grant_frames(self) -> Iterator[str]:
        most = self.node.most_grant_frames
        need = eventchannels.of_guest(
            GuestType.HVM, vcpus=8, disks=1).grant_frames
        if most is not None and most < need:
            version = facts.dotted(self.node.host.versions().xen)
            yield (f'Xen {version} gives a guest at most {most} grant '
                   'frames, and one with eight vCPUs and eight network '
                   f'interfaces needs {need}: put gnttab_max_frames=256 on '
                   'Xen\'s command line. Flavors that ask for more than it '
                   'gives are refused')

    def _console_logs(self) -> Iterator[str]:
        directory = CONF.xen44.console_log_dir
        try:
            readable = privileges.result(privileges.XEN, self._ours)
        except exception.InvalidConfiguration as error:
            raise CannotTell('the privsep daemon does not start') from error
        if not readable:
            yield ('Guests\' console logs will be empty: [xen44] '
                   f'console_log_dir {directory} is not there to be read. '
                   'xenconsoled has to be started with --log=guest '
                   f'--log-dir={directory}')
            return
        yield from dom0.console_logging()

    def _unknown_domains(self) -> Iterator[str]:
        yield from dom0.unknown_domains(self.node)

    def _ports(self) -> Iterator[str]:
        yield from privileges.refusals(privileges.PORTS, self.ports_daemon)
