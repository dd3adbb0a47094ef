# SPDX-License-Identifier: Apache-2.0
"""Find the reason of a failure in the logs of libxl and QEMU.

For most failures of libxl, libvirt only reports "libxenlight failed to create
new domain". The reason is in one of two logs: that of the domain's QEMU, or
libxl's. libvirt writes libxl's log into one file for each running domain, and
into a common file for domains that are not running yet.

The functions here only process text; they read no files.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import datetime
import re

#: The most lines to quote from one log, and the most characters of each.
MAX_LINES = 3
_MAX_LINE = 250


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of libxl's log.

    :ivar time: when it was written, in seconds since the epoch.
    :ivar domid: Xen's number of the domain; None if the line names none.
    :ivar text: the message, without time, source file and domain.
    """

    time: float
    domid: int | None
    text: str


# 2026-11-25 18:00:00.123+0000: libxl: libxl_dm.c:3157:outcome: Domain 7:text
# The component "xc" is libxenguest. Lines with the domain's configuration,
# which contains the VNC password, have no time, so they do not match.
_LIBXL = re.compile(
    r'(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d{4}): '
    r'(?:[a-z]\w*: )?'
    r'(?:[\w./-]+\.[ch]:\d+(?:: ?| )?)?(?:\w+: )?'
    r'(?:Domain (?P<domid>\d+):)?(?P<text>.*)')

_TROUBLE = re.compile(
    r'fail|error|panic|cannot|can\'t|could(?: not|n\'t)|unable|did not|'
    r'does(?: not|n\'t)|not (?:found|supported|allowed|enough)|no such|'
    r'no space|timed? ?-?out|invalid|unknown|unsupported|refus|denied|'
    r'exited|died|terminated|missing|bad |corrupt|too (?:short|long|large|'
    r'small|big|many)|out of memory|in use|exceed|insufficient|rc=-',
    re.IGNORECASE)

# Messages of libxl while it cleans up after a failure; they are not reasons.
_AFTERMATH = re.compile(
    r'already exited|non-exist[ae]nt domain|'
    r'unable to destroy guest|destruction of domain failed|'
    r'xc_domain_destroy failed|unable to remove|destroy.* failed|'
    r'xenstore read failed: `/libxl/|unable to get domain type|'
    r'xs transaction failed|device destruction did not complete|'
    r'getting domain info: no such process',
    re.IGNORECASE)

# The most seconds between libxenguest's message and libxl's, on a busy dom0.
_SOON = 5.0

# "password=on" is an option of QEMU, not a password.
_SECRET = re.compile(r'passw(?!ord=on\b)|secret', re.IGNORECASE)


def libxl_lines(text: str, since: float) -> tuple[LogLine, ...]:
    """Parse libxl's log.

    :param text: text of the log, or of its end.
    :param since: seconds since the epoch; older lines are omitted.
    :returns: the lines in their order, without those that have no time.
    """
    lines = []
    for line in text.split('\n'):
        match = _LIBXL.fullmatch(line)
        if match is None:
            continue
        time = datetime.datetime.strptime(
            match['time'], '%Y-%m-%d %H:%M:%S.%f%z').timestamp()
        if time >= since:
            domid = match['domid']
            lines.append(LogLine(
                time=time, domid=None if domid is None else int(domid),
                text=match['text'].strip()))
    return tuple(lines)


def libxl_reasons(lines: Iterable[LogLine]) -> tuple[str, ...]:
    """Select the lines that tell why libxl failed.

    libxl's log identifies domains only by Xen's number, which the caller does
    not know for a domain that could not be created. So if several domains
    failed at the same time, one line for each is returned, with its number.

    :returns: the first lines, at most :data:`MAX_LINES`; later lines are
        consequences.
    """
    found = _owned(line for line in lines if _tells(line.text)
                   and not _AFTERMATH.search(line.text))
    # The lines are reversed, so the first line of each domain wins.
    each = {line.domid: line.text for line in reversed(found)
            if line.domid is not None}
    if len(each) > 1:
        return _first(f'domain {domid}: {text}'
                      for domid, text in sorted(each.items()))
    return _first(line.text for line in found
                  if line.domid in each or not each)


def _owned(lines: Iterable[LogLine]) -> list[LogLine]:
    """Assign lines without a domain to the domain that is named soon after.

    Messages of libxenguest do not name the domain; libxl's next one does.
    """
    owned: list[LogLine] = []
    for line in reversed(list(lines)):
        after = owned[-1] if owned else line
        soon = line.domid is None and after.time - line.time <= _SOON
        owned.append(dataclasses.replace(line, domid=after.domid)
                     if soon else line)
    return owned[::-1]


_QEMU_NAME = re.compile(r'^(?:\S*/)?[\w-]*qemu-[\w-]+: ')
_QEMU_DEVICE = re.compile(
    r'^failed to create \'qdisk\' device \'(\d+)\': '
    r'(?:failed to create drive: )?')

# Messages of QEMU that do not mean a failure, and those when it is stopped.
_QEMU_NOISE = re.compile(
    r'^warning: |declining to handle console type|^terminating on signal|'
    r'^failed to destroy node|^Duplicate device ID')

# "-drive file=PATH,if=ide,index=0,...: MESSAGE"
_QEMU_DRIVE = re.compile(r'^-drive file=([^,]+),[^ :]*: ')


def qemu_reasons(text: str) -> tuple[str, ...]:
    """Select the lines that tell why QEMU failed.

    :param text: text of its log; libxl begins a new one at each start.
    :returns: the first lines, at most :data:`MAX_LINES`.
    """
    return _first(line for line in _qemu_lines(text)
                  if _tells(line) and not _QEMU_NOISE.search(line))


def qemu_disk_reasons(text: str) -> dict[int, str]:
    """Find out why QEMU did not open disks.

    :param text: text of its log.
    :returns: the reasons, by Xen's number of the disk.
    """
    reasons = {}
    for line in _qemu_lines(text):
        match = _QEMU_DEVICE.match(line)
        if match:
            reasons[int(match[1])] = _clean(line[match.end():])
    return reasons


def _qemu_lines(text: str) -> Iterator[str]:
    for line in text.split('\n'):
        yield _QEMU_DRIVE.sub(r'\1: ', _QEMU_NAME.sub('', line.strip()))


def _tells(text: str) -> bool:
    return bool(_TROUBLE.search(text)) and not _SECRET.search(text)


def _first(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the first few different lines, cleaned for display."""
    return tuple(dict.fromkeys(map(_clean, lines)))[:MAX_LINES]


def _clean(line: str) -> str:
    """Replace control characters in a line, and shorten it if necessary."""
    shown = ''.join(char if char.isprintable() else '?' for char in line)
    return shown if len(shown) <= _MAX_LINE else f'{shown[:_MAX_LINE - 1]}…'
