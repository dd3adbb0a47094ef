# SPDX-License-Identifier: Apache-2.0
"""The checks of a host, and what becomes of their errors."""

import os
from unittest import mock

import fixtures
from oslo_utils import units

from tests.unit import base
from xen44_driver.compute import checks
from xen44_driver.compute import dom0
from xen44_driver.compute import privileges
from xen44_driver.storage import usage
from xen44_driver.xen import arch
from xen44_driver.xen import guesttype


def check(look, level=checks.Level.WARN):
    return checks.Check('key', 'the title', level, look)


class CheckTest(base.TestCase):

    @staticmethod
    def broken():
        yield 'first'
        raise IndexError('second')

    def test_problems(self):
        self.assertEqual([], check(lambda: []).problems())
        self.assertEqual(['a', 'b'], check(lambda: iter('ab')).problems())

    def test_a_warning_never_fails(self):
        first, second = check(self.broken).problems()
        self.assertEqual('first', first)
        self.assertIn('the title', second)
        self.assertIn('second', second)

    def test_what_nova_compute_needs_fails(self):
        self.assertRaises(
            IndexError, check(self.broken, checks.Level.FAIL).problems)

    def test_what_cannot_be_told(self):
        def look():
            raise checks.CannotTell('x')

        for level in checks.Level:
            self.assertRaises(checks.CannotTell, check(look, level).problems)


class HostChecksTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MockPatchObject(privileges, 'start'))
        self.node = base.node()
        self.checks = {check.key: check
                       for check in checks.HostChecks(self.node).all}

    def test_keys(self):
        self.assertEqual(len(self.checks),
                         len(checks.HostChecks(self.node).all))

    def test_device_model(self):
        look = self.useFixture(fixtures.MockPatchObject(
            dom0, 'device_model', return_value=['no QEMU'])).mock
        self.assertEqual(['no QEMU'],
                         self.checks['device-model'].problems())
        look.reset_mock()
        # Where none can be, none is missed.
        self.useFixture(fixtures.MockPatchObject(
            type(self.node), 'arch', arch.load('aarch64')))
        self.assertEqual([], self.checks['device-model'].problems())
        look.assert_not_called()

    def test_loaders_of_an_architecture(self):
        self.useFixture(fixtures.MockPatchObject(
            type(self.node), 'loaders',
            return_value={guesttype.GuestType.PVH: None}))
        for name, says in (('x86_64', 'grub-xen-host'),
                           ('aarch64', 'is not packaged')):
            with mock.patch.object(type(self.node), 'arch', arch.load(name)):
                problem, = self.checks['loaders'].problems()
            self.assertIn(f'[xen44_{name}] pvh_loader is not set', problem)
            self.assertIn(says, problem)

    def test_space(self):
        measure = self.useFixture(fixtures.MockPatchObject(
            usage, 'measure')).mock
        self.flags(reserved_host_disk_mb=100)
        for free, promised, problems in (
                (400, 300, 0), (399, 300, 1), (99, 0, 1)):
            measure.return_value = usage.Usage(
                total=1000 * units.Mi, used=0, free=free * units.Mi,
                promised=promised * units.Mi)
            found = self.checks['space'].problems()
            self.assertEqual(problems, len(found))
            for text in found:
                self.assertIn(f'{free} MiB', text)
                self.assertIn(f'{promised} MiB', text)

    def test_space_of_nothing(self):
        os.rmdir(self.instances)
        self.assertRaises(checks.CannotTell, self.checks['space'].problems)

    def test_console_logs_without_the_daemon(self):
        self.useFixture(fixtures.MockPatchObject(
            privileges, 'result',
            side_effect=privileges.exception.InvalidConfiguration('x')))
        self.assertRaises(
            checks.CannotTell, self.checks['console-logs'].problems)
        [problem] = self.checks['privileges'].problems()
        self.assertEqual('x', problem)
