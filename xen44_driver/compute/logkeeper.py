# SPDX-License-Identifier: Apache-2.0
"""Limit the size of the logs that guests can write to."""

from __future__ import annotations

import threading

from nova import conf
from oslo_log import log as logging

from xen44_driver.compute import node as compute_node
from xen44_driver.core import consolelog
from xen44_driver.storage import layout
from xen44_driver.xen import threads

CONF = conf.CONF
LOG = logging.getLogger(__name__)


class LogKeeper:
    """A thread that shortens logs while the guests write to them.

    They are the consoles' logs and those of the guests' QEMUs.
    """

    def __init__(self, node: compute_node.Node) -> None:
        self._node = node
        self._stopped = threading.Event()
        self._told: frozenset[str] = frozenset()

    def start(self) -> None:
        """Check the logs every ``[xen44] console_log_interval`` seconds."""
        self.stop()
        # A new event: a thread that has not ended yet keeps its own, set one.
        stopped = self._stopped = threading.Event()

        def run() -> None:
            while not stopped.wait(CONF.xen44.console_log_interval):
                self.look()

        threads.start(run, 'console-logs')

    def stop(self) -> None:
        """Stop the thread; do not wait for a check that is running."""
        self._stopped.set()

    def look(self) -> None:
        """Shorten the logs that are too long; never raises."""
        try:
            problems = frozenset(consolelog.trim(
                {record.name: layout.InstanceFiles(
                    CONF.instances_path, uuid).serial_log
                 for uuid, record in self._node.host.records().items()},
                CONF.xen44.console_log_max_bytes))
        except Exception as error:
            # Such as a privsep daemon that does not start: the next check may
            # succeed.
            problems = frozenset(
                {f'logs cannot be looked at: {error}'})
        # A lasting problem appears at every check, but is logged only once.
        for problem in sorted(problems - self._told):
            LOG.warning('A guest may fill this host\'s disk: %s', problem)
        self._told = problems
