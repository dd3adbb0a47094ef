# SPDX-License-Identifier: Apache-2.0
"""Read what xl and lsevtchn print."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import dataclasses
import re

#: Xen's UUID of dom0.
DOM0 = '00000000-0000-0000-0000-000000000000'

# The last two columns: Xen's number of the domain, and "1:02:03", "1 day,
# 1:02:03" or "2 days, 1:02:03" (uptime_to_string in tools/xl/xl_info.c). What
# comes before them is the domain's name.
_UPTIME = re.compile(
    r'\s(\d+) +(?:(\d+) days?, +)?(\d+):(\d\d):(\d\d)\s*$', re.MULTILINE)


@dataclasses.dataclass(frozen=True, slots=True)
class RunningDomain:
    """A domain that Xen runs.

    :ivar uuid: its UUID; dom0's is :data:`DOM0`.
    :ivar id: Xen's number of it; dom0's is 0.
    :ivar name: its name, which may be empty.
    """

    uuid: str
    id: int
    name: str


def domains(text: str) -> Iterator[RunningDomain]:
    """Yield the domains that ``xl vm-list`` prints, dom0 too."""
    for line in text.splitlines()[1:]:
        if line.strip():
            uuid, number, *name = line.split(maxsplit=2)
            yield RunningDomain(uuid, int(number), ''.join(name).strip())


def uptimes(text: str) -> dict[int, int]:
    """Return for how long domains run, which ``xl uptime`` prints.

    :returns: seconds by Xen's number of the domain.
    """
    return {int(domid): ((int(days or 0) * 24 + int(hours)) * 60
                         + int(minutes)) * 60 + int(seconds)
            for domid, days, hours, minutes, seconds
            in _UPTIME.findall(text)}


def passthrough(text: str) -> frozenset[str]:
    """Return which guests can have PCI devices, which ``xl info`` prints.

    :returns: of ``pv`` and ``hvm``; empty if the host has no IOMMU that Xen
        uses.
    """
    found = re.search(r'^virt_caps\s*:(.*)$', text, re.MULTILINE)
    words = found[1].split() if found else []
    return frozenset(word.removesuffix('_directio') for word in words
                     if word.endswith('_directio'))


def grant_frames(text: str) -> int | None:
    """Return what ``xl info`` prints of ``gnttab_max_frames``.

    :returns: the number on Xen's command line; None if it is not there.
    """
    found = re.search(r'^xen_commandline\s*:(.*)$', text, re.MULTILINE)
    # The last one counts. Xen reads numbers as C does.
    numbers = re.findall(r'(?:^|\s)gnttab_max_frames=(\S+)',
                         found[1] if found else '')
    with contextlib.suppress(IndexError, ValueError):
        last = numbers[-1]
        return int(last, 8 if re.match('0[0-7]', last) else 0)
    return None


def hard_affinity(text: str) -> tuple[str, ...]:
    """Return on which CPUs each vCPU of a domain may run.

    :param text: what ``xl vcpu-list DOMAIN`` prints: for each vCPU a line that
        ends in the hard and the soft affinity, as in ``0-1,4 / all``.
    :returns: such as ``0-1,4`` or ``all``, in the order of the vCPUs.
    """
    return tuple(re.findall(r'(\S+) / \S+\s*$', '\n'.join(
        text.splitlines()[1:]), re.MULTILINE))


def event_channels(text: str) -> int:
    """Return how many event channels of a domain ``lsevtchn`` prints."""
    return len(text.splitlines())
