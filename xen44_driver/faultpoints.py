# SPDX-License-Identifier: Apache-2.0
"""Named points of the operations, at which a test lets nova-compute end.

An operation calls ``reached('spawn: disks made')`` after a step. That does
nothing, unless nova-compute was started with the environment variable
``XEN44_FAULT_POINT``, which has the path of a file. If this file has the name
of a point in it, the process ends itself when it reaches that point, as by
``kill -9``. It removes the file first, so that the next nova-compute goes on.

The package's nova-compute.service unsets the variable, and nova-compute warns
if it is set: it is for tests only.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
import os
import signal

VARIABLE = 'XEN44_FAULT_POINT'


def reached(point: str) -> None:
    """End the process if a test has asked for it at this point.

    :param point: the point's name, a literal that no other point has:
        the operation, a colon, and what it has just done.
    """
    if _action is not None:
        _action(point)


def is_on() -> bool:
    """Return whether a test may end this process."""
    return _action is not None


def _end_once(path: str, point: str) -> None:
    """End the process if a file names a point, which it does only once."""
    try:
        with open(path, encoding='utf-8') as file:
            if file.read().strip() != point:
                return
        os.unlink(path)
    except OSError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _from_environment() -> Callable[[str], None] | None:
    path = os.environ.get(VARIABLE)
    return functools.partial(_end_once, path) if path else None


# Read once: nothing that Nova is asked for can switch it on later. Tests in
# this process replace it.
_action: Callable[[str], None] | None = _from_environment()
