# SPDX-License-Identifier: Apache-2.0
"""What guests need of Xen's tables."""

from oslotest import base

from xen44_driver.xen import eventchannels
from xen44_driver.xen.guesttype import GuestType

PV, PVH, HVM = GuestType


def need(kind=PVH, vcpus=1, disks=2):
    return eventchannels.of_guest(kind, vcpus=vcpus, disks=disks)


class NeedTest(base.BaseTestCase):

    def test_ordinary_guests_have_the_defaults(self):
        for kind in GuestType:
            for vcpus in (1, 2, 4, 6):
                found = need(kind, vcpus, disks=8)
                self.assertLessEqual(found.event_channels, 1023)
                self.assertLessEqual(found.grant_frames, 64)

    def test_vcpus(self):
        self.assertEqual(
            8 * 8, need(vcpus=64).event_channels
            - need(vcpus=56).event_channels)
        self.assertGreater(need(vcpus=128).event_channels, 1023)

    def test_queues_of_interfaces(self):
        # Eight interfaces, and a queue for each of the first eight vCPUs.
        self.assertEqual(
            8 + 2 * 8,
            need(vcpus=2).event_channels - need(vcpus=1).event_channels)
        self.assertAlmostEqual(
            8, need(vcpus=2).grant_frames - need(vcpus=1).grant_frames,
            delta=1)
        self.assertGreater(need(vcpus=8).grant_frames, 64)
        self.assertEqual(need(vcpus=8).grant_frames,
                         need(vcpus=128).grant_frames)

    def test_disks(self):
        self.assertEqual(need(disks=2).event_channels + 3,
                         need(disks=5).event_channels)
        # Two thirds of a frame each.
        self.assertAlmostEqual(
            need(disks=2).grant_frames + 21, need(disks=32).grant_frames,
            delta=1)

    def test_qemu_of_hvm_guests(self):
        self.assertEqual(need(PVH, 16).event_channels + 17,
                         need(HVM, 16).event_channels)
        self.assertEqual(need(PVH, 16), need(PV, 16))
