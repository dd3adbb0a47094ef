# SPDX-License-Identifier: Apache-2.0
"""``xen44-host probe-nested``: can guests of this host run guests?

The guest's init (:mod:`xen44_driver.cmd.nestedinit`) starts a guest with KVM.
"""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import pathlib
import socket
from typing import Any

from nova import conf

from xen44_driver.cmd import nestedguest
from xen44_driver.cmd import nestedinit
from xen44_driver.cmd import probing
from xen44_driver.cmd import report
from xen44_driver.compute import proof
from xen44_driver.xen import domain
from xen44_driver.xen import host as xen_host
from xen44_driver.xen.guesttype import GuestType

CONF = conf.CONF

#: Name of the guest's domain.
NAME = 'xen44-nested-probe'
#: Its memory; half of it may be used by what the initrd holds.
MEMORY_MIB = 512

# How Linux begins what it says last.
_PANIC = 'Kernel panic'


def run(*, as_json: bool, yes: bool, timeout: float) -> int:
    """Start a guest in a guest, and keep whether that works.

    :param as_json: whether to print JSON.
    :param yes: do not ask.
    :param timeout: seconds that the guest has.
    :returns: the exit status: 0 if it works, 1 if not, or if it was not
        tried.
    :raises xen44_driver.cmd.report.CannotWork: this user is not root, or the
        host is no Xen host, or lacks what the guest is made of.
    :raises xen44_driver.xen.errors.XenError: libvirt does not answer.
    :raises OSError: a file cannot be read or written.
    """
    report.require_root()
    report.require_confirmation(yes=yes)
    platform = probing.here()
    with contextlib.closing(
            xen_host.Host(CONF.xen44.connection_uri)) as host:
        host.connect()
        caps = host.capabilities()
        feature = caps.nested_feature
        if feature is None or GuestType.HVM not in caps.guest_types:
            raise report.CannotWork(
                'the CPU, or Xen, has no HVM guests that could run guests')
        if not report.confirm(
                'Xen calls nested virtualization experimental. A guest in a '
                f'guest may crash {socket.gethostname()} with all its guests. '
                'Start one', yes=yes):
            print('Nothing was done.')
            return 1

        def options(work: pathlib.Path) -> dict[str, Any]:
            ramdisk = work / 'initrd'
            ramdisk.write_bytes(nestedguest.initrd(feature))
            return {'nested_hvm': feature, 'boot': domain.DirectBoot(
                kernel=nestedguest.kernel(), ramdisk=str(ramdisk),
                cmdline=nestedguest.CMDLINE)}

        return probing.run(host, probing.Probe(
            proves=proof.NESTED_HVM, platform=platform, name=NAME,
            memory_mib=MEMORY_MIB, options=options, verdict=_verdict,
            works='A guest has run a guest'),
            timeout=timeout, as_json=as_json)


def _verdict(lines: Sequence[str]) -> str | None:
    """Find the line by which the guest says how it went."""
    for line in lines:
        # What the BIOS wrote to clear its screen may come before.
        if nestedinit.PASSED in line:
            return ''
        _, failed, reason = line.partition(nestedinit.FAILED)
        if failed:
            return reason or 'no reason'
        # Xen starts it anew, and so it would go on.
        if _PANIC in line:
            return f'the guest\'s kernel says: {line[line.index(_PANIC):]}'
    return None
