# SPDX-License-Identifier: Apache-2.0
"""The types of Xen guests."""

from __future__ import annotations

import enum


class GuestType(enum.StrEnum):
    """How a guest is virtualised.

    * ``PV``: paravirtualised; needs a kernel with support for Xen; nothing is
      emulated.
    * ``PVH``: hardware virtualised, with PV devices and no emulated ones.
    * ``HVM``: hardware virtualised, with PV devices and a PC that QEMU
      emulates.
    """

    PV = 'pv'
    PVH = 'pvh'
    HVM = 'hvm'
