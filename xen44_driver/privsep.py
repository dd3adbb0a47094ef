# SPDX-License-Identifier: Apache-2.0
"""Every action of the driver that needs root.

nova-compute runs as the user ``nova``. Root is needed to read, shorten and
remove the console logs that xenconsoled writes, to read libxl's and QEMU's
logs and shorten QEMU's, to read xenstore, to open guests' consoles and the
sockets and monitors of their QEMUs, to ask Xen and iptables for their state,
to look after the memory of guests that is on disk, to make the links to
volumes, and to remove loop devices that guests have left. os-brick connects
volumes, in a daemon of its own. The functions that handle files take a
domain's name or UUID, not a path, and read the directory from the daemon's own
configuration, so that a caller cannot name another file.
"""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import enum
import os
import re
import socket
import stat
import subprocess
import termios
import tty
from typing import Any
import uuid as uuid_lib

from oslo_concurrency import lockutils
from oslo_concurrency import processutils
from oslo_config import cfg
from oslo_privsep import capabilities
from oslo_privsep import priv_context

from xen44_driver import conf
from xen44_driver import handover
from xen44_driver import logfile
from xen44_driver.xen import loops
from xen44_driver.xen import programs
from xen44_driver.xen import qmp
from xen44_driver.xen import savedmemory
from xen44_driver.xen import sockets
from xen44_driver.xen import volumelinks
from xen44_driver.xen import xenstore
from xen44_driver.xen import xl

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
# oslo.privsep has one for each CPU. Some functions wait for a guest's QEMU,
# and none of them may keep other guests waiting.
CONF.set_default('thread_pool_size', 16, group='xen44_privileged')


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
def read_console_log(
    domain: str, max_bytes: int, after: int = 0,
) -> bytes | None:
    """Read the end of a guest's console log.

    :param domain: the domain's name.
    :param max_bytes: the largest number of bytes to return.
    :param after: as for :func:`xen44_driver.logfile.read_end`.
    :returns: the bytes, or None if there is no log.
    """
    return logfile.read_end(console_log_path(domain), max_bytes, after=after)


@sys_admin_pctxt.entrypoint
def console_log_size(domain: str) -> int:
    """Return the size of a guest's console log in bytes; 0 without a log."""
    return logfile.size(console_log_path(domain))


@sys_admin_pctxt.entrypoint
def trim_guest_logs(domains: list[str], max_bytes: int) -> list[str]:
    """Shorten the logs of guests that are too long.

    They are that of Xen's console and that of the guest's QEMU, which writes
    a line for each odd request of the guest. One call handles all guests of a
    host. If a log cannot be shortened, the others still are.

    :param domains: the domains' names.
    :param max_bytes: a longer log is cut to its last ``max_bytes // 2``
        bytes.
    :returns: one sentence for each log that could not be shortened.
    """
    problems = []
    for domain in domains:
        for what, path in (('console', console_log_path),
                           ('QEMU', _qemu_log_path)):
            try:
                logfile.trim(path(domain), max_bytes)
            except (OSError, ValueError) as error:
                problems.append(f'the {what} log of {domain!r} cannot be '
                                f'shortened: {error}')
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
    path = _console_path(domid)
    if path is None:
        return False
    try:
        terminal = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        # xenconsoled has closed it in the meantime.
        return False
    try:
        # If the domain has ended in between, its terminal may be another
        # guest's. One that is open is not given away.
        if _console_path(domid) != path:
            return False
        # An echo would send the guest's output back to it as input. Now, as
        # the default waits for the guest to read, and discards its output.
        tty.setraw(terminal, termios.TCSANOW)
        handover.send(terminal, address)
    finally:
        os.close(terminal)
    return True


def _console_path(domid: int) -> str | None:
    # libxl makes this entry; the guest can read it but not write it.
    path = (_xenstore(
        'xenstore-read', f'/local/domain/{int(domid)}/console/tty',
        missing='couldn\'t read path') or '').strip()
    return path if _PTY.fullmatch(path) else None


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


def _qemu_log_path(domain: str) -> str:
    return log_path(LogKind.QEMU, domain)


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
    """Read all xenstore entries of a domain's devices of one kind.

    Costs two xenstore requests for each entry, and each device has a dozen
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

@sys_admin_pctxt.entrypoint
def running_domains() -> dict[str, str]:
    """Ask Xen, not libvirt, which domains it runs.

    :returns: the domains' names by UUID; dom0's UUID is all zeros.
    :raises OSError: xl failed.
    """
    return {domain.uuid: domain.name
            for domain in xl.domains(programs.run('xl', 'vm-list'))}


def running_guests() -> dict[str, str]:
    """Ask Xen which domains it runs, as :func:`running_domains`; not dom0."""
    return {uuid: name for uuid, name in running_domains().items()
            if uuid != xl.DOM0}


@sys_admin_pctxt.entrypoint
def passthrough() -> list[str]:
    """Ask Xen which guests can have PCI devices of the host.

    :returns: of ``pv`` and ``hvm``.
    :raises OSError: xl failed.
    """
    return sorted(xl.passthrough(programs.run('xl', 'info')))


@sys_admin_pctxt.entrypoint
def grant_frames() -> int | None:
    """Ask Xen how many grant frames its command line names.

    :returns: see :func:`xen44_driver.xen.xl.grant_frames`.
    :raises OSError: xl failed.
    """
    return xl.grant_frames(programs.run('xl', 'info'))


@sys_admin_pctxt.entrypoint
def dom0_affinity() -> list[str]:
    """Ask Xen on which CPUs each vCPU of dom0 may run.

    :returns: see :func:`xen44_driver.xen.xl.hard_affinity`.
    :raises OSError: xl failed.
    """
    return [*xl.hard_affinity(programs.run('xl', 'vcpu-list', '0'))]


@sys_admin_pctxt.entrypoint
def host_power(action: str) -> None:
    """Have systemd shut down the host, or reboot it.

    :param action: ``poweroff`` or ``reboot``.
    :raises ValueError: it is neither, or the operator has not allowed it.
    :raises OSError: systemctl failed.
    """
    if action not in ('poweroff', 'reboot'):
        raise ValueError(f'{action!r}: neither poweroff nor reboot')
    if not CONF.xen44.allow_host_power_actions:
        raise ValueError('[xen44] allow_host_power_actions is false')
    programs.run('systemctl', action)


@sys_admin_pctxt.entrypoint
def detach_interface(domid: int, devid: int) -> None:
    """Detach a network interface of which libvirt does not know.

    libxl leaves one behind if it could not attach it. xl waits up to ten
    seconds for the guest, then takes it away.

    :param domid: Xen's number of the domain.
    :param devid: Xen's number of the interface.
    :raises OSError: xl failed.
    """
    programs.run('xl', 'network-detach', str(int(domid)), str(int(devid)))


@sys_admin_pctxt.entrypoint
def detach_disk(domid: int, target: str) -> None:
    """Detach a disk of which libvirt does not know.

    libxl leaves one behind if it could not attach it. The guest is not asked.

    :param domid: Xen's number of the domain.
    :param target: the guest's name of the disk, such as ``xvdb``.
    :raises ValueError: it is not the name of a disk.
    :raises OSError: xl failed.
    """
    xenstore.disk_number(target)
    programs.run('xl', 'block-detach', '-f', str(int(domid)), target)


@sys_admin_pctxt.entrypoint
def forward_policy(ipv6: bool) -> str:
    """Return the policy of iptables' FORWARD chain, such as ``DROP``.

    :raises OSError: iptables is not installed, or it failed.
    """
    program = 'ip6tables' if ipv6 else 'iptables'
    # The first line of the output is such as "-P FORWARD DROP".
    return programs.run(
        program, '--wait', '5', '--list-rules', 'FORWARD').split()[2]


@sys_admin_pctxt.entrypoint
def remove_loop(name: str, uuid: str) -> None:
    """Remove a loop device of a domain that is off.

    If the kernel still uses the device, it goes when that ends.

    :param name: the device's name, such as ``loop3``.
    :param uuid: the domain's UUID.
    :raises ValueError: it is not the name of a loop device.
    :raises OSError: losetup failed.
    """
    if not loops.NAME.fullmatch(name):
        raise ValueError(f'not the name of a loop device: {name!r}')
    found = loops.read(name)
    # Otherwise it is gone, and may be another guest's by now.
    if found is not None and found.uuid == uuid:
        programs.run('losetup', '--detach', f'/dev/{name}')


# The links to volumes, see xen44_driver.xen.volumelinks

_LINKS = 'volume-links'


@sys_admin_pctxt.entrypoint
def link_volume(instance: str, volume: str, device: str) -> None:
    """Have the link of an instance to a volume lead to a device or a file.

    :param instance: the instance's UUID.
    :param volume: Cinder's id of the volume.
    :param device: its path on this host now.
    :raises OSError: there is no such device or file.
    """
    link = volumelinks.path(instance, volume)
    os.stat(device)
    with lockutils.lock(_LINKS):
        for directory in (sockets.DIRECTORY, volumelinks.directory(),
                          volumelinks.directory_of(instance)):
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory, mode=0o700)
        new = f'{link}.new'
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        os.symlink(device, new)
        os.rename(new, link)


@sys_admin_pctxt.entrypoint
def volume_device(instance: str, volume: str) -> str:
    """Return the path of the device or file that a link leads to.

    :param instance: the instance's UUID.
    :param volume: Cinder's id of the volume.
    :raises OSError: there is no such link.
    """
    return os.readlink(volumelinks.path(instance, volume))


@sys_admin_pctxt.entrypoint
def unlink_volume(instance: str, volume: str) -> str | None:
    """Remove the link of an instance to a volume; safe to repeat.

    :param instance: the instance's UUID.
    :param volume: Cinder's id of the volume.
    :returns: where it led to, or None if there was none.
    """
    link = volumelinks.path(instance, volume)
    with lockutils.lock(_LINKS):
        try:
            device = os.readlink(link)
            os.unlink(link)
        except FileNotFoundError:
            return None
        with contextlib.suppress(OSError):
            # As far as they are empty.
            os.rmdir(volumelinks.directory_of(instance))
            os.rmdir(volumelinks.directory())
    return device


@sys_admin_pctxt.entrypoint
def read_volume_head(
    instance: str, volume: str, max_bytes: int, name: str | None = None,
) -> bytes:
    """Read the beginning of the file that a link to a volume leads to.

    :param instance: the instance's UUID.
    :param volume: Cinder's id of the volume.
    :param max_bytes: the largest number of bytes to return.
    :param name: of another file in the same directory.
    :raises ValueError: this is not a name of a file.
    :raises OSError: it is not a regular file, or cannot be read.
    """
    path = os.readlink(volumelinks.path(instance, volume))
    if name is not None:
        if os.sep in name or '\0' in name:
            raise ValueError(f'not a name of a file: {name!r}')
        path = os.path.join(os.path.dirname(path), name)
    # Not to wait if it is a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, 'rb') as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f'not a regular file: {path}')
        return file.read(max_bytes)


@sys_admin_pctxt.entrypoint
def linked_volumes(instance: str) -> list[str]:
    """Return Cinder's ids of the volumes that an instance has links to.

    :param instance: the instance's UUID.
    """
    try:
        names = os.listdir(volumelinks.directory_of(instance))
    except FileNotFoundError:
        return []
    return sorted(name for name in names if sockets.UUID.fullmatch(name))


@sys_admin_pctxt.entrypoint
def volume_is_linked(volume: str) -> bool:
    """Return whether an instance of this host has a link to a volume.

    :param volume: Cinder's id of the volume.
    """
    directory = volumelinks.directory()
    try:
        instances = os.listdir(directory)
    except FileNotFoundError:
        return False
    return any(os.path.lexists(os.path.join(directory, instance, volume))
               for instance in instances)


# Memory of guests on disk: suspended guests and crash dumps

def _room(directory: str) -> tuple[int, int]:
    found = os.stat(directory)
    room = os.statvfs(directory)
    return found.st_dev, room.f_bavail * room.f_frsize


@sys_admin_pctxt.entrypoint
def saved_memory_room() -> tuple[int, int]:
    """Return the room for memory that libvirt saves.

    :returns: number of the file system, and free bytes in it.
    :raises OSError: the directory cannot be read.
    """
    return _room(savedmemory.DIRECTORY)


@sys_admin_pctxt.entrypoint
def wake_domain(domid: int) -> bool:
    """Let a domain run on that hangs in Xen after a failed save.

    :param domid: Xen's number of the domain.
    :returns: whether it hung.
    :raises OSError: xl failed.
    """
    # A header, then: name, number, memory, vCPUs, state, time. A domain that
    # runs, is paused or dies is not touched.
    listed = programs.run('xl', 'list', str(int(domid)))
    state = listed.splitlines()[1].split()[-2]
    if 's' not in state:
        return False
    programs.run('xl', 'resume', str(int(domid)))
    return True


def crash_dump_path(instance: str, number: int, *, whole: bool) -> str:
    """Return the path of a crash dump.

    :param instance: the instance's UUID.
    :param number: number of the dump; later ones have higher numbers.
    :param whole: False while it is being written.
    :returns: an absolute path directly inside ``[xen44]
        crash_dump_directory``.
    :raises ValueError: this is not a UUID.
    """
    name = f'{uuid_lib.UUID(instance)}-{int(number):014}'
    return os.path.join(CONF.xen44.crash_dump_directory,
                        f'{name}.core' if whole else f'{name}.part')


@sys_admin_pctxt.entrypoint
def crash_dump_room() -> tuple[int, int]:
    """Make the directory of crash dumps, and return the room in it.

    :returns: number of the file system, and free bytes in it.
    :raises OSError: the directory cannot be made.
    """
    os.makedirs(CONF.xen44.crash_dump_directory, mode=0o700, exist_ok=True)
    return _room(CONF.xen44.crash_dump_directory)


@sys_admin_pctxt.entrypoint
def finish_crash_dump(instance: str, number: int) -> int:
    """Close a crash dump that was written to all but root, and name it.

    :param instance: the instance's UUID.
    :param number: number of the dump.
    :returns: its size, in bytes.
    :raises OSError: there is no such file.
    """
    part = crash_dump_path(instance, number, whole=False)
    os.chmod(part, 0o600, follow_symlinks=False)
    size = os.stat(part).st_size
    os.rename(part, crash_dump_path(instance, number, whole=True))
    return size


@sys_admin_pctxt.entrypoint
def remove_crash_dumps(instance: str, keep: int) -> int:
    """Remove an instance's crash dumps, except the latest whole ones.

    :param instance: the instance's UUID.
    :param keep: how many to keep.
    :returns: how many files were removed.
    """
    prefix = f'{uuid_lib.UUID(instance)}-'
    directory = CONF.xen44.crash_dump_directory
    try:
        names = sorted(name for name in os.listdir(directory)
                       if name.startswith(prefix))
    except FileNotFoundError:
        return 0
    whole = [name for name in names if name.endswith('.core')]
    kept = whole[len(whole) - keep:] if keep else []
    doomed = [name for name in names
              if name not in kept and name.endswith(('.core', '.part'))]
    for name in doomed:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))
    return len(doomed)
# The monitors of the guests' QEMU processes

#: Directory of the monitors' sockets.
MONITOR_DIR = sockets.DIRECTORY

#: Directory of the sockets that libxl has for statistics.
LIBXL_MONITOR_DIR = '/var/run/xen'

#: The commands that a caller may execute. QMP has others, some of which run
#: programs. The files that blockdev-add opens are the caller's choice, as are
#: those of the domains that user nova defines in libvirt.
MONITOR_COMMANDS = frozenset({
    'block_resize', 'block_set_io_throttle', 'blockdev-add', 'blockdev-del',
    'blockdev-mirror', 'job-cancel', 'job-complete', 'job-dismiss',
    'query-block', 'query-blockstats', 'query-jobs',
    'query-named-block-nodes', 'transaction',
})


def monitor_path(uuid: str) -> str:
    """Return the path of the socket of a domain's monitor.

    :param uuid: the domain's UUID.
    :raises ValueError: it is not a UUID as Nova writes it.
    """
    if str(uuid_lib.UUID(uuid)) != uuid:
        raise ValueError(f'not the UUID of a domain: {uuid!r}')
    return os.path.join(
        MONITOR_DIR, os.path.basename(sockets.monitor_path(uuid)))


@sys_admin_pctxt.entrypoint
def make_socket_dir() -> None:
    """Make the directory of the sockets of QEMUs; safe to repeat.

    A QEMU that cannot make its socket there does not start.

    :raises OSError: it cannot be made, or something else has its name.
    """
    try:
        os.mkdir(MONITOR_DIR, mode=0o700)
    except FileExistsError:
        found = os.lstat(MONITOR_DIR)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise
    os.chmod(MONITOR_DIR, 0o700)


@sys_admin_pctxt.entrypoint
def monitor_is_there(uuid: str) -> bool:
    """Return whether the QEMU of a domain has its monitor open.

    See :func:`xen44_driver.xen.qmp.is_there`.

    :param uuid: the domain's UUID.
    """
    return qmp.is_there(monitor_path(uuid))


@sys_admin_pctxt.entrypoint
def remove_monitor(uuid: str) -> None:
    """Remove the socket that a killed QEMU left; safe to repeat.

    A QEMU that is about to end removes its socket itself.

    :param uuid: the UUID of a domain that does not exist any more.
    """
    path = monitor_path(uuid)
    if not qmp.is_there(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


@sys_admin_pctxt.entrypoint
def execute_monitor(
    uuid: str, commands: Sequence[qmp.Command], timeout: float,
    domid: int | None = None,
) -> list[Any]:
    """Execute commands in a monitor of a domain's QEMU.

    :param uuid: the domain's UUID.
    :param commands: names and arguments, of :data:`MONITOR_COMMANDS`.
    :param timeout: seconds for all of it.
    :param domid: Xen's number of the domain. If it has no monitor of the
        driver, as an older version started it, libxl's monitor for statistics
        is used.
    :returns: QEMU's answer to each command.
    :raises ValueError: a command is not allowed.
    :raises xen44_driver.xen.qmp.MonitorUnavailable: see
        :func:`xen44_driver.xen.qmp.execute`.
    :raises xen44_driver.xen.qmp.CommandFailed: QEMU refused a command.
    """
    refused = {name for name, _ in commands} - MONITOR_COMMANDS
    if refused:
        raise ValueError(f'not to be executed in a monitor: {refused}')
    path = monitor_path(uuid)
    if domid is not None and not os.path.exists(path):
        path = os.path.join(
            LIBXL_MONITOR_DIR, f'qmp-libxenstat-{int(domid)}')
    # A monitor serves one client at a time.
    with lockutils.lock(f'monitor-{uuid}'):
        return qmp.execute(path, commands, timeout)
