# SPDX-License-Identifier: Apache-2.0
"""Tell how long the host has been running."""

from __future__ import annotations

import subprocess

from oslo_concurrency import processutils
from oslo_log import log as logging

LOG = logging.getLogger(__name__)

# Seconds; ample, as the program only reads two files in /proc.
_TIMEOUT = 10


def text() -> str:
    """Return the output of ``uptime``, which Nova's API shows unchanged.

    :raises oslo_concurrency.processutils.ProcessExecutionError: the program
        failed.
    :raises subprocess.TimeoutExpired: the program took more than 10 s.
    """
    out, _err = processutils.execute(
        'uptime', env_variables={'LC_ALL': 'C'}, timeout=_TIMEOUT)
    return str(out)


def stats() -> dict[str, str | None]:
    """Return the uptime for the compute node's record.

    Nova's API takes it from there for ``os-hypervisors/detail``; otherwise it
    would ask each host by RPC.

    :returns: the key ``uptime``; its value is None if it is not known.
    """
    try:
        return {'uptime': text()}
    except (processutils.ProcessExecutionError, subprocess.TimeoutExpired,
            OSError) as error:
        LOG.warning('The host\'s uptime is not known: %s',
                    ' '.join(str(error).split()))
        return {'uptime': None}
