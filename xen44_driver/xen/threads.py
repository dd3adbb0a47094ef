# SPDX-License-Identifier: Apache-2.0
"""Threads that work with and without eventlet.

Nova 34 runs on native threads, or on green ones if the operator still chooses
eventlet. This module handles the difference for :mod:`xen44_driver.xen`:

* A libvirt call blocks its whole thread. Under eventlet it runs in a native
  thread of eventlet's pool, so that the hub is not blocked (:func:`run`).
* libvirt's event loop always needs a native thread (:func:`start_native`).
  Functions that it calls may only post to a :class:`Mailbox`.
* Everything else runs in an ordinary thread, native or green like Nova's own
  (:func:`start`), so it may log, lock and call Nova.
"""

from __future__ import annotations

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
    """Return whether eventlet has patched the standard threads."""
    if 'eventlet.patcher' not in sys.modules:
        return False
    return bool(_eventlet('patcher').is_monkey_patched('thread'))


def _eventlet(name: str) -> Any:
    """Import a module of eventlet, which need not be installed."""
    return importlib.import_module(f'eventlet.{name}')


def _original(name: str) -> Any:
    """Return a standard module without eventlet's patches."""
    if green():
        return _eventlet('patcher').original(name)
    return importlib.import_module(name)


def run(function: Callable[..., T], *args: Any) -> T:
    """Call a function that blocks; other green threads continue meanwhile.

    :returns: the function's result; its exceptions are raised.
    """
    if not green():
        return function(*args)
    result: T = _eventlet('tpool').execute(function, *args)
    return result


def start(target: Callable[[], None], name: str) -> threading.Thread:
    """Start an ordinary thread: green if Nova's are, otherwise native."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread


def start_native(target: Callable[[], None], name: str) -> None:
    """Start a native thread; it must not use anything eventlet patches."""
    _original('threading').Thread(
        target=target, name=name, daemon=True).start()


def sleep_native(seconds: float) -> None:
    """Sleep in a native thread."""
    _original('time').sleep(seconds)


class Mailbox(Generic[T]):
    """A queue from any threads, including native ones, to one ordinary thread.

    Neither side blocks eventlet's hub: under eventlet, the reader waits for a
    pipe, like for a socket.
    """

    def __init__(self) -> None:
        self._green = green()
        if self._green:
            self._os = _original('os')
            self._items: collections.deque[T] = collections.deque()
            self._read_fd, self._write_fd = os.pipe()
            for fd in (self._read_fd, self._write_fd):
                os.set_blocking(fd, False)
                # Close it only when nothing can post any more. A late item
                # would be written to another file that reuses the descriptor.
                weakref.finalize(self, self._os.close, fd)
        else:
            self._queue: queue.SimpleQueue[T] = queue.SimpleQueue()

    def put(self, item: T) -> None:
        """Post an item from any thread; never block."""
        if not self._green:
            self._queue.put(item)
            return
        self._items.append(item)
        # If the pipe is full, the reader wakes up anyway.
        with contextlib.suppress(BlockingIOError):
            self._os.write(self._write_fd, b'.')

    def get(self, timeout: float | None = None) -> T | None:
        """Wait for the next item.

        :param timeout: seconds to wait; None to wait for ever.
        :returns: the item, or None if the time is over.
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
