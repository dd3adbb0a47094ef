# SPDX-License-Identifier: Apache-2.0
"""``xen44-host remove``: take this host out of Nova.

Nova's API deletes the record of the compute service, and with it that of the
compute node, its placement provider and its places in aggregates. It refuses
while the host has instances or migrations, and does not ask whether
nova-compute runs: one that does makes a compute node and a provider again.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import json
import socket
from typing import Any

from nova import conf
from nova import exception
from nova.compute import vm_states
from nova.virt import node
from openstack import exceptions
from openstack.compute.v2 import service as sdk_service

from xen44_driver.cmd import cloud
from xen44_driver.cmd import report
from xen44_driver.cmd import stopped
from xen44_driver.cmd import systemd

CONF = conf.CONF

#: systemd's unit of nova-compute.
UNIT = f'{cloud.BINARY}.service'

#: Seconds between two looks at Nova.
INTERVAL = 2

# Seconds that systemctl has: to tell, and to stop nova-compute, which may be
# in the middle of something.
_ASK_TIMEOUT = 30
_STOP_TIMEOUT = 300

# States of migrations that Nova does not wait for
# (nova.db.main.api.migration_get_in_progress_by_host_and_node).
_ENDED = frozenset({
    'cancelled', 'completed', 'confirmed', 'done', 'error', 'failed',
    'reverted'})

_BACK = (f'to use the host again: systemctl enable --now {cloud.BINARY}, and '
         'nova-manage cell_v2 discover_hosts')


@dataclasses.dataclass(slots=True, kw_only=True)
class _Run:
    """One run of the command.

    :ivar connection: openstacksdk's connection.
    :ivar service: Nova's record of nova-compute; None if it has none.
    :ivar nodes: UUIDs of the host's compute nodes, and of their providers.
    :ivar done: what was done so far, for people.
    :ivar reasons: why it was not done.
    """

    connection: Any
    service: sdk_service.Service | None
    nodes: set[str]
    done: list[str]
    reasons: list[str] = dataclasses.field(default_factory=list)


def run(*, yes: bool, timeout: int, as_json: bool) -> int:
    """Remove this host from Nova.

    :param yes: do not ask.
    :param timeout: seconds that Nova has to notice that nova-compute has
        ended, and again to remove all.
    :param as_json: whether to print JSON.
    :returns: the exit status: 1 if it was not done, otherwise 0.
    :raises xen44_driver.cmd.report.CannotWork: this user is not root, there
        is nobody to ask, Nova or Placement does not answer, or systemd
        refuses.
    """
    report.require_root()
    report.require_confirmation(yes=yes)
    done: list[str] = []
    with (report.telling(done), stopped.locked(),
          cloud.connected('cannot ask Nova') as connection):
        its = _begin(connection, done)
        its.reasons += _reasons(its)
        gone = not its.reasons and _remove(its, yes=yes, timeout=timeout)
        _print(its, gone=gone, as_json=as_json)
        return int(not gone)


def _begin(connection: Any, done: list[str]) -> _Run:
    found = cloud.services(connection.compute)
    nodes = {hypervisor.id for hypervisor in _hypervisors(connection)}
    # It is known here also when Nova does not know it any more.
    try:
        own = node.read_local_node_uuid()
    except exception.InvalidNodeConfiguration as error:
        raise report.CannotWork(str(error)) from error
    return _Run(connection=connection, service=found[0] if found else None,
                nodes=nodes | ({own} if own else set()), done=done)


def _hypervisors(connection: Any) -> list[Any]:
    return [hypervisor for hypervisor
            in connection.compute.hypervisors(details=True)
            if hypervisor.service_details['host'] == CONF.host]


# What speaks against it

def _reasons(its: _Run) -> Iterator[str]:
    """Yield what has to be done before, by somebody who decides it."""
    if its.service is None:
        return
    if its.service.status != 'disabled':
        yield ('the compute service is enabled: xen44-host maintenance on '
               '--reason TEXT')
    proxy = its.connection.compute
    # Those that can still be restored are not in Nova's ordinary list.
    for server in proxy.servers(all_projects=True, compute_host=CONF.host,
                                is_soft_deleted=True):
        yield (f'server {server.name} ({server.id}) is on this host '
               f'({server.vm_state}): {_way_out(server)}')
    for migration in proxy.migrations(host=CONF.host):
        if migration.status not in _ENDED:
            yield (f'a {migration.migration_type} of server '
                   f'{migration.server_id} from {migration.source_compute} '
                   f'to {migration.dest_compute} has not ended '
                   f'({migration.status}): wait for it, or end it with '
                   'openstack server resize confirm or revert')


def _way_out(server: Any) -> str:
    deletes = 'openstack server delete --force deletes it'
    if server.vm_state == vm_states.SOFT_DELETED:
        return deletes
    # The driver moves no disks between hosts; Glance does.
    return ('openstack server shelve --offload takes it off the host, and '
            f'unshelve puts it on another; {deletes}')


# What is done

def _remove(its: _Run, *, yes: bool, timeout: int) -> bool:
    """Stop nova-compute and let Nova forget the host.

    :returns: whether it has.
    """
    runs, at_boot = _unit()
    if its.service is None and not runs and not at_boot:
        its.done.append('Nova has no compute service of this host')
        return _wait_until_gone(its, timeout)
    question = f'Stop {cloud.BINARY}, and remove {CONF.host} from Nova'
    if not report.confirm(question, yes=yes):
        its.done.append('nothing was done')
        return False
    if runs or at_boot:
        systemd.systemctl('disable', '--now', UNIT, timeout=_STOP_TIMEOUT)
        its.done.append(f'{cloud.BINARY} is stopped, and disabled: it does '
                        'not start with the host')
    if not runs and not _wait_until_down(its, timeout):
        its.reasons.append(
            f'{cloud.BINARY} of this host reports to Nova, and systemd does '
            f'not run it as {UNIT}: stop it where it runs')
        return False
    if its.service is None:
        its.done.append('Nova has no compute service of this host')
    elif not _delete(its, its.service):
        return False
    return _wait_until_gone(its, timeout)


def _unit() -> tuple[bool, bool]:
    """Return whether systemd runs nova-compute, and starts it at boot."""
    shown = systemd.systemctl(
        'show', '--property=ActiveState,UnitFileState', UNIT,
        timeout=_ASK_TIMEOUT)
    values = dict(line.split('=', maxsplit=1)
                  for line in shown.splitlines() if '=' in line)
    return (values.get('ActiveState') not in ('inactive', 'failed', None),
            values.get('UnitFileState') == 'enabled')


def _wait_until_down(its: _Run, timeout: int) -> bool:
    """Wait until Nova hears nothing of nova-compute any more."""
    def is_down() -> bool:
        found = cloud.services(its.connection.compute)
        return not found or found[0].state == 'down'

    if not is_down():
        report.progress(f'Waiting until Nova calls {cloud.BINARY} down')
    return report.wait(is_down, timeout, INTERVAL)


def _delete(its: _Run, service: sdk_service.Service) -> bool:
    try:
        its.connection.compute.delete_service(service.id)
    except exceptions.ConflictException as error:
        its.reasons.append(f'Nova refuses: {error}; {_BACK}')
        return False
    its.done.append('the record of the compute service is deleted')
    return True


def _wait_until_gone(its: _Run, timeout: int) -> bool:
    def is_gone() -> bool:
        left[:] = _left(its)
        return not left

    left: list[str] = []
    if report.wait(is_gone, timeout, INTERVAL):
        its.done.append('Nova and Placement have nothing of this host')
        return True
    its.reasons += left
    return False


def _left(its: _Run) -> Iterator[str]:
    """Yield what Nova and Placement still have."""
    if cloud.services(its.connection.compute):
        yield 'Nova still has the compute service'
    for hypervisor in _hypervisors(its.connection):
        yield f'Nova still has the compute node {hypervisor.name}'
    # Nova only logs it if Placement refused.
    for uuid in sorted(its.nodes):
        for provider in its.connection.placement.resource_providers(id=uuid):
            yield (f'Placement still has the provider {provider.name}: '
                   f'openstack resource provider delete {uuid}')


# What is printed

def _print(its: _Run, *, gone: bool, as_json: bool) -> None:
    if as_json:
        print(json.dumps({
            'host': socket.gethostname(), 'removed': gone, 'done': its.done,
            'reasons': its.reasons}, indent=2))
        return
    for text in (*its.done, *its.reasons):
        print(report.sentence(text))
    if gone:
        print(f'{CONF.host} is out of Nova. Its network agents are '
              'Neutron\'s: openstack network agent delete.')
        print(report.sentence(_BACK))
    elif its.reasons:
        print(f'{CONF.host} is not removed. {report.RETRY}.')
