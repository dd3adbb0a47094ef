# SPDX-License-Identifier: Apache-2.0
"""Tell the operator of guests that do not get beyond grub or their kernel.

For Xen and Nova such a guest runs like any other.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time

from nova import conf
from oslo_log import log as logging

from xen44_driver.core import bootsigns
from xen44_driver.core import consolelog
from xen44_driver.storage import layout
from xen44_driver.xen import events
from xen44_driver.xen import threads

CONF = conf.CONF
LOG = logging.getLogger(__name__)

#: Seconds between two looks at a guest's console. One costs a privileged call.
INTERVAL = 5


@dataclasses.dataclass(eq=False)
class _Start:
    """A guest that started a short time ago.

    :ivar name: its domain's name.
    :ivar until: when to stop looking; by ``time.monotonic``. Infinite while it
        is paused: it writes nothing then, and its time begins when it runs.
    :ivar before: what its console's log had when it started; None if that is
        not known yet.
    :ivar looked: when it was last looked at, or began to run.
    :ivar seen: what its console showed at the last look.
    """

    name: str
    until: float = math.inf
    before: consolelog.Sizes | None = None
    looked: float = 0.0
    seen: bytes = b''

    @property
    def due(self) -> float:
        """When to look at it next; by ``time.monotonic``."""
        if self.before is None:
            # At once: what it writes first must not count as old.
            return 0.0
        if self.until == math.inf:
            return math.inf
        return self.looked + INTERVAL

    def change(self, event: events.DomainEvent) -> None:
        """Take notice that it has started, ended, was paused or resumed."""
        now = time.monotonic()
        if event.kind in (events.EventKind.STOPPED, events.EventKind.CRASHED):
            # The next look is the last one: it may have panicked.
            self.until = now
        elif event.state in (events.DomainState.PAUSED,
                             events.DomainState.SUSPENDED):
            self.until = math.inf
        else:
            self.until = now + CONF.xen44.boot_watch_time
            self.looked = now


class BootWatch:
    """Looks at the consoles of guests that have just started.

    It has a thread of its own, which sleeps while none is to be looked at.
    """

    def __init__(self) -> None:
        self._starts: dict[str, _Start] = {}
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    def event(self, event: events.DomainEvent) -> None:
        """Take notice that a domain has changed; never wait."""
        with self._wake:
            if (event.kind is events.EventKind.STARTED
                    and CONF.xen44.boot_watch_time):
                self._starts[event.uuid] = _Start(event.name)
                if self._thread is None:
                    self._thread = threads.start(self._run, 'xen44-boots')
            start = self._starts.get(event.uuid)
            if start is not None:
                start.change(event)
                self._wake.notify()

    def stop(self) -> None:
        """Look at no guest any more that has started."""
        with self._wake:
            self._starts.clear()

    def _run(self) -> None:
        while True:
            uuid, start = self._next()
            last = time.monotonic() >= start.until
            ended = look(uuid, start, last=last) or last
            start.looked = time.monotonic()
            if ended:
                self._forget(uuid, start)

    def _next(self) -> tuple[str, _Start]:
        """Wait until a guest is to be looked at; return it and its UUID."""
        with self._wake:
            while True:
                left = math.inf
                if self._starts:
                    first = min(self._starts.items(),
                                key=lambda item: item[1].due)
                    left = first[1].due - time.monotonic()
                    if left <= 0:
                        return first
                # None: nothing is to be looked at before something changes.
                self._wake.wait(None if left == math.inf else left)

    def _forget(self, uuid: str, start: _Start) -> None:
        with self._wake:
            # It may have started once more since.
            if self._starts.get(uuid) is start:
                del self._starts[uuid]


def look(uuid: str, start: _Start, *, last: bool) -> bool:
    """Look at a guest's console once, and log what is wrong; never raises.

    While the console goes on, so may the guest: a sign counts when two looks
    have seen the same, or at the last one.

    :param uuid: its instance's UUID.
    :param last: whether this is the last look.
    :returns: whether no other is needed: something is wrong, or its log cannot
        be read.
    """
    serial_log = layout.InstanceFiles(CONF.instances_path, uuid).serial_log
    try:
        if start.before is None:
            start.before = consolelog.sizes(start.name, serial_log)
            return False
        console = consolelog.read(
            start.name, serial_log, bootsigns.MAX_BYTES, start.before)
    except Exception as error:
        # Such as a privsep daemon that does not start.
        LOG.debug('The console of %s cannot be looked at: %s', start.name,
                  error)
        return True
    stands, start.seen = console == start.seen, console
    problem = bootsigns.problem(console) if stands or last else None
    if problem is not None:
        LOG.warning('The guest does not boot: %s', problem,
                    instance_uuid=uuid)
    return problem is not None
