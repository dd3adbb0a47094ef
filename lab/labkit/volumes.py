# SPDX-License-Identifier: Apache-2.0
"""cinder-volume in dom0, whose kernel has device-mapper, iSCSI and NFS."""

from __future__ import annotations

import datetime

from labkit import compute
from labkit import util
from labkit.arch import CINDER_VOLUME
from labkit.cloud import Cloud
from labkit.host import XenHost

CINDER_CONF = '/etc/cinder/cinder.conf'

#: Seconds for all backends. Its code is loaded already, but for a second start
#: on one host.
TIMEOUT = 600


def start(host: XenHost, cloud: Cloud) -> None:
    """Start it, unless it was before; wait until volumes can be made.

    On a host fresh from its snapshot it waits for its configuration; on one
    that was booted it does not run.

    :raises LabError: it ended, or Cinder does not hear of it in time.
    """
    begin = None
    with util.step(f'{host.name}: cinder-volume'):
        configured = _succeeds(host, 'test', '-e', CINDER_CONF)
        if not (configured
                and _succeeds(host, 'systemctl', 'is-active', CINDER_VOLUME)):
            begin = datetime.datetime.now(datetime.UTC)
            if not configured:
                compute.configure(host,
                                  cloud.render_volume_config(host.number))
            host.ssh(['systemctl', 'start', CINDER_VOLUME], timeout=TIMEOUT)
        try:
            cloud.wait_volumes(
                host.name, TIMEOUT, begin,
                hopeless=lambda: compute.check(host, (CINDER_VOLUME,)))
        except util.LabError:
            compute.collect_logs(host)
            raise


def _succeeds(host: XenHost, *argv: str) -> bool:
    return host.ssh(argv, check=False).returncode == 0


def stop(host: XenHost) -> None:
    """Stop it, until it is started again."""
    host.ssh(['systemctl', 'stop', CINDER_VOLUME], timeout=TIMEOUT)
