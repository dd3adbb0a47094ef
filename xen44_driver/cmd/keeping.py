# SPDX-License-Identifier: Apache-2.0
"""Files of root's in nova-compute's ``state_path``, which is nova's."""

from __future__ import annotations

import contextlib
import os
import tempfile


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
