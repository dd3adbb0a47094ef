# SPDX-License-Identifier: Apache-2.0
"""Every action of the driver that needs root.

nova-compute runs as the user ``nova``. Root is needed to read, shorten and
remove the console logs that xenconsoled writes, to open guests' consoles and
the sockets of their QEMUs, to read libxl's and QEMU's logs and xenstore, and
to ask Xen and iptables for their state. The functions
that handle files take a domain's name, not a path, and read the directory from
the daemon's own configuration, so that a caller cannot name another file.
"""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import enum
import os
import re
import socket
import subprocess
import termios
import tty

from oslo_concurrency import processutils
from oslo_config import cfg
from oslo_privsep import capabilities
from oslo_privsep import priv_context

from xen44_driver import conf
from xen44_driver import handover
from xen44_driver import logfile
from xen44_driver.xen import sockets
from xen44_driver.xen import xenstore

CONF = cfg.CONF
conf.register_opts(CONF)

sys_admin_pctxt = priv_context.PrivContext(
    'xen44_driver',
    cfg_section='xen44_privileged',
    pypath=f'{__name__}.sys_admin_pctxt',
    capabilities=[
        capabilities.CAP_DAC_OVERRIDE,
        capabilities.CAP_DAC_READ_SEARCH,
    ],
)


def console_log_path(domain: str) -> str:
    """Return the path of the log that xenconsoled keeps of a console.

    :param domain: the domain's name.
    :returns: an absolute path directly inside ``[xen44] console_log_dir``.
    :raises ValueError: the name contains a path separator or a NUL.
    """
    name = f'guest-{domain}.log'
    if not domain or os.sep in name or '\0' in name:
        raise ValueError(f'not the name of a domain: {domain!r}')
    return os.path.join(CONF.xen44.console_log_dir, name)


@sys_admin_pctxt.entrypoint
def read_console_log(domain: str, max_bytes: int) -> bytes | None:
    """Read the end of a guest's console log.

    :param domain: the domain's name.
    :param max_bytes: the largest number of bytes to return.
    :returns: the bytes, or None if there is no log.
    """
    return logfile.read_end(console_log_path(domain), max_bytes)


@sys_admin_pctxt.entrypoint
def trim_console_logs(domains: list[str], max_bytes: int) -> list[str]:
    """Shorten the console logs that are too long.

    One call handles all guests of a host. If a log cannot be shortened, the
    others still are.

    :param domains: the domains' names.
    :param max_bytes: a longer log is cut to its last ``max_bytes // 2``
        bytes.
    :returns: one sentence for each log that could not be shortened.
    """
    problems = []
    for domain in domains:
        try:
            logfile.trim(console_log_path(domain), max_bytes)
        except (OSError, ValueError) as error:
            problems.append(
                f'the console log of {domain!r} cannot be shortened: {error}')
    return problems


@sys_admin_pctxt.entrypoint
def remove_console_log(domain: str) -> bool:
    """Remove a guest's console log.

    :param domain: the domain's name.
    :returns: whether there was one.
    """
    try:
        os.unlink(console_log_path(domain))
    except FileNotFoundError:
        return False
    return True


@sys_admin_pctxt.entrypoint
def console_log_dir_readable() -> bool:
    """Return whether xenconsoled's log directory exists and is readable."""
    return os.path.isdir(CONF.xen44.console_log_dir) and os.access(
        CONF.xen44.console_log_dir, os.R_OK | os.X_OK)


# Consoles and sockets of guests. The daemon opens them and hands them over
# (xen44_driver.handover); it never waits for a guest, as it has few threads.

_PTY = re.compile(r'/dev/pts/\d+')


@sys_admin_pctxt.entrypoint
def make_socket_dir() -> None:
    """Make the directory of the sockets of guests' QEMUs, for root only."""
    os.makedirs(sockets.DIRECTORY, mode=0o700, exist_ok=True)


@sys_admin_pctxt.entrypoint
def remove_sockets(uuid: str) -> None:
    """Remove the sockets that the QEMU of a guest has left behind.

    :param uuid: the instance's UUID.
    """
    for kind in sockets.SocketKind:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(sockets.path(uuid, kind))


@sys_admin_pctxt.entrypoint
def send_socket(kind: str, uuid: str, address: str) -> bool:
    """Connect to a socket of a guest's QEMU and hand the connection over.

    :param kind: a :class:`xen44_driver.xen.sockets.SocketKind`.
    :param uuid: the instance's UUID.
    :param address: see :func:`xen44_driver.handover.receive`.
    :returns: False if nothing listens there.
    """
    with socket.socket(socket.AF_UNIX) as client:
        # QEMU has one client; another one waits in its queue, which is short.
        client.setblocking(False)
        try:
            client.connect(sockets.path(uuid, kind))
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
            return False
        handover.send(client.fileno(), address)
    return True


@sys_admin_pctxt.entrypoint
def send_console(domid: int, address: str) -> bool:
    """Open Xen's console of a guest and hand it over.

    :param domid: Xen's number of the domain.
    :param address: see :func:`xen44_driver.handover.receive`.
    :returns: False if the domain has no console, such as because it ended.
    """
    # libxl makes this entry; the guest can read it but not write it.
    path = (_xenstore(
        'xenstore-read', f'/local/domain/{int(domid)}/console/tty',
        missing='couldn\'t read path') or '').strip()
    if not _PTY.fullmatch(path):
        return False
    try:
        terminal = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        # xenconsoled has closed it in the meantime.
        return False
    try:
        # An echo would send the guest's output back to it as input. Now, as
        # the default waits for the guest to read, and discards its output.
        tty.setraw(terminal, termios.TCSANOW)
        handover.send(terminal, address)
    finally:
        os.close(terminal)
    return True


# Xenstore, and the logs of libxl and QEMU

#: Directories of the logs: libvirt writes libxl's, and libxl writes QEMU's.
LIBXL_LOG_DIR = '/var/log/libvirt/libxl'
QEMU_LOG_DIR = '/var/log/xen'

#: Seconds that xenstore has to answer. On a busy dom0, nine were seen.
XENSTORE_TIMEOUT = 60

class LogKind(enum.StrEnum):
    """A log about a domain.

    ``DOMAIN`` is libxl's log of one running domain. ``DRIVER`` is libxl's log
    of everything for which libvirt has no domain's log. ``QEMU`` is the log
    of a domain's QEMU; each start begins a new one.
    """

    DOMAIN = 'domain'
    DRIVER = 'driver'
    QEMU = 'qemu'


def log_path(kind: str, domain: str) -> str:
    """Return the path of a log.

    :param kind: a :class:`LogKind`.
    :param domain: the domain's name.
    :raises ValueError: there is no such kind, or the name contains a path
        separator or a NUL.
    """
    directory, name = {
        LogKind.DOMAIN: (LIBXL_LOG_DIR, f'{domain}.log'),
        LogKind.DRIVER: (LIBXL_LOG_DIR, 'libxl-driver.log'),
        LogKind.QEMU: (QEMU_LOG_DIR, f'qemu-dm-{domain}.log'),
    }[LogKind(kind)]
    if not domain or os.sep in domain or '\0' in domain:
        raise ValueError(f'not the name of a domain: {domain!r}')
    return os.path.join(directory, name)


@sys_admin_pctxt.entrypoint
def read_log_end(
    kind: str, domain: str, max_bytes: int, since: float = 0,
) -> bytes | None:
    """Read the end of a log about a domain.

    :param kind: a :class:`LogKind`.
    :param domain: the domain's name.
    :param max_bytes: the largest number of bytes to return.
    :param since: seconds since the epoch.
    :returns: the bytes, or None if there is no log or it was not written to
        since then.
    """
    return logfile.read_end(log_path(kind, domain), max_bytes, since)


@sys_admin_pctxt.entrypoint
def backends_are_open(
    domid: int, numbers: Sequence[int],
    kind: str = xenstore.BackendKind.QDISK,
) -> bool:
    """Return whether xenstore shows all given disks of a domain as open.

    Costs one process, and one xenstore request for each disk.

    :param domid: Xen's number of the domain.
    :param numbers: Xen's numbers of the disks.
    :param kind: a :class:`xen44_driver.xen.xenstore.BackendKind`.
    :raises TimeoutError: xenstore does not answer.
    :raises oslo_concurrency.processutils.ProcessExecutionError: it cannot
        be read.
    """
    path = xenstore.backends_path(int(domid), xenstore.BackendKind(kind))
    # "xenstore-read: couldn't read path PATH"
    return _xenstore(
        'xenstore-read',
        *(f'{path}/{int(number)}/sectors' for number in numbers),
        missing='couldn\'t read path') is not None


@sys_admin_pctxt.entrypoint
def read_backends(domid: int, kind: str = xenstore.BackendKind.QDISK) -> str:
    """Read all xenstore entries of a domain's block devices.

    Costs two xenstore requests for each entry, and each disk has a dozen
    entries: seconds on a busy dom0.

    :param domid: Xen's number of the domain.
    :param kind: a :class:`xen44_driver.xen.xenstore.BackendKind`.
    :returns: the output of ``xenstore-ls -f``, see
        :func:`xen44_driver.xen.xenstore.backends`; empty if the domain has
        no such device or does not exist.
    :raises TimeoutError: xenstore does not answer.
    :raises oslo_concurrency.processutils.ProcessExecutionError: it cannot
        be read.
    """
    # "xenstore-ls: xs_directory (PATH): No such file or directory"
    return _xenstore(
        'xenstore-ls', '-f', xenstore.backends_path(
            int(domid), xenstore.BackendKind(kind)),
        missing='xs_directory') or ''


def _xenstore(*command: str, missing: str) -> str | None:
    """Run a program that reads xenstore.

    :param missing: text in its error message if there is no such entry.
    :returns: its output, or None if there is no such entry.
    """
    try:
        text, _ = processutils.execute(*command, timeout=XENSTORE_TIMEOUT)
    except processutils.ProcessExecutionError as error:
        if missing in (error.stderr or ''):
            return None
        raise
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(
            f'xenstore did not answer within {XENSTORE_TIMEOUT} s'
        ) from error
    return str(text)
# Other programs of dom0

#: Seconds a command may take.
COMMAND_TIMEOUT = 30


def _run(*command: str) -> str:
    """Run a command and return its standard output.

    :raises OSError: the command does not exist, or it failed.
    """
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            # A domain that is not ours may have any bytes for a name.
            errors='replace', check=True, timeout=COMMAND_TIMEOUT)
    except subprocess.CalledProcessError as error:
        raise OSError(f'{" ".join(command)}: {error.stderr.strip()}') from None
    except subprocess.TimeoutExpired as error:
        raise OSError(str(error)) from None
    return done.stdout


@sys_admin_pctxt.entrypoint
def running_domains() -> dict[str, str]:
    """Ask Xen, not libvirt, which domains it runs.

    :returns: the domains' names by UUID; dom0's UUID is all zeros.
    :raises OSError: xl failed.
    """
    # A header, then a line with UUID, number and name for each domain. The
    # name may be empty.
    lines = _run('xl', 'vm-list').splitlines()[1:]
    fields = [line.split(maxsplit=2) for line in lines if line.strip()]
    return {uuid: ''.join(name).strip() for uuid, _, *name in fields}


@sys_admin_pctxt.entrypoint
def forward_policy(ipv6: bool) -> str:
    """Return the policy of iptables' FORWARD chain, such as ``DROP``.

    :raises OSError: iptables is not installed, or it failed.
    """
    program = 'ip6tables' if ipv6 else 'iptables'
    # The first line of the output is such as "-P FORWARD DROP".
    return _run(program, '--wait', '5', '--list-rules', 'FORWARD').split()[2]
