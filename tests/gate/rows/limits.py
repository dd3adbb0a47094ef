# SPDX-License-Identifier: Apache-2.0
"""Limits of CPUs and disks that a flavor asks for."""

from __future__ import annotations

import time
from typing import Any

from labkit import util
from tests.gate import base
from tests.gate import guest as guest_lib


class CpuLimits:
    """Extra specs ``quota:cpu_*``.

    The class's flavor must have :data:`CPU_SPECS`.
    """

    def test_cpu_limits(self: Any) -> None:
        guest = self.running()
        self.assertEqual(CPU_LIMITS, self.scheduled(guest))

    @base.slow
    def test_cpu_limits_after_its_own_reboot(self: Any) -> None:
        guest = self.running()
        before = guest.boot_id()
        guest.leave('reboot')
        guest.wait_for_reboot(before)
        util.wait_for(f'limits of {guest.name} after its reboot',
                      lambda: self.scheduled(guest) == CPU_LIMITS, 60)

    def scheduled(self: Any, guest: guest_lib.Guest) -> tuple[str, ...]:
        """Weight and cap, as Xen has them."""
        # A header of two lines, then name, number, weight, cap.
        line = self.dom0('xl', 'sched-credit2', '-d',
                         guest.domain).splitlines()[-1]
        return tuple(line.split()[-2:])


#: Half the weight of others, and three quarters of a CPU.
CPU_SPECS = {'quota:cpu_shares': '512', 'quota:cpu_period': '100000',
             'quota:cpu_quota': '75000'}
CPU_LIMITS = ('128', '75')


class DiskLimits:
    """An extra spec ``quota:disk_*``, as the guest feels it.

    The class's flavor must have :data:`DISK_SPECS`.
    """

    def test_disk_limits(self: Any) -> None:
        guest = self.running()
        megabytes = 8
        begin = time.monotonic()
        guest.ssh(f'dd if=/dev/zero of=/root/limited bs=64k '
                  f'count={megabytes * 16} conv=fsync 2>/dev/null; '
                  'rm /root/limited')
        # QEMU lets a tenth of a second's worth through at once.
        self.assertGreater(time.monotonic() - begin,
                           megabytes * 1024 ** 2 / DISK_LIMIT - 0.5)


#: Bytes per second, and the flavor that limits writes to them.
DISK_LIMIT = 2 * 1024 ** 2
DISK_SPECS = {'quota:disk_write_bytes_sec': str(DISK_LIMIT)}
