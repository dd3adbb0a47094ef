# SPDX-License-Identifier: Apache-2.0
"""Limits of guests that have rebooted themselves."""

import threading
from unittest import mock

import fixtures

from tests.unit import base
from tests.unit.compute import test_disklimits
from xen44_driver.compute import limits
from xen44_driver.compute import machine
from xen44_driver.core import backends
from xen44_driver.storage import kinds
from xen44_driver.xen import errors
from xen44_driver.xen.domain import metadata

DISK = kinds.DiskRecord(
    kind='clone', name='/dev/xvda', target='xvda', file='disk.raw')


class LimiterTest(base.TestCase):

    def limit(self, *uuids, fail=(), raises=()):
        """Have limits set; returns the attempts, in their order."""
        tried, ended = [], threading.Event()
        expected = sum(1 if uuid not in fail else limits.ATTEMPTS
                       for uuid in dict.fromkeys(uuids))
        begin = threading.Event()

        def set_limits(uuid):
            begin.wait(60)
            tried.append(uuid)
            if len(tried) == expected:
                ended.set()
            if uuid in raises:
                raise OSError(uuid)
            return uuid not in fail

        limiter = limits.Limiter(set_limits)
        limiter.started(uuids[0])
        for uuid in uuids[1:]:
            limiter.started(uuid)
        begin.set()
        self.assertTrue(ended.wait(60), tried)
        return tried

    def test_each_once(self):
        self.assertEqual(['a', 'b', 'c'], self.limit('a', 'b', 'c'))

    def test_together(self):
        # While the first has its turn, the second starts often.
        self.assertEqual(['a', 'b'], self.limit('a', 'b', 'b', 'b'))

    def test_again_after_a_failure(self):
        # Others have their turns in between.
        self.assertEqual(['a', 'b', 'a', 'a'],
                         self.limit('a', 'b', fail=('a',)))

    def test_goes_on_after_an_error(self):
        self.assertEqual(['a', 'b'], self.limit('a', 'b', raises=('a',)))


class CpuTest(base.TestCase):
    """A guest that rebooted itself has lost its limits."""

    def setUp(self):
        super().setUp()
        self.node = base.node()
        self.guest = self.node.host.guest.return_value
        self.guest.cpu_limits.return_value = {'weight': 128, 'cap': 0}

    def restart(self, **asked):
        record = machine.Machine(guest_type='pv', disks=(DISK,), **asked)
        self.guest.metadata.return_value = metadata.InstanceMetadata(
            name='x', flavor='x', machine=record.to_json())
        return limits.restore(self.node, base.UUID)

    def test_set_again(self):
        self.assertTrue(self.restart(cpu_weight=128))
        self.guest.limit_cpus.assert_called_once_with(weight=128, cap=0)

    def test_no_limits(self):
        self.restart()
        for found in (None, metadata.InstanceMetadata(name='x', flavor='x')):
            self.guest.metadata.return_value = found
            limits.restore(self.node, base.UUID)
        self.guest.limit_cpus.assert_not_called()

    def test_off(self):
        self.guest.limit_cpus.side_effect = errors.DomainNotFound(base.UUID)
        self.assertTrue(self.restart(cpu_cap=50))

    def test_failures_are_logged(self):
        self.guest.limit_cpus.side_effect = errors.ConnectionFailed(
            'xen:///', 'refused')
        with mock.patch.object(limits.LOG, 'warning') as warning:
            self.assertFalse(self.restart(cpu_cap=50))
        warning.assert_called_once()


class DiskTest(test_disklimits.QemuTestCase):
    """It has another QEMU, too."""

    def setUp(self):
        super().setUp()
        self.node = base.node()
        guest = self.node.host.guest.return_value
        record = machine.Machine(
            guest_type='hvm', disk_limits=test_disklimits.LIMITS,
            disks=(kinds.DiskRecord(
                kind='overlay', name='/dev/xvda', target='hda',
                format='qcow2', file='disk.qcow2'),))
        guest.metadata.return_value = metadata.InstanceMetadata(
            name='x', flavor='x', machine=record.to_json())
        self.wait = self.useFixture(fixtures.MockPatchObject(
            backends, 'wait_until_open')).mock

    def test_set_again(self):
        self.assertTrue(limits.restore(self.node, base.UUID))
        self.assertEqual(test_disklimits.THROTTLE, self.throttles()['pv'])
        (disk,) = self.wait.call_args.args[2]
        self.assertEqual(
            f'{self.instances}/{base.UUID}/disk.qcow2', disk.source)

    def test_it_fails(self):
        self.wait.side_effect = PermissionError('xenstore')
        self.assertFalse(limits.restore(self.node, base.UUID))
        self.assertEqual({}, self.throttles()['pv'])
