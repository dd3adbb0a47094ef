# SPDX-License-Identifier: Apache-2.0
"""Debian 13's packages without installing them, and a cache of what they make.

The lab builds with one Debian's programs, whichever Debian it runs on.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import hashlib
import pathlib
import tempfile

from labkit import config
from labkit import util

SUITE = 'trixie'
#: Every file's time and the seed of every identifier, so that two builds of
#: the same packages are the same.
EPOCH = 1767225600

#: Who signs Debian 13; older keyring packages do not know it.
_KEYRING = pathlib.Path(
    '/usr/share/keyrings/debian-archive-trixie-automatic.gpg')


def need_tools() -> None:
    """Install what unpacks Debian 13's packages.

    :raises util.LabError: this machine's Debian does not know Debian 13.
    """
    util.need_packages('ca-certificates', 'debian-archive-keyring', 'gpg',
                       'mmdebstrap')
    if not _KEYRING.exists():
        raise util.LabError(
            'debian-archive-keyring is too old to know Debian 13: '
            'apt-get update && apt-get install debian-archive-keyring')


def packages(directory: pathlib.Path, variant: str, names: Sequence[str],
             log: pathlib.Path, *options: str) -> None:
    """Unpack (or, depending on the variant, install) packages.

    :param variant: of mmdebstrap(1): 'extract' unpacks them and what they
        depend on, 'apt' installs them beside what is essential.
    :param options: more options of mmdebstrap.
    :raises util.LabError: mmdebstrap failed; the log says why.
    """
    util.run(['mmdebstrap', '--mode=root', f'--variant={variant}',
              '--format=directory', f'--include={",".join(names)}',
              '--aptopt=Apt::Install-Recommends "false"',
              *options, SUITE, directory], timeout=900, log=log)


class Tree:
    """A directory of Debian's packages, and its programs as tools.

    Tools run inside it. Everything that is built lies in ``work``.
    """

    def __init__(self, path: pathlib.Path, log: pathlib.Path):
        self.path = path
        self.log = log
        self.work = path / 'work'

    def run(self, *argv: str | pathlib.Path, input: str | None = None,
            ) -> str:
        """Run a program of the tree; returns its output.

        Paths are given as seen from outside, below the tree.
        """
        inside = [self.inside(arg) if isinstance(arg, pathlib.Path) else arg
                  for arg in argv]
        done = util.run(
            ['chroot', self.path, *inside],
            env={'PATH': '/usr/sbin:/usr/bin', 'LC_ALL': 'C',
                 'SOURCE_DATE_EPOCH': str(EPOCH)},
            input=input, timeout=300)
        return done.stdout

    def inside(self, path: pathlib.Path) -> str:
        """The path as the tree's own programs see it."""
        return f'/{path.relative_to(self.path)}'

    def only(self, pattern: str) -> pathlib.Path:
        """The one path in the tree that matches.

        :raises util.LabError: none does, or several do.
        """
        found = sorted(self.path.glob(pattern))
        if len(found) != 1:
            raise util.LabError(f'{len(found)} files {pattern} in the '
                                'packages, not 1', self.log)
        return found[0]


def recipe(*parts: str | pathlib.Path) -> str:
    """A short hash of these texts, files and directories."""
    digest = hashlib.sha256()
    for part in (pathlib.Path(__file__), *parts):
        if isinstance(part, str):
            digest.update(part.encode())
            continue
        for path in sorted([part, *part.rglob('*')]):
            if path.is_file():
                name = path.relative_to(part)
                mode = path.stat().st_mode & 0o777
                digest.update(f'{name} {mode:o}\n'.encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@contextlib.contextmanager
def _building(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """A directory beside ``target`` that becomes it if all goes well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
            prefix=f'{target.name}.', dir=target.parent) as name:
        temporary = pathlib.Path(name)
        yield temporary
        result = temporary / 'result'
        result.chmod(0o755)
        result.rename(target)


def cached(kind: str, key: str, title: str,
           build: Callable[[pathlib.Path, pathlib.Path], None],
           ) -> pathlib.Path:
    """The cached directory of this kind and key, built if need be.

    :param key: from :func:`recipe`.
    :param title: of the step, while it is built.
    :param build: called with a scratch directory, in which it makes
        ``result``, and a log.
    :raises util.LabError: it cannot be built.
    """
    target = config.CACHE / f'{kind}-{key}'
    if target.is_dir():
        return target
    util.need_root()
    need_tools()
    log = config.LOGS / f'{kind}.log'
    with util.Lock(config.CACHE / f'{kind}.lock', wait=1200):
        if not target.is_dir():
            log.parent.mkdir(parents=True, exist_ok=True)
            with util.step(title), _building(target) as scratch:
                build(scratch, log)
    return target
