# SPDX-License-Identifier: Apache-2.0
"""``xen44-host probe-nested``: can guests of this host run guests?

A small HVM guest is started as the driver starts those of Nova, through
libvirt; its init (:mod:`xen44_driver.cmd.nestedinit`) starts a guest with KVM.
If that runs to its end, this is kept for nova-compute
(:mod:`xen44_driver.compute.nestedproof`).
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import dataclasses
import json
import os
import pathlib
import socket
import tempfile
import uuid

from nova import conf

from xen44_driver.cmd import nestedguest
from xen44_driver.cmd import nestedinit
from xen44_driver.cmd import report
from xen44_driver.compute import cpusets
from xen44_driver.compute import nestedproof
from xen44_driver.xen import arch as arch_lib
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen import guest as xen_guest
from xen44_driver.xen import host as xen_host
from xen44_driver.xen.guesttype import GuestType

CONF = conf.CONF

#: Name of the guest's domain.
NAME = 'xen44-nested-probe'
#: Its memory; half of it may be used by what the initrd holds.
MEMORY_MIB = 512

# Seconds between two looks at its console.
_INTERVAL = 1.0
# Lines of its console that are shown if it fails.
_LINES = 15


def run(*, as_json: bool, yes: bool, timeout: float) -> int:
    """Start a guest in a guest, and keep whether that works.

    :param as_json: whether to print JSON.
    :param yes: do not ask.
    :param timeout: seconds that the guest has.
    :returns: the exit status: 0 if it works, 1 if not, or if it was not
        tried.
    :raises xen44_driver.cmd.report.CannotWork: this user is not root, or the
        host is no Xen host, or lacks what the guest is made of.
    :raises xen44_driver.xen.errors.XenError: libvirt does not answer.
    :raises OSError: a file cannot be read or written.
    """
    report.require_root()
    report.require_confirmation(yes=yes)
    here = nestedproof.platform()
    if here is None:
        raise report.CannotWork('this is not the dom0 of a Xen host')
    with contextlib.closing(
            xen_host.Host(CONF.xen44.connection_uri)) as host:
        host.connect()
        caps = host.capabilities()
        feature = caps.nested_feature
        if feature is None or GuestType.HVM not in caps.guest_types:
            raise report.CannotWork(
                'the CPU, or Xen, has no HVM guests that could run guests')
        if not report.confirm(
                'Xen calls nested virtualization experimental. A guest in a '
                f'guest may crash {socket.gethostname()} with all its guests. '
                'Start one', yes=yes):
            print('Nothing was done.')
            return 1
        # nova-compute has to be able to read what is kept.
        os.umask(0o022)
        # A crash of the host leaves no old proof.
        nestedproof.forget()
        problem, console = _probe(host, feature, timeout)
    if problem is None:
        nestedproof.keep(here)
    if as_json:
        print(json.dumps({
            'host': socket.gethostname(), 'works': problem is None,
            'problem': problem, 'platform': dataclasses.asdict(here),
            'console': console}, indent=2))
        return int(problem is not None)
    if problem is None:
        print(f'It works: Xen {here.xen} on {here.cpu}.')
        return 0
    for line in console:
        print(f'  | {report.printable(line)}')
    print(report.sentence(f'it does not work: {problem}'))
    return 1


def _probe(
    host: xen_host.Host, feature: str, timeout: float,
) -> tuple[str | None, list[str]]:
    """Start the guest, and wait until it has said how it went.

    :param feature: the CPU's, ``svm`` or ``vmx``.
    :param timeout: seconds that the guest has.
    :returns: why it does not work, None if it does; and the last lines of its
        console.
    """
    base = os.path.dirname(nestedproof.PATH)
    os.makedirs(base, exist_ok=True)
    with tempfile.TemporaryDirectory(
            prefix='nested-probe-', dir=base) as work:
        ramdisk = pathlib.Path(work, 'initrd')
        report.progress('Make the guest')
        ramdisk.write_bytes(nestedguest.initrd(feature))
        log = pathlib.Path(work, 'console.log')
        arch = arch_lib.load(host.capabilities().arch)
        text = domain.to_xml(_describe(
            arch.name, feature, ramdisk=ramdisk, log=log), arch)
        report.progress('Start it, and wait for its guest')
        try:
            with _guest(host, text) as guest:
                problem = _wait(guest, log, timeout)
        except errors.OperationFailed as error:
            problem = (f'the guest cannot be started: {error} (reasons: '
                       '/var/log/libvirt/libxl, /var/log/xen, xl dmesg)')
        return problem, _lines(log)[-_LINES:]


def _describe(arch: str, feature: str, *, ramdisk: pathlib.Path,
              log: pathlib.Path) -> domain.DomainSpec:
    """Describe the guest's domain: no disk, no network, no screen."""
    shared = cpusets.shared()
    return domain.DomainSpec(
        uuid=str(uuid.uuid4()), name=NAME, arch=arch,
        guest_type=GuestType.HVM, memory_mib=MEMORY_MIB, vcpus=1,
        # Those of Nova's guests.
        cpus=(shared,) if shared else (),
        boot=domain.DirectBoot(
            kernel=nestedguest.kernel(), ramdisk=str(ramdisk),
            cmdline=nestedguest.CMDLINE),
        serial_log=str(log), nested_hvm=feature)


@contextlib.contextmanager
def _guest(host: xen_host.Host, text: str) -> Iterator[xen_guest.Guest]:
    """Have the guest run, and remove it in the end.

    :param text: the domain's XML.
    """
    # A command that was killed may have left one.
    for record in host.foreign().values():
        if record.name == NAME:
            _remove(host.foreign_guest(record.uuid))
    guest = host.define(text)
    try:
        guest.start()
        yield guest
    finally:
        _remove(guest)


def _remove(guest: xen_guest.Guest) -> None:
    guest.destroy()
    guest.undefine()


def _wait(guest: xen_guest.Guest, log: pathlib.Path,
          timeout: float) -> str | None:
    """Wait until the guest has said how it went, or is off.

    :returns: why it does not work, or None.
    """
    ended = report.wait(
        lambda: _verdict(log) is not None or guest.state().is_off,
        timeout, _INTERVAL)
    # It may have said it between the two looks.
    said = _verdict(log)
    if said is not None:
        return (None if said == nestedinit.PASSED
                else said.removeprefix(nestedinit.FAILED))
    if ended:
        return 'the guest has ended, and has not said why'
    return f'the guest has not said how it went in {timeout:g} s'


def _verdict(log: pathlib.Path) -> str | None:
    """Return the line by which the guest says how it went, if it has."""
    return next((line for line in _lines(log) if line.startswith(
        (nestedinit.PASSED, nestedinit.FAILED))), None)


def _lines(log: pathlib.Path) -> list[str]:
    """Return the lines of the console that have an end."""
    with contextlib.suppress(OSError):
        text = log.read_text(errors='replace')
        return [line.rstrip() for line in text.splitlines(keepends=True)
                if line.endswith('\n')]
    return []
