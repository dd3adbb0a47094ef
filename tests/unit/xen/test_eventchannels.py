# SPDX-License-Identifier: Apache-2.0
"""What guests need of Xen's tables."""

from oslotest import base

from xen44_driver.xen import eventchannels
from xen44_driver.xen.guesttype import GuestType

PV, PVH, HVM = GuestType
CMDLINE = 'placeholder root=/dev/sda1 ro quiet'


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


class Dom0Test(base.BaseTestCase):

    def fifo(self, more='', xen=(4, 20, 4)):
        return eventchannels.dom0_uses_fifo(xen, f'{CMDLINE}{more}\n')

    def test_abi(self):
        for more in ('', ' xen.fifo_events=1', ' xen.fifo_events=on',
                     ' xen.fifo_events', ' notxen.fifo_events=0',
                     ' xen.fifo_events=0 xen.fifo-events=y'):
            self.assertTrue(self.fifo(more), more)
        for more in (' xen.fifo_events=0', ' xen.fifo-events=N',
                     ' xen.fifo_events=off', ' xen.fifo_events=false',
                     ' xen.fifo_events=1 xen.fifo_events=0'):
            self.assertFalse(self.fifo(more), more)
        self.assertTrue(self.fifo(xen=(4, 4, 0)))
        self.assertFalse(self.fifo(xen=(4, 3, 4)))

    def test_reserved(self):
        # A few devices with a queue for each CPU.
        self.assertGreater(eventchannels.reserved_for_dom0(1), 200)
        self.assertGreater(eventchannels.reserved_for_dom0(16), 16 * 16)
        # Guests have the greater part of the smaller ABI.
        self.assertLess(eventchannels.reserved_for_dom0(64),
                        eventchannels.MAX_2L / 2)
