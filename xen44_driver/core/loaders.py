# SPDX-License-Identifier: Apache-2.0
"""Choose the loaders that boot guests' own disks."""

from __future__ import annotations

from collections.abc import Iterable

from oslo_config import cfg

from xen44_driver.xen import arch as arch_lib
from xen44_driver.xen import bootfile
from xen44_driver.xen import grub
from xen44_driver.xen.guesttype import GuestType


def choose(
    architecture: arch_lib.Architecture, options: cfg.ConfigOpts.GroupAttr,
    guest_types: Iterable[GuestType],
) -> dict[GuestType, bootfile.BootFile | None]:
    """Return the loaders of guest types that have no firmware.

    An option that names a loader comes first, then the driver's own, then the
    distribution's.

    :param architecture: the host's.
    :param options: the group of its options, such as ``[xen44_x86_64]``.
    :param guest_types: those that the host has.
    :returns: loaders by guest type; None if there is none. Their files may be
        missing.
    """
    return {kind: _choose(architecture.profile(kind), options,
                          options[f'{kind}_loader'])
            for kind in guest_types
            if not architecture.profile(kind).firmware}


def _choose(
    profile: arch_lib.Profile, options: cfg.ConfigOpts.GroupAttr,
    configured: str | None,
) -> bootfile.BootFile | None:
    if configured:
        return bootfile.look(configured)
    if profile.grub is None:
        return None
    return grub.find(options.loader_directory, profile.grub)
