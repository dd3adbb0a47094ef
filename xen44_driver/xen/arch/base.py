# SPDX-License-Identifier: Apache-2.0
"""Differences between the processor architectures that Xen runs on."""

from __future__ import annotations

import abc
from collections.abc import Mapping
import dataclasses
from typing import ClassVar
from typing import NamedTuple

from xen44_driver.xen import errors
from xen44_driver.xen.diskclass import DiskClass
from xen44_driver.xen.guesttype import GuestType


class OsType(NamedTuple):
    """libvirt's ``<os><type machine='...'>...</type></os>``.

    :ivar type: the element's text: ``linux``, ``xenpvh`` or ``hvm``.
    :ivar machine: its attribute ``machine``: ``xenpv``, ``xenpvh`` or
        ``xenfv``.
    :ivar arch: its attribute ``arch``; None to leave it out, so that libvirt
        uses the host's architecture.
    """

    type: str
    machine: str
    arch: str | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What guests of one type have on one architecture.

    Other modules read these attributes instead of asking whether a guest is
    HVM.

    :ivar os_type: libvirt's name of the guest type.
    :ivar firmware: whether firmware boots the guest's own disk. Otherwise a
        loader on the host does, such as grub.
    :ivar grub: grub's name of the platform of the build that is that loader;
        None if grub has none.
    :ivar disk_classes: what can serve the disks; the first one does if the
        flavor does not ask.
    :ivar disk_buses: allowed values of ``hw_disk_bus``.
    :ivar scsi_models: allowed values of ``hw_scsi_model``.
    :ivar emulated_disks: letters of the disks that the guest also gets as
        emulated disks, which firmware can read.
    :ivar vif_models: allowed values of ``hw_vif_model``; ``netfront`` is only
        the PV interface.
    :ivar video_models: allowed values of ``hw_video_model``; ``none`` if
        guests have no screen.
    :ivar pointer_models: allowed values of ``hw_pointer_model``.
    :ivar cdrom: whether guests can have a CD-ROM drive and boot from it.
    :ivar serial_port: whether guests have an emulated serial port, whose
        output goes to a file. Every type has Xen's console.
    :ivar saves_memory: whether Xen can save the memory of such a guest to a
        file and restore it later.
    :ivar agent: whether guests can have a channel to the QEMU guest agent,
        which needs a QEMU on the host.
    :ivar pci: whether Xen supports PCI devices of the host in such a guest
        (SUPPORT.md of Xen).
    """

    os_type: OsType
    firmware: bool = False
    grub: str | None = None
    disk_classes: tuple[DiskClass, ...] = (DiskClass.QEMU, DiskClass.KERNEL)
    disk_buses: tuple[str, ...] = ('xen',)
    scsi_models: tuple[str, ...] = ()
    emulated_disks: str = ''
    vif_models: tuple[str, ...] = ('netfront',)
    video_models: tuple[str, ...] = ('none',)
    pointer_models: tuple[str, ...] = ()
    cdrom: bool = False
    serial_port: bool = False
    saves_memory: bool = True
    agent: bool = False
    pci: bool = False

    @property
    def emulated_vifs(self) -> bool:
        """Whether interfaces can have an emulated card beside the PV one."""
        return any(model != 'netfront' for model in self.vif_models)

    @property
    def screen(self) -> bool:
        """Whether guests can have a screen."""
        return 'none' not in self.video_models


class Architecture(abc.ABC):
    """An architecture: its guest types, and how libvirt names them.

    A *host* of the architecture may offer less; see
    :mod:`xen44_driver.xen.capabilities`.
    """

    #: Its name in libvirt and Nova.
    name: ClassVar[str]
    #: The profile of each guest type that the architecture can have.
    profiles: ClassVar[Mapping[GuestType, Profile]]
    #: Whether Xen lets dom0 have no more memory than it starts with. libvirt
    #: looks for ``dom0_mem=max:`` on Xen's command line all the same.
    fixed_dom0_memory: ClassVar[bool] = False

    @property
    def guest_types(self) -> tuple[GuestType, ...]:
        """Every guest type that the architecture can have."""
        return tuple(self.profiles)

    def profile(self, guest_type: GuestType) -> Profile:
        """Return the profile of a guest type.

        :raises SpecError: the architecture does not have this guest type.
        """
        if guest_type not in self.profiles:
            raise errors.SpecError('guest_type', str(guest_type),
                                   self.guest_types)
        return self.profiles[guest_type]

    def os_type(self, guest_type: GuestType) -> OsType:
        """Return libvirt's name of a guest type.

        :raises SpecError: the architecture does not have this guest type.
        """
        return self.profile(guest_type).os_type

    def guest_type(self, os_type: str, machine: str | None) -> GuestType:
        """Return the guest type that libvirt means.

        :param os_type: text of libvirt's ``<os><type>``.
        :param machine: its attribute ``machine``.
        :raises SpecError: the architecture does not have this guest type.
        """
        # libvirt writes "xen" in capabilities but "linux" in domains.
        if os_type == 'xen':
            os_type = 'linux'
        ours = {kind: profile.os_type
                for kind, profile in self.profiles.items()}
        for guest_type, its in ours.items():
            if os_type == its.type and machine in (None, its.machine):
                return guest_type
        raise errors.SpecError(
            'os.type', f'{os_type} {machine}',
            (f'{its.type} {its.machine}' for its in ours.values()))

    def screen(self, guest_type: GuestType) -> bool:
        """Return whether guests of a type can have a screen."""
        return (guest_type in self.profiles
                and self.profiles[guest_type].screen)

    @abc.abstractmethod
    def default_cmdline(self, root_device: str) -> str:
        """Return the kernel's command line for images that set none.

        :param root_device: the guest's name of it, such as ``/dev/xvda``.
        """
