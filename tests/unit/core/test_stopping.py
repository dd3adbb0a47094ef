# SPDX-License-Identifier: Apache-2.0
"""How a guest is asked to shut down."""

from unittest import mock

from oslotest import base

from xen44_driver.core import stopping
from xen44_driver.xen import errors
from xen44_driver.xen import guest as guest_lib
from xen44_driver.xen.events import DomainState

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

    def test_heard_once(self):
        self.assertTrue(self.shut_down())
        self.assertEqual(['shutdown', *['press_power_button'] * 2],
                         self.asked())

    def test_not_heard_at_first(self):
        failed = errors.OperationFailed('domainShutdown', 'u', None, 'deaf')
        self.guest.shutdown.side_effect = [failed, None]
        # It has no button.
        self.guest.press_power_button.side_effect = failed
        self.assertTrue(self.shut_down())
        self.assertEqual(['shutdown', 'shutdown', 'press_power_button'],
                         self.asked())

    def test_in_vain(self):
        self.guest.wait_for.side_effect = None
        self.guest.wait_for.return_value = False
        self.assertFalse(stopping.shut_down(
            self.guest, INSTANCE, timeout=0.01, retry_interval=0))
        self.assertEqual('shutdown', self.asked()[0])
