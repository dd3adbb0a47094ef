# SPDX-License-Identifier: Apache-2.0
"""Built directories, kept and named by a hash of what makes them."""

from __future__ import annotations

from collections.abc import Callable
import hashlib
import os
import pathlib
import shutil
import tempfile

from labkit import config
from labkit import util

#: Of each kind so many are kept, the last used ones.
KEPT = 3

_DIGITS = 12
#: All keys, and nothing that has more than a key: another kind's name may
#: begin as this one's.
_KEYS = '[0-9a-f]' * _DIGITS


def recipe(*parts: str | pathlib.Path) -> str:
    """A short hash of these texts, files and directories."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(f'{part}\0'.encode())
            continue
        for path in sorted([part, *part.rglob('*')]):
            if path.is_file():
                name = path.relative_to(part)
                mode = path.stat().st_mode & 0o777
                digest.update(f'{name} {mode:o}\n'.encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:_DIGITS]


def directory(kind: str, key: str,
              build: Callable[[pathlib.Path, pathlib.Path], None],
              ) -> pathlib.Path:
    """The cached directory of this kind and key, built if need be.

    :param key: from :func:`recipe`.
    :param build: called with a scratch directory, in which it makes
        ``result``, and a log.
    :raises util.LabError: it cannot be built.
    """
    util.need_root()
    target = config.CACHE / f'{kind}-{key}'
    if not target.is_dir():
        with util.Lock(config.CACHE / f'{kind}.lock', wait=1800):
            if not target.is_dir():
                _make(target, kind, build)
    os.utime(target)
    return target


def _make(target: pathlib.Path, kind: str,
          build: Callable[[pathlib.Path, pathlib.Path], None]) -> None:
    # A build that was killed cleaned up nothing.
    for left in target.parent.glob(f'{kind}-{_KEYS}.*'):
        shutil.rmtree(left)
    log = config.LOGS / f'{kind}.log'
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(
            prefix=f'{target.name}.', dir=target.parent) as scratch:
        build(pathlib.Path(scratch), log)
        result = pathlib.Path(scratch) / 'result'
        os.utime(result)
        result.rename(target)
    others = target.parent.glob(f'{kind}-{_KEYS}')
    by_age = sorted(others, key=lambda path: path.stat().st_mtime)
    for path in by_age[:-KEPT]:
        shutil.rmtree(path)
