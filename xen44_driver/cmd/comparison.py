# SPDX-License-Identifier: Apache-2.0
"""Compare this host's domains with Nova's servers on it."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set
import dataclasses
from typing import Any

from openstack import exceptions

from xen44_driver.cmd import cloud

#: States of servers that have no domain, or none yet.
_WITHOUT_DOMAIN = frozenset({
    'building', 'deleted', 'error', 'shelved_offloaded', 'soft-delete'})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A server that only one side has.

    :ivar uuid: the server's UUID.
    :ivar only_in: ``xen`` or ``nova``.
    :ivar text: what is known about it.
    """

    uuid: str
    only_in: str
    text: str


def differences(domains: Set[str]) -> Iterator[Difference]:
    """Yield the domains without a server, and the servers without a domain.

    Servers that Nova is working on are left out.

    :param domains: UUIDs of this driver's domains.
    :raises xen44_driver.cmd.report.CannotWork: Nova does not answer, or the
        credentials are not an administrator's.
    """
    with cloud.compute('cannot compare with Nova') as proxy:
        servers = {server.id: server for server in cloud.servers(proxy)}
        for uuid in sorted(domains - servers.keys()):
            yield Difference(uuid=uuid, only_in='xen',
                             text=_elsewhere(proxy, uuid))
    for uuid in sorted(servers.keys() - domains):
        server = servers[uuid]
        if server.vm_state not in _WITHOUT_DOMAIN and not server.task_state:
            yield Difference(
                uuid=uuid, only_in='nova',
                text=f'Nova has this server here ({server.vm_state}), and '
                     'there is no domain of it')


def _elsewhere(proxy: Any, uuid: str) -> str:
    """Say what Nova knows of a server that it does not have on this host."""
    try:
        server = proxy.get_server(uuid)
    except exceptions.NotFoundException:
        return 'Nova does not know this server'
    return (f'Nova has this server on host {server.compute_host} '
            f'({server.status})')
