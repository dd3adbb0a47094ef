# SPDX-License-Identifier: Apache-2.0
"""Processor architectures: one class each, loaded through stevedore."""

from __future__ import annotations

import functools

from stevedore import driver
from stevedore import exception
from stevedore import extension

from xen44_driver.xen import errors
from xen44_driver.xen.arch.base import Architecture
from xen44_driver.xen.arch.base import OsType
from xen44_driver.xen.arch.base import Profile

__all__ = ['NAMESPACE', 'Architecture', 'OsType', 'Profile', 'load']

#: Entry points of this group are subclasses of :class:`Architecture`.
NAMESPACE = 'xen44_driver.arch'


@functools.cache
def load(name: str) -> Architecture:
    """Return the architecture with a name.

    :param name: its name in the host's capabilities, such as ``x86_64``.
    :raises HostUnsupported: the architecture is not supported; the message
        names those that are.
    """
    try:
        architecture: object = driver.DriverManager(
            NAMESPACE, name, invoke_on_load=True).driver
    except exception.NoMatches:
        known = extension.ExtensionManager(NAMESPACE).entry_points_names()
        raise errors.HostUnsupported(
            f'architecture {name!r} is not supported; supported: '
            + (', '.join(sorted(known)) or 'none, is xen44-driver installed?')
        ) from None
    if not isinstance(architecture, Architecture):
        raise errors.HostUnsupported(
            f'entry point {name!r} of {NAMESPACE} is no Architecture: '
            f'{architecture!r}')
    return architecture
