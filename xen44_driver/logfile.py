# SPDX-License-Identifier: Apache-2.0
"""Read the end of a log, and shorten one that a program is writing.

Guests write these logs: their size is not trusted, and a symbolic link in
place of a log is not followed.
"""

from __future__ import annotations

import os
import stat

# O_NONBLOCK: opening a named pipe in place of a log must not block.
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK
_CHUNK = 64 * 1024
# Seconds. The kernel's clock for file times may lag by one tick.
_STAMP_LAG = 0.05


def read_end(
    path: str, max_bytes: int, since: float = 0, after: int = 0,
) -> bytes | None:
    """Read the end of a log.

    :param path: the log.
    :param max_bytes: the largest number of bytes to return.
    :param since: seconds since the epoch.
    :param after: bytes at the log's beginning that are not wanted. They are
        not known any more in a log that has become shorter than that.
    :returns: the bytes, or None if there is no regular file, or if it was not
        written to since then.
    :raises OSError: it cannot be read, or is a link.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    except FileNotFoundError:
        return None
    with open(descriptor, 'rb') as log:
        status = os.fstat(descriptor)
        if (not stat.S_ISREG(status.st_mode)
                or status.st_mtime < since - _STAMP_LAG):
            return None
        if after > status.st_size:
            after = 0
        log.seek(max(after, status.st_size - max_bytes))
        return log.read(max_bytes)


def size(path: str) -> int:
    """Return the size of a log in bytes; 0 if there is none.

    :raises OSError: its directory cannot be searched.
    """
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def trim(path: str, max_bytes: int) -> bool:
    """Shorten a log that is too long to its last ``max_bytes // 2`` bytes.

    The file is changed in place, so a program that appends to it
    (``O_APPEND``) is not affected. The end of the log, including what is
    written meanwhile, is copied to the beginning of the file, then the file
    is truncated. What is written between the last read and the truncation,
    some microseconds, is lost.

    :param path: the log.
    :param max_bytes: a log of at most this size is not changed.
    :returns: whether it was shortened; False if there is no log.
    :raises OSError: it cannot be shortened, or is a link.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | _FLAGS)
    except FileNotFoundError:
        return False
    try:
        size = os.fstat(descriptor).st_size
        if size <= max_bytes:
            return False
        begin = size - max_bytes // 2
        kept = 0
        # Bounded: a program may write faster than this loop reads.
        while kept < max_bytes:
            chunk = os.pread(descriptor, _CHUNK, begin + kept)
            if not chunk:
                break
            kept += os.pwrite(descriptor, chunk, kept)
        os.ftruncate(descriptor, kept)
    finally:
        os.close(descriptor)
    return True
