# SPDX-License-Identifier: Apache-2.0
"""``xen44-host restart-toolstack``: restart libvirtd below running guests."""

from __future__ import annotations

from collections.abc import Container
from collections.abc import Mapping
import dataclasses
import json
import socket
import time

from xen44_driver.cmd import guests
from xen44_driver.cmd import report
from xen44_driver.cmd import systemd
from xen44_driver.xen import errors

#: The daemons that serve ``xen:///system``: that of libvirt's modular
#: daemons, and the one for everything. systemd lets only one of them run.
MODULAR = 'virtxend'
MONOLITHIC = 'libvirtd'

#: Seconds between two looks at libvirt.
INTERVAL = 2

# Seconds that systemctl has to tell whether a daemon is active.
_ASK_TIMEOUT = 30


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A guest about which Xen and libvirt disagree, or that ended.

    :ivar uuid: UUID of the domain.
    :ivar name: name of the domain.
    :ivar text: what is wrong.
    """

    uuid: str
    name: str
    text: str


def run(*, as_json: bool, timeout: int) -> int:
    """Restart the daemon, and wait until libvirt lists the running guests.

    :param as_json: whether to print JSON.
    :param timeout: seconds for the restart, and again for libvirt to answer
        and to list the guests.
    :returns: the exit status: 1 if a guest ended, or Xen and libvirt disagree
        on what runs, otherwise 0.
    :raises xen44_driver.cmd.report.CannotWork: this user is not root, the
        restart failed, or libvirt does not answer afterwards.
    :raises OSError: Xen cannot be asked.
    """
    report.require_root()
    before = guests.of_xen()
    unknown = _unknown(before)
    daemon = _daemon()
    report.progress(f'Restarting {daemon}; guests that run: {len(before)}')
    systemd.systemctl('restart', daemon, timeout=timeout)
    report.progress('Waiting for libvirt to list them')
    problems = _settle(before, unknown, daemon, timeout)
    if as_json:
        print(json.dumps({
            'host': socket.gethostname(), 'daemon': daemon,
            'guests': sorted(before),
            'unknown_to_libvirt': sorted(unknown),
            'problems': [dataclasses.asdict(problem)
                         for problem in problems]}, indent=2))
        return int(bool(problems))
    for problem in problems:
        print(report.printable(
            f'{problem.name} ({problem.uuid}): {problem.text}'))
    if unknown:
        print(report.printable('libvirt did not know these before either: '
                               f'{guests.listed(unknown)}'))
    print(f'{daemon} was restarted, ' + (
        f'and {len(problems)} guests are not as before.' if problems
        else f'and all {len(before)} guests run on.'))
    return int(bool(problems))


def _unknown(running: Mapping[str, str]) -> dict[str, str]:
    """Return the guests that libvirt does not know, such as those of xl.

    :param running: the guests that Xen runs: names by UUID.
    """
    try:
        known = guests.of_libvirt()
    except errors.XenError as error:
        # That may be why it is restarted.
        report.progress(f'libvirt does not answer now: {error}')
        return {}
    return {uuid: name for uuid, name in running.items()
            if uuid not in known}


def _daemon() -> str:
    """Return the name of the daemon that this host has."""
    # Its socket is, if it has ended for want of work.
    states = systemd.systemctl(
        'is-active', f'{MODULAR}.service', f'{MODULAR}.socket', check=False,
        timeout=_ASK_TIMEOUT).split()
    return MODULAR if 'active' in states else MONOLITHIC


def _settle(before: Mapping[str, str], unknown: Container[str],
            daemon: str, timeout: int) -> list[Problem]:
    """Wait until Xen and libvirt agree.

    :param before: the guests that Xen ran before: names by UUID.
    :param unknown: UUIDs of those that libvirt did not know before.
    :param daemon: name of the daemon.
    :param timeout: seconds.
    :returns: what is still wrong after that time.
    :raises xen44_driver.cmd.report.CannotWork: libvirt does not answer.
    """
    deadline = time.monotonic() + timeout
    while True:
        problems: list[Problem] | None = None
        try:
            problems = _problems(before, unknown)
        except errors.XenError as error:
            if time.monotonic() >= deadline:
                raise report.CannotWork(
                    f'{daemon} was restarted, and does not answer within '
                    f'{timeout} s: {error}. See journalctl --unit {daemon}'
                ) from error
        if problems == []:
            return problems
        if problems is not None and time.monotonic() >= deadline:
            return problems
        time.sleep(INTERVAL)


def _problems(before: Mapping[str, str],
              unknown: Container[str]) -> list[Problem]:
    """Compare what Xen runs with what it ran, and with libvirt's list.

    :raises xen44_driver.xen.errors.XenError: libvirt does not answer.
    :raises OSError: Xen cannot be asked.
    """
    libvirt = guests.of_libvirt()
    xen = guests.of_xen()
    only_xen = {uuid for uuid in xen.keys() - libvirt.keys()
                if uuid not in unknown}
    texts = {
        **dict.fromkeys(before.keys() - xen.keys(),
                        'it ran before, and runs no more'),
        **dict.fromkeys(only_xen, 'Xen runs it, and libvirt does not list it '
                                  'as running'),
        **dict.fromkeys(libvirt.keys() - xen.keys(),
                        'libvirt lists it as running, and Xen does not run '
                        'it'),
    }
    names = {**before, **libvirt, **xen}
    return [Problem(uuid=uuid, name=names[uuid], text=text)
            for uuid, text in sorted(texts.items())]
