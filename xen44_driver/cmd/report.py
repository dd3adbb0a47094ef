# SPDX-License-Identifier: Apache-2.0
"""What the commands print have in common."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import os
import sys
import time

import prettytable

#: What to do after a failure.
RETRY = 'Run the command again to go on'


class CannotWork(Exception):
    """A command cannot do its work; the message says why."""


@contextlib.contextmanager
def telling(done: Sequence[str]) -> Iterator[None]:
    """Add what was done to the error that ends a command early.

    :param done: what was done so far, for people; it grows meanwhile.
    :raises CannotWork: the command cannot go on.
    """
    try:
        yield
    except (CannotWork, OSError, KeyboardInterrupt) as error:
        raise CannotWork(
            f'{str(error).rstrip(".") or "interrupted"}. Done before that: '
            f'{"; ".join(done) or "nothing"}. {RETRY}') from error


def require_root() -> None:
    """Refuse to go on as another user than root.

    :raises CannotWork: this user is not root.
    """
    if os.geteuid() != 0:
        raise CannotWork('run it as root')


def progress(text: str) -> None:
    """Tell how long work goes on; standard output is for its result."""
    for line in text.splitlines():
        print(printable(line), file=sys.stderr, flush=True)


def require_confirmation(*, yes: bool) -> None:
    """Refuse what nobody could be asked about.

    :param yes: whether the user agreed on the command line.
    :raises CannotWork: no, and there is no terminal to ask on.
    """
    if not yes and not sys.stdin.isatty():
        raise CannotWork('there is no terminal to ask on: add --yes')


def confirm(question: str, *, yes: bool) -> bool:
    """Ask on the terminal whether to go on.

    :param question: without a question mark.
    :param yes: whether the user agreed on the command line.
    :raises CannotWork: see :func:`require_confirmation`.
    """
    require_confirmation(yes=yes)
    if yes:
        return True
    print(f'{printable(question)}? [y/N] ', end='', file=sys.stderr,
          flush=True)
    return sys.stdin.readline().strip().lower() in ('y', 'yes')


def wait(condition: Callable[[], bool], timeout: float,
         interval: float) -> bool:
    """Wait until a condition holds.

    :param condition: looks whether it does; at least once.
    :param timeout: seconds.
    :param interval: seconds between two looks.
    :returns: whether it does.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval)
    return True


def sentence(text: str) -> str:
    """Return a part of a sentence as one that can be printed."""
    return printable(f'{text[0].upper()}{text[1:]}.')


def is_coloured() -> bool:
    """Return whether standard output takes colours, and may have them.

    See https://no-color.org.
    """
    return (sys.stdout.isatty() and not os.environ.get('NO_COLOR')
            and os.environ.get('TERM') != 'dumb')


def printable(text: str) -> str:
    """Return a text without what would control a terminal.

    What standard output cannot encode, as in a locale without UTF-8, is
    replaced too.

    :param text: such as a server's name, which its owner chose.
    """
    shown = ''.join(char if char.isprintable() else '\ufffd' for char in text)
    encoding = sys.stdout.encoding or 'utf-8'
    return shown.encode(encoding, 'replace').decode(encoding)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table of text.

    :param heads: titles of the columns.
    :param rows: the cells of each row.
    """
    made = prettytable.PrettyTable(heads)
    made.align = 'l'
    for row in rows:
        made.add_row([printable(str(cell)) for cell in row])
    return made.get_string()
