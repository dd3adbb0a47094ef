# SPDX-License-Identifier: Apache-2.0
"""Check that the memory of a guest fits on a disk before it is written."""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import threading

from nova import exception
from oslo_utils import units

_lock = threading.Lock()
# Bytes that operations under way may still write, by file system.
_promised: collections.Counter[int] = collections.Counter()


def of_memory(memory_mib: int) -> int:
    """Return the bytes that a file with a guest's memory may take.

    Beside the memory it has lists of pages (0.3 % and 0.5 % were seen), the
    state of devices and the domain's XML. Some room is left for others.

    :param memory_mib: the guest's memory, in MiB.
    """
    return (memory_mib + memory_mib // 64 + 64) * units.Mi


@contextlib.contextmanager
def promised(
    measure: Callable[[], tuple[int, int]], need: int, what: str,
) -> Iterator[None]:
    """Refuse a file for which there is no room; run the block that writes it.

    What other such blocks have been promised is not given away twice.

    :param measure: returns number and free bytes of the file system.
    :param need: the file's size, in bytes.
    :param what: the file, for the message.
    :raises nova.exception.Invalid: it does not fit.
    """
    with _lock:
        device, free = measure()
        free -= _promised[device]
        if need > free:
            raise exception.Invalid(
                f'{what} may take {need // units.Mi} MiB on disk, and there '
                f'are {max(free, 0) // units.Mi} MiB')
        _promised[device] += need
    try:
        yield
    finally:
        with _lock:
            _promised[device] -= need
