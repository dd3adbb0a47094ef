# SPDX-License-Identifier: Apache-2.0
"""The ways in which Xen runs a guest."""

import enum


class GuestType(enum.StrEnum):
    """How a guest is virtualised.

    * ``PV``: paravirtualised; the guest's kernel knows Xen, nothing is
      emulated.
    * ``PVH``: hardware virtualised, but with PV devices and no emulation.
    * ``HVM``: hardware virtualised, with a PC emulated by QEMU beside the
      PV devices.
    """

    PV = 'pv'
    PVH = 'pvh'
    HVM = 'hvm'
