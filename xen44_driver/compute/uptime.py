# SPDX-License-Identifier: Apache-2.0
"""How long the host is up."""

from oslo_concurrency import processutils


def text() -> str:
    """What ``uptime`` says, which is what Nova's API shows."""
    out, _err = processutils.execute('uptime', env_variables={'LC_ALL': 'C'})
    return str(out)
