# SPDX-License-Identifier: Apache-2.0
"""A life of a VM in which actions are killed at each named point of them."""

from __future__ import annotations

#: Actions, one after the other, and the point at which each is killed; None
#: for one that is carried out. At the end nothing is left.
LIFE: tuple[tuple[str, str | None], ...] = (
    ('create', 'cloudstack create: image fetched'),
    ('create', 'cloudstack create: recorded'),
    ('create', 'cloudstack create: one disk made'),
    ('create', 'cloudstack: domain defined'),
    ('create', 'boot: domain started'),
    ('create', 'cloudstack create: booted'),
    # As CloudStack does after a failure.
    ('stop', None),
    ('create', None),
    ('reboot', 'cloudstack reboot: stopped'),
    ('start', 'cloudstack start: prepared'),
    ('start', 'cloudstack: domain defined'),
    ('start', 'boot: domain started'),
    ('start', None),
    ('stop', 'cloudstack stop: guest asked'),
    ('stop', None),
    ('start', None),
    ('delete', 'destroy: domain stopped'),
    ('delete', 'destroy: domain removed'),
    ('delete', 'cloudstack delete: domain removed'),
    ('delete', 'files: put aside'),
    ('delete', None),
)
