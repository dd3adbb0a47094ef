# SPDX-License-Identifier: Apache-2.0
"""What differs between the releases of Nova."""

import sys
import types
from unittest import mock

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
        # A double: where Nova uses native threads, it can forbid eventlet.
        timeout = types.SimpleNamespace(Timeout=ArithmeticError)
        with mock.patch.dict(sys.modules, {'eventlet.timeout': timeout}):
            self.assertIs(ArithmeticError, self.event_timeout(
                fixtures.MonkeyPatch.delete))
