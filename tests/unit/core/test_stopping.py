# SPDX-License-Identifier: Apache-2.0
"""How a guest is asked to shut down."""

from unittest import mock

import fixtures
from oslotest import base

from xen44_driver.core import stopping
from xen44_driver.xen import errors
from xen44_driver.xen import guest as guest_lib
from xen44_driver.xen.events import DomainState

FAILED = errors.OperationFailed('domainShutdown', 'u', None, 'deaf')
INSTANCE = mock.Mock(uuid='u')


class ShutDownTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.guest = mock.create_autospec(guest_lib.Guest, instance=True)
        self.guest.state.return_value = DomainState.RUNNING
        self.guest.wait_for.side_effect = [False, False, True]

    def shut_down(self, retry_interval=1):
        return stopping.shut_down(self.guest, INSTANCE, timeout=60,
                                  retry_interval=retry_interval)

    def asked(self):
        return [name for name, *_ in self.guest.method_calls
                if name in ('shutdown', 'press_power_button')]

    def test_off(self):
        self.guest.state.return_value = DomainState.SHUTDOWN
        self.assertTrue(self.shut_down())
        self.assertEqual([], self.asked())

    def clock(self, *times):
        self.useFixture(fixtures.MockPatch(
            'time.monotonic', side_effect=times))

    def test_heard_once(self):
        self.clock(0, 10, 20)
        self.assertTrue(self.shut_down(10))
        self.assertEqual(['shutdown'], self.asked())

    def test_heard_too_early(self):
        self.clock(0, 29, 30)
        self.assertTrue(self.shut_down(10))
        self.assertEqual(['shutdown', 'shutdown'], self.asked())

    def test_not_heard_at_first(self):
        """A PC that boots has a button, and knows Xen later."""
        self.guest.shutdown.side_effect = [FAILED, None, None]
        self.clock(0, 10, 20)
        self.assertTrue(self.shut_down(10))
        self.assertEqual(['shutdown', 'press_power_button', 'shutdown'],
                         self.asked())

    def test_without_a_button(self):
        self.guest.shutdown.side_effect = FAILED
        self.guest.press_power_button.side_effect = FAILED
        self.assertTrue(self.shut_down(10))
        self.assertEqual(['shutdown', 'press_power_button'] * 3,
                         self.asked())

    def test_in_vain(self):
        self.guest.wait_for.side_effect = None
        self.guest.wait_for.return_value = False
        self.assertFalse(stopping.shut_down(
            self.guest, INSTANCE, timeout=0.01, retry_interval=0))
        self.assertEqual('shutdown', self.asked()[0])
