# SPDX-License-Identifier: Apache-2.0
"""Debian's packages, without installing them on this machine.

The lab builds with one Debian's programs, Debian 13's, whichever Debian it
runs on.
"""

from __future__ import annotations

from collections.abc import Sequence
import pathlib
import shutil

from labkit import util

SUITE = 'trixie'
#: Every file's time and the seed of every identifier, so that two builds of
#: the same packages are the same.
EPOCH = 1767225600

#: An option of mmdebstrap: the release alone, without its updates. A mirror
#: that keeps few machines of an architecture has old indexes of those, and
#: mmdebstrap takes no old one.
NO_UPDATES = ('--setup-hook=sed -i "/-updates/d; /-security/d" '
              '"$1/etc/apt/sources.list"')

#: Options of mmdebstrap: what Debian 13 lacks comes from the release after it,
#: and all else from Debian 13. A mirror may have an old index of a release
#: that changes daily.
ALSO_NEXT = (
    f'--aptopt=APT::Default-Release "{SUITE}"',
    '--aptopt=Acquire::Check-Valid-Until "false"',
    f'--setup-hook=sed -n "s/ {SUITE} / forky /p" "$1/etc/apt/sources.list" '
    '> "$1/etc/apt/sources.list.d/forky.list"')

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
             log: pathlib.Path, *options: str, suite: str = SUITE) -> None:
    """Unpack (or, depending on the variant, install) packages.

    :param variant: of mmdebstrap(1): 'extract' unpacks them and what they
        depend on, 'apt' installs them beside what is essential.
    :param options: more options of mmdebstrap.
    :param suite: the release of Debian that they are of.
    :raises util.LabError: mmdebstrap failed; the log says why.
    """
    util.run(util.contained([
        'mmdebstrap', '--mode=root', f'--variant={variant}',
        '--format=directory', f'--include={",".join(names)}',
        '--aptopt=Apt::Install-Recommends "false"',
        *options, suite, directory]), timeout=1800, log=log)


def merge_usr(root: pathlib.Path) -> None:
    """Have /bin and its like lead into /usr, as Debian's base-files does."""
    for name in ('bin', 'sbin', 'lib', 'lib64'):
        (root / 'usr' / name).mkdir(parents=True, exist_ok=True)
        if not (root / name).is_symlink():
            (root / name).symlink_to(f'usr/{name}')


class Tree:
    """A directory of Debian's packages, and its programs as tools.

    Tools run inside it. Everything that is built lies in ``work``.

    :param names: packages to unpack there, with what they depend on.
    :param log: of the unpacking.
    :param options: more options of mmdebstrap.
    :param emulator: runs its programs, if they are not this machine's own.
        A program is then named by its path, and can start no other.
    """

    def __init__(self, path: pathlib.Path, names: Sequence[str],
                 log: pathlib.Path, *options: str,
                 emulator: pathlib.Path | None = None):
        self.path = path
        self.log = log
        self.work = path / 'work'
        self._emulator: list[pathlib.Path] = []
        packages(path, 'extract', names, log, *options)
        merge_usr(path)
        self.work.mkdir()
        if emulator:
            self._emulator = [self.work / emulator.name]
            shutil.copy2(emulator, self.work)

    def run(self, *argv: str | pathlib.Path, input: str | None = None,
            timeout: float = 300, logged: bool = False) -> str:
        """Run a program of the tree; returns its output.

        Paths are given as seen from outside, below the tree.

        :param timeout: seconds after which it is killed.
        :param logged: append the output to the log instead.
        :raises util.LabError: it failed.
        """
        inside = [self.inside(arg) if isinstance(arg, pathlib.Path) else arg
                  for arg in (*self._emulator, *argv)]
        done = util.run(
            util.contained(['chroot', self.path, *inside]),
            env={'PATH': '/usr/sbin:/usr/bin', 'LC_ALL': 'C',
                 'SOURCE_DATE_EPOCH': str(EPOCH)},
            input=input, timeout=timeout, log=self.log if logged else None)
        return done.stdout or ''

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
