# SPDX-License-Identifier: Apache-2.0
"""Files of the host that boot guests' own disks: loaders and firmware."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BootFile:
    """A loader or firmware that boots a guest's own disk.

    :ivar path: its path.
    :ivar sha256: its checksum in hexadecimal; None if it cannot be read.
    """

    path: str
    sha256: str | None = None


def look(file: str) -> BootFile:
    """Return a file with its checksum.

    :param file: its path.
    """
    try:
        there = os.stat(file)
        return BootFile(path=file, sha256=_sha256(
            file, there.st_ino, there.st_size, there.st_mtime_ns))
    except OSError:
        return BootFile(path=file)


@functools.lru_cache(maxsize=16)
def _sha256(file: str, *state: int) -> str:
    """Return a file's checksum; ``state`` changes when the file does."""
    with open(file, 'rb') as opened:
        return hashlib.file_digest(opened, 'sha256').hexdigest()
