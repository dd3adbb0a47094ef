# SPDX-License-Identifier: Apache-2.0
"""Check the host and its configuration when nova-compute starts.

If the driver cannot work, nova-compute stops with one message that lists all
problems. Problems that affect only some guests are logged as warnings.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from concurrent import futures
import functools
import grp
import itertools
import os
import pwd
import shutil
from typing import Any
import uuid

from nova import conf
from nova import exception
from nova.virt import hardware
from oslo_log import log as logging

from xen44_driver import faultpoints
from xen44_driver import privsep
from xen44_driver.compute import dom0
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import privileges
from xen44_driver.compute import quiesce
from xen44_driver.compute import resources
from xen44_driver.compute import snapshot
from xen44_driver.conf import opts
from xen44_driver.xen import errors
from xen44_driver.xen import threads

CONF = conf.CONF
LOG = logging.getLogger(__name__)


def start(node: compute_node.Node) -> None:
    """Connect to the host and check it.

    :raises nova.exception.HypervisorUnavailable: libvirt or Xen cannot be
        reached.
    :raises nova.exception.InvalidConfiguration: the driver cannot work; the
        message lists all problems.
    """
    _refuse(_options())
    # Started first and in the background, as they take longest.
    ours = privileges.start(privileges.XEN)
    privileges.warn_if_refused(
        privileges.PORTS, privileges.start(privileges.PORTS))
    try:
        node.host.connect()
        node.host.check()
        arch = node.arch
    except errors.ConnectionFailed as error:
        raise exception.HypervisorUnavailable(
            f'{error}. Is libvirtd running, is this dom0, and may this user '
            f'use libvirt? ([xen44] connection_uri is '
            f'{CONF.xen44.connection_uri!r}{_missing_group()})') from error
    except errors.HostUnsupported as error:
        raise exception.InvalidConfiguration(str(error)) from error

    _refuse(itertools.chain(
        _directories(), _tools(), _cpus(node), _guest_types(node), _spice(),
        _privileges(ours)))
    # /run is empty after a start of the host.
    privsep.make_socket_dir()
    threads.start(functools.partial(quiesce.mend, node), 'xen44-thaw')
    _warn_of_loaders(node)
    _warn_of_dom0_memory(node)
    _warn_of_tools()
    if faultpoints.is_on():
        LOG.warning('%s is set: nova-compute may end itself, for a test',
                    faultpoints.VARIABLE)
    for warning in dom0.warnings(node):
        LOG.warning('%s', warning)
    versions = node.host.versions()
    LOG.info(
        'Xen %(xen)s, libvirt %(libvirt)s, %(arch)s, guests: %(guests)s',
        {'xen': _dotted(versions.xen), 'libvirt': _dotted(versions.libvirt),
         'arch': arch.name,
         'guests': ', '.join(node.capabilities.guest_types)})
    snapshot.mend(node)
    _report_leftovers(node)


def _refuse(problems: Iterable[str]) -> None:
    found = '; '.join(problems)
    if found:
        raise exception.InvalidConfiguration(
            f'nova-compute cannot work on this host: {found}')


def _options() -> Iterator[str]:
    """Yield a problem for each option whose value is not valid.

    oslo.config checks a value only when it is read.
    """
    for group, options in opts.list_opts():
        for option in options:
            try:
                CONF[group.name][option.dest]
            except ValueError as error:
                yield f'[{group.name}] {option.name}: {error}'


def _dotted(version: tuple[int, ...]) -> str:
    return '.'.join(str(part) for part in version)


def _directories() -> Iterator[str]:
    path = CONF.instances_path
    if not os.path.isdir(path):
        yield f'instances_path {path!r} is not a directory'
    elif not os.access(path, os.W_OK | os.X_OK):
        yield f'instances_path {path!r} cannot be written'
    if ',' in path:
        yield (f'instances_path {path!r} holds a comma, which Xen takes for '
               'the end of a disk\'s name')


def _tools() -> Iterator[str]:
    if shutil.which('qemu-img') is None:
        yield 'there is no qemu-img (Debian: package qemu-utils)'


def _cpus(node: compute_node.Node) -> Iterator[str]:
    if CONF.compute.cpu_dedicated_set:
        yield ('[compute] cpu_dedicated_set is '
               f'{CONF.compute.cpu_dedicated_set!r}, and this driver gives '
               'no guest CPUs of its own; cpu_shared_set is possible')
    try:
        shared = hardware.get_cpu_shared_set() or ()
    except exception.Invalid as error:
        yield f'[compute] cpu_shared_set: {error}'
        return
    there = node.host.cpus()
    if missing := sorted(cpu for cpu in shared if cpu >= there):
        yield (f'[compute] cpu_shared_set has CPU {missing[0]}; this host '
               f'has CPUs 0 to {there - 1}')


def _guest_types(node: compute_node.Node) -> Iterator[str]:
    offered = node.capabilities.guest_types
    default = node.default_guest_type
    option = f'[xen44_{node.arch.name}] default_guest_type'
    if not offered:
        yield 'libvirt says that this host runs no guests at all'
    elif default not in offered:
        yield (f'{option} is {default}, and this host cannot run such '
               f'guests; it can run: {", ".join(sorted(offered))}')


def _spice() -> Iterator[str]:
    if CONF.spice.enabled and CONF.spice.require_secure:
        yield ('[spice] require_secure is true, and this driver has no '
               'encrypted SPICE consoles; allowed: false')


def _warn_of_loaders(node: compute_node.Node) -> None:
    for kind, loader in node.loaders().items():
        if loader is None or not os.path.isfile(loader):
            LOG.warning(
                '%(kind)s guests cannot boot from their own disk: '
                '[xen44_%(arch)s] %(kind)s_loader is %(loader)s, and there '
                'is no such file; only images with a kernel_id will boot',
                {'kind': kind, 'arch': node.arch.name, 'loader': loader})


def _warn_of_dom0_memory(node: compute_node.Node) -> None:
    if resources.dom0_is_unbounded(node.host.memory()):
        LOG.warning(
            'dom0 may take all of the host\'s memory: give Xen the options '
            'dom0_mem=SIZE,max:SIZE. Until then only '
            'reserved_host_memory_mb (%s) is kept from guests',
            CONF.reserved_host_memory_mb)


def _missing_group() -> str:
    """Return a hint if this process lacks the group that may use libvirt."""
    try:
        group = grp.getgrnam('libvirt')
    except KeyError:
        return ''
    if os.geteuid() == 0 or group.gr_gid in {os.getegid(), *os.getgroups()}:
        return ''
    user = pwd.getpwuid(os.geteuid()).pw_name
    return f'; user {user} is not in the group {group.gr_name}'


def _privileges(future: futures.Future[Any]) -> Iterator[str]:
    """Check that the driver's privsep daemon starts and can read the logs.

    :param future: the start of that daemon.
    """
    try:
        readable = privileges.result(privileges.XEN, future)
    except exception.InvalidConfiguration as error:
        yield str(error)
        return
    if not readable:
        LOG.warning(
            'Guests\' console logs will be empty: [xen44] console_log_dir '
            '%s is not there to be read. xenconsoled has to be started with '
            '--log=guest --log-dir=%s',
            CONF.xen44.console_log_dir, CONF.xen44.console_log_dir)


def _warn_of_tools() -> None:
    if shutil.which(CONF.mkisofs_cmd) is None:
        LOG.warning(
            'No config drives can be made: mkisofs_cmd is %s, and there is '
            'no such program (Debian: package genisoimage)',
            CONF.mkisofs_cmd)


def _report_leftovers(node: compute_node.Node) -> None:
    """Log which instances have files but no domain.

    An operation on such an instance was interrupted. The driver cannot know
    which, so it removes nothing; Nova cleans up when the instance is started
    or deleted.
    """
    known = set(node.host.records())
    for entry in os.scandir(CONF.instances_path):
        if entry.is_dir() and _is_uuid(entry.name) and entry.name not in known:
            LOG.warning('%s holds files of an instance that has no domain',
                        entry.path)


def _is_uuid(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False
