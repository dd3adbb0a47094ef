# SPDX-License-Identifier: Apache-2.0
"""What the bench's parts share: nova-compute and its log, servers, tables."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import re
import traceback

from labkit import compute
from labkit import images
from labkit import util
from labkit.cloud import Cloud
from labkit.cloud import content
from labkit.host import XenHost
from labkit.servers import Servers

_LIBVIRT_CALL = re.compile(r'libvirt call: (\w+) ([\d.]+) s')

_DROP_IN = '/etc/nova/nova.conf.d/bench.conf'
#: No periodic task disturbs what is measured.
QUIET = '[DEFAULT]\ndebug = true\nperiodic_enable = false\n'

Calls = collections.Counter[str]


class Log:
    """nova-compute's log, from a mark on."""

    def __init__(self, host: XenHost):
        self._host = host
        self._mark = 0
        self.mark()

    def mark(self) -> None:
        """What was logged before is not looked at."""
        self._mark = int(self._host.ssh(
            ['stat', '-c', '%s', compute.NOVA_COMPUTE_LOG]).stdout)

    def read(self) -> str:
        """What was logged since the mark."""
        return self._host.ssh(
            ['tail', '-c', f'+{self._mark + 1}', compute.NOVA_COMPUTE_LOG],
            timeout=300).stdout

    def calls(self) -> Calls:
        """The libvirt calls since the mark, by name."""
        return calls(self.read())

    def seconds(self, call: str) -> float:
        """Seconds since the mark of the libvirt calls that begin so."""
        return seconds_of(self.read(), call)


def calls(text: str) -> Calls:
    """The libvirt calls in a part of the log, by name."""
    return collections.Counter(
        name for name, _ in _LIBVIRT_CALL.findall(text))


def seconds_of(text: str, call: str) -> float:
    """Seconds of the libvirt calls in a part of the log that begin so."""
    return sum(float(seconds) for name, seconds
               in _LIBVIRT_CALL.findall(text) if name.startswith(call))


class Bench:
    """One run.

    :ivar failed: what was not measured.
    """

    def __init__(self, cloud: Cloud, host: XenHost):
        self.cloud = cloud
        self.host = host
        self.client = cloud.client()
        self.servers = Servers(self.client)
        self.image = images.ensure(cloud)[images.DISK]
        self.failed: list[str] = []
        self._configured = ''

    @contextlib.contextmanager
    def attempt(self, title: str) -> Iterator[None]:
        """Note a failure of the body, and let the rest be measured."""
        try:
            yield
        except util.LabError as error:
            util.say(f'{title}: failed: {error}')
            self.failed.append(title)
        except Exception:
            util.say(f'{title}: failed: {traceback.format_exc()}')
            self.failed.append(title)

    # nova-compute

    def configure(self, text: str = QUIET) -> Log:
        """Have nova-compute run with this beside its configuration.

        :returns: its log, from now on.
        """
        if text != self._configured:
            self.host.ssh(['sh', '-c',
                           f'mkdir -p "$(dirname {_DROP_IN})" && '
                           f'cat > {_DROP_IN}'], input=text)
            self._configured = text
            with util.step('nova-compute: configured for the bench'):
                compute.restart(self.host, self.cloud)
        return Log(self.host)

    def close(self) -> None:
        """Have nova-compute run as it was."""
        if not self._configured:
            return
        self.host.ssh(['rm', '-f', _DROP_IN])
        with util.step('nova-compute: configured as it was'):
            compute.restart(self.host, self.cloud)

    # Nova

    def create(self, name: str, flavor: str) -> str:
        """Have a server, ACTIVE; returns its id.

        :param flavor: id of it.
        """
        ident = self.servers.create(name, self.image, flavor)
        self.servers.wait(ident)
        return ident

    def remove(self, prefix: str) -> None:
        """Delete the servers whose names begin so, if there are any."""
        self.servers.delete(*(
            server['id'] for server in self.servers.named(prefix).values()))

    @contextlib.contextmanager
    def server(self, name: str, flavor: str) -> Iterator[str]:
        """Have a server, ACTIVE, in the body; parameters as of `create`."""
        ident = self.servers.create(name, self.image, flavor)
        try:
            self.servers.wait(ident)
            yield ident
        finally:
            self.servers.delete(ident)

    def domain(self, ident: str) -> str:
        """Name of a server's domain."""
        name: str = self.servers.get(ident)['OS-EXT-SRV-ATTR:instance_name']
        return name

    @contextlib.contextmanager
    def flavor(self, kind: str, disk: int = 1) -> Iterator[str]:
        """Have a flavor of a guest type in the body; its id.

        Apart from the disk it is as the lab's own.

        :param disk: GiB.
        """
        _, ram, vcpus, _, specs = content.FLAVORS[f'xen.{kind}']
        ident = content.create_flavor(
            self.client, f'bench.{kind}.{disk}', ram, disk, specs,
            vcpus=vcpus)
        try:
            yield ident
        finally:
            self.client.call('DELETE', 'compute', f'/flavors/{ident}')


def print_table(title: str, columns: Sequence[str],
                rows: Mapping[str, Sequence[str]]) -> None:
    """Print a table, the numbers right-aligned.

    :param title: heads the first column, after lines of its own if it has
        several.
    :param columns: heads of the others.
    :param rows: the cells by what begins the row.
    """
    *above, head = title.splitlines()
    first = max(map(len, (head, *rows)))
    widths = [max(map(len, cells)) for cells
              in zip(columns, *rows.values(), strict=True)]
    print(*('', *above), sep='\n')
    for name, cells in {head: columns, **rows}.items():
        print(f'{name:<{first}}' + ''.join(
            f'  {cell:>{width}}'
            for cell, width in zip(cells, widths, strict=True)))


def number(value: float | None, digits: int = 1) -> str:
    """A cell of a table; a dash for what was not measured."""
    return '-' if value is None else f'{value:.{digits}f}'


def ratio(value: float | None, base: float | None) -> str:
    """The cell of how often one goes into the other."""
    return number(value / base if value and base else None, 2)


def print_calls(title: str, counts: Mapping[str, Calls]) -> None:
    """Print how many libvirt calls each operation makes, and which."""
    width = max(map(len, (title, *counts)))
    print(f'\n{title:<{width}}  calls  which')
    for name, found in counts.items():
        which = ', '.join(call if times == 1 else f'{call} x{times}'
                          for call, times in found.most_common())
        print(f'{name:<{width}} {found.total():>6}  {which or "none"}')
