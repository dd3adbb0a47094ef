# SPDX-License-Identifier: Apache-2.0
"""What a flavor says of CPUs, and what Xen's scheduler is told."""

from unittest import mock

from nova import exception

from tests.unit import base
from xen44_driver.compute import cpulimits
from xen44_driver.storage import kinds
from xen44_driver.xen import errors

DISK = kinds.DiskRecord(
    kind='clone', name='/dev/xvda', target='xvda', file='disk.raw')


class FlavorTest(base.TestCase):
    """The flavor of an instance here has two vCPUs."""

    def limits(self, **specs):
        return cpulimits.of_flavor(base.instance(extra_specs={
            f'quota:cpu_{name}': value
            for name, value in specs.items()}).flavor)

    def test_none(self):
        self.assertEqual(cpulimits.NONE, self.limits())

    def test_weight(self):
        for shares, weight in (('1', 1), ('4', 1), ('512', 128),
                               ('1024', 256), ('2048', 512),
                               ('262140', 65535)):
            self.assertEqual(cpulimits.Limits(weight=weight),
                             self.limits(shares=shares))

    def test_cap(self):
        for quota, period, cap in (
            # Of each vCPU, as in Nova.
            ('50000', '100000', 100), ('50000', None, 100),
            ('10000', '100000', 20), ('1000', '1000000', 1),
            ('5000', '10000', 100), ('25000', '0', 50),
            # As much as the vCPUs can have.
            ('100000', '100000', None), ('500000', '100000', None),
            ('-1', '100000', None), ('0', None, None),
        ):
            specs = {'quota': quota} | ({'period': period} if period else {})
            self.assertEqual(cpulimits.Limits(cap=cap),
                             self.limits(**specs), specs)
        self.assertEqual(cpulimits.NONE, self.limits(period='100000'))

    def test_refused(self):
        for name, value in (
            ('shares', '0'), ('shares', '-5'), ('shares', '262141'),
            ('shares', 'many'), ('quota', '999'), ('quota', 'x'),
            ('period', '999'), ('period', '1000001'), ('period', '-1'),
        ):
            raised = self.assertRaises(
                exception.InvalidInput, self.limits, **{name: value})
            self.assertIn(f'quota:cpu_{name}', str(raised))
            self.assertIn('allowed', str(raised))


class ApplyTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.guest = mock.Mock(uuid=base.UUID)
        self.guest.cpu_limits.return_value = {'weight': 256, 'cap': 50}

    def test_none(self):
        cpulimits.apply(self.guest, cpulimits.NONE)
        self.assertEqual([], self.guest.mock_calls)

    def test_seen(self):
        cpulimits.apply(self.guest, cpulimits.Limits(cap=50))
        self.guest.limit_cpus.assert_called_once_with(weight=256, cap=50)

    def test_not_seen(self):
        for limits in (cpulimits.Limits(weight=100, cap=50),
                       cpulimits.Limits(weight=256)):
            self.assertRaises(errors.OperationFailed, cpulimits.apply,
                              self.guest, limits)
