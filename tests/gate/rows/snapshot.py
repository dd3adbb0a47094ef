# SPDX-License-Identifier: Apache-2.0
"""Images of guests that go on meanwhile."""

from __future__ import annotations

import time
from typing import Any

from labkit import records
from labkit import util
from tests.gate import base
from tests.gate import guest as guest_lib

#: Seconds to copy the disk and send it; emulation compresses slowly.
IMAGE_TIMEOUT = 600

#: Seconds that the guest's own writing may pause. With the host to itself it
#: is a fraction of one; here other guests share dom0's two emulated CPUs.
MAX_HOLD = 10.0


def take(case: Any, guest: guest_lib.Guest) -> Any:
    """Make an image of a guest for a test; returns it when it is there."""
    image = case.cloud.compute.create_server_image(
        guest.id, case._name('image'))
    case.addCleanup(case.cloud.image.delete_image, image.id)
    util.wait_for(
        f'the image of {guest.name}',
        lambda: case.cloud.image.get_image(image.id).status == 'active',
        IMAGE_TIMEOUT, interval=2)
    return image


class Snapshot:
    """``openstack server image create`` of a running guest."""

    def test_snapshot_live(self: Any) -> None:
        self.take_and_look(self.running())

    def take_and_look(self: Any, guest: guest_lib.Guest) -> tuple[Any, int]:
        """Make an image while the guest writes.

        :returns: the image, and the number of the last record before it.
        """
        boot = guest.boot_id()
        domid = self.dom0('xl', 'domid', guest.domain)
        guest.ssh(records.START)
        util.wait_for(f'records of {guest.name}',
                      lambda: guest.ssh(f'cat {records.FILE}', check=False),
                      60, interval=1)
        before = self.records(guest)[-1][0]
        image = take(self, guest)
        guest.wait_for_status('ACTIVE')
        guest.ssh(records.STOP)

        written = self.records(guest)
        hold = records.longest(written)
        util.say(f'  {guest.name}: {len(written)} records during a '
                 'snapshot, longest pause', hold)
        self.assertLess(hold, MAX_HOLD)
        self.assertEqual((boot, domid), (
            guest.boot_id(), self.dom0('xl', 'domid', guest.domain)))
        image = self.cloud.image.get_image(image.id)
        self.assertEqual(('qcow2', 'bare', 1), (
            image.disk_format, image.container_format, image.min_disk))
        # Its own: other guests' snapshots may be under way.
        self.assertEqual('', self.dom0(
            'find', f'{base.INSTANCES}/snapshots', '-type', 'f',
            '-name', f'*{guest.id}*'))
        return image, before

    def records(self: Any, guest: guest_lib.Guest) -> list[records.Record]:
        """What the writer has written: numbers and times, without gaps."""
        found = records.parse(guest.ssh(f'cat {records.FILE}'))
        self.assertEqual(list(range(1, len(found) + 1)),
                         [number for number, _ in found])
        return found


class SlowSnapshot(Snapshot):
    """The same, where it takes longest."""

    @base.slow
    def test_snapshot_live(self: Any) -> None:
        super().test_snapshot_live()


class SnapshotBoots(Snapshot):
    """The same, and a guest made of the image has what was written."""

    @base.slow
    def test_snapshot_boots(self: Any) -> None:
        image, before = self.take_and_look(self.running())
        copy = self.make_server(
            self.addCleanup, flavor=self._flavor, image=image,
            config_drive=self.config_drive)
        copy.wait_for_status('ACTIVE')
        copy.wait_for_ssh()
        self.assertEqual(self.guest_type.upper(), copy.ssh(
            'cat /sys/hypervisor/guest_type'))
        self.assertGreaterEqual(len(self.records(copy)), before)


class ColdSnapshot:
    """An image of a guest that is off, or paused; a guest boots from it.

    For guests whose disks no QEMU serves.
    """

    @base.slow
    def test_snapshot_stopped(self: Any) -> None:
        guest = self.running()
        guest.ssh('echo kept > /root/kept && sync')
        self.cloud.compute.stop_server(guest.id)
        guest.wait_for_status('SHUTOFF', guest_lib.STOP_TIMEOUT)
        begin = time.monotonic()
        image = take(self, guest)
        util.say(f'  {guest.name}: snapshot while stopped',
                 time.monotonic() - begin)
        guest.wait_for_status('SHUTOFF')
        copy = self.make_server(
            self.addCleanup, flavor=self._flavor, image=image,
            config_drive=self.config_drive)
        copy.wait_for_status('ACTIVE')
        copy.wait_for_ssh()
        self.assertEqual('kept', copy.ssh('cat /root/kept'))
