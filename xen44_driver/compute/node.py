# SPDX-License-Identifier: Apache-2.0
"""The compute node, on which every operation works."""

from __future__ import annotations

import functools
import shutil
import threading
import time

from nova import conf
from nova import objects
from nova.virt import virtapi as nova_virtapi
from oslo_config import cfg
from oslo_log import log as logging

from xen44_driver import privsep
from xen44_driver import relay
from xen44_driver.compute import cpusets
from xen44_driver.compute import glance
from xen44_driver.compute import machine as machine_lib
from xen44_driver.compute import proof
from xen44_driver.compute import spec
from xen44_driver.conf import architectures
from xen44_driver.core import loaders
from xen44_driver.core import monitor
from xen44_driver.storage import layout
from xen44_driver.xen import arch
from xen44_driver.xen import bootfile
from xen44_driver.xen import capabilities
from xen44_driver.xen import errors
from xen44_driver.xen import eventchannels
from xen44_driver.xen import facts
from xen44_driver.xen import guest as xen_guest
from xen44_driver.xen import host as xen_host
from xen44_driver.xen.guesttype import GuestType

CONF = conf.CONF
LOG = logging.getLogger(__name__)

#: Seconds that a start waits for other guests to have started.
START_TURN_TIMEOUT = 600

#: Seconds that libvirt has to be back: dom0 may be starting all of it.
LIBVIRT_TIMEOUT = 600
# Seconds between two looks.
_PAUSE = 1.0


class Node:
    """This compute node.

    :param host: the Xen host.
    :param virtapi: Nova's interface for callbacks from drivers.
    """

    def __init__(
        self, host: xen_host.Host, virtapi: nova_virtapi.VirtAPI,
    ) -> None:
        self.host = host
        self.virtapi = virtapi
        self.images = glance.ImageCache()
        self.relays = relay.Relays()
        self._lock = threading.Lock()
        self._able_to_pass: frozenset[GuestType] | None = None
        self._most_grant_frames: int | None = None
        self._starts: threading.BoundedSemaphore | None = None

    @property
    def capabilities(self) -> capabilities.Capabilities:
        """What the host can do; cached after the first call."""
        return self.host.capabilities()

    @property
    def arch(self) -> arch.Architecture:
        """The host's architecture.

        :raises HostUnsupported: the architecture is not supported.
        """
        return _load_arch(self.capabilities.arch)

    @property
    def options(self) -> cfg.ConfigOpts.GroupAttr:
        """The options of the host's architecture."""
        return CONF[f'xen44_{self.capabilities.arch}']

    @property
    def default_guest_type(self) -> GuestType:
        """The guest type if neither image nor flavor asks for one."""
        return GuestType(self.options.default_guest_type)

    def start(self, guest: xen_guest.Guest, *, saved: bool = False,
              paused: bool = False) -> None:
        """Start a guest; wait while ``max_concurrent_starts`` others start.

        :param guest: a guest that is off.
        :param saved: restore its saved memory and leave it paused.
        :param paused: whether a guest without saved memory stays paused, too.
        :raises TimeoutError: the other guests took too long, or the guest's
            last QEMU has not ended.
        :raises xen44_driver.xen.errors.XenError: the guest cannot be started.
        """
        monitor.make_ready(guest.uuid)
        turns = self._turns()
        if not turns.acquire(timeout=START_TURN_TIMEOUT):
            raise TimeoutError(
                f'the guests before it (at most '
                f'{CONF.xen44.max_concurrent_starts} start at once) have '
                f'not started within {START_TURN_TIMEOUT} s')
        try:
            if saved:
                guest.restore_memory()
            else:
                guest.start(paused=paused)
        finally:
            turns.release()

    def _turns(self) -> threading.BoundedSemaphore:
        # Made late, because init_host checks the option first.
        with self._lock:
            if self._starts is None:
                self._starts = threading.BoundedSemaphore(
                    CONF.xen44.max_concurrent_starts)
            return self._starts

    def files(self, instance: objects.Instance) -> layout.InstanceFiles:
        """Return the paths of an instance's files."""
        return self.files_of(instance.uuid)

    @staticmethod
    def files_of(uuid: str) -> layout.InstanceFiles:
        """Return the paths of an instance's files.

        :param uuid: the instance's UUID.
        """
        return layout.InstanceFiles(CONF.instances_path, uuid)

    def machine_options(self) -> machine_lib.Options:
        """Return the current properties and options for a new instance."""
        capabilities = self.capabilities
        return machine_lib.Options(
            arch=self.arch,
            offered=capabilities.guest_types,
            default_guest_type=self.default_guest_type,
            max_vcpus=capabilities.max_vcpus,
            dedicated_cpus=bool(cpusets.dedicated()),
            nested_hvm_problem=self.nested_hvm_problem(),
            passthrough=self.passthrough,
            loaders=self.loaders(),
            uefi=self.uefi(),
            uefi_problem=self.uefi_refusal(),
            disk_format=CONF.xen44.disk_format,
            image_kernels=CONF.xen44.allow_image_kernels,
            screen=CONF.vnc.enabled,
            spice=CONF.spice.enabled,
            spice_agent=CONF.spice.agent_enabled,
            pointer_model=CONF.pointer_model,
            config_drive=(CONF.xen44.default_config_drive
                          and shutil.which(CONF.mkisofs_cmd) is not None),
            config_drive_format=CONF.config_drive_format,
            max_event_channels=CONF.xen44.max_event_channels,
            max_grant_frames=CONF.xen44.max_grant_frames,
            most_grant_frames=self.most_grant_frames)

    def wait_for_libvirt(self, uuid: str) -> None:
        """Wait until libvirt answers; it may be starting.

        After :data:`LIBVIRT_TIMEOUT` it is not waited for any longer.

        :param uuid: the UUID of a domain, which may not exist.
        """
        end = time.monotonic() + LIBVIRT_TIMEOUT
        while True:
            try:
                self.host.guest(uuid).state()
                return
            except errors.DomainNotFound:
                return
            except errors.ConnectionFailed as error:
                if time.monotonic() >= end:
                    return
                LOG.debug('Waiting for libvirt: %s', error)
            time.sleep(_PAUSE)

    def spec_options(self) -> spec.Options:
        """Return the host's options that apply to a domain at each start."""
        return spec.Options(shared_cpus=cpusets.shared(),
                            dedicated_cpus=cpusets.dedicated(),
                            nested_feature=self.capabilities.nested_feature,
                            serial_console=CONF.serial_console.enabled,
                            spice=_spice_options())

    def loaders(self) -> dict[GuestType, bootfile.BootFile | None]:
        """Return the loaders of guest types that have no firmware.

        :returns: see :func:`loaders.choose`.
        """
        return loaders.choose(
            self.arch, self.options, self.capabilities.guest_types)

    def uefi(self) -> bootfile.BootFile | None:
        """Return the UEFI firmware of HVM guests.

        :returns: None if none is configured; its file may be missing.
        """
        if 'uefi_firmware' not in self.options:
            return None
        configured: str = self.options.uefi_firmware
        return bootfile.look(configured) if configured else None

    def uefi_refusal(self) -> str | None:
        """Return why no guest can start with the UEFI firmware.

        :returns: None if guests can, or there is none.
        """
        firmware = self.uefi()
        found = self.host.versions().libvirt
        needed = facts.MIN_LIBVIRT_FIRMWARE
        if (firmware is None or found >= needed
                or firmware.path == architectures.UEFI_FIRMWARE):
            return None
        return (f'libvirt {facts.dotted(found)} starts the firmware that Xen '
                f'was built with, and not [xen44_{self.arch.name}] '
                f'uefi_firmware {firmware.path}; {facts.dotted(needed)} or '
                'newer is needed for that')

    def uefi_problem(self) -> str | None:
        """Return why HVM guests may not start with UEFI firmware.

        :returns: None if it was seen to start, or there is none.
        """
        firmware = self.uefi()
        if firmware is None or firmware.sha256 is None:
            return None
        return proof.UEFI.problem(proof.platform(firmware.sha256))

    @property
    def allows_nested_hvm(self) -> bool:
        """Whether the operator allows guests that run guests."""
        return ('nested_hvm' in self.options
                and bool(self.options.nested_hvm))

    def nested_hvm_problem(self) -> str | None:
        """Return why guests cannot run guests of their own.

        :returns: None if they can.
        """
        if not self.allows_nested_hvm:
            return f'it is off ([xen44_{self.arch.name}] nested_hvm)'
        if self.capabilities.nested_feature is None:
            return 'the CPU has neither svm nor vmx'
        return proof.NESTED_HVM.problem(proof.platform())

    @property
    def passthrough(self) -> frozenset[GuestType]:
        """The guest types that new guests with PCI devices can have.

        Empty if the operator gives no devices away (``[pci] device_spec``).
        """
        return self.able_to_pass if CONF.pci.device_spec else frozenset()

    @property
    def able_to_pass(self) -> frozenset[GuestType]:
        """The guest types to which Xen can pass PCI devices of this host.

        Empty without an IOMMU that Xen uses. Xen is asked once.
        """
        if self._able_to_pass is None:
            try:
                able = privsep.passthrough()
            except OSError as error:
                LOG.warning('No guest gets PCI devices, as Xen does not tell '
                            'whether it can: %s', error)
                return frozenset()
            self._able_to_pass = frozenset(
                kind for kind, profile in self.arch.profiles.items()
                if profile.pci and kind.value in able)
        return self._able_to_pass

    @property
    def most_grant_frames(self) -> int | None:
        """The most grant frames that Xen gives to a guest.

        None for any number. Xen is asked once.
        """
        if (self.host.versions().xen
                >= eventchannels.FIRST_WITH_ANY_GRANT_FRAMES):
            return None
        if self._most_grant_frames is None:
            default = eventchannels.DEFAULT_GRANT_FRAMES
            try:
                asked = privsep.grant_frames()
            except OSError as error:
                LOG.warning('Guests get no more than %(default)s grant '
                            'frames, as Xen does not tell its command line: '
                            '%(error)s', {'default': default, 'error': error})
                return default
            self._most_grant_frames = default if asked is None else asked
        return self._most_grant_frames

    @property
    def has_uefi(self) -> bool:
        """Whether guests can boot by UEFI."""
        firmware = self.uefi()
        return (firmware is not None and firmware.sha256 is not None
                and GuestType.HVM in self.capabilities.guest_types
                and self.uefi_refusal() is None)


def _spice_options() -> tuple[str, ...]:
    """Return the options of ``[spice]`` that are set, by QEMU's names."""
    playback = CONF.spice.playback_compression
    options = {
        'image-compression': CONF.spice.image_compression,
        'jpeg-wan-compression': CONF.spice.jpeg_compression,
        'zlib-glz-wan-compression': CONF.spice.zlib_compression,
        'playback-compression': (
            None if playback is None else 'on' if playback else 'off'),
        'streaming-video': CONF.spice.streaming_mode,
    }
    return tuple(f'{name}={value}' for name, value in options.items()
                 if value is not None)


@functools.cache
def _load_arch(name: str) -> arch.Architecture:
    # Cached: stevedore searches all installed packages.
    return arch.load(name)
