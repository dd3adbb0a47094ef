# SPDX-License-Identifier: Apache-2.0
"""What differs between the processor architectures that Xen runs on."""

import abc
from typing import ClassVar
from typing import NamedTuple

from xen44_driver.xen import errors
from xen44_driver.xen.guesttype import GuestType


class OsType(NamedTuple):
    """libvirt's ``<os><type machine='...'>...</type></os>``.

    :ivar type: the element's text: ``linux``, ``xenpvh``, ``hvm``.
    :ivar machine: its attribute: ``xenpv``, ``xenpvh``, ``xenfv``.
    :ivar arch: another attribute; None leaves it to libvirt, which takes the
        host's.
    """

    type: str
    machine: str
    arch: str | None


class Architecture(abc.ABC):
    """One architecture: what its guests can be, and how libvirt names them.

    What a *host* of it can do is less or equal, and libvirt tells: see
    :mod:`xen44_driver.xen.capabilities`.
    """

    #: libvirt's, and Nova's, name of it.
    name: ClassVar[str]
    #: Every guest type it can have, and what libvirt calls that.
    os_types: ClassVar[dict[GuestType, OsType]]
    #: The guest type where nothing else says.
    default_guest_type: ClassVar[GuestType]
    #: Guest types that can have a screen.
    vnc_guest_types: ClassVar[frozenset[GuestType]] = frozenset()
    #: Where Debian and others put grub's Xen builds.
    loaders: ClassVar[dict[GuestType, str]] = {}

    @property
    def guest_types(self) -> tuple[GuestType, ...]:
        """Every guest type that the architecture can have."""
        return tuple(self.os_types)

    def os_type(self, guest_type: GuestType) -> OsType:
        """libvirt's name of a guest type.

        :raises SpecError: the architecture has no such guests.
        """
        if guest_type not in self.os_types:
            raise errors.SpecError('guest_type', str(guest_type),
                                   self.guest_types)
        return self.os_types[guest_type]

    def guest_type(self, os_type: str, machine: str | None) -> GuestType:
        """The guest type of libvirt's name of it.

        :raises SpecError: it is none of this architecture's.
        """
        # libvirt's capabilities say "xen" where its domains say "linux".
        if os_type == 'xen':
            os_type = 'linux'
        for guest_type, ours in self.os_types.items():
            if os_type == ours.type and machine in (None, ours.machine):
                return guest_type
        raise errors.SpecError(
            'os.type', f'{os_type} {machine}',
            (f'{ours.type} {ours.machine}' for ours in self.os_types.values()))

    def vnc(self, guest_type: GuestType) -> bool:
        """Whether such a guest can have a screen."""
        return guest_type in self.vnc_guest_types

    def loader(self, guest_type: GuestType) -> str | None:
        """The usual path of the grub that boots such a guest's own disk.

        :returns: a path, or None where no grub does that: then only
            firmware (HVM) or a kernel of the host boots the guest.
        """
        return self.loaders.get(guest_type)

    @abc.abstractmethod
    def default_cmdline(self, root_device: str) -> str:
        """A kernel's command line for images that bring none.

        :param root_device: as the guest calls it, ``/dev/xvda``.
        """
