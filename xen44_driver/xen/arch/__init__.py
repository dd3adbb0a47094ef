# SPDX-License-Identifier: Apache-2.0
"""Architectures, found through stevedore: one class each."""

import functools

from stevedore import driver
from stevedore import exception
from stevedore import extension

from xen44_driver.xen import errors
from xen44_driver.xen.arch.base import Architecture
from xen44_driver.xen.arch.base import OsType

__all__ = ['NAMESPACE', 'Architecture', 'OsType', 'load']

#: Entry points of this group are subclasses of :class:`Architecture`.
NAMESPACE = 'xen44_driver.arch'


@functools.cache
def load(name: str) -> Architecture:
    """Make the architecture of a name.

    :param name: as the host's capabilities say it, such as ``x86_64``.
    :raises HostUnsupported: nobody wrote it; says which there are.
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
