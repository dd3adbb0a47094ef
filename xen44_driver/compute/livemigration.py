# SPDX-License-Identifier: Apache-2.0
"""Refuse to move running instances to this host."""

from __future__ import annotations

from typing import NoReturn

from nova import exception

from xen44_driver.compute import node as compute_node


def refuse(node: compute_node.Node) -> NoReturn:
    """Refuse an instance that is to come to this host while it runs.

    Of any other exception Nova concludes that the instance is in error.

    :raises nova.exception.MigrationPreCheckError: always; the message says
        what is allowed.
    """
    reason = 'this driver does not move running instances to another host yet'
    if not any(profile.saves_memory
               for profile in node.arch.profiles.values()):
        reason = (f'Xen on {node.arch.name} cannot move the memory of a '
                  'running guest to another host')
    raise exception.MigrationPreCheckError(
        reason=f'{reason}; allowed: a new instance there, made of a snapshot')
