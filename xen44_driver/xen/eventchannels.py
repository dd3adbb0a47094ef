# SPDX-License-Identifier: Apache-2.0
"""How many event channels and grant frames guests need.

*Event channels* are Xen's interrupts. They connect a guest with Xen, with
itself (one vCPU calls another), and with the backends of its devices in dom0.
A *grant frame* is a page of a guest's grant table: the list of its memory that
backends may use.

A guest that has used up its event channels cannot connect another device, or
bring up another vCPU; without grants, a network interface stays down.

What guests use is what Linux uses (``arch/x86/xen``,
``drivers/net/xen-netfront.c``, ``drivers/block/xen-blkfront.c``).
"""

from __future__ import annotations

import dataclasses
import re

from xen44_driver.xen.guesttype import GuestType

#: The event channels of a guest for which nothing else is configured, in
#: libxl (``libxl__domain_build_info_setdefault``).
DEFAULT_EVENT_CHANNELS = 1023

#: The most event channels of a domain, by the ABI that its kernel uses. The
#: first one is never used. (``EVTCHN_2L_NR_CHANNELS`` for 64 bits and
#: ``EVTCHN_FIFO_NR_CHANNELS`` of ``public/event_channel.h``.)
MAX_2L = 2 ** 12 - 1
MAX_FIFO = 2 ** 17 - 1

#: The grant frames of a guest for which nothing else is configured, in Xen
#: (``gnttab_max_frames`` on its command line).
DEFAULT_GRANT_FRAMES = 64

#: The most grant frames that may be asked for. Xen itself takes any number of
#: 31 bits (``max_grant_frames`` of ``public/domctl.h``). This many hold grants
#: of 128 GiB, and the list of them is 4 MiB of Xen's memory at most.
MAX_GRANT_FRAMES = 2 ** 16 - 1

# Event channels of each vCPU: timer, debugging, performance counters, the
# lock that it waits for, and four kinds of call from other vCPUs.
_PER_VCPU = 8

# Event channels of each queue of a network interface, one for each direction.
_PER_QUEUE = 2

# The most queues of a network interface: one for each vCPU up to this number
# (MAX_QUEUES_DEFAULT in both halves of the driver).
_MAX_QUEUES = 8

# Event channels for Xenstore and the console.
_FIXED = 2

# Devices for which there is room, besides the disks that a guest starts with.
_INTERFACES = 8
_DISKS_TO_COME = 8

# Grants: in a frame; for each queue of a network interface (256 buffers to
# send, 256 to receive, and the two rings); for each disk (32 requests of 11
# pages, as QEMU allows, and the ring); and those that Xen itself reserves.
_PER_FRAME = 4096 // 8
_GRANTS_PER_QUEUE = 2 * 256 + 2
_GRANTS_PER_DISK = 32 * 11 + 1
_RESERVED_GRANTS = 8

# Event channels of dom0 itself: its devices, and the queues of devices that
# have one for each CPU.
_DOM0_FIXED = 256
_DOM0_PER_CPU = _PER_VCPU + 16

# The first Xen with the FIFO ABI.
_FIRST_FIFO = (4, 4)

#: The first Xen that lets a guest have more grant frames than its own command
#: line names (``gnttab_max_frames``). An older one refuses to make the guest.
FIRST_WITH_ANY_GRANT_FRAMES = (4, 18)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a guest needs of Xen's tables.

    :ivar event_channels: the number of event channels.
    :ivar grant_frames: the number of grant frames, of 4 KiB each.
    """

    event_channels: int
    grant_frames: int


def of_guest(kind: GuestType, *, vcpus: int, disks: int) -> Need:
    """Return what a guest needs, with room for devices to be attached.

    There is room for eight network interfaces and for eight more disks.

    :param kind: the guest's type.
    :param vcpus: the number of vCPUs.
    :param disks: the number of disks that it starts with.
    """
    disks += _DISKS_TO_COME
    queues = _INTERFACES * min(vcpus, _MAX_QUEUES)
    channels = _FIXED + _PER_VCPU * vcpus + _PER_QUEUE * queues + disks
    if kind is GuestType.HVM:
        # Each vCPU asks QEMU to emulate; and there is one for buffered writes.
        channels += vcpus + 1
    grants = (_RESERVED_GRANTS + _GRANTS_PER_QUEUE * queues
              + _GRANTS_PER_DISK * disks)
    return Need(event_channels=channels,
                grant_frames=-(-grants // _PER_FRAME))


def dom0_uses_fifo(xen: tuple[int, ...], command_line: str) -> bool:
    """Return whether dom0 has the event channels of the FIFO ABI.

    Linux (3.14 and later) uses it if Xen has it, unless ``xen.fifo_events`` on
    its command line says no. The kernel's log tells which ABI it uses, but
    only root can read that, and old lines are lost.

    :param xen: the version of Xen.
    :param command_line: the command line of dom0's kernel.
    """
    asked = re.findall(r'(?:^|\s)xen\.fifo[_-]events=(\S*)', command_line)
    # The last one counts; what the kernel takes for "no".
    off = bool(asked and re.match('[n0f]|of', asked[-1], re.IGNORECASE))
    return xen >= _FIRST_FIFO and not off


def reserved_for_dom0(cpus: int) -> int:
    """Return how many event channels dom0 may need for itself.

    :param cpus: the number of CPUs that dom0 has.
    """
    return _DOM0_FIXED + _DOM0_PER_CPU * cpus
