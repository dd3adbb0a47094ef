# SPDX-License-Identifier: Apache-2.0
"""What only Xen knows of running domains: uptime and event channels."""

from __future__ import annotations

import dataclasses
import glob
import os
import shutil

from xen44_driver.xen import programs
from xen44_driver.xen import xl

#: Where Xen's programs are that are not on the PATH: in Fedora, where Xen
#: installs them by itself, and in Debian, for each version of Xen.
DIRECTORIES = ('/usr/libexec/xen/bin', '/usr/lib/xen/bin',
               '/usr/lib/xen-*/bin')


@dataclasses.dataclass(frozen=True, slots=True)
class Vitals:
    """What Xen says of a domain that runs.

    :ivar id: Xen's number of it.
    :ivar name: its name, which may be empty.
    :ivar uptime: seconds since it was started, or resumed from a disk; None if
        that is not known.
    :ivar event_channels: how many event channels it has; None if that is not
        known.
    """

    id: int
    name: str
    uptime: int | None
    event_channels: int | None


def read() -> dict[str, Vitals]:
    """Ask Xen for all domains; this user has to be root.

    It takes one process for each domain, and two more.

    :returns: what it says, by the domain's UUID; dom0 is in it.
    :raises OSError: xl cannot be asked.
    """
    uptimes = xl.uptimes(programs.run('xl', 'uptime'))
    lister = _lister()
    return {domain.uuid: Vitals(
        domain.id, domain.name, uptimes.get(domain.id),
        _event_channels(lister, domain.id))
        for domain in xl.domains(programs.run('xl', 'vm-list'))}


def _lister() -> str | None:
    """Return the path of lsevtchn; None if it is not there.

    Its hypercall is the same in all versions of Xen.
    """
    return shutil.which('lsevtchn') or shutil.which(
        'lsevtchn', path=os.pathsep.join(
            path for pattern in DIRECTORIES for path in glob.glob(pattern)))


def _event_channels(lister: str | None, domid: int) -> int | None:
    if lister is None:
        return None
    try:
        return xl.event_channels(programs.run(lister, str(domid)))
    except OSError:
        # The domain has ended.
        return None
