# SPDX-License-Identifier: Apache-2.0
"""Locks of VMs, between processes.

All locks are ranges of one file, so nothing is left of a VM that is deleted.
The kernel releases a lock when its process ends, however that happens.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import fcntl
import os
import time
import uuid as uuid_lib

_FILE = 'vms.lock'
# Seconds between two attempts.
_PAUSE = 0.2


class VmBusy(Exception):
    """Another action on the same VM has not ended in time."""


@contextlib.contextmanager
def locked(directory: str, uuid: str, timeout: float) -> Iterator[None]:
    """Hold a VM's lock during a block.

    A process can hold one lock at a time.

    :param directory: the directory of the file.
    :param uuid: the VM's UUID.
    :param timeout: seconds to wait for the lock.
    :raises VmBusy: another process holds it.
    """
    end = time.monotonic() + timeout
    with _opened(directory) as file:
        while not _acquire(file, uuid):
            if time.monotonic() >= end:
                raise VmBusy(
                    f'another action on VM {uuid} has not ended within '
                    f'{timeout:g} s')
            time.sleep(_PAUSE)
        # Closing the file releases it.
        yield


def is_locked(directory: str, uuid: str) -> bool:
    """Return whether another process holds a VM's lock.

    :param directory: the directory of the file.
    :param uuid: the VM's UUID.
    """
    with _opened(directory) as file:
        return not _acquire(file, uuid)


@contextlib.contextmanager
def _opened(directory: str) -> Iterator[int]:
    os.makedirs(directory, mode=0o700, exist_ok=True)
    file = os.open(os.path.join(directory, _FILE),
                   os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        yield file
    finally:
        os.close(file)


def _acquire(file: int, uuid: str) -> bool:
    # A position in a file has 63 bits; with two VMs at the same one, one of
    # them would only wait for the other.
    position = uuid_lib.UUID(uuid).int >> 66
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, position)
    except OSError:
        return False
    return True
