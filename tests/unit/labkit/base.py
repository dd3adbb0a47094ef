# SPDX-License-Identifier: Apache-2.0
"""A lab with its directories in a temporary place."""

import io
import pathlib

import fixtures
from oslotest import base

from labkit import config


class TestCase(base.BaseTestCase):
    """Each test has a state and a cache of its own.

    :ivar directory: it is empty; state and cache are in it.
    """

    def setUp(self):
        super().setUp()
        self.directory = pathlib.Path(
            self.useFixture(fixtures.TempDir()).path)
        self.state = self.directory / 'state'
        self.cache = self.directory / 'cache'
        for path in (self.state, self.cache):
            path.mkdir()
        for name, path in (('STATE', self.state), ('CACHE', self.cache),
                           ('LOGS', self.state / 'log'),
                           ('RUN', self.state / 'run'),
                           ('SECRETS', self.state / 'secrets.json')):
            self.patch(config, name, path)

    def patch(self, target, name, value):
        self.useFixture(fixtures.MonkeyPatch(
            f'{target.__name__}.{name}', value))

    def output(self):
        """What is printed from now on."""
        out = io.StringIO()
        self.useFixture(fixtures.MonkeyPatch('sys.stdout', out))
        return out


class Clock:
    """Time that passes only where code sleeps."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
