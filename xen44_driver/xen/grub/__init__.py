# SPDX-License-Identifier: Apache-2.0
"""Loaders of this driver's own: grub, which boots a guest's own disk.

grub runs inside the guest, as its kernel. The builds for Xen of distributions
look for a configuration in few places. :func:`build` makes others of the same
grub's modules, with a configuration that knows the layouts of real
distributions' disks (``grub.cfg`` beside this module). Each is recorded with
its checksum, and with one of what it was made of.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import hashlib
from importlib import resources
import io
import json
import os
import subprocess
import tarfile
import tempfile

from xen44_driver.xen import bootfile
from xen44_driver.xen import errors

#: Where distributions have grub's modules, by grub's platform.
MODULES = '/usr/lib/grub'
#: Where Debian has grub's builds for Xen (package grub-xen-host).
DISTRIBUTION = '/usr/lib/grub-xen'

#: Name of the record of what was built, in the directory of the loaders.
RECORD = 'loaders.json'

_PROGRAM = 'grub-mkimage'
# Seconds that it has.
_TIMEOUT = 120
# What it has to make.
_ELF = b'\x7fELF'

# Files of the memory disk besides modules.
_CONFIGURATIONS = ('grub.cfg', 'bls.cfg', 'legacy.cfg', 'pv.cfg')
_START = 'normal (memdisk)/grub.cfg\n'
_PREFIX = '(memdisk)/grub'

# Modules of the loader. What a configuration of the guest loads besides is
# looked for on its disk. There are none for graphics: guests have no screen.
_BUILT_IN = (
    'memdisk', 'tar',
    'normal', 'configfile', 'echo', 'eval', 'help', 'ls', 'cat', 'loadenv',
    'loopback', 'minicmd', 'probe', 'read', 'regexp', 'sleep', 'test', 'true',
    'halt', 'reboot', 'gettext', 'terminal', 'all_video', 'cpuid',
    'search', 'search_fs_file', 'search_fs_uuid', 'search_label',
    'part_gpt', 'part_msdos',
    'ext2', 'xfs', 'btrfs', 'fat',
    'iso9660',
    'diskfilter', 'lvm', 'mdraid09', 'mdraid1x', 'raid5rec', 'raid6rec',
    'gzio', 'xzio', 'lzopio', 'zstd', 'crypto', 'gcry_sha256', 'gcry_sha512',
    'password', 'password_pbkdf2',
)
# Further ones that grub may drop, as Linux has dropped ReiserFS.
_IF_THERE = ('f2fs', 'jfs', 'reiserfs', 'squash4')
# Modules that the configuration loads; it tells why it does so late.
_LATE = ('linux',)
# Those that not every version of grub has.
_OPTIONAL = ('blscfg',)


class CannotBuild(errors.XenError):
    """A loader cannot be built; the message says why."""


def path(directory: str, platform: str) -> str:
    """Return the path of a loader.

    :param directory: that of the loaders, :data:`DISTRIBUTION` or the one in
        which :func:`build` put them.
    :param platform: grub's name of the platform, such as ``x86_64-xen``.
    """
    return os.path.join(directory, f'grub-{platform}.bin')


def find(directory: str, platform: str) -> bootfile.BootFile:
    """Return the loader to use: the driver's own, or the distribution's.

    :param directory: the directory in which :func:`build` put the loaders.
    :param platform: see :func:`path`.
    """
    own = path(directory, platform)
    return bootfile.look(
        own if os.path.isfile(own) else path(DISTRIBUTION, platform))


def build(directory: str, platforms: Iterable[str]) -> list[bootfile.BootFile]:
    """Build loaders, and record them. Those that exist are replaced.

    :param directory: where to put them; it is made if it does not exist.
    :param platforms: grub's names of their platforms.
    :returns: the loaders.
    :raises CannotBuild: grub, or a module of it, does not exist, or fails.
    :raises OSError: they cannot be written.
    """
    os.makedirs(directory, mode=0o755, exist_ok=True)
    record = _read_record(directory)
    made = []
    for platform in platforms:
        target = path(directory, platform)
        content = _make(platform)
        _replace(target, content)
        loader = bootfile.BootFile(
            path=target, sha256=hashlib.sha256(content).hexdigest())
        record[platform] = {
            'sha256': str(loader.sha256), 'source': _source(platform)}
        _replace(os.path.join(directory, RECORD),
                 json.dumps(record, indent=2).encode() + b'\n')
        made.append(loader)
    return made


def problems(directory: str, platform: str) -> Iterator[str]:
    """Yield what is wrong with a loader that was built here.

    :param directory: see :func:`find`.
    :param platform: see :func:`path`.
    """
    loader = bootfile.look(path(directory, platform))
    recorded = _read_record(directory).get(platform, {})
    if loader.sha256 != recorded.get('sha256'):
        yield f'{loader.path} is not what was built'
        return
    try:
        source = _source(platform)
    except CannotBuild:
        # It works without what it was made of.
        return
    if source != recorded.get('source'):
        yield (f'{loader.path} was built of another version of grub, or by '
               'another version of this driver')


def _read_record(directory: str) -> dict[str, dict[str, str]]:
    try:
        with open(os.path.join(directory, RECORD), 'rb') as file:
            record = json.load(file)
    except (OSError, ValueError):
        return {}
    return {name: loader for name, loader in record.items()
            if isinstance(loader, dict)} if isinstance(record, dict) else {}


def _replace(file: str, content: bytes) -> None:
    """Write a whole file, so that nobody sees a part of it."""
    with tempfile.NamedTemporaryFile(
            dir=os.path.dirname(file), prefix='.', delete=False) as new:
        try:
            new.write(content)
            os.fchmod(new.fileno(), 0o644)
            new.flush()
            os.fsync(new.fileno())
            os.rename(new.name, file)
        except BaseException:
            os.unlink(new.name)
            raise


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Modules:
    """The modules of a loader.

    :ivar built_in: names of those that are part of it.
    :ivar late: names of those in its memory disk.
    """

    built_in: frozenset[str]
    late: frozenset[str]


def _modules(platform: str) -> _Modules:
    """Choose modules, with those on which they depend.

    :raises CannotBuild: one does not exist.
    """
    needs: dict[str, list[str]] = {}
    for line in _module(platform, 'moddep.lst').decode().splitlines():
        name, _, others = line.partition(':')
        needs[name] = others.split()

    def with_needs(names: Iterable[str]) -> frozenset[str]:
        found: set[str] = set()
        left = list(names)
        while left:
            name = left.pop()
            if name not in needs:
                raise CannotBuild(
                    f'grub for {platform} has no module {name!r} in {MODULES}')
            if name not in found:
                found.add(name)
                left += needs[name]
        return frozenset(found)

    def there(names: Iterable[str]) -> list[str]:
        return [name for name in names if name in needs]

    optional = there(_OPTIONAL)
    late = with_needs([*_LATE, *optional])
    # What the late ones need is built in, unless it needs them.
    built_in = with_needs([*_BUILT_IN, *there(_IF_THERE), *(
        name for name in late if not with_needs([name]) & {*_LATE})])
    return _Modules(built_in=built_in, late=late - built_in)


def _module(platform: str, name: str) -> bytes:
    """Return a file of grub's modules.

    :raises CannotBuild: it does not exist.
    """
    try:
        with open(os.path.join(MODULES, platform, name), 'rb') as file:
            return file.read()
    except OSError as error:
        raise CannotBuild(
            f'{error}: are grub\'s modules for Xen installed (Debian: package '
            'grub-xen-bin)?') from error


def memory_disk(platform: str, late: Iterable[str]) -> bytes:
    """Return the archive that grub has as its memory disk.

    :param platform: see :func:`path`.
    :param late: names of the modules in it.
    :raises CannotBuild: a module does not exist.
    """
    files = {name: resources.files(__name__).joinpath(name).read_bytes()
             for name in _CONFIGURATIONS}
    files |= {f'grub/{platform}/{name}.mod': _module(platform, f'{name}.mod')
              for name in sorted(late)}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode='w',
                      format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            # Without times and owners, the same is made of the same.
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def _source(platform: str) -> str:
    """Return a checksum of all that a loader is made of.

    :raises CannotBuild: a part of it does not exist.
    """
    modules = _modules(platform)
    digest = hashlib.sha256(memory_disk(platform, modules.late))
    for name in ('kernel.img', *(
            f'{name}.mod' for name in sorted(modules.built_in))):
        digest.update(hashlib.sha256(_module(platform, name)).digest())
    return digest.hexdigest()


def _make(platform: str) -> bytes:
    """Return the content of a loader.

    :raises CannotBuild: see :func:`build`.
    """
    modules = _modules(platform)
    with tempfile.TemporaryDirectory(prefix='xen44-grub-') as work:
        start, disk, made = (
            os.path.join(work, name) for name in ('start', 'disk', 'made'))
        with open(start, 'w') as file:
            file.write(_START)
        with open(disk, 'wb') as file:
            file.write(memory_disk(platform, modules.late))
        command = [
            _PROGRAM, f'--format={platform}', f'--output={made}',
            f'--directory={os.path.join(MODULES, platform)}',
            f'--config={start}', f'--memdisk={disk}', f'--prefix={_PREFIX}',
            *sorted(modules.built_in)]
        try:
            subprocess.run(command, check=True, capture_output=True,
                           text=True, timeout=_TIMEOUT)
            with open(made, 'rb') as file:
                content = file.read()
        except FileNotFoundError as error:
            raise CannotBuild(f'there is no {_PROGRAM} (Debian: package '
                              'grub-common)') from error
        except subprocess.CalledProcessError as error:
            raise CannotBuild(f'{_PROGRAM} for {platform} failed: '
                              f'{error.stderr.strip()[-500:]}') from error
        except subprocess.TimeoutExpired as error:
            raise CannotBuild(f'{_PROGRAM} for {platform} took more than '
                              f'{_TIMEOUT} s') from error
    if not content.startswith(_ELF):
        raise CannotBuild(f'{_PROGRAM} made no ELF file for {platform}')
    return content
