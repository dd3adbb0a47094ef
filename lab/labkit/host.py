# SPDX-License-Identifier: Apache-2.0
"""One real Xen host under QEMU's software emulation.

A cold boot takes minutes. So the first one is followed by a QEMU snapshot,
kept in the cache beside the image it belongs to; from then on a host comes
up from that in seconds. A snapshot fits one machine only: its name has a
hash of QEMU's version and of every option that shapes the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import json
import os
import pathlib
import re
import shlex
import socket
from subprocess import CompletedProcess
import time
from typing import Any
import uuid

from labkit import arch
from labkit import cache
from labkit import config
from labkit import image
from labkit import network
from labkit import util

#: MiB of translated code that QEMU keeps beside the machine's memory: when
#: they are full it throws all away. Less on a small machine.
TRANSLATED = 1024 if util.total_memory() >= 12 * 1024 else 512

#: Seconds a busy machine may need.
BOOT_TIMEOUT = 1200
RESUME_TIMEOUT = 120
DOWN_TIMEOUT = 300
SAVE_TIMEOUT = 180

#: A host without one of these is no Xen host.
NEEDED_UNITS = ('xen.service', 'libvirtd.service',
                'openvswitch-switch.service', 'xenlab-bridges.service')

#: OpenStack's services in dom0 that every host has, if the lab runs them.
SERVICES = (arch.AGENT, arch.NOVA_COMPUTE)

#: What the first start leaves in the cache.
BOOTED = 'booted'
#: Name of the snapshot inside each disk that the cache has.
STORED = 'stored'

#: On the serial console: this host comes no further.
_DEAD = re.compile(
    r'.*(?:Hardware Dom0 crashed|Kernel panic|\(XEN\) Panic on CPU'
    r'|Domain 0 crashed|VFS: Unable to mount).*')


class Qmp:
    """QEMU's control socket: connect, one command at a time, disconnect."""

    def __init__(self, path: pathlib.Path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        try:
            self._socket.connect(os.fspath(path))
        except OSError as error:
            self._socket.close()
            raise util.LabError(f'QEMU does not answer: {error}') from None
        self._lines = self._socket.makefile('r', encoding='utf-8')

    def __enter__(self) -> Qmp:
        self._lines.readline()  # the greeting
        self('qmp_capabilities')
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()

    def __call__(self, command: str, **arguments: Any) -> Any:
        """Run a command and return what it returns.

        :raises LabError: QEMU refused it, or went away.
        """
        request = {'execute': command, 'arguments': arguments}
        try:
            self._socket.sendall(json.dumps(request).encode())
            for line in self._lines:
                answer = json.loads(line)
                if 'error' in answer:
                    raise util.LabError(
                        f'QEMU: {command}: {answer["error"]["desc"]}')
                if 'return' in answer:
                    return answer['return']
        except OSError as error:
            raise util.LabError(f'QEMU: {command}: {error}') from None
        raise util.LabError(f'QEMU went away during {command}')

    def job(self, command: str, timeout: float, **arguments: Any) -> None:
        """Run a command that is a QEMU job, to the job's end."""
        self(command, **{'job-id': command}, **arguments)

        def concluded() -> dict[str, Any] | None:
            return next((job for job in self('query-jobs')
                         if job['id'] == command
                         and job['status'] == 'concluded'), None)

        job = util.wait_for(f'QEMU: {command}', concluded, timeout,
                            interval=0.1)
        self('job-dismiss', id=command)
        if job and 'error' in job:
            raise util.LabError(f'QEMU: {command}: {job["error"]}')


@dataclasses.dataclass(frozen=True)
class Status:
    """What ``xenlab status`` shows of a host.

    :ivar state: 'up', 'no ssh' or 'down'.
    :ivar memory: what it uses of this machine's memory now, in MiB.
    :ivar log: its serial console.
    """

    name: str
    pid: int | None
    state: str
    memory: int
    log: pathlib.Path


class XenHost:
    """Xen host ``number`` (from 1) of this lab.

    :ivar arch: its architecture.
    """

    def __init__(self, number: int):
        self.number = number
        self.arch = arch.of_host(number)
        self.name = config.host_name(number)
        self.address = config.host_ip(number)
        self.directory = config.STATE / self.name
        self.console_log = config.LOGS / f'{self.name}-console.log'
        self.qemu_log = config.LOGS / f'{self.name}-qemu.log'
        self._pidfile = config.RUN / f'{self.name}.pid'
        self._qmp = config.RUN / f'{self.name}.qmp'
        self._ssh_pidfile = config.RUN / f'{self.name}-ssh.pid'
        self._ssh_socket = config.RUN / f'{self.name}-ssh'
        self._disk = self.directory / 'disk.qcow2'
        self._image = image.Image(self.directory)

    # The machine

    def _machine(self) -> list[str]:
        """QEMU's options that shape the machine, without any path."""
        ident = uuid.uuid5(uuid.NAMESPACE_DNS, f'{self.name}.xenlab')
        options = [
            '-name', self.name, '-uuid', str(ident),
            '-machine', self.arch.machine, '-cpu', self.arch.cpu,
            '-smp', str(arch.CPUS), '-m', str(self.arch.memory),
            '-nodefaults', '-display', 'none',
            '-no-reboot', '-append', self.arch.xen_options,
            '-accel', f'tcg,thread=multi,tb-size={TRANSLATED}']
        for device in self.arch.devices:
            options += ['-device', device]
        options += [
            '-device', self.arch.disk,
            '-object', 'rng-random,id=random,filename=/dev/urandom',
            '-device', self.arch.random]
        for role, nic in zip('md', self.arch.nics, strict=True):
            tap = config.tap(self.number, role)
            options += [
                # The controller's userspace switch completes no checksum:
                # without vnet_hdr dom0 leaves none to complete.
                '-netdev', f'tap,id={role},ifname={tap},script=no,'
                'downscript=no,vnet_hdr=off',
                '-device', f'{nic},mac={config.mac(self.number, role)}']
        return options

    def _dom0_options(self) -> str:
        ident = uuid.uuid5(uuid.NAMESPACE_DNS, f'{self.name}.xenlab')
        return (f'{self.arch.dom0_options} systemd.hostname={self.name} '
                f'systemd.machine_id={ident.hex} '
                f'ip={self.address}:::{config.PREFIX}::eth0:off')

    def _spawn(self, *options: str) -> None:
        """Start QEMU on this lab's disk."""
        for path in (self.console_log, self._qmp):
            path.unlink(missing_ok=True)
        disk = {'driver': 'qcow2', 'node-name': 'disk',
                'cache': {'no-flush': True},
                'file': {'driver': 'file', 'filename': str(self._disk)}}
        util.spawn(
            [*self.arch.program.command(), *self._machine(),
             '-blockdev', json.dumps(disk),
             *self.arch.boot(self._image, self._dom0_options()),
             '-serial', f'file:{self.console_log}',
             '-qmp', f'unix:{self._qmp},server=on,wait=off', *options],
            log=self.qemu_log, pidfile=self._pidfile, netns=True)

    def _prepare(self) -> None:
        """What any start needs: packages, memory, network."""
        util.need_root()
        util.need_packages('qemu-utils', 'openssh-client', 'rsync')
        if self.running:
            raise util.LabError(f'{self.name} runs already')
        util.free_memory_check(self.arch.memory + TRANSLATED,
                               f'Xen host {self.name}')
        network.up()
        network.add_taps(self.number)

    def _adopt(self, built: image.Image) -> None:
        """Make an image this lab's own, whatever the cache forgets later.

        Disks name their base without a directory: they work here as in the
        image's own directory.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        for source in built.files:
            target = self.directory / source.name
            target.unlink(missing_ok=True)
            try:
                target.hardlink_to(source)
            except OSError:  # the cache is on another file system
                _copy(source, target)

    def snapshot(self, name: str = BOOTED) -> pathlib.Path:
        """Where the cache has, or may have, a snapshot of this host.

        :param name: what is in it, for :meth:`store` and :meth:`restore`;
            with a hash of all that it depends on, beside the image, QEMU
            and the machine's shape.
        """
        # QEMU may be fetched beside: the image takes longer.
        directory = self.arch.dom0_image().directory
        shape = [self.arch.program.version(), *self._machine(),
                 self._dom0_options()]
        return directory / f'{self.name}-{name}-{cache.recipe(*shape)}.qcow2'

    @property
    def running(self) -> bool:
        """Whether its QEMU runs."""
        return util.running(self._pidfile) is not None

    # Up and down

    def start(self) -> None:
        """Bring the host up as freshly booted, in seconds if ever before.

        :raises LabError: it runs already, or did not come up.
        """
        self._prepare()
        booted = self.snapshot()
        if booted.exists():
            try:
                self._restore(booted)
                return
            except util.LabError as error:
                # Seen: a host that runs on and whose dom0 never answers.
                util.say(f'{self.name}: {error}: it is booted instead')
                self.stop()
        self._boot()
        if self.arch.saved:
            with util.step(f'{self.name}: snapshot for the next start'):
                self.store(booted)

    def boot(self) -> None:
        """Bring the host up by a cold boot, whatever the cache has."""
        self._prepare()
        self._boot()

    def _boot(self) -> None:
        self._adopt(self.arch.dom0_image())
        self._disk.unlink(missing_ok=True)
        util.run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'qcow2',
                  '-b', self._image.base.name, self._disk],
                 cwd=self.directory)
        self.power_on()
        with util.step(f'{self.name}: code of the services'):
            # They wait for their configuration (lab/image: preloaded).
            self.ssh(['systemctl', 'start', *self.arch.services],
                     timeout=930)

    def power_on(self) -> None:
        """Boot a host that is down from the disk that it has.

        :raises LabError: it did not come up.
        """
        with util.step(f'{self.name}: cold boot'):
            self._spawn()
            self._wait_for_ssh(BOOT_TIMEOUT)
            self._settle()

    def wait_until_down(self) -> None:
        """Wait until dom0 has shut the host down, or reboots it.

        QEMU ends at either: :meth:`power_on` is what the firmware would do.

        :raises LabError: it did not come to that.
        """
        util.wait_for(f'{self.name} to go down', lambda: not self.running,
                      DOWN_TIMEOUT, self.console_log)
        # It would be a connection to nobody.
        util.stop(self._ssh_pidfile, grace=2)

    def resume(self, tag: str) -> None:
        """Bring the host up as it was at :meth:`save`.

        :raises LabError: it runs already, or did not come up.
        """
        self._prepare()
        self._resume(tag)

    def restore(self, source: pathlib.Path) -> None:
        """Bring the host up as it was at :meth:`store`.

        :raises LabError: it runs already, or did not come up.
        """
        self._prepare()
        self._restore(source)

    def _restore(self, source: pathlib.Path) -> None:
        self._adopt(image.Image(source.parent))
        _copy(source, self._disk)
        self._resume(STORED)

    def _resume(self, tag: str) -> None:
        with util.step(f'{self.name}: resume'):
            self._spawn('-loadvm', tag)
            self._wait_for_ssh(RESUME_TIMEOUT)
            # It woke up at the hour it fell asleep.
            self.ssh(['date', '--utc', f'--set=@{time.time():.1f}'])

    def save(self, tag: str) -> None:
        """Snapshot the running host within the lab, for :meth:`resume`.

        :param tag: its name; a snapshot of that name is replaced.
        """
        with Qmp(self._qmp) as qmp:
            _save(qmp, tag)

    def store(self, target: pathlib.Path) -> None:
        """Snapshot the running host into the cache, for :meth:`restore`.

        The host goes on running.

        :param target: from :meth:`snapshot`; it lies beside its image.
        """
        partial = target.with_suffix('.partial')
        with Qmp(self._qmp) as qmp:
            qmp('stop')
            try:
                _save(qmp, STORED)
                _copy(self._disk, partial)
            finally:
                qmp('cont')
        partial.rename(target)

    def stop(self) -> bool:
        """End the host at once, as a power cut would.

        :returns: whether it was running.
        """
        util.stop(self._ssh_pidfile, grace=2)
        if not self.running:
            self._pidfile.unlink(missing_ok=True)
            return False
        try:
            with Qmp(self._qmp) as qmp:
                qmp('quit')
            util.wait_for(f'{self.name} to end', lambda: not self.running,
                          10, self.qemu_log, interval=0.1)
        except util.LabError:
            util.say(f'{self.name}: QEMU does not quit by itself, killed')
        util.stop(self._pidfile)
        return True

    def status(self) -> Status:
        """Where the host is now; asks it for no more than a ssh greeting."""
        pid = util.running(self._pidfile)
        if not pid:
            return Status(self.name, None, 'down', 0, self.console_log)
        pages = int(pathlib.Path(f'/proc/{pid}/statm').read_text().split()[1])
        memory = pages * os.sysconf('SC_PAGE_SIZE') // 2**20
        state = 'up' if self._greets() else 'no ssh'
        return Status(self.name, pid, state, memory, self.console_log)

    # Waiting for it

    def _require_qemu(self) -> None:
        """:raises LabError: QEMU does not run."""
        if not self.running:
            raise util.LabError(f'{self.name} is down: its QEMU does not run',
                                self.qemu_log)

    def check(self) -> None:
        """:raises LabError: QEMU ended, or Xen or dom0 crashed."""
        self._require_qemu()
        if self.console_log.exists():
            said = self.console_log.read_text(errors='replace')
            if dead := _DEAD.search(said):
                raise util.LabError(f'{self.name}: {dead[0].strip()}',
                                    self.console_log)

    def _greets(self) -> bool:
        try:
            self.ssh(['true'], timeout=60)
        except util.LabError:
            return False
        return True

    def _wait_for_ssh(self, timeout: float) -> None:
        def greets() -> bool:
            self.check()
            return self._greets()

        util.wait_for(f'ssh of {self.name}', greets, timeout,
                      self.console_log)
        # One connection for all that follows: a new one costs a second.
        self._ssh_socket.unlink(missing_ok=True)
        util.spawn([*self._ssh_base(), '-MN', f'root@{self.address}'],
                   log=config.LOGS / f'{self.name}-ssh.log',
                   pidfile=self._ssh_pidfile, netns=True)
        util.wait_for(f'ssh connection to {self.name}',
                      self._ssh_socket.exists, 60)

    def _settle(self) -> None:
        """Wait for the end of dom0's boot, and look whether it is whole."""
        state = self.ssh(['systemctl', 'is-system-running', '--wait'],
                         check=False, timeout=BOOT_TIMEOUT).stdout.strip()
        failed = self.ssh(['systemctl', 'list-units', '--failed', '--plain',
                           '--no-legend']).stdout.splitlines()
        missing = [line.split()[0] for line in failed]
        # A unit that another one keeps from starting has not failed.
        actives = self.ssh(['systemctl', 'is-active', *NEEDED_UNITS],
                           check=False).stdout.split()
        missing += [unit for unit, active
                    in zip(NEEDED_UNITS, actives, strict=True)
                    if active != 'active' and unit not in missing]
        if missing:
            raise util.LabError(f'{self.name} is {state}, without '
                                + ' '.join(missing), self.console_log)

    # Inside dom0

    def _ssh_base(self) -> list[str]:
        # An old connection's socket may be there, and nobody would answer.
        self._require_qemu()
        options = {
            'BatchMode': 'yes',
            'ConnectTimeout': '20',
            'ControlPath': self._ssh_socket,
            'IdentitiesOnly': 'yes',
            # Quick under emulation, and the traffic never leaves us.
            'KexAlgorithms': 'curve25519-sha256',
            'LogLevel': 'ERROR',
            'StrictHostKeyChecking': 'yes',
            'UserKnownHostsFile': self._image.known_hosts}
        return ['ssh', '-F', 'none', '-i', str(self._image.ssh_key),
                *(f'-o{key}={value}' for key, value in options.items())]

    def ssh_command(self, argv: Sequence[str] | str = (),
                    tty: bool = False) -> list[str]:
        """The command that runs ``argv`` in dom0; a login shell without.

        It is to be run in the lab's network namespace.

        :param argv: a command, or a string for dom0's shell.
        """
        line = argv if isinstance(argv, str) else shlex.join(argv)
        return [*self._ssh_base(), *(['-t'] if tty else []),
                f'root@{self.address}', *([line] if line else [])]

    def ssh(self, argv: Sequence[str] | str, *, check: bool = True,
            input: str | None = None, timeout: float = 120,
            log: os.PathLike[str] | None = None) -> CompletedProcess[str]:
        """Run a command in dom0 as root; parameters as for ``util.run``."""
        return util.run(self.ssh_command(argv), netns=True, check=check,
                        input=input, timeout=timeout, log=log)

    def _rsync(self, source: str, target: str, *options: str) -> None:
        util.run(['rsync', '-a', *options, '-e',
                  shlex.join(self._ssh_base()), source, target],
                 netns=True, timeout=600)

    def copy_to(self, source: os.PathLike[str] | str, target: str,
                *options: str) -> None:
        """Copy into dom0 by rsync, with its rules (``dir`` or ``dir/``).

        :param options: more options of rsync, such as ``--delete``.
        """
        self._rsync(os.fspath(source), f'root@{self.address}:{target}',
                    '--no-owner', '--no-group', *options)

    def copy_from(self, source: str, target: os.PathLike[str] | str,
                  *options: str) -> None:
        """Copy out of dom0 by rsync, as :meth:`copy_to` copies in."""
        self._rsync(f'root@{self.address}:{source}', os.fspath(target),
                    *options)


def hosts(architecture: str | None = None) -> list[XenHost]:
    """The Xen hosts of this lab, in the order of their numbers.

    :param architecture: theirs; ``config.ARCHITECTURE`` by default.
    """
    numbers = config.host_numbers(architecture or config.ARCHITECTURE)
    return [XenHost(number) for number in numbers[:config.HOSTS]]


def all_hosts() -> list[XenHost]:
    """Every Xen host that a lab of any size may have left running."""
    return [XenHost(number) for architecture in config.HOST_NAMES
            for number in config.host_numbers(architecture)]


def _save(qmp: Qmp, tag: str) -> None:
    qmp.job('snapshot-delete', SAVE_TIMEOUT, tag=tag, devices=['disk'])
    qmp.job('snapshot-save', SAVE_TIMEOUT, tag=tag, vmstate='disk',
            devices=['disk'])


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copy a file with its mode; holes stay, and so may shared blocks."""
    util.run(['cp', '--reflink=auto', '--sparse=always', '--preserve=mode',
              source, target], timeout=300)
