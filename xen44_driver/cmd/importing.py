# SPDX-License-Identifier: Apache-2.0
"""``xen44-import``: take over domains that Nova did not make.

The definition of a domain that is imported is kept in a file, and then
undefined, so that it cannot run beside its server. Its disks stay.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import json
import os
import socket
from typing import Any

from nova import conf
from nova import objects
from nova.virt import virtapi
from oslo_utils import units

from xen44_driver.cmd import cloud
from xen44_driver.cmd import foreign as foreign_lib
from xen44_driver.cmd import guests
from xen44_driver.cmd import keeping
from xen44_driver.cmd import leftovers
from xen44_driver.cmd import newservers
from xen44_driver.cmd import report
from xen44_driver.cmd import stopped
from xen44_driver.compute import machine as machine_lib
from xen44_driver.compute import node as compute_node
from xen44_driver.xen import errors
from xen44_driver.xen import host as xen_host

CONF = conf.CONF

#: How a domain is imported.
IN_PLACE = 'in place'
NEW_SERVER = 'new server'


@dataclasses.dataclass(slots=True, kw_only=True)
class _Row:
    """A domain, and what becomes of it.

    :ivar foreign: the domain.
    :ivar way: :data:`IN_PLACE` or :data:`NEW_SERVER`.
    :ivar problems: why it cannot be imported.
    :ivar plan: how its new server is to be made; None in place, and if there
        are problems.
    :ivar server: UUID of the server that it has become.
    :ivar done: what was done, for people.
    """

    foreign: foreign_lib.Foreign
    way: str
    problems: list[str]
    plan: newservers.Plan | None = None
    server: str | None = None
    done: list[str] = dataclasses.field(default_factory=list)

    @property
    def needs(self) -> list[str]:
        """What is missing to import it."""
        return self.plan.needs if self.plan else []


def run(names: Sequence[str], wanted: newservers.Wanted, *, yes: bool,
        as_json: bool) -> int:
    """Show which domains can be imported, and import them.

    :param names: names or UUIDs of the domains; none for all.
    :param wanted: what new servers are made with.
    :param yes: import them.
    :param as_json: whether to print JSON.
    :returns: the exit status: 1 if a domain that was named cannot be, or was
        not, imported, otherwise 0.
    :raises xen44_driver.cmd.report.CannotWork: this user is not root, there
        is no such domain, or the cloud does not answer.
    :raises xen44_driver.xen.errors.XenError: libvirt does not answer.
    :raises OSError: Xen cannot be asked.
    """
    report.require_root()
    if yes and not names:
        raise report.CannotWork('name the domains to import, with --yes')
    objects.register_all()
    done: list[str] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(report.telling(done))
        if yes:
            stack.enter_context(stopped.locked())
        host = xen_host.Host(CONF.xen44.connection_uri)
        stack.callback(host.close)
        host.connect()
        connection = stack.enter_context(
            cloud.connected('cannot ask the cloud'))
        options = compute_node.Node(
            host, virtapi.VirtAPI()).machine_options()
        rows = [*_rows(host, connection, names, wanted, options)]
        for row in rows:
            if yes and not row.problems and not row.needs:
                _import(host, connection, row, wanted)
                done += [f'{row.foreign.name}: {text}' for text in row.done]
        if as_json:
            print(json.dumps({
                'host': socket.gethostname(),
                'domains': [_plain(row) for row in rows]}, indent=2))
        else:
            _print(rows, yes=yes)
    return int(bool(names) and any(
        row.problems or row.needs or (yes and not row.server)
        for row in rows))


# What there is

def _rows(host: xen_host.Host, connection: Any, names: Sequence[str],
          wanted: newservers.Wanted, options: machine_lib.Options,
          ) -> Iterator[_Row]:
    servers = {server.id: server
               for server in cloud.servers(connection.compute)}
    earlier = newservers.earlier(connection)
    for foreign in _named(host, names):
        server = servers.get(foreign.uuid)
        if foreign.of_nova and server is not None:
            yield _Row(foreign=foreign, way=IN_PLACE, problems=[
                *leftovers.problems(connection, foreign, server, options)])
            continue
        made = earlier.get(foreign.uuid, ())
        row = _Row(foreign=foreign, way=NEW_SERVER,
                   problems=[*newservers.problems(foreign, made)])
        if not row.problems:
            row.plan = newservers.plan(
                connection, foreign, wanted, options, made)
        yield row


def _named(host: xen_host.Host, names: Sequence[str],
           ) -> list[foreign_lib.Foreign]:
    """Return domains that are not Nova's, by their names.

    :param names: names or UUIDs; none for all.
    :raises xen44_driver.cmd.report.CannotWork: there is no such domain.
    """
    running = guests.of_xen()
    known = [*foreign_lib.found(host, running)]
    uuids = {*host.records(), *(domain.uuid for domain in known)}
    # xl also starts what libvirt knows under the same name.
    taken = {domain.name for domain in known}
    known += [foreign_lib.of_xen_alone(uuid, name)
              for uuid, name in running.items()
              if uuid not in uuids and name not in taken]
    known.sort(key=lambda domain: (domain.name, domain.uuid))
    chosen: set[str] = set()
    for name in names:
        # A domain can have a name that looks like the UUID of another.
        matching = ({domain.uuid for domain in known if domain.uuid == name}
                    or {domain.uuid for domain in known
                        if domain.name == name})
        if not matching:
            raise report.CannotWork(
                f'there is no domain {name} here, apart from Nova\'s')
        chosen |= matching
    return [domain for domain in known
            if not names or domain.uuid in chosen]


# Import

def _import(host: xen_host.Host, connection: Any, row: _Row,
            wanted: newservers.Wanted) -> None:
    """Import a domain; what goes wrong is put to its problems."""
    foreign = row.foreign
    path = os.path.join(CONF.state_path, f'xen44-import-{foreign.uuid}.xml')
    try:
        guest = host.foreign_guest(foreign.uuid)
        # Others may have been imported since it was read, for hours.
        if change := foreign_lib.changed(foreign, guest, guests.of_xen()):
            row.problems.append(f'{change}: with it shut down, import it '
                                'again')
            return
        keeping.replace(path, guest.kept_xml())
        row.done.append(f'its definition is kept in {path}')
        if row.plan is not None:
            server = newservers.make(connection, row.plan, wanted)
            row.done.append(f'it is server {server}')
            if change := foreign_lib.changed(foreign, guest, guests.of_xen()):
                row.problems.append(
                    f'{change}, and the server has another content: shut '
                    'down what uses its disks, openstack server delete '
                    f'{server}, and import it again')
                return
        else:
            leftovers.take(foreign)
            server = foreign.uuid
            row.done.append('its root disk has the driver\'s name: openstack '
                            f'server start {server}')
            # The server is an old one, with its only disks.
            if not guest.state().is_off:
                row.problems.append('it was started meanwhile: shut it down, '
                                    'and import it again')
                return
        guest.undefine()
    except (newservers.NotMade, errors.XenError, OSError) as error:
        row.problems.append(str(error))
        return
    row.server = server
    row.done.append('the old domain is undefined')
    if row.plan is not None:
        row.done.append('its old disks are not needed any more: '
                        + ', '.join(disk.source for disk in foreign.disks))


# What is printed

def _plain(row: _Row) -> dict[str, Any]:
    foreign = row.foreign
    return {
        'uuid': foreign.uuid, 'domain': foreign.name, 'state': foreign.state,
        'guest_type': foreign.guest_type, 'vcpus': foreign.vcpus or None,
        'memory_mib': foreign.memory_mib or None,
        'disks': [{'target': disk.target, 'path': disk.source,
                   'format': disk.format, 'bytes': disk.size}
                  for disk in foreign.disks],
        'macs': list(foreign.macs), 'way': row.way,
        'possible': not row.problems, 'problems': row.problems,
        'needs': row.needs, 'server': row.server,
        'done': [*row.done, *_going_on(row)]}


def _print(rows: Iterable[_Row], *, yes: bool) -> None:
    print(report.table(
        ['Domain', 'State', 'Type', 'vCPUs', 'MiB', 'Disks', 'NICs',
         'Import'], map(_cells, rows)))
    for row in rows:
        texts = [*row.done, *_going_on(row), *row.problems,
                 *(f'it needs {need}' for need in row.needs)]
        if texts:
            print(report.printable(
                f'{row.foreign.name} ({row.foreign.uuid}):'))
        for text in texts:
            print(f'  {report.sentence(text)}')
    if not yes:
        print('Nothing was done. To import a domain, name it, with --yes.')


def _going_on(row: _Row) -> Iterator[str]:
    if row.plan and row.plan.server and not row.server:
        yield (f'server {row.plan.server} is of an earlier run, which did not '
               'end: --yes goes on with it')


def _cells(row: _Row) -> list[object]:
    foreign = row.foreign
    disks = ', '.join(
        f'{disk.target} {disk.format} {disk.size / units.Gi:.1f} GiB'
        for disk in foreign.disks)
    return [foreign.name, foreign.state, foreign.guest_type or '-',
            foreign.vcpus or '-', foreign.memory_mib or '-', disks or '-',
            ', '.join(foreign.macs) or '-',
            'imported' if row.server else 'no' if row.problems else row.way]
