# SPDX-License-Identifier: Apache-2.0
"""Which event channels and grant frames guests get."""

from nova import exception

from tests.unit import base
from xen44_driver.compute import xentables
from xen44_driver.xen.guesttype import GuestType

NOTHING = xentables.Limits(max_event_channels=None, max_grant_frames=None)
HOST = xentables.Limits(max_event_channels=2047, max_grant_frames=96)


class DecideTest(base.TestCase):

    def decide(self, *, vcpus=2, host=NOTHING, most=None, **specs):
        flavor = base.instance(extra_specs={
            f'xen44:{name}': value for name, value in specs.items()}).flavor
        flavor.vcpus = vcpus
        found = xentables.decide(flavor, GuestType.HVM, disks=3, host=host,
                                 most_grant_frames=most)
        return found.max_event_channels, found.max_grant_frames

    def test_defaults_are_not_written(self):
        self.assertEqual((None, None), self.decide())

    def test_large_guest(self):
        channels, frames = self.decide(vcpus=128)
        self.assertGreater(channels, 128 * 9)
        self.assertGreater(frames, 64)
        self.assertEqual((None, frames), self.decide(vcpus=16))

    def test_host_decides(self):
        for vcpus in (2, 128):
            self.assertEqual((2047, 96), self.decide(vcpus=vcpus, host=HOST))

    def test_flavor_decides(self):
        for vcpus, host in ((2, NOTHING), (2, HOST), (128, NOTHING)):
            self.assertEqual((1023, 64), self.decide(
                vcpus=vcpus, host=host, max_event_channels='1023',
                max_grant_frames='64'))
        self.assertEqual((131071, 96), self.decide(
            host=HOST, max_event_channels='131071'))
        self.assertEqual((2047, 65535), self.decide(
            host=HOST, max_grant_frames='65535'))

    def test_xen_with_a_limit(self):
        """A guest that needs more gets what there is."""
        channels, frames = self.decide(vcpus=128, most=64)
        self.assertGreater(channels, 128 * 9)
        self.assertIsNone(frames)
        self.assertEqual((2047, 96), self.decide(host=HOST, most=96))
        self.assertEqual((None, 64), self.decide(
            most=64, max_grant_frames='64'))

    def test_more_than_xen_gives(self):
        for host, specs, says in (
                (NOTHING, {'max_grant_frames': '65'},
                 'the flavor asks for xen44:max_grant_frames 65'),
                (HOST, {}, 'this host asks for [xen44] max_grant_frames 96')):
            raised = self.assertRaises(
                exception.InvalidInput, self.decide, host=host, most=64,
                **specs)
            self.assertIn(f'{says}; allowed: at most 64', str(raised))
            self.assertIn('gnttab_max_frames', str(raised))
            self.assertIn('4.18', str(raised))

    def test_impossible(self):
        for name, allowed, values in (
            ('max_event_channels', '1023 to 131071', ('1022', '131072')),
            ('max_grant_frames', '64 to 65535', ('63', '65536')),
        ):
            for value in (*values, '', '-1', '0', '1e4', '²', 'x' * 200):
                with self.subTest(name=name, value=value):
                    raised = self.assertRaises(
                        exception.InvalidInput, self.decide, **{name: value})
                    self.assertIn(f'xen44:{name} {value[:40]!r}; allowed: '
                                  f'{allowed}', str(raised))
                    fault = exception.BuildAbortException(
                        instance_uuid=base.PORT, reason=str(raised))
                    self.assertLess(len(str(fault)), 255)
