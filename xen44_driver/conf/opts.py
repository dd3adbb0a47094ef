# SPDX-License-Identifier: Apache-2.0
"""All options of the driver, for oslo-config-generator and sphinx."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence

from oslo_config import cfg

from xen44_driver.conf import architectures
from xen44_driver.conf import cloudstack
from xen44_driver.conf import xen44

_ALL: tuple[tuple[cfg.OptGroup, Sequence[cfg.Opt]], ...] = (
    (xen44.GROUP, xen44.OPTS),
    (cloudstack.GROUP, cloudstack.OPTS),
    (architectures.X86_64_GROUP, architectures.X86_64_OPTS),
    (architectures.AARCH64_GROUP, architectures.AARCH64_OPTS),
)


def list_opts() -> Iterator[tuple[cfg.OptGroup, Sequence[cfg.Opt]]]:
    """Yield every group and its options (entry point ``oslo.config.opts``)."""
    yield from _ALL


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register every option with ``conf``; safe to call again."""
    for group, options in _ALL:
        conf.register_group(group)
        conf.register_opts(options, group=group)
