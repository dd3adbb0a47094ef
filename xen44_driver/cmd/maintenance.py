# SPDX-License-Identifier: Apache-2.0
"""``xen44-host maintenance``: take this host out of use, and back.

All of it is done through Nova's API. What was done is seen from Nova's
records, and from :mod:`xen44_driver.cmd.stopped`, so that each command can be
run again after it failed.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import dataclasses
import json
import socket
import time
from typing import Any

from nova.compute import power_state
from openstack import exceptions
from openstack.compute.v2 import server as sdk_server
from openstack.compute.v2 import service as sdk_service

from xen44_driver.cmd import cloud
from xen44_driver.cmd import guests
from xen44_driver.cmd import report
from xen44_driver.cmd import stopped
from xen44_driver.compute import service as compute_service
from xen44_driver.xen import errors

#: Seconds between two looks at Nova's servers.
INTERVAL = 5

# Characters that Nova's API takes.
_MAX_REASON = 255


@dataclasses.dataclass(slots=True, kw_only=True)
class _Run:
    """One run of the command.

    :ivar proxy: openstacksdk's proxy of Nova's API.
    :ivar record: the instances that this maintenance stopped.
    :ivar service: Nova's record of nova-compute.
    :ivar done: what was done so far, for people.
    :ivar problems: what went wrong, by UUID of the instance.
    """

    proxy: Any
    record: stopped.Stopped
    service: sdk_service.Service
    done: list[str]
    problems: dict[str, str] = dataclasses.field(default_factory=dict)


@contextlib.contextmanager
def _begin() -> Iterator[_Run]:
    """Yield a run; whatever ends it early is told with what was done.

    :raises xen44_driver.cmd.report.CannotWork: see there.
    """
    report.require_root()
    done: list[str] = []
    with (report.telling(done), stopped.locked(),
          cloud.compute('cannot ask Nova') as proxy):
        yield _Run(proxy=proxy, record=stopped.Stopped(),
                   service=cloud.service(proxy), done=done)


def enter(*, reason: str, stop: bool, yes: bool, timeout: int,
          as_json: bool) -> int:
    """Disable the compute service, and show or stop what runs.

    :param reason: why, in 1 to 255 printable characters.
    :param stop: whether to stop the instances.
    :param yes: do not ask before that.
    :param timeout: seconds that all of them have to stop.
    :param as_json: whether to print JSON.
    :returns: the exit status: 1 if instances were to be stopped and still
        run, otherwise 0.
    :raises xen44_driver.cmd.report.CannotWork: Nova does not answer, there is
        nobody to ask, the reason will not do, or something else ended it.
    """
    reason = _checked(reason)
    if stop:
        report.require_confirmation(yes=yes)
    with _begin() as run:
        _disable(run, reason)
        running = _running(run)
        if stop and running:
            _require_up(run)
            report.progress(_table(running))
            if report.confirm(f'Stop these {len(running)} instances', yes=yes):
                _stop(run, timeout)
            else:
                run.done.append('no instance was stopped')
            running = _running(run)
        _print(run, running, as_json=as_json)
        return int(stop and bool(running))


def leave(*, start: bool, timeout: int, as_json: bool) -> int:
    """Enable the compute service, and start what the maintenance stopped.

    :param start: whether to start the instances.
    :param timeout: seconds that all of them have to start.
    :param as_json: whether to print JSON.
    :returns: the exit status: 1 if an instance was to be started and does not
        run, otherwise 0.
    :raises xen44_driver.cmd.report.CannotWork: libvirt or Nova does not
        answer, or something else ended the run.
    """
    with _begin() as run:
        try:
            guests.of_libvirt()
        except errors.XenError as error:
            # The scheduler would choose a host that looks empty.
            raise report.CannotWork(
                f'no instance can run here: {error}') from error
        if start:
            _require_up(run)
        _enable(run)
        _forget_others(run)
        if start:
            _start(run, timeout)
        _print(run, _running(run), as_json=as_json)
        return int(bool(run.problems))


# The service

def _checked(reason: str) -> str:
    """Return the reason for a maintenance, without white space around it.

    :raises xen44_driver.cmd.report.CannotWork: Nova would not keep it, or the
        driver would take it for its own and enable the service.
    """
    reason = reason.strip()
    if not 0 < len(reason) <= _MAX_REASON or not reason.isprintable():
        raise report.CannotWork(
            f'the reason {reason!r} has {len(reason)} characters: give 1 to '
            f'{_MAX_REASON} printable ones')
    if reason.startswith(compute_service.PREFIX.strip()):
        raise report.CannotWork(
            f'the reason {reason!r} begins as those do with which '
            'nova-compute disables the service until libvirt is back')
    return reason


def _disable(run: _Run, reason: str) -> None:
    was = run.service
    if was.status == 'disabled':
        if was.disabled_reason == reason:
            run.done.append('the service was disabled before')
            return
        run.done.append('the service was disabled before, with the reason: '
                        f'{was.disabled_reason or "none"}')
    elif run.record.uuids:
        # Their owners may have reasons of their own by now.
        run.done.append(
            'an earlier maintenance left these instances stopped, and "off '
            f'--start" will not start them: {_words(run.record.uuids)}')
        run.record.discard(*run.record.uuids)
    # Nova sets both at once.
    _update(run, status='disabled', disabled_reason=reason)
    run.done.append(f'the service is disabled: {reason}')


def _enable(run: _Run) -> None:
    if run.service.status == 'enabled':
        run.done.append('the service was enabled before')
        return
    _update(run, status='enabled')
    run.done.append('the service is enabled')


def _update(run: _Run, **wanted: str) -> None:
    # By its id: of a record, openstacksdk sends only what differs from it,
    # and Nova refuses a reason without the status.
    run.service = run.proxy.update_service(run.service.id, **wanted)
    found = {key: getattr(run.service, key) for key in wanted}
    if found != wanted:
        raise report.CannotWork(f'Nova was told {wanted}, and says {found}')


def _require_up(run: _Run) -> None:
    """Refuse to ask a nova-compute that does not answer.

    :raises xen44_driver.cmd.report.CannotWork: Nova says that it is down.
    """
    if run.service.state != 'up':
        raise report.CannotWork(
            f'{cloud.BINARY} of this host is {run.service.state}, and can '
            'neither stop nor start instances: see its log')


# The instances

def _is_up(server: sdk_server.Server) -> bool:
    return server.power_state in (power_state.RUNNING, power_state.PAUSED)


def _is_busy(server: sdk_server.Server) -> bool:
    """Return whether it runs, or Nova is working on it."""
    return bool(server.task_state) or _is_up(server)


def _running(run: _Run) -> list[sdk_server.Server]:
    return [server for server in cloud.servers(run.proxy) if _is_busy(server)]


def _stop(run: _Run, timeout: int) -> None:
    def ask(server: sdk_server.Server) -> None:
        # First, as nothing else tells afterwards who stopped it.
        run.record.add(server.id)
        try:
            run.proxy.stop_server(server.id)
        except exceptions.HttpException as error:
            if error.status_code and error.status_code < 500:
                run.record.discard(server.id)
            raise

    _bring(run, 'stop', _is_busy, ask, timeout)


def _start(run: _Run, timeout: int) -> None:
    wanted = run.record.uuids

    def is_left(server: sdk_server.Server) -> bool:
        return server.id in wanted and (
            bool(server.task_state) or not _is_up(server))

    _bring(run, 'start', is_left,
           lambda server: run.proxy.start_server(server.id), timeout)
    run.record.discard(*(wanted - run.problems.keys()))


def _forget_others(run: _Run) -> None:
    """Take from the record what runs again, and what is not here any more."""
    here = {server.id: server for server in cloud.servers(run.proxy)}
    gone = run.record.uuids - here.keys()
    if gone:
        run.done.append('these instances were stopped, and have been deleted '
                        f'or moved since: {_words(gone)}')
    run.record.discard(*gone, *(
        uuid for uuid, server in here.items()
        if _is_up(server) and not server.task_state))


def _bring(run: _Run, verb: str, is_left: Callable[[sdk_server.Server], bool],
           ask: Callable[[sdk_server.Server], None], timeout: int) -> None:
    """Ask Nova once for each instance, and wait until none is left.

    :param verb: what Nova is asked for.
    :param is_left: whether an instance is not yet as it should be. While Nova
        is working on it, it is not asked for.
    :param ask: asks Nova.
    :param timeout: seconds for all of them.
    """
    deadline = time.monotonic() + timeout
    asked: set[str] = set()
    told = None
    try:
        while True:
            left = [server for server in cloud.servers(run.proxy)
                    if server.id not in run.problems and is_left(server)]
            for server in left:
                if server.task_state:
                    continue
                if server.id in asked:
                    run.problems[server.id] = (
                        f'Nova was asked to {verb} it, and could not: see the '
                        f'log of {cloud.BINARY}')
                    continue
                asked.add(server.id)
                try:
                    ask(server)
                except exceptions.NotFoundException:
                    continue  # it was deleted meanwhile
                except exceptions.HttpException as error:
                    run.problems[server.id] = (
                        f'Nova does not {verb} it: {error}')
            waiting = {server.id for server in left} - run.problems.keys()
            if not waiting:
                return
            if time.monotonic() >= deadline:
                run.problems.update(dict.fromkeys(
                    waiting, f'Nova did not {verb} it within {timeout} s'))
                return
            if len(waiting) != told:
                told = len(waiting)
                report.progress(f'Instances to {verb}: {told}')
            time.sleep(INTERVAL)
    finally:
        run.done.append(
            f'instances that Nova was asked to {verb}: {len(asked)}')


# What is printed

def _words(uuids: Iterable[str]) -> str:
    return ', '.join(sorted(uuids))


def _rows(servers: Iterable[sdk_server.Server]) -> list[dict[str, Any]]:
    return [{'uuid': server.id, 'name': server.name,
             'state': server.vm_state, 'task': server.task_state}
            for server in sorted(servers, key=lambda server: str(server.id))]


def _table(servers: Iterable[sdk_server.Server]) -> str:
    return report.table(
        ['UUID', 'Name', 'State', 'Task'],
        [[cell or '-' for cell in row.values()] for row in _rows(servers)])


def _print(run: _Run, running: list[sdk_server.Server], *,
           as_json: bool) -> None:
    if as_json:
        print(json.dumps({
            'host': socket.gethostname(),
            'service': {'status': run.service.status,
                        'reason': run.service.disabled_reason or None},
            'done': run.done, 'running': _rows(running),
            'stopped': sorted(run.record.uuids),
            'problems': [{'uuid': uuid, 'text': text} for uuid, text
                         in sorted(run.problems.items())]}, indent=2))
        return
    for text in run.done:
        print(report.sentence(text))
    for uuid, text in sorted(run.problems.items()):
        print(report.printable(f'{uuid}: {text}'))
    if run.record.uuids:
        print('Instances that this maintenance stopped, for "off --start":')
    for uuid in sorted(run.record.uuids):
        print(f'  {uuid}')
    if running:
        print(f'Instances that run here:\n{_table(running)}')
    else:
        print('No instance runs here.')
    if run.problems:
        print(f'{report.RETRY}.')
