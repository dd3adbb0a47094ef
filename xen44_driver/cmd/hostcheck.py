# SPDX-License-Identifier: Apache-2.0
"""``xen44-host check``: is this host fit to be a compute node?

The checks are those that nova-compute makes when it starts
(:mod:`xen44_driver.compute.checks`), made as its user, and some more.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import enum
import fcntl
import json
import os
import pwd
import re
import shlex
import socket
import subprocess
import termios

from nova import conf
from nova import utils
from nova.virt import virtapi
import os_vif
from oslo_concurrency import processutils
from oslo_privsep import priv_context

from xen44_driver.cmd import report
from xen44_driver.compute import checks
from xen44_driver.compute import dom0
from xen44_driver.compute import node as compute_node
from xen44_driver.xen import host as xen_host

CONF = conf.CONF

#: The user that nova-compute runs as.
USER = 'nova'

#: Where Linux tells which features Xen has given to it, in hexadecimal
#: (XENFEAT_dom0 of Xen's public/features.h), and where it says so in words,
#: if that is mounted.
FEATURES = '/sys/hypervisor/properties/features'
CAPABILITIES = '/proc/xen/capabilities'
_DOM0 = 1 << 11

#: Seconds that a program has to answer.
TIMEOUT = 30


class Outcome(enum.StrEnum):
    """The outcome of a check; ``SKIP`` if it was not possible."""

    PASS = 'PASS'  # noqa: S105 - not a password
    SKIP = 'SKIP'
    WARN = 'WARN'
    FAIL = 'FAIL'


_COLOURS = {Outcome.PASS: 32, Outcome.SKIP: 36, Outcome.WARN: 33,
            Outcome.FAIL: 31}


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """The result of a check.

    :ivar check: what was checked.
    :ivar outcome: its outcome.
    :ivar texts: the problems and what to do, or why it was not possible.
    """

    check: checks.Check
    outcome: Outcome
    texts: Sequence[str] = ()


def run(*, as_json: bool) -> int:
    """Make all checks and print their results.

    :param as_json: whether to print JSON.
    :returns: the exit status: 1 if the host is unfit, otherwise 0.
    :raises xen44_driver.cmd.report.CannotWork: this user is not root.
    """
    report.require_root()
    results = [_result(check) for check in FIRST]
    software = None
    complete = all(result.outcome is not Outcome.FAIL for result in results)
    if complete:
        become(pwd.getpwnam(USER))
        software = _check_host(results)
    worst = max((result.outcome for result in results),
                key=list(Outcome).index)
    if as_json:
        print(json.dumps({
            'host': socket.gethostname(), 'software': software,
            'result': worst, 'complete': complete,
            'checks': [{'check': result.check.key,
                        'title': result.check.title,
                        'result': result.outcome,
                        'texts': list(result.texts)}
                       for result in results]}, indent=2))
    else:
        for line in _lines(results):
            print(line)
        if not complete:
            print('The other checks were not made: mend what failed first.')
        elif software:
            print(software)
    return int(worst is Outcome.FAIL)


def _check_host(results: list[Result]) -> str | None:
    """Check the host as nova-compute does.

    :param results: the results are added to these.
    :returns: a line about the host's software; None if it is not known.
    """
    priv_context.init(root_helper=shlex.split(utils.get_root_helper()))
    os_vif.initialize()
    node = compute_node.Node(
        xen_host.Host(CONF.xen44.connection_uri), virtapi.VirtAPI())
    try:
        host = checks.HostChecks(node)
        usable = True
        for check in host.all:
            if check.needs_host and not usable:
                results.append(Result(check, Outcome.SKIP, [
                    'it needs a connection to a supported host']))
                continue
            results.append(_result(check))
            if (check in (host.connection, host.versions)
                    and results[-1].outcome is Outcome.FAIL):
                usable = False
        return checks.summary(node) if usable else None
    finally:
        node.host.close()


def _result(check: checks.Check) -> Result:
    try:
        problems = check.problems()
    except checks.CannotTell as error:
        return Result(check, Outcome.SKIP, [str(error)])
    return Result(check, Outcome(check.level) if problems else Outcome.PASS,
                  problems)


def _lines(results: Sequence[Result]) -> Iterator[str]:
    coloured = report.is_coloured()
    for result in results:
        outcome = str(result.outcome)
        if coloured:
            outcome = f'\033[{_COLOURS[result.outcome]}m{outcome}\033[0m'
        yield f'{outcome}  {result.check.title}'
        for text in result.texts:
            yield f'      {report.printable(text)}'


def become(user: pwd.struct_passwd) -> None:
    """Become another user for good, as systemd does for a service.

    :param user: the user; this process is root's.
    """
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.environ.update(HOME=user.pw_dir, USER=user.pw_name,
                      LOGNAME=user.pw_name)
    os.chdir('/')
    # Without a terminal sudo cannot ask for a password: a service has none.
    # The leader of a session would hang up on all others.
    if os.getsid(0) != os.getpid():
        with contextlib.suppress(OSError), open('/dev/tty') as terminal:
            fcntl.ioctl(terminal, termios.TIOCNOTTY)


# Checks that need root, or that would come too early when dom0 boots and
# nova-compute starts.

def _dom0() -> Iterator[str]:
    features = int(dom0.read_text(FEATURES) or '0', 16)
    if (not features & _DOM0
            and 'control_d' not in dom0.read_text(CAPABILITIES)):
        yield ('this is not the dom0 of a Xen host: boot the entry of the '
               'boot menu with Xen (Debian: package xen-system-amd64)')


def _user() -> Iterator[str]:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        yield (f'there is no user {USER}, as which nova-compute runs: run '
               'share/xen44/prepare-dom0, which the driver\'s package brings')


def _ask(*command: str) -> str:
    """Return what a program prints, whether it fails or not.

    :raises CannotTell: it is not there, or does not end.
    """
    try:
        out, _ = processutils.execute(
            *command, check_exit_code=False, timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise checks.CannotTell(str(error)) from error
    return str(out)


def _event_channels() -> Iterator[str]:
    said = re.findall(r'Using (\S+) ABI', _ask(
        'journalctl', '--boot', '--dmesg', '--output=cat', '--no-pager',
        '--grep=xen:events: Using .* ABI'))
    if not said:
        raise checks.CannotTell('the kernel\'s log does not tell the ABI')
    if not said[-1].startswith('FIFO'):
        yield (f'dom0\'s kernel uses the {said[-1]} ABI of event channels, '
               'which has 4096 for all guests together, and not the FIFO '
               'ABI: remove xen.fifo_events=0 from its command line')


def _clock() -> Iterator[str]:
    state = _ask('timedatectl', 'show', '--property=NTPSynchronized',
                 '--value').strip()
    if state not in ('yes', 'no'):
        raise checks.CannotTell('timedatectl does not tell')
    if state == 'no':
        yield ('dom0\'s clock is not synchronised, and guests take their '
               'time from it: run an NTP client in dom0, such as chrony')


#: The checks before all others, as root. All others need those that fail.
FIRST = (
    checks.Check('dom0', 'dom0 of a Xen host', checks.Level.FAIL, _dom0),
    checks.Check('user', 'user of nova-compute', checks.Level.FAIL, _user),
    checks.OPTIONS,
    checks.Check('event-channels', 'ABI of event channels',
                 checks.Level.WARN, _event_channels),
    checks.Check('clock', 'dom0\'s clock', checks.Level.WARN, _clock),
)
