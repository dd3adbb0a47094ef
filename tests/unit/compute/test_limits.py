# SPDX-License-Identifier: Apache-2.0
"""Limits of guests that have rebooted themselves."""

import threading
from unittest import mock

import fixtures
from nova import exception
from nova import objects

from tests.unit import base
from tests.unit.compute import test_disklimits
from xen44_driver.compute import limits
from xen44_driver.compute import machine
from xen44_driver.core import backends
from xen44_driver.storage import kinds
from xen44_driver.xen import domain
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
        self.guest.definition.return_value = metadata.InstanceMetadata(
            name='x', flavor='x', machine=record.to_json()), ()
        return limits.restore(self.node, base.UUID)

    def test_set_again(self):
        self.assertTrue(self.restart(cpu_weight=128))
        self.guest.limit_cpus.assert_called_once_with(weight=128, cap=0)

    def test_no_limits(self):
        self.restart()
        for found in (None, metadata.InstanceMetadata(name='x', flavor='x')):
            self.guest.definition.return_value = found, ()
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
        self.guest = self.node.host.guest.return_value
        self.record = machine.Machine(
            guest_type='hvm', disk_limits=test_disklimits.LIMITS,
            disks=(DISK,))
        self.define(*test_disklimits.DISKS)
        self.wait = self.useFixture(fixtures.MockPatchObject(
            backends, 'wait_until_open')).mock

    def define(self, *disks):
        self.guest.definition.return_value = metadata.InstanceMetadata(
            name='x', flavor='x', machine=self.record.to_json()), disks

    def test_set_again(self):
        block = domain.Disk(target='xvdf', source='/dev/sdb', type='block',
                            serial=base.VOLUME)
        self.define(*test_disklimits.DISKS, block)
        self.assertTrue(limits.restore(self.node, base.UUID))
        self.assertEqual(test_disklimits.THROTTLE, self.throttles()['pv'])
        self.assertEqual([*test_disklimits.DISKS],
                         self.wait.call_args.args[2])

    def test_volume_that_was_attached_since(self):
        """The record in the domain is of its last start."""
        self.record = machine.Machine(guest_type='hvm', disks=(DISK,))
        volume = domain.Disk(target='xvde', source='/volume',
                             serial=base.VOLUME)
        self.devices['volume'] = {}, 'xvde-raw', '/volume'
        self.define(*test_disklimits.DISKS, volume)
        instance = base.instance()
        machine.keep(instance, machine.Machine(
            guest_type='hvm', disks=(DISK, kinds.DiskRecord(
                kind='volume', name='/dev/xvde', target='xvde',
                file='/volume', volume_id=base.VOLUME,
                limits={'write_iops_sec': 5}))))
        with mock.patch.object(objects.Instance, 'get_by_uuid',
                               return_value=instance):
            self.assertTrue(limits.restore(self.node, base.UUID))
        self.assertEqual(5, self.throttles()['volume']['iops_wr'])
        self.assertEqual({}, self.throttles()['pv'])
        with mock.patch.object(
                objects.Instance, 'get_by_uuid',
                side_effect=exception.InstanceNotFound(instance_id='x')):
            self.assertFalse(limits.restore(self.node, base.UUID))

    def test_it_fails(self):
        self.wait.side_effect = PermissionError('xenstore')
        self.assertFalse(limits.restore(self.node, base.UUID))
        self.assertEqual({}, self.throttles()['pv'])
