# SPDX-License-Identifier: Apache-2.0
"""The links through which guests have their volumes.

A volume has a link for each instance that it is attached to, which names the
device or the file that it is on this host now. That may be another one after
each connection; the link, which the domain is defined with, stays the same.
"""

from __future__ import annotations

import os

from xen44_driver.xen import sockets

_NAME = 'volumes'


def directory() -> str:
    """Return the directory of all links.

    It is on a tmpfs: no link leads to another volume after dom0 has booted.
    """
    return os.path.join(sockets.DIRECTORY, _NAME)


def directory_of(instance: str) -> str:
    """Return the directory of an instance's links.

    :param instance: the instance's UUID.
    :raises ValueError: it is not a UUID as Nova writes it.
    """
    return os.path.join(directory(), _checked(instance))


def path(instance: str, volume: str) -> str:
    """Return the path of a link.

    :param instance: the instance's UUID.
    :param volume: Cinder's id of the volume, a UUID.
    :raises ValueError: one of them is not a UUID as Nova writes it.
    """
    return os.path.join(directory_of(instance), _checked(volume))


def _checked(value: str) -> str:
    if not sockets.UUID.fullmatch(value):
        raise ValueError(f'not a UUID as Nova writes it: {value!r}')
    return value
