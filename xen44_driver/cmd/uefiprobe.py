# SPDX-License-Identifier: Apache-2.0
"""``xen44-host probe-uefi``: does the UEFI firmware start on this host?

Its name does not tell: Debian 12's build, for one, is reported not to. It is
started in a guest without a disk, and says so on its serial port.
"""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import pathlib
from typing import Any

from nova import conf
from nova.virt import virtapi

from xen44_driver.cmd import probing
from xen44_driver.cmd import report
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import proof
from xen44_driver.xen import domain
from xen44_driver.xen import host as xen_host
from xen44_driver.xen.guesttype import GuestType

CONF = conf.CONF

#: Name of the guest's domain.
NAME = 'xen44-uefi-probe'
MEMORY_MIB = 256

#: What edk2's boot manager says when it looks for something to boot, and the
#: shell that it starts if there is nothing.
SAYS = ('BdsDxe', 'UEFI Interactive Shell')


def run(*, as_json: bool, timeout: float) -> int:
    """Start the firmware, and keep whether that works.

    :param as_json: whether to print JSON.
    :param timeout: seconds that the firmware has.
    :returns: the exit status: 0 if it works, otherwise 1.
    :raises xen44_driver.cmd.report.CannotWork: this user is not root, or the
        host is no Xen host, or has no such firmware.
    :raises xen44_driver.xen.errors.XenError: libvirt does not answer.
    :raises OSError: a file cannot be read or written.
    """
    report.require_root()
    with contextlib.closing(
            xen_host.Host(CONF.xen44.connection_uri)) as host:
        host.connect()
        node = compute_node.Node(host, virtapi.VirtAPI())
        firmware = node.uefi()
        if (firmware is None or firmware.sha256 is None
                or GuestType.HVM not in node.capabilities.guest_types):
            raise report.CannotWork(
                'there is no UEFI firmware for HVM guests: '
                f'[xen44_{node.arch.name}] uefi_firmware is '
                f'{firmware.path if firmware else "not set"}')
        if problem := node.uefi_refusal():
            raise report.CannotWork(problem)
        platform = probing.here(firmware.sha256)
        boot = domain.FirmwareBoot(uefi=firmware.path)

        def options(work: pathlib.Path) -> dict[str, Any]:
            return {'boot': boot}

        return probing.run(host, probing.Probe(
            proves=proof.UEFI, platform=platform, name=NAME,
            memory_mib=MEMORY_MIB, options=options, verdict=_verdict,
            works='The firmware has started'),
            timeout=timeout, as_json=as_json)


def _verdict(lines: Sequence[str]) -> str | None:
    """Find a line that only the firmware can have written."""
    return '' if any(word in line for line in lines for word in SAYS) else None
