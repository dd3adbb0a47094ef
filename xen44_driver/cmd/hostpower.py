# SPDX-License-Identifier: Apache-2.0
"""``xen44-host reboot`` and ``xen44-host shutdown``."""

from __future__ import annotations

from collections.abc import Iterator
import enum
import json
import socket

from xen44_driver.cmd import guests
from xen44_driver.cmd import report
from xen44_driver.cmd import systemd

# Seconds that systemctl has to hand over the request.
_TIMEOUT = 60


class Action(enum.StrEnum):
    """What is done to the host; the value is systemctl's word for it."""

    REBOOT = 'reboot'
    SHUTDOWN = 'poweroff'


def run(action: Action, *, as_json: bool, force: bool, yes: bool) -> int:
    """Reboot or shut down this host.

    :param action: which of them.
    :param as_json: whether to print JSON.
    :param force: do it although guests run or the service is enabled. Nova
        is not asked.
    :param yes: do not ask.
    :returns: the exit status: 1 if it was not done, otherwise 0.
    :raises xen44_driver.cmd.report.CannotWork: this user is not root, there
        is nobody to ask, Nova does not answer, or systemd refuses.
    :raises OSError: Xen cannot be asked.
    """
    report.require_root()
    report.require_confirmation(yes=yes)
    reasons = [] if force else list(_reasons())
    verb = action.name.lower()
    done = not reasons and report.confirm(_question(verb, force), yes=yes)
    if done:
        systemd.systemctl(action.value, timeout=_TIMEOUT)
    if as_json:
        print(json.dumps({
            'host': socket.gethostname(), 'action': verb, 'done': done,
            'reasons': reasons}, indent=2))
        return int(not done)
    for reason in reasons:
        print(report.printable(reason))
    if reasons:
        print('Nothing was done. See xen44-host maintenance, or add --force.')
    else:
        print(f'The {verb} has begun.' if done else 'Nothing was done.')
    return int(not done)


def _reasons() -> Iterator[str]:
    """Yield what speaks against it."""
    if running := guests.of_xen():
        yield f'Xen runs {len(running)} guests: {guests.listed(running)}.'
    # openstacksdk takes long to import.
    from xen44_driver.cmd import cloud  # noqa: PLC0415

    with cloud.compute('cannot see whether the compute service is disabled; '
                       '--force does not ask Nova') as proxy:
        if cloud.service(proxy).status != 'disabled':
            yield 'The compute service of this host is enabled.'


def _question(verb: str, force: bool) -> str:
    text = f'{verb.capitalize()} {socket.gethostname()}'
    if not force:
        return text
    try:
        return f'{text}, and kill the {len(guests.of_xen())} guests on it'
    except OSError as error:
        return f'{text}, and kill all guests on it ({error})'
