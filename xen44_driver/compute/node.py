# SPDX-License-Identifier: Apache-2.0
"""What every operation works on: this compute node."""

import functools
import threading

from nova import conf
from nova.virt import virtapi as nova_virtapi
from oslo_config import cfg

from xen44_driver.storage import imagecache
from xen44_driver.xen import arch
from xen44_driver.xen import capabilities
from xen44_driver.xen import guest as xen_guest
from xen44_driver.xen import host as xen_host
from xen44_driver.xen.guesttype import GuestType

CONF = conf.CONF

#: Seconds to wait for others to have started.
START_TURN_TIMEOUT = 600


class Node:
    """This compute node.

    :param host: the Xen host under it
    :param virtapi: the way back into Nova
    """

    def __init__(
        self, host: xen_host.Host, virtapi: nova_virtapi.VirtAPI,
    ) -> None:
        self.host = host
        self.virtapi = virtapi
        self.images = imagecache.ImageCache()
        self._starts = threading.BoundedSemaphore(
            CONF.xen44.max_concurrent_starts)

    @property
    def capabilities(self) -> capabilities.Capabilities:
        """What the host can do; costs nothing after the first time."""
        return self.host.capabilities()

    @property
    def arch(self) -> arch.Architecture:
        """The host's architecture.

        :raises HostUnsupported: one we do not know
        """
        return _load_arch(self.capabilities.arch)

    @property
    def options(self) -> cfg.ConfigOpts.GroupAttr:
        """The options of the host's architecture."""
        return CONF[f'xen44_{self.capabilities.arch}']

    @property
    def default_guest_type(self) -> GuestType:
        """What a guest is when neither image nor flavor says."""
        return GuestType(self.options.default_guest_type)

    def start(self, guest: xen_guest.Guest) -> None:
        """Boot a guest, when not too many others are being booted.

        :param guest: one that is off
        :raises TimeoutError: the others took too long
        :raises xen44_driver.xen.errors.XenError: it cannot be booted
        """
        if not self._starts.acquire(timeout=START_TURN_TIMEOUT):
            raise TimeoutError(
                f'the guests before it (at most '
                f'{CONF.xen44.max_concurrent_starts} start at once) have '
                f'not started within {START_TURN_TIMEOUT} s')
        try:
            guest.start()
        finally:
            self._starts.release()

    def loader(self, guest_type: GuestType) -> str | None:
        """What boots a PV or PVH guest's own disk.

        :returns: a path on this host, or None where none is configured
        """
        option = f'{guest_type}_loader'
        path: str | None = self.options.get(option)
        return path


@functools.cache
def _load_arch(name: str) -> arch.Architecture:
    # stevedore looks through every installed package.
    return arch.load(name)
