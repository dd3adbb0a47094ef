# SPDX-License-Identifier: Apache-2.0
"""What differs between the releases of Nova."""

from eventlet import timeout
import fixtures
from oslotest import base

from xen44_driver.compute import novaversion


class EventTimeoutTest(base.BaseTestCase):

    def event_timeout(self, has):
        self.useFixture(fixtures.MonkeyPatch(
            'nova.exception.InstanceEventTimeout', has))
        return novaversion._event_timeout()

    def test_it_has_one(self):
        self.assertIs(ArithmeticError, self.event_timeout(ArithmeticError))

    def test_it_has_none(self):
        self.assertIs(timeout.Timeout, self.event_timeout(
            fixtures.MonkeyPatch.delete))
