# SPDX-License-Identifier: Apache-2.0
"""Check the host and its configuration when nova-compute starts.

If the driver cannot work, nova-compute stops with one message that lists all
problems. Problems that affect only some guests are logged as warnings.
"""

from __future__ import annotations

from collections.abc import Iterable
import functools
import itertools
import os
import uuid

from nova import conf
from nova import exception
from oslo_log import log as logging

from xen44_driver import faultpoints
from xen44_driver import privsep
from xen44_driver.compute import checks
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import privileges
from xen44_driver.compute import quiesce
from xen44_driver.compute import snapshot
from xen44_driver.compute import volumeswap
from xen44_driver.core import loopdevices
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
    _refuse(checks.OPTIONS.problems())
    host = checks.HostChecks(node)
    privileges.warn_if_refused(privileges.PORTS, host.ports_daemon)
    for problem in host.connection.problems():
        raise exception.HypervisorUnavailable(problem)
    _refuse(host.versions.problems())
    _refuse(itertools.chain.from_iterable(
        check.problems() for check in host.others
        if check.level is checks.Level.FAIL))
    # /run is empty after a start of the host.
    privsep.make_socket_dir()
    threads.start(functools.partial(quiesce.mend, node), 'xen44-thaw')
    for check in host.others:
        if check.level is checks.Level.WARN:
            _warn(check)
    if faultpoints.is_on():
        LOG.warning('%s is set: nova-compute may end itself, for a test',
                    faultpoints.VARIABLE)
    LOG.info('%s', checks.summary(node))
    snapshot.mend(node)
    volumeswap.mend(node)
    loopdevices.remove_leftovers(CONF.instances_path, {
        uuid for uuid, record in node.host.records().items()
        if not record.state.is_off})
    _report_leftovers(node)


def _refuse(problems: Iterable[str]) -> None:
    found = '; '.join(problems)
    if found:
        raise exception.InvalidConfiguration(
            f'nova-compute cannot work on this host: {found}')


def _warn(check: checks.Check) -> None:
    try:
        for problem in check.problems():
            LOG.warning('%s', problem)
    except checks.CannotTell as error:
        LOG.debug('Not checked: %(what)s: %(why)s',
                  {'what': check.title, 'why': error})


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
