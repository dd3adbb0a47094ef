# SPDX-License-Identifier: Apache-2.0
"""A life of a VM in which actions are killed at each named point of them."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from typing import NamedTuple


class Step(NamedTuple):
    """An action of the life.

    :ivar action: a standard or a custom one.
    :ivar point: where it is killed; None if it is carried out.
    :ivar parameters: those of a custom action.
    """

    action: str
    point: str | None = None
    parameters: Mapping[str, str] = {}


def life(size_gb: int) -> Iterator[Step]:
    """Yield actions, one after the other; at the end nothing is left.

    :param size_gb: a size to which the root disk can grow.
    """
    yield Step('create', 'cloudstack create: image fetched')
    yield Step('create', 'cloudstack create: recorded')
    yield Step('create', 'cloudstack create: one disk made')
    yield Step('create', 'cloudstack: domain defined')
    yield Step('create', 'boot: domain started')
    yield Step('create', 'cloudstack create: booted')
    # As CloudStack does after a failure.
    yield Step('stop')
    yield Step('create')
    yield Step('reboot', 'cloudstack reboot: stopped')
    first = {'snap_name': 'first'}
    yield Step('CreateSnapshot', 'cloudstack snapshot: recorded', first)
    yield Step('CreateSnapshot', None, first)
    yield Step('RestoreSnapshot', 'cloudstack snapshot: restored', first)
    yield Step('RestoreSnapshot', None, first)
    yield Step('DeleteSnapshot', 'cloudstack snapshot: deleted', first)
    # It is gone, whatever the killed action did not say.
    yield Step('CreateSnapshot', None, first)
    size = {'size_gb': str(size_gb)}
    yield Step('ResizeRootDisk', 'cloudstack resize: disk grown', size)
    yield Step('ResizeRootDisk', None, size)
    yield Step('Reinstall', 'cloudstack reinstall: disk made')
    yield Step('Reinstall', 'cloudstack reinstall: recorded')
    yield Step('Reinstall')
    yield Step('start', 'cloudstack start: prepared')
    yield Step('start', 'cloudstack: domain defined')
    yield Step('start', 'boot: domain started')
    yield Step('start')
    yield Step('stop', 'cloudstack stop: guest asked')
    yield Step('stop')
    yield Step('start')
    yield Step('delete', 'destroy: domain stopped')
    yield Step('delete', 'destroy: domain removed')
    yield Step('delete', 'cloudstack delete: domain removed')
    yield Step('delete', 'files: put aside')
    yield Step('delete')
