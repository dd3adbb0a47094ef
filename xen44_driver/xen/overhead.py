# SPDX-License-Identifier: Apache-2.0
"""Memory that Xen takes for a guest in addition to the guest's own.

The figures are those of libxl 4.20 and libvirt 11.3:

* The paging pool of a PVH or HVM guest: 256 pages for each vCPU and two pages
  for each MiB of its memory. libxl fills it when it creates the domain
  (``libxl_get_required_shadow_memory``, which libvirt calls for every guest,
  and ``libxl__domain_set_paging_mempool_size``). A PV guest has none: its
  page tables are in its own memory.
* The allowance of libxl above the guest's memory, for the pages that the guest
  shares with Xen and dom0, and for the ROMs of an HVM guest
  (``LIBXL_HVM_EXTRA_MEMORY``, ``LIBXL_PV_EXTRA_MEMORY``).
* Xen's own structures for a domain and its vCPUs, its grant table and its
  event channels.

Video memory is part of an HVM guest's own memory. QEMU's memory is part of
dom0's.
"""

from __future__ import annotations

from xen44_driver.xen import facts
from xen44_driver.xen.guesttype import GuestType

_PAGE_KIB = 4

# Pages of the paging pool.
_POOL_PER_VCPU = 256
_POOL_PER_MIB = 2
# EXTRA_DEFAULT_PAGING_MEM_MB of libxl on ARM; zero on x86.
_POOL_EXTRA = 128

# KiB that libxl allows a guest above its memory.
_LIBXL_KIB = {
    GuestType.PV: 1024,
    GuestType.PVH: 2048,
    GuestType.HVM: 2048,
}

# KiB of Xen's structures.
_DOMAIN_KIB = 512
_VCPU_KIB = 64


def overhead_mib(guest_type: GuestType, memory_mib: int, vcpus: int) -> int:
    """Return the memory that Xen takes in addition to the guest's own.

    :param guest_type: PV, PVH or HVM.
    :param memory_mib: the guest's own memory, in MiB.
    :param vcpus: the number of vCPUs.
    :returns: MiB, rounded up.
    """
    kib = _LIBXL_KIB[guest_type] + _DOMAIN_KIB + _VCPU_KIB * vcpus
    if guest_type is not GuestType.PV:
        kib += _PAGE_KIB * (_POOL_PER_VCPU * vcpus
                            + _POOL_PER_MIB * memory_mib + _POOL_EXTRA)
    return -(-kib // 1024)


def shortage(
    memory: facts.HostMemory, guest_type: GuestType, memory_mib: int,
    vcpus: int, freed_mib: int = 0,
) -> str | None:
    """Return why Xen has too little memory for a guest now.

    :param memory: the host's memory.
    :param guest_type: PV, PVH or HVM.
    :param memory_mib: the guest's own memory, in MiB.
    :param vcpus: how many vCPUs it has.
    :param freed_mib: memory that will be free before it starts, in MiB.
    :returns: what Xen has and what the guest needs, or None if it fits.
    """
    if memory.dom0_is_unbounded:
        # libvirt takes missing memory from dom0 ("autoballoon").
        return None
    extra = overhead_mib(guest_type, memory_mib, vcpus)
    need = memory_mib + extra
    free = memory.free_mib + freed_mib
    if need <= free:
        return None
    return (f'Xen has {free} MiB of free memory, and a {guest_type} guest of '
            f'{memory_mib} MiB and {vcpus} vCPUs needs {need} MiB ({extra} of '
            'them for Xen itself)')
