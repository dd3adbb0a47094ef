# SPDX-License-Identifier: Apache-2.0
"""Proofs that this host can do what can only be known by trying.

Xen calls nested virtualization experimental, and builds of UEFI firmware have
been broken for Xen: whether they work depends on the versions and on the CPU,
and nothing tells. So a command of ``xen44-host`` tries it, and keeps the proof
in a file. It holds for one build of Xen, one model of CPU and one firmware;
after a change of any it has to be given again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile

#: The directory of the files; root writes them, and nova-compute reads them.
DIRECTORY = '/var/lib/xen44'

_XEN = '/sys/hypervisor'
_CPUS = '/proc/cpuinfo'

@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What a proof holds for.

    :ivar xen: Xen's version, such as ``4.20.4``.
    :ivar build: when it was compiled, in Xen's words. The version of a rebuild
        with other patches may be the same.
    :ivar cpu: the CPU's name.
    :ivar firmware: SHA-256 of the firmware, if it is about that.
    """

    xen: str
    build: str
    cpu: str
    firmware: str = ''

    def __str__(self) -> str:
        of = f' with firmware {self.firmware:.12}' if self.firmware else ''
        return f'Xen {self.xen} ({self.build}) on {self.cpu}{of}'


def platform(firmware: str = '') -> Platform | None:
    """Return what this host is.

    :param firmware: SHA-256 of the firmware, if it is about that.
    :returns: None if it is not the dom0 of a Xen host.
    """
    version = [_read(f'version/{part}') for part in ('major', 'minor')]
    cpu = _cpu()
    if not (all(version) and cpu):
        return None
    return Platform(
        # The third number is part of "extra", with its dot.
        xen=f'{".".join(version)}{_read("version/extra")}',
        build=_read('compilation/compile_date'), cpu=cpu, firmware=firmware)


@dataclasses.dataclass(frozen=True, slots=True)
class Proof:
    """A proof that is kept, or not.

    :ivar name: its file's.
    :ivar unproven: what has not been seen yet.
    :ivar command: tries it.
    """

    name: str
    unproven: str
    command: str

    @property
    def path(self) -> str:
        """The file."""
        return os.path.join(DIRECTORY, f'{self.name}.json')

    def keep(self, proven: Platform) -> None:
        """Keep it.

        :param proven: what it holds for.
        :raises OSError: it cannot be written.
        """
        os.makedirs(DIRECTORY, exist_ok=True)
        with tempfile.NamedTemporaryFile(
                'w', dir=DIRECTORY, delete=False) as file:
            try:
                json.dump(dataclasses.asdict(proven), file, indent=2)
                # nova-compute is not root.
                os.fchmod(file.fileno(), 0o644)
                file.flush()
                os.fsync(file.fileno())
                os.rename(file.name, self.path)
            except BaseException:
                os.unlink(file.name)
                raise

    def forget(self) -> None:
        """Remove it, if there is one, whatever happens to the host next.

        :raises OSError: it cannot be removed.
        """
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            return
        directory = os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def problem(self, here: Platform | None) -> str | None:
        """Return why it does not hold.

        :param here: what this host is, from :func:`platform`.
        :returns: None if it holds.
        """
        again = f'run {self.command}'
        try:
            with open(self.path) as file:
                proven = Platform(**json.load(file))
        except FileNotFoundError:
            return f'{self.unproven}: {again}'
        except (OSError, TypeError, ValueError) as error:
            return f'{self.path} cannot be read ({error}): {again}'
        if here == proven:
            return None
        if here is None:
            return 'this is not the dom0 of a Xen host'
        return f'it was tried with {proven}, and this is {here}: {again}'


#: Guests can run guests of their own.
NESTED_HVM = Proof('nested-hvm', 'no guest has started a guest here yet',
                   'xen44-host probe-nested')
#: The UEFI firmware starts.
UEFI = Proof('uefi', 'the firmware has not been seen to start here yet',
             'xen44-host probe-uefi')


def _read(name: str) -> str:
    """Return what Linux tells of Xen, or ''."""
    with contextlib.suppress(OSError), open(f'{_XEN}/{name}') as file:
        return file.read().strip()
    return ''


def _cpu() -> str:
    """Return the name of the first CPU, or ''."""
    with contextlib.suppress(OSError), open(_CPUS) as file:
        for line in file:
            name, _, value = line.partition(':')
            if name.strip() == 'model name':
                return value.strip()
    return ''
