# SPDX-License-Identifier: Apache-2.0
"""Files of root's in nova-compute's ``state_path``, which is nova's; locks."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import fcntl
import os
import tempfile

from xen44_driver.cmd import report


@contextlib.contextmanager
def locked(directory: str, others: str) -> Iterator[None]:
    """Keep other commands away that lock a directory.

    :param others: what they do, for the error.
    :raises xen44_driver.cmd.report.CannotWork: one of them has it.
    :raises OSError: there is no such directory.
    """
    # The directory itself: a file in it could be nova's link to any other.
    descriptor = os.open(
        directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise report.CannotWork(
                f'another {others} runs on this host') from error
        yield
    finally:
        os.close(descriptor)


def replace(path: str, text: str) -> None:
    """Write a file as a whole; it is on the disk when this returns.

    :param path: path of the file, which only root can read.
    :param text: its content.
    :raises OSError: it cannot be written.
    """
    # Its directory is nova's: another name, then renamed, so that what
    # somebody else put there is never written to. The mode is 0600.
    directory, name = os.path.split(path)
    descriptor, part = tempfile.mkstemp(dir=directory, prefix=f'.{name}-')
    try:
        with open(descriptor, 'w', encoding='utf-8') as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise
