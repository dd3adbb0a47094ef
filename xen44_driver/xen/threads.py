# SPDX-License-Identifier: Apache-2.0
"""Native threads beside Nova's, which may be eventlet's green ones.

Nova 34 runs on native threads, and on green ones where an operator still asks
for eventlet. All that the rest of :mod:`xen44_driver.xen` needs to know of
the difference is here:

* a call into libvirt blocks its whole thread: under eventlet it goes to a
  native thread of eventlet's pool, and the hub runs on (:func:`run`);
* libvirt's event loop needs a native thread in both cases
  (:func:`start_native`). What it calls may only post to a :class:`Mailbox`;
* everything else runs in an ordinary thread, native or green as Nova's own
  are (:func:`start`), so it may log, lock and call into Nova.
"""

import collections
from collections.abc import Callable
import contextlib
import importlib
import os
import queue
import sys
import threading
import time
from typing import Any
from typing import Generic
from typing import TypeVar
import weakref

T = TypeVar('T')


def green() -> bool:
    """Whether eventlet has taken the place of the standard threads."""
    if 'eventlet.patcher' not in sys.modules:
        return False
    return bool(_eventlet('patcher').is_monkey_patched('thread'))


def _eventlet(name: str) -> Any:
    """A module of eventlet, which not every Nova has."""
    return importlib.import_module(f'eventlet.{name}')


def _original(name: str) -> Any:
    """A standard module as it is without eventlet."""
    if green():
        return _eventlet('patcher').original(name)
    return importlib.import_module(name)


def run(function: Callable[..., T], *args: Any) -> T:
    """Call a function that blocks, without stopping green threads.

    :returns: what the function returns; its exceptions come through.
    """
    if not green():
        return function(*args)
    result: T = _eventlet('tpool').execute(function, *args)
    return result


def start(target: Callable[[], None], name: str) -> threading.Thread:
    """Start an ordinary thread: native, or green where Nova's are."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread


def start_native(target: Callable[[], None], name: str) -> None:
    """Start a native thread, which may use nothing that eventlet patched."""
    _original('threading').Thread(
        target=target, name=name, daemon=True).start()


def sleep_native(seconds: float) -> None:
    """Sleep in a native thread."""
    _original('time').sleep(seconds)


class Mailbox(Generic[T]):
    """Items from any thread, native ones included, for one ordinary thread.

    Neither side ever blocks the hub: under eventlet the reader waits on a
    pipe, as the hub does for sockets.
    """

    def __init__(self) -> None:
        self._green = green()
        if self._green:
            self._os = _original('os')
            self._items: collections.deque[T] = collections.deque()
            self._read_fd, self._write_fd = os.pipe()
            for fd in (self._read_fd, self._write_fd):
                os.set_blocking(fd, False)
                # Closed only when nobody can post any more: a late item must
                # not be written to a stranger's file.
                weakref.finalize(self, self._os.close, fd)
        else:
            self._queue: queue.SimpleQueue[T] = queue.SimpleQueue()

    def put(self, item: T) -> None:
        """Post an item. Never blocks, may be called in any thread."""
        if not self._green:
            self._queue.put(item)
            return
        self._items.append(item)
        # A full pipe will wake the reader just as well.
        with contextlib.suppress(BlockingIOError):
            self._os.write(self._write_fd, b'.')

    def get(self, timeout: float | None = None) -> T | None:
        """Wait for the next item.

        :param timeout: seconds; None waits for ever.
        :returns: the item, None when the time is over.
        """
        if not self._green:
            try:
                return self._queue.get(timeout=timeout)
            except queue.Empty:
                return None
        return self._get_green(timeout)

    def _get_green(self, timeout: float | None) -> T | None:
        hubs = _eventlet('hubs')
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            if self._items:
                return self._items.popleft()
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return None
            with contextlib.suppress(TimeoutError):
                hubs.trampoline(self._read_fd, read=True, timeout=left,
                                timeout_exc=TimeoutError)
            with contextlib.suppress(BlockingIOError):
                self._os.read(self._read_fd, 4096)
