# SPDX-License-Identifier: Apache-2.0
"""Processes, waiting, locking and packages: what every part of the lab uses.

Commands are lists, never shell strings. Secrets go to a command by ``env``
or ``input``, never by its arguments: arguments are printed when it fails.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent import futures
import contextlib
import datetime
import fcntl
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import IO
from typing import TypeVar

from labkit import config
from labkit import durations

T = TypeVar('T')

#: A wait says that it is still waiting after this many seconds, and again
#: after each so many more.
PROGRESS_SECONDS = 10

_POLICY = pathlib.Path('/usr/sbin/policy-rc.d')
_POLICY_TEXT = '#!/bin/sh\n# xenlab: installing starts nothing\nexit 101\n'
#: Outside of any lab's state: all labs of a machine share its apt.
_APT_LOCK = pathlib.Path('/run/lock/xenlab-apt')
_print_lock = threading.Lock()


class LabError(Exception):
    """Something the lab could not do.

    :param reason: one line for a person.
    :param log: the file that tells more, if there is one.
    """

    def __init__(self, reason: str, log: os.PathLike[str] | None = None):
        super().__init__(reason)
        self.reason = reason
        self.log = log

    def __str__(self) -> str:
        return f'{self.reason} (see {self.log})' if self.log else self.reason

    def last_lines(self, count: int = 15) -> list[str]:
        """The end of the log, for who cannot open it any more."""
        if not self.log:
            return []
        try:
            text = pathlib.Path(self.log).read_text(errors='replace')
        except OSError:  # it is not there, or a directory
            return []
        return text.splitlines()[-count:]


# Talking to people

def say(text: str, seconds: float | None = None) -> None:
    """Print one whole line, with seconds in an aligned column if given.

    Whole lines only: steps of the lab run side by side, and their output is
    often a file.
    """
    line = text if seconds is None else f'{text:<56} {seconds:7.1f} s'
    with _print_lock:
        print(line, flush=True)


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Run the body, then print the title and the seconds it took.

    A step that took long last time is announced with that time.
    """
    if told := durations.hint(title):
        say(f'  begins: {title}{told}')
    begin = time.monotonic()
    try:
        yield
    except BaseException:
        say(f'{title}: failed', time.monotonic() - begin)
        raise
    elapsed = time.monotonic() - begin
    durations.note(title, elapsed)
    say(title, elapsed)


def wait_for(what: str, predicate: Callable[[], T | None], timeout: float,
             log: os.PathLike[str] | None = None,
             interval: float = 0.5, remember: bool = True) -> T:
    """Wait until the predicate's result is true, and return that result.

    :param what: what is awaited, for the progress lines and the error.
    :param predicate: called again and again; may raise LabError when there
        is no hope.
    :param timeout: seconds after which to give up.
    :param log: the file to read when it did not happen.
    :param interval: seconds between two calls.
    :param remember: keep how long it took, to be told next time.
    :raises LabError: it did not happen in time.
    """
    begin = time.monotonic()
    progress = float(PROGRESS_SECONDS)
    name = f'waiting: {what}'
    while True:
        result = predicate()
        elapsed = time.monotonic() - begin
        if result:
            if remember and elapsed >= durations.LEAST:
                durations.note(name, elapsed)
            return result
        if elapsed >= timeout:
            raise LabError(f'waited {timeout:.0f} s in vain: {what}', log)
        if elapsed >= progress:
            say(f'  {name}{durations.hint(name)}', elapsed)
            progress += PROGRESS_SECONDS
        time.sleep(interval)


def together(*actions: Callable[[], object]) -> None:
    """Run actions side by side, and wait until all have ended.

    :raises LabError: what the first that failed raised.
    """
    with futures.ThreadPoolExecutor(len(actions)) as pool:
        parts = [pool.submit(action) for action in actions]
        for one in futures.as_completed(parts):
            one.result()


# Processes

def in_netns(argv: Sequence[str]) -> list[str]:
    """The command that runs ``argv`` in the lab's network namespace."""
    return ['ip', 'netns', 'exec', config.NETNS, *argv]


def contained(argv: Sequence[str | os.PathLike[str]],
              ) -> list[str | os.PathLike[str]]:
    """The command that runs ``argv`` in namespaces that die with it.

    However it ends, nothing that it started or mounted stays behind.
    """
    return ['unshare', '--mount', '--pid', '--fork', '--kill-child',
            '--mount-proc', *argv]


def _environment(env: Mapping[str, str] | None) -> dict[str, str]:
    return {**os.environ, **(env or {})}


def _tail(text: str, lines: int = 3) -> str:
    kept = [line.strip() for line in text.splitlines() if line.strip()]
    return ' | '.join(kept[-lines:])


def run(argv: Sequence[str | os.PathLike[str]], *, check: bool = True,
        netns: bool = False, input: str | None = None,
        env: Mapping[str, str] | None = None, timeout: float = 120,
        log: os.PathLike[str] | None = None,
        cwd: os.PathLike[str] | None = None,
        ) -> subprocess.CompletedProcess[str]:
    """Run a command to its end.

    :param check: raise LabError when it exits with anything but 0.
    :param netns: run it in the lab's network namespace.
    :param input: text for its standard input (else that is empty).
    :param env: variables added to ours.
    :param timeout: seconds after which it is killed.
    :param log: append its output there instead of returning it.
    :param cwd: directory to run it in.
    :raises LabError: no such command, a timeout, or a failure.
    """
    command = [os.fspath(arg) for arg in argv]
    shown = shlex.join(command)
    if netns:
        command = in_netns(command)
    with contextlib.ExitStack() as stack:
        stdout: int | IO[str] = subprocess.PIPE
        stderr = subprocess.PIPE
        if log:
            pathlib.Path(log).parent.mkdir(parents=True, exist_ok=True)
            stdout = stack.enter_context(open(log, 'a', encoding='utf-8'))
            stdout.write(f'+ {shown}\n')
            stdout.flush()
            stderr = subprocess.STDOUT
        try:
            done = subprocess.run(
                command, check=False, text=True, errors='replace',
                stdin=subprocess.DEVNULL if input is None else None,
                input=input, stdout=stdout, stderr=stderr, cwd=cwd,
                env=_environment(env), timeout=timeout)
        except FileNotFoundError:
            raise LabError(f'no such command: {command[0]}') from None
        except subprocess.TimeoutExpired:
            raise LabError(f'killed after {timeout:.0f} s: {shown}',
                           log) from None
    if check and done.returncode != 0:
        said = _tail(done.stderr or done.stdout or '')
        raise LabError(f'exit {done.returncode}: {shown}'
                       + (f': {said}' if said else ''), log)
    return done


def _start_time(pid: int) -> str | None:
    """When the process was started (clock ticks since the machine's boot).

    None if there is no such process any more; a zombie counts as gone.
    """
    try:
        stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # proc(5): the command, field 2, may itself hold blanks and brackets.
    fields = stat.rpartition(')')[2].split()
    return None if fields[0] in 'ZX' else fields[19]


def running(pidfile: os.PathLike[str]) -> int | None:
    """The pid of the process that :func:`spawn` noted, if it still runs."""
    try:
        pid, started = pathlib.Path(pidfile).read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    return int(pid) if _start_time(int(pid)) == started else None


def spawn(argv: Sequence[str | os.PathLike[str]], *,
          log: os.PathLike[str], pidfile: os.PathLike[str],
          netns: bool = False, env: Mapping[str, str] | None = None,
          cwd: os.PathLike[str] | None = None) -> int:
    """Start a process that outlives us, in a session of its own.

    :param log: file its output is appended to.
    :param pidfile: where its pid and start time go, for :func:`stop`.
    :param netns: run it in the lab's network namespace.
    :param env: variables added to ours.
    :param cwd: directory to run it in.
    :returns: its pid.
    :raises LabError: it runs already, or there is no such command.
    """
    command = [os.fspath(arg) for arg in argv]
    pidfile = pathlib.Path(pidfile)
    if pid := running(pidfile):
        raise LabError(f'{pidfile.stem} runs already, pid {pid}')
    for path in (pathlib.Path(log), pidfile):
        path.parent.mkdir(parents=True, exist_ok=True)
    with open(log, 'a', encoding='utf-8') as out:
        try:
            # `ip netns exec` replaces itself by the command: same pid.
            child = subprocess.Popen(
                in_netns(command) if netns else command,
                stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, env=_environment(env), cwd=cwd,
                start_new_session=True)
        except FileNotFoundError:
            raise LabError(f'no such command: {command[0]}') from None
    started = _start_time(child.pid)
    if started is None:
        raise LabError(f'{command[0]} ended at once', log)
    pidfile.write_text(f'{child.pid} {started}\n')
    return child.pid


def stop(pidfile: os.PathLike[str], grace: float = 10) -> bool:
    """End what :func:`spawn` started: ask, wait, then kill its group.

    :param grace: seconds between asking and killing.
    :returns: whether it was still running.
    """
    pidfile = pathlib.Path(pidfile)
    pid = running(pidfile)
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + grace
        while running(pidfile) and time.monotonic() < deadline:
            time.sleep(0.1)
        # Its children share its group, which keeps the number taken.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    pidfile.unlink(missing_ok=True)
    return pid is not None


# One at a time

class Lock:
    """A lock between processes, freed by the kernel when its holder dies.

    :param path: the lock's file; the lab's own by default.
    :param wait: seconds to wait for whoever holds it.
    """

    def __init__(self, path: os.PathLike[str] | None = None,
                 wait: float = 0):
        self.path = pathlib.Path(path or config.STATE / 'lock')
        self.wait = wait

    def _take(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def holder(self) -> str:
        """Who holds the lock, in words; empty if nobody does."""
        try:
            with open(self.path, encoding='utf-8') as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return file.read().strip() or 'somebody'
        except FileNotFoundError:
            pass
        return ''

    def __enter__(self) -> Lock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, 'a+', encoding='utf-8')
        if not self._take():
            self._file.seek(0)
            holder = self._file.read().strip() or 'somebody'
            try:
                if not self.wait:
                    raise LabError(f'the lab is busy: {holder}')
                wait_for(f'{self.path.name}, held by {holder}', self._take,
                         self.wait, remember=False)
            except LabError:
                self._file.close()
                raise
        self._file.truncate(0)
        now = datetime.datetime.now().strftime('%H:%M:%S')
        command = ' '.join(sys.argv[1:2]) or sys.argv[0]
        self._file.write(f'pid {os.getpid()} ({command}) since {now}\n')
        self._file.flush()
        return self

    def __exit__(self, *_: object) -> None:
        self._file.truncate(0)
        self._file.close()


# The machine

def need_root() -> None:
    """:raises LabError: we are not root."""
    if os.geteuid() != 0:
        raise LabError('this needs root (namespaces, taps, chroots)')


def _memory(name: str) -> int:
    """One of the values of /proc/meminfo, in MiB."""
    meminfo = pathlib.Path('/proc/meminfo').read_text().splitlines()
    values = dict(line.split(':') for line in meminfo)
    return int(values[name].split()[0]) // 1024


def total_memory() -> int:
    """This machine's memory in MiB."""
    return _memory('MemTotal')


def free_memory_check(needed_mib: int, purpose: str) -> None:
    """:raises LabError: less than ``needed_mib`` of memory is available."""
    free = _memory('MemAvailable')
    if free < needed_mib:
        raise LabError(f'{purpose} needs {needed_mib} MiB of memory, '
                       f'{free} MiB are available')


def missing_packages(debs: Sequence[str]) -> list[str]:
    """Those of the Debian packages that are not installed."""
    shown = run(['dpkg-query', '-W', '-f', '${Package} ${db:Status-Status}\n',
                 *debs], check=False).stdout
    installed = {line.split()[0] for line in shown.splitlines()
                 if line.endswith(' installed')}
    return [deb for deb in debs if deb not in installed]


@contextlib.contextmanager
def _services_stay_off() -> Iterator[None]:
    """Freshly installed servers are not started, for as long as this holds.

    The means is Debian's policy-rc.d; one that was there comes back.
    """
    before = None
    if _POLICY.exists():
        before = _POLICY.read_text(), _POLICY.stat().st_mode
    _POLICY.write_text(_POLICY_TEXT)
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        # Ours may have been left behind by a run that was killed.
        if before and before[0] != _POLICY_TEXT:
            _POLICY.write_text(before[0])
            _POLICY.chmod(before[1])
        else:
            _POLICY.unlink()


def need_packages(*debs: str) -> None:
    """Install the Debian packages that are missing, starting no service.

    :raises LabError: not Debian, not root, or apt failed.
    """
    if not shutil.which('dpkg-query'):
        raise LabError('the lab runs on Debian 12 or 13; elsewhere these '
                       'must be there first: ' + ' '.join(debs))
    # Several runs may want packages: one at a time, then look what is left.
    if not missing_packages(debs):
        return
    if os.geteuid() != 0:
        raise LabError('missing, and only root can install: apt-get install '
                       + ' '.join(missing_packages(debs)))
    apt = ['apt-get', '-q', '-y', '-o', 'DPkg::Lock::Timeout=300']
    env = {'DEBIAN_FRONTEND': 'noninteractive'}
    log = config.LOGS / 'apt.log'
    with Lock(_APT_LOCK, wait=900):
        missing = missing_packages(debs)
        if not missing:
            return
        install = [*apt, 'install', '--no-install-recommends', *missing]
        with step(f'apt: {len(missing)} packages for the lab'), \
                _services_stay_off():
            # Package lists may be absent or old: then fetch them, once.
            if run(install, check=False, env=env, timeout=900,
                   log=log).returncode:
                run([*apt, 'update'], env=env, timeout=300, log=log)
                run(install, env=env, timeout=900, log=log)
