# SPDX-License-Identifier: Apache-2.0
"""Try with a throw-away HVM guest what only a guest can show.

It is started as the driver starts those of Nova, through libvirt. If it says
on its console that all is well, a proof of that is kept for nova-compute
(:mod:`xen44_driver.compute.proof`).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import socket
import tempfile
from typing import Any
import uuid

from nova import conf

from xen44_driver.cmd import keeping
from xen44_driver.cmd import report
from xen44_driver.compute import cpusets
from xen44_driver.compute import proof
from xen44_driver.xen import arch as arch_lib
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen import guest as xen_guest
from xen44_driver.xen import host as xen_host
from xen44_driver.xen.guesttype import GuestType

CONF = conf.CONF

# Seconds between two looks at the console.
_INTERVAL = 1.0
# Lines of the console that are shown if it fails.
_LINES = 15

#: Names a verdict in the lines of a console that have an end: '' if all is
#: well, or else the problem; None if there is none yet.
Verdict = Callable[[Sequence[str]], str | None]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What is tried.

    :ivar proves: the proof that is kept if it works.
    :ivar platform: what it will hold for.
    :ivar name: name of the guest's domain.
    :ivar memory_mib: the guest's memory, in MiB.
    :ivar options: returns further fields of its domain (``DomainSpec``); its
        parameter is a directory for its files.
    :ivar verdict: says how it went.
    :ivar works: what is printed, before the platform, if all is well.
    """

    proves: proof.Proof
    platform: proof.Platform
    name: str
    memory_mib: int
    options: Callable[[pathlib.Path], dict[str, Any]]
    verdict: Verdict
    works: str


def here(firmware: str = '') -> proof.Platform:
    """Return what this host is; see :func:`proof.platform`.

    :raises xen44_driver.cmd.report.CannotWork: it is no Xen host.
    """
    found = proof.platform(firmware)
    if found is None:
        raise report.CannotWork('this is not the dom0 of a Xen host')
    return found


def run(host: xen_host.Host, probe: Probe, *, timeout: float,
        as_json: bool) -> int:
    """Start the guest, and keep and print whether it works.

    :param host: connected.
    :param timeout: seconds that the guest has.
    :param as_json: whether to print JSON.
    :returns: the exit status: 0 if it works, otherwise 1.
    :raises xen44_driver.cmd.report.CannotWork: the host lacks what the guest
        is made of.
    :raises xen44_driver.xen.errors.XenError: libvirt does not answer.
    :raises OSError: a file cannot be read or written.
    """
    # nova-compute has to be able to read what is kept.
    os.umask(0o022)
    with _alone(probe.name):
        problem, console = _try(host, probe, timeout)
        if not problem:
            probe.proves.keep(probe.platform)
    if as_json:
        print(json.dumps({
            'host': socket.gethostname(), 'works': not problem,
            'problem': problem or None,
            'platform': dataclasses.asdict(probe.platform),
            'console': console}, indent=2))
    elif problem:
        for line in console:
            print(f'  | {report.printable(line)}')
        print(report.sentence(f'it does not work: {problem}'))
    else:
        print(f'{probe.works}: {probe.platform}.')
    return int(bool(problem))


def _try(host: xen_host.Host, probe: Probe,
         timeout: float) -> tuple[str, list[str]]:
    """Start the guest, and wait until it has said how it went.

    :returns: why it does not work, '' if it does; and the last lines of its
        console.
    """
    with tempfile.TemporaryDirectory(
            prefix=f'{probe.name}-', dir=proof.DIRECTORY) as work:
        log = pathlib.Path(work, 'console.log')
        report.progress('Make the guest')
        arch = arch_lib.load(host.capabilities().arch)
        shared = cpusets.shared()
        text = domain.to_xml(domain.DomainSpec(
            uuid=str(uuid.uuid4()), name=probe.name, arch=arch.name,
            guest_type=GuestType.HVM, memory_mib=probe.memory_mib, vcpus=1,
            # Those of Nova's guests.
            cpus=(shared,) if shared else (), serial_log=str(log),
            **probe.options(pathlib.Path(work))), arch)
        report.progress('Start it, and wait for what it says')
        # A command that was killed may have left one.
        for record in host.foreign().values():
            if record.name == probe.name:
                _remove(host.foreign_guest(record.uuid))
        guest = host.define(text)
        try:
            # Nothing is missing. A crash of the host leaves no old proof.
            probe.proves.forget()
            problem = (_start(guest)
                       or _wait(guest, log, probe.verdict, timeout))
        finally:
            _remove(guest)
        return problem, _lines(log)[-_LINES:]


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    """Keep other probes away, and remove what a killed one has left.

    :param name: how the directories of this kind begin.
    :raises xen44_driver.cmd.report.CannotWork: another one runs.
    """
    os.makedirs(proof.DIRECTORY, exist_ok=True)
    with keeping.locked(proof.DIRECTORY, 'probe'):
        for left in pathlib.Path(proof.DIRECTORY).glob(f'{name}-*'):
            shutil.rmtree(left)
        yield


def _start(guest: xen_guest.Guest) -> str:
    """Start the guest; return why it cannot be started, or ''."""
    try:
        guest.start()
    except errors.OperationFailed as error:
        return (f'the guest cannot be started: {error} (reasons: '
                '/var/log/libvirt/libxl, /var/log/xen, xl dmesg)')
    return ''


def _remove(guest: xen_guest.Guest) -> None:
    guest.destroy()
    guest.undefine()


def _wait(guest: xen_guest.Guest, log: pathlib.Path, verdict: Verdict,
          timeout: float) -> str:
    """Wait until the guest has said how it went, or is off.

    :returns: why it does not work, or ''.
    """
    ended = report.wait(
        lambda: verdict(_lines(log)) is not None or guest.state().is_off,
        timeout, _INTERVAL)
    # It may have said it between the two looks.
    said = verdict(_lines(log))
    if said is not None:
        return said
    if ended:
        return 'the guest has ended, and has not said why'
    return f'the guest has not said how it went in {timeout:g} s'


def _lines(log: pathlib.Path) -> list[str]:
    """Return the lines of the console that have an end."""
    with contextlib.suppress(OSError):
        text = log.read_text(errors='replace')
        return [line.rstrip() for line in text.splitlines(keepends=True)
                if line.endswith('\n')]
    return []
