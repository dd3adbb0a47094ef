# SPDX-License-Identifier: Apache-2.0
"""How many guests start at once; what old versions cannot do."""

import threading
import types
from unittest import mock

import fixtures

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import node as compute_node


class StartTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.flags(max_concurrent_starts=1, group='xen44')
        self.node = base.node()

    def test_one_after_the_other(self):
        first, second = mock.Mock(), mock.Mock()
        starting, go_on = threading.Event(), threading.Event()

        def start(*, paused):
            starting.set()
            go_on.wait(10)

        first.start.side_effect = start
        threads = [threading.Thread(target=self.node.start, args=(guest,))
                   for guest in (first, second)]
        threads[0].start()
        self.assertTrue(starting.wait(10))
        threads[1].start()
        threads[1].join(0.1)
        second.start.assert_not_called()
        go_on.set()
        for thread in threads:
            thread.join(10)
        second.start.assert_called_once_with(paused=False)

    def test_others_take_too_long(self):
        second = mock.Mock()

        def start(*, paused):
            with mock.patch.object(compute_node, 'START_TURN_TIMEOUT', 0.01):
                self.assertRaisesRegex(
                    TimeoutError, 'at most 1 start at once',
                    self.node.start, second)

        self.node.start(mock.Mock(start=start))
        second.start.assert_not_called()

    def test_a_failed_start_gives_way(self):
        for _ in range(2):
            self.assertRaises(
                ZeroDivisionError, self.node.start,
                mock.Mock(start=mock.Mock(side_effect=ZeroDivisionError)))


class OptionsTest(base.TestCase):

    def test_spice(self):
        node = base.node()
        self.assertEqual((), node.spec_options().spice)
        self.flags(image_compression='quic', jpeg_compression='never',
                   zlib_compression='always', playback_compression=False,
                   streaming_mode='all', group='spice')
        self.assertEqual(
            ('image-compression=quic', 'jpeg-wan-compression=never',
             'zlib-glz-wan-compression=always', 'playback-compression=off',
             'streaming-video=all'), node.spec_options().spice)
        made = node.machine_options()
        self.assertFalse(made.spice)
        self.flags(enabled=True, agent_enabled=False, group='spice')
        made = node.machine_options()
        self.assertTrue(made.spice)
        self.assertFalse(made.spice_agent)

    def test_config_drive(self):
        """By default there is one where it can be written."""
        node = base.node()
        for wanted, program, made in ((True, '/bin/sh', True),
                                      (True, '/no/such/program', False),
                                      (False, '/bin/sh', False)):
            self.flags(mkisofs_cmd=program)
            self.flags(default_config_drive=wanted, group='xen44')
            self.assertIs(made, node.machine_options().config_drive)


class OldVersionsTest(base.TestCase):
    """What Xen before 4.18 and libvirt before 9.2 cannot do."""

    def setUp(self):
        super().setUp()
        self.node = base.node()
        self.asked = self.useFixture(fixtures.MockPatchObject(
            privsep, 'grant_frames', return_value=None)).mock

    def has(self, *xen, libvirt=(11, 3, 0)):
        self.node.host.versions.return_value = types.SimpleNamespace(
            xen=xen, libvirt=libvirt)

    def test_any_grant_frames(self):
        self.has(4, 18, 0)
        self.assertIsNone(self.node.most_grant_frames)
        self.asked.assert_not_called()

    def test_grant_frames(self):
        self.has(4, 17, 0)
        for _ in range(2):
            self.assertEqual(64, self.node.most_grant_frames)
        self.assertEqual(64, self.node.machine_options().most_grant_frames)
        self.asked.assert_called_once_with()

    def test_grant_frames_of_the_command_line(self):
        self.has(4, 17, 0)
        self.asked.side_effect = OSError('not today')
        self.assertEqual(64, self.node.most_grant_frames)
        self.asked.side_effect = None
        self.asked.return_value = 256
        self.assertEqual(256, self.node.most_grant_frames)

    def test_firmware(self):
        self.has(4, 17, 0, libvirt=(9, 0, 0))
        # Debian's Xen was built with that.
        self.assertIsNone(self.node.uefi_refusal())
        self.flags(uefi_firmware='/ovmf', group='xen44_x86_64')
        problem = self.node.uefi_refusal()
        for said in ('libvirt 9.0.0', '[xen44_x86_64] uefi_firmware /ovmf',
                     '9.2.0 or newer'):
            self.assertIn(said, problem)
        self.assertEqual(problem, self.node.machine_options().uefi_problem)
        self.has(4, 17, 0, libvirt=(9, 2, 0))
        self.assertIsNone(self.node.uefi_refusal())
        self.flags(uefi_firmware='', group='xen44_x86_64')
        self.has(4, 17, 0, libvirt=(9, 0, 0))
        self.assertIsNone(self.node.uefi_refusal())
