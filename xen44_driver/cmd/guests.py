# SPDX-License-Identifier: Apache-2.0
"""Which guests this host runs: what Xen says, and what libvirt says."""

from __future__ import annotations

from nova import conf

from xen44_driver import privsep
from xen44_driver.xen import host as xen_host

CONF = conf.CONF


def of_xen() -> dict[str, str]:
    """Ask Xen which domains it runs; this user has to be root.

    :returns: the domains' names by UUID, without dom0.
    :raises OSError: Xen cannot be asked.
    """
    # Root needs no daemon.
    privsep.sys_admin_pctxt.set_client_mode(False)
    return privsep.running_guests()


def of_libvirt() -> dict[str, str]:
    """Ask libvirt which domains run, over a new connection.

    :returns: the domains' names by UUID, without dom0.
    :raises xen44_driver.xen.errors.XenError: libvirt does not answer.
    """
    host = xen_host.Host(CONF.xen44.connection_uri)
    try:
        host.connect()
        return {uuid: record.name
                for uuid, record in {**host.records(),
                                     **host.foreign()}.items()
                if not record.state.is_off}
    finally:
        host.close()


def listed(names: dict[str, str]) -> str:
    """Return guests in words, such as for an error.

    :param names: names by UUID; not empty.
    """
    return ', '.join(f'{name or "without a name"} ({uuid})'
                     for uuid, name in sorted(names.items()))
