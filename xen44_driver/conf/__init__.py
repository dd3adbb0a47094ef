# SPDX-License-Identifier: Apache-2.0
"""Configuration of the driver (oslo.config)."""

from __future__ import annotations

from xen44_driver.conf.opts import list_opts
from xen44_driver.conf.opts import register_opts

__all__ = ['list_opts', 'register_opts']
