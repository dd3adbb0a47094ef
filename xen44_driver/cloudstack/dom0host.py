# SPDX-License-Identifier: Apache-2.0
"""This host, on which every action works."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
import time

from oslo_config import cfg
from oslo_log import log as logging
from oslo_utils import fileutils

from xen44_driver import conf
from xen44_driver.cloudstack import describe
from xen44_driver.cloudstack import payload as payload_lib
from xen44_driver.cloudstack import templates
from xen44_driver.cloudstack import vmlock
from xen44_driver.cloudstack import vmrecord
from xen44_driver.core import loaders
from xen44_driver.storage import images
from xen44_driver.storage import layout
from xen44_driver.xen import arch
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen import host as xen_host
from xen44_driver.xen.guesttype import GuestType

CONF = cfg.CONF
conf.register_opts(CONF)
LOG = logging.getLogger(__name__)

# Seconds of an action's time that are kept for what comes after a wait.
_RESERVE = 20.0


class Dom0Host:
    """This host.

    :param host: the Xen host; it is connected.
    :param seconds: seconds that the action has.
    """

    def __init__(self, host: xen_host.Host, seconds: float) -> None:
        self.host = host
        self._end = time.monotonic() + seconds

    @property
    def images(self) -> images.ImageStore:
        """The store of images."""
        return templates.store(CONF.xen44_cloudstack.storage_path)

    @property
    def images_directory(self) -> str:
        """The operator's directory of images."""
        found: str = CONF.xen44_cloudstack.images_directory
        return found

    def template(
        self, name: str, disk_format: str | None = None,
    ) -> templates.TemplateFile:
        """Return a file of the operator's directory of images.

        :param name: its name, which was checked.
        :param disk_format: its format, or None for what it contains.
        :raises SpecError: there is no such file.
        """
        return templates.TemplateFile(
            self.images_directory, name, disk_format)

    @property
    def storage_path(self) -> str:
        """The directory of all VMs; made if it does not exist."""
        path: str = CONF.xen44_cloudstack.storage_path
        if not os.path.isdir(path):
            # Only this one is private: nova-compute's user looks for boot
            # loaders beside it.
            mask = os.umask(0o022)
            try:
                os.makedirs(os.path.dirname(os.path.abspath(path)),
                            exist_ok=True)
            finally:
                os.umask(mask)
            os.makedirs(path, mode=0o700, exist_ok=True)
        return path

    def files(self, uuid: str) -> layout.InstanceFiles:
        """Return the paths of a VM's files.

        :param uuid: the VM's UUID.
        """
        return layout.InstanceFiles(
            CONF.xen44_cloudstack.storage_path, uuid)

    def left(self, most: float) -> float:
        """Return seconds that an action may wait.

        :param most: the most seconds.
        """
        return max(0.0, min(
            most, self._end - time.monotonic() - _RESERVE))

    @contextlib.contextmanager
    def locked(self, vm: payload_lib.Vm) -> Iterator[None]:
        """Let no other action work on a VM during a block.

        :param vm: the VM.
        :raises VmBusy: another action has not ended in time.
        """
        with vmlock.locked(
                self._locks(), vm.uuid,
                self.left(CONF.xen44_cloudstack.lock_timeout)):
            # Of a reboot that was killed.
            fileutils.delete_if_exists(self.reboot_mark(vm.uuid))
            yield

    def reboot_mark(self, uuid: str) -> str:
        """Return the path of the file that marks a VM that is rebooted.

        It counts only while an action works on the VM.

        :param uuid: the VM's UUID.
        """
        return self.files(uuid).path(vmrecord.REBOOT_FILE)

    def is_locked(self, uuid: str) -> bool:
        """Return whether another action works on a VM.

        :param uuid: the VM's UUID.
        """
        return vmlock.is_locked(self._locks(), uuid)

    def _locks(self) -> str:
        return os.path.join(self.storage_path, 'locks')

    def stop_timeout(self, vm: payload_lib.Vm) -> float:
        """Return the seconds that a guest has to shut down.

        :param vm: the VM.
        """
        try:
            asked = vm.details.number(
                'stop_timeout', 0, describe.MAX_STOP_TIMEOUT)
        except errors.SpecError as error:
            # A user can change it at any time; a host that is to be empty
            # cannot wait for that.
            LOG.warning('%s', error, instance=vm)
            asked = None
        return self.left(CONF.xen44_cloudstack.stop_timeout
                         if asked is None else asked)

    def options(self) -> describe.HostOptions:
        """Return the properties and options that a VM depends on."""
        capabilities = self.host.capabilities()
        architecture = arch.load(capabilities.arch)
        group = CONF[f'xen44_{architecture.name}']
        ours = CONF.xen44_cloudstack
        return describe.HostOptions(
            arch=architecture,
            offered=capabilities.guest_types,
            default_guest_type=GuestType(group.default_guest_type),
            max_vcpus=capabilities.max_vcpus,
            loaders={
                kind: loader.path if loader else None
                for kind, loader in loaders.choose(
                    architecture, group, capabilities.guest_types).items()},
            disk_format=CONF.xen44.disk_format,
            config_drive=ours.config_drive,
            network_mode=ours.network_mode,
            network_bridge=ours.network_bridge)

    def define(self, spec: domain.DomainSpec) -> None:
        """Define a domain in libvirt, replacing an existing definition.

        :param spec: the domain.
        """
        self.host.define(domain.to_xml(spec, arch.load(spec.arch)))
