# SPDX-License-Identifier: Apache-2.0
"""Make the guest of ``xen44-host probe-nested``: dom0's kernel and an initrd.

All of it is dom0's: its kernel boots as a guest, too, its modules have KVM,
and its Python, without which there is no nova-compute, runs
:mod:`xen44_driver.cmd.nestedinit`. So the probe needs no compiler, no download
and no program that somebody else has built.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import gzip
import lzma
import os
import pathlib
import re
import stat
import subprocess
import sys

from xen44_driver.cmd import nestedinit
from xen44_driver.cmd import report

#: The module of KVM for each feature of CPUs.
MODULES = {'svm': 'kvm-amd', 'vmx': 'kvm-intel'}

#: What the guest's kernel is told. Its first serial port is its console. The
#: last goes to its init: a guest that has just begun has no random numbers,
#: which Python would wait for.
CMDLINE = 'console=ttyS0 quiet PYTHONHASHSEED=0'

# Seconds that a program may take.
_TIMEOUT = 300

# Prints the files of all modules of Python that a program imports.
_IMPORTS = """
import sys
with open(sys.argv[1]) as file:
    exec(compile(file.read(), sys.argv[1], 'exec'), {'__name__': 'init'})
for module in list(sys.modules.values()):
    if getattr(module, '__file__', None):
        print(module.__file__)
"""
# Without what a user has set, or has put where root happens to be.
_ISOLATED = '-IS'
# In the guest there is no user; the kernel sets what Python reads.
_IN_GUEST = '-sS'
_NOTHING: dict[str, str] = {}

# Lines of ldd: "NAME => PATH (ADDRESS)" and "PATH (ADDRESS)".
_LIBRARY = re.compile(r'^\s+(?:\S+ => )?(/\S+) \(0x', re.MULTILINE)

_UNPACK: dict[str, Callable[[bytes], bytes]] = {
    '.ko': bytes, '.xz': lzma.decompress, '.gz': gzip.decompress}

#: A file of an archive: its path, its mode, its content.
Entry = tuple[str, int, bytes]


def kernel() -> str:
    """Return the path of dom0's kernel.

    :raises xen44_driver.cmd.report.CannotWork: it is not in /boot.
    """
    path = f'/boot/vmlinuz-{os.uname().release}'
    if not os.path.isfile(path):
        raise report.CannotWork(
            f'there is no kernel for a guest to boot: {path}')
    return path


def initrd(feature: str) -> bytes:
    """Make the initrd.

    :param feature: the CPU's, ``svm`` or ``vmx``.
    :raises xen44_driver.cmd.report.CannotWork: dom0 lacks something.
    :raises OSError: a file cannot be read.
    """
    # Little of it would be saved by a better compression.
    return gzip.compress(archive([*_python(), *_modules(feature)]), 1)


def _run(*command: str, env: dict[str, str] | None = None) -> str:
    try:
        return subprocess.run(
            command, check=True, capture_output=True, text=True,
            timeout=_TIMEOUT, env=env).stdout
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, 'stderr', None) or '').strip()
        raise report.CannotWork(
            f'{command[0]}: {said or error}') from error


def _python() -> Iterator[Entry]:
    """Yield Python, what it needs, and the init that it runs."""
    # Not that of a virtual environment, which is a link to it.
    program = os.path.realpath(sys.executable)
    files = {*_run(program, _ISOLATED, '-c', _IMPORTS, nestedinit.__file__,
                   env=_NOTHING).splitlines()}
    files = {path for path in files if path.startswith('/')}
    binaries = [program, *(path for path in files if '.so' in path)]
    files |= {library for path in binaries
              for library in _LIBRARY.findall(_run('ldd', path))}
    for path in sorted({program, *files}):
        yield path, 0o755, pathlib.Path(path).read_bytes()
    code = pathlib.Path(nestedinit.__file__).read_bytes()
    yield '/init', 0o755, f'#!{program} {_IN_GUEST}\n'.encode() + code


def _modules(feature: str) -> Iterator[Entry]:
    """Yield KVM's modules, named in the order in which they are loaded.

    :raises xen44_driver.cmd.report.CannotWork: dom0's kernel has no KVM.
    """
    # Lines "insmod PATH", and "builtin NAME" for what needs no file.
    lines = _run('/sbin/modprobe', '--show-depends', '--ignore-install',
                 MODULES[feature]).splitlines()
    # The directory is needed even if all of them are built in.
    yield nestedinit.MODULES, stat.S_IFDIR | 0o755, b''
    for number, line in enumerate(lines):
        verb, path = line.split()[:2]
        if verb != 'insmod':
            continue
        file = pathlib.Path(path)
        unpack = _UNPACK.get(file.suffix)
        if unpack is None:
            raise report.CannotWork(f'{path} cannot be unpacked')
        name = f'{number:02}-{file.name.split(".")[0]}.ko'
        yield (f'{nestedinit.MODULES}/{name}', 0o644,
               unpack(file.read_bytes()))


def archive(entries: Iterable[Entry]) -> bytes:
    """Return files as an archive that Linux unpacks (cpio, ``newc``).

    :param entries: regular files; directories have their bit in the mode. The
        directories that files need are added.
    """
    # Where Linux mounts its devices, which the kernel itself does not make.
    found: dict[str, Entry] = {'dev': ('dev', stat.S_IFDIR | 0o755, b'')}
    for path, mode, content in entries:
        name = path.lstrip('/')
        for parent in reversed(pathlib.PurePath(name).parents[:-1]):
            found.setdefault(str(parent), (
                str(parent), stat.S_IFDIR | 0o755, b''))
        kind = stat.S_IFMT(mode) or stat.S_IFREG
        found[name] = name, kind | stat.S_IMODE(mode), content
    members = [_member(number, *entry) for number, entry
               in enumerate(found.values(), start=1)]
    return b''.join([*members, _member(0, 'TRAILER!!!', 0, b'')])


def _member(number: int, name: str, mode: int, content: bytes) -> bytes:
    # Inode, mode, uid, gid, links, time, size, four numbers of devices, length
    # of the name, no checksum.
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0,
              len(name.encode()) + 1, 0)
    head = b'070701' + b''.join(b'%08X' % field for field in fields)
    return _padded(head + name.encode() + b'\0') + _padded(content)


def _padded(part: bytes) -> bytes:
    """Fill up to a multiple of four bytes."""
    return part + bytes(-len(part) % 4)
