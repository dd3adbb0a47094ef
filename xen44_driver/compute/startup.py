# SPDX-License-Identifier: Apache-2.0
"""See at start that this host and its configuration can work.

What cannot work stops nova-compute, with everything that is wrong in one
message. What some guests will miss is a warning.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import itertools
import os
import shutil
import uuid

from nova import conf
from nova import exception
from nova.virt import hardware
from oslo_log import log as logging
from oslo_privsep import daemon

from xen44_driver import privsep
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import resources
from xen44_driver.conf import opts
from xen44_driver.storage import backend
from xen44_driver.xen import errors
from xen44_driver.xen.guesttype import GuestType

CONF = conf.CONF
LOG = logging.getLogger(__name__)


def start(node: compute_node.Node) -> None:
    """Connect to the host and check that all is well.

    :param node: this node
    :raises nova.exception.HypervisorUnavailable: no libvirt, or no Xen
    :raises nova.exception.InvalidConfiguration: what is wrong, all of it
    """
    _refuse(_options())
    try:
        node.host.connect()
        node.host.check()
        arch = node.arch
    except errors.ConnectionFailed as error:
        raise exception.HypervisorUnavailable(
            f'{error}. Is libvirtd running, is this dom0, and may this user '
            f'use libvirt? ([xen44] connection_uri is '
            f'{CONF.xen44.connection_uri!r})') from error
    except errors.HostUnsupported as error:
        raise exception.InvalidConfiguration(str(error)) from error

    _refuse(itertools.chain(
        _directories(), _tools(), _cpus(node), _guest_types(node),
        _privileges()))
    _warn_of_loaders(node)
    _warn_of_dom0_memory(node)
    _warn_of_tools()
    versions = node.host.versions()
    LOG.info(
        'Xen %(xen)s, libvirt %(libvirt)s, %(arch)s, guests: %(guests)s',
        {'xen': _dotted(versions.xen), 'libvirt': _dotted(versions.libvirt),
         'arch': arch.name,
         'guests': ', '.join(node.capabilities.guest_types)})
    _report_leftovers(node)


def _refuse(problems: Iterable[str]) -> None:
    found = '; '.join(problems)
    if found:
        raise exception.InvalidConfiguration(
            f'nova-compute cannot work on this host: {found}')


def _options() -> Iterator[str]:
    """Values that are none; oslo.config sees that when a value is read."""
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
        yield f'instances_path {path!r} is no directory'
    elif not os.access(path, os.W_OK | os.X_OK):
        yield f'instances_path {path!r} cannot be written'
    if ',' in path:
        yield (f'instances_path {path!r} holds a comma, which Xen takes for '
               'the end of a disk\'s name')


def _tools() -> Iterator[str]:
    try:
        backend.load(CONF.xen44.disk_format)
    except backend.UnknownBackend as error:
        yield f'[xen44] disk_format: {error}'
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


def _warn_of_loaders(node: compute_node.Node) -> None:
    for kind in node.capabilities.guest_types:
        if kind is GuestType.HVM:
            continue
        loader = node.loader(kind)
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


def _privileges() -> Iterator[str]:
    """See that root's powers are to be had, and what they find."""
    try:
        readable = privsep.console_log_dir_readable()
    except (OSError, daemon.FailedToDropPrivileges) as error:
        yield (f'privsep cannot become root: {error}; [xen44_privileged] '
               'helper_command says how (sudo is the default)')
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
    """Say which instances' files have no domain.

    An operation was interrupted. Nova knows which instance that was and
    cleans up when it is deleted or started; nothing is removed here, where
    we do not know.
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
