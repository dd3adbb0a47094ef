# SPDX-License-Identifier: Apache-2.0
"""What Nova knows of the host, and has it do without a guest."""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any
from typing import ClassVar

from labkit import util
from tests.gate import base

#: A disk image needs nothing in it to be fetched.
IMAGE_SIZE = 1024 * 1024
CACHE_TIMEOUT = 300


class Host(base.GateCase):
    """The first Xen host, as a hypervisor of Nova's.

    :cvar in_use_is_known: whether Xen's tool that lists event channels is
        built for it.
    """

    in_use_is_known: ClassVar[bool] = True

    def hypervisor(self) -> Any:
        """Nova's record of the host, with all details."""
        found = [one for one in self.cloud.compute.hypervisors(details=True)
                 if one.service_details['host'] == self.host.name]
        self.assertEqual(1, len(found))
        return self.cloud.compute.get_hypervisor(found[0].id)

    def test_uptime(self) -> None:
        self.assertRegex(self.hypervisor().uptime,
                         r'\bup\b.*\bload average: \d')

    def test_address(self) -> None:
        self.assertEqual(self.host.address, self.hypervisor().host_ip)

    def test_traits_of_cpu(self) -> None:
        traits = self.traits()
        self.assertIn('HW_CPU_X86_SSE2', traits)
        # Guests do not get it, whatever the host's CPU has.
        self.assertNotIn('HW_CPU_X86_SVM', traits)

    @base.slow
    def test_event_channels(self) -> None:
        inventory = self.inventory('CUSTOM_XEN_EVENT_CHANNELS')
        # What the driver concludes is what the kernel says.
        self.assertIn('Using FIFO-based ABI',
                      self.dom0('journalctl', '--dmesg', '--boot'))
        self.assertEqual(131071, inventory['total'])
        self.assertIn('CUSTOM_XEN44_FIFO_EVENT_CHANNELS', self.traits())
        if self.in_use_is_known:
            self.assertLess(self.event_channels_in_use(),
                            inventory['reserved'])

    def event_channels_in_use(self) -> int:
        """How many event channels dom0 has now."""
        in_use = len(self.host.ssh(
            '/usr/lib/xen*/bin/lsevtchn 0').stdout.splitlines())
        self.assertGreater(in_use, 16)
        return in_use

    def test_image_is_cached_before_its_first_boot(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / 'image'
            path.write_bytes(bytes(IMAGE_SIZE))
            image = self.make_image(self.addCleanup, path, 'raw')
        compute = self.cloud.compute
        aggregate = compute.create_aggregate(name=self._name('aggregate'))
        self.addCleanup(compute.delete_aggregate, aggregate.id)
        compute.add_host_to_aggregate(aggregate.id, self.host.name)
        self.addCleanup(compute.remove_host_from_aggregate, aggregate.id,
                        self.host.name)
        compute.aggregate_precache_images(aggregate.id, image.id)

        def cached() -> bool:
            names = self.kept_files(image)
            return bool(names) and not any(
                name.endswith('.part') for name in names)

        util.wait_for(f'{self.host.name} to cache {image.name}', cached,
                      CACHE_TIMEOUT)
