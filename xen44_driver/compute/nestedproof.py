# SPDX-License-Identifier: Apache-2.0
"""The proof that guests of this host can run guests of their own.

Xen calls nested virtualization experimental: whether it works depends on the
version of Xen and on the CPU, and Xen does not tell. So the driver offers it
only where a guest was seen to start a guest. ``xen44-host probe-nested`` tries
that, and keeps the proof in a file. It holds for one build of Xen and one
model of CPU; after a change of either it has to be given again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile

#: The file; root writes it, and nova-compute reads it.
PATH = '/var/lib/xen44/nested-hvm.json'

_XEN = '/sys/hypervisor'
_CPUS = '/proc/cpuinfo'

_AGAIN = 'run xen44-host probe-nested'


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What a proof holds for.

    :ivar xen: Xen's version, such as ``4.20.4``.
    :ivar build: when it was compiled, in Xen's words. The version of a rebuild
        with other patches may be the same.
    :ivar cpu: the CPU's name.
    """

    xen: str
    build: str
    cpu: str


def platform() -> Platform | None:
    """Return what this host is.

    :returns: None if it is not the dom0 of a Xen host.
    """
    version = [_read(f'version/{part}') for part in ('major', 'minor')]
    cpu = _cpu()
    if not (all(version) and cpu):
        return None
    return Platform(
        # The third number is part of "extra", with its dot.
        xen=f'{".".join(version)}{_read("version/extra")}',
        build=_read('compilation/compile_date'), cpu=cpu)


def keep(proven: Platform) -> None:
    """Keep a proof.

    :param proven: the host on which a guest started a guest.
    :raises OSError: it cannot be written.
    """
    directory = os.path.dirname(PATH)
    os.makedirs(directory, exist_ok=True)
    with tempfile.NamedTemporaryFile(
            'w', dir=directory, delete=False) as file:
        try:
            json.dump(dataclasses.asdict(proven), file, indent=2)
            # nova-compute is not root.
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.rename(file.name, PATH)
        except BaseException:
            os.unlink(file.name)
            raise


def forget() -> None:
    """Remove the proof, if there is one.

    :raises OSError: it cannot be removed.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(PATH)


def problem() -> str | None:
    """Return why the proof does not hold for this host.

    :returns: None if it holds.
    """
    try:
        with open(PATH) as file:
            proven = Platform(**json.load(file))
    except FileNotFoundError:
        return f'no guest has started a guest here yet: {_AGAIN}'
    except (OSError, TypeError, ValueError) as error:
        return f'{PATH} cannot be read ({error}): {_AGAIN}'
    here = platform()
    if here == proven:
        return None
    if here is None:
        return 'this is not the dom0 of a Xen host'
    return (f'it was tried with {_words(proven)}, and this is '
            f'{_words(here)}: {_AGAIN}')


def _words(what: Platform) -> str:
    return f'Xen {what.xen} ({what.build}) on {what.cpu}'


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
