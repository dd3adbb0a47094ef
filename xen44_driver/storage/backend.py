# SPDX-License-Identifier: Apache-2.0
"""How a guest's root disk is stored: the interface and its lookup."""

import abc
from typing import Any

from stevedore import driver as stevedore_driver
from stevedore import exception as stevedore_exception
from stevedore import extension

from xen44_driver.storage import imagecache

NAMESPACE = 'xen44_driver.storage'


class Backend(abc.ABC):
    """Makes root disks of one format."""

    #: The format's name, as libvirt and qemu-img know it.
    format: str

    @abc.abstractmethod
    def create(
        self, image: imagecache.CachedImage, path: str, size: int,
    ) -> None:
        """Make a disk of an image.

        :param image: what the disk holds at first
        :param path: the disk's file; one that is there is replaced
        :param size: bytes of the disk, the image's at least
        """


class UnknownBackend(Exception):
    """No such backend is installed."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f'unknown disk format {name!r}; available: '
            f'{", ".join(available())}')


def available() -> list[str]:
    """Names of the backends that are installed."""
    return sorted(
        extension.ExtensionManager(NAMESPACE).entry_points_names())


def load(name: str) -> Backend:
    """Load a backend.

    :param name: of an entry point of ``xen44_driver.storage``
    :raises UnknownBackend: there is none of that name
    """
    try:
        manager: Any = stevedore_driver.DriverManager(
            NAMESPACE, name, invoke_on_load=True)
    except stevedore_exception.NoMatches as error:
        raise UnknownBackend(name) from error
    backend: Backend = manager.driver
    return backend
