# SPDX-License-Identifier: Apache-2.0
"""Which CPUs guests may have, and whether the host has those."""

import fixtures

from tests.unit import base
from xen44_driver.compute import checks
from xen44_driver.compute import privileges


class CpusTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MockPatchObject(privileges, 'start'))

    def problems(self, **options):
        self.flags(group='compute', **options)
        node = base.node()
        # As the NUMA nodes of the host say.
        node.host.cpus.return_value = 77
        check = next(check for check in checks.HostChecks(node).others
                     if check.key == 'cpus')
        return check.problems()

    def test_all_of_them(self):
        self.assertEqual([], self.problems())

    def test_up_to_the_last_one(self):
        self.assertEqual([], self.problems(cpu_shared_set='0-7'))
        self.assertEqual([], self.problems(cpu_shared_set='7'))

    def test_one_more_than_there_are(self):
        for shared in ('8', '1-8', '2,8,9'):
            self.assertEqual(
                ['[compute] cpu_shared_set has CPU 8; this host has CPUs '
                 '0-7'], self.problems(cpu_shared_set=shared))

    def test_no_such_set(self):
        problem, = self.problems(cpu_shared_set='3-1')
        self.assertTrue(problem.startswith('[compute] cpu_shared_set: '))

    def test_dedicated_ones(self):
        self.assertEqual([], self.problems(cpu_dedicated_set='0-7'))
        self.assertEqual([], self.problems(
            cpu_shared_set='0,3', cpu_dedicated_set='1-2'))

    def test_one_more_dedicated_than_there_are(self):
        self.assertEqual(
            ['[compute] cpu_dedicated_set has CPU 8; this host has CPUs '
             '0-7'], self.problems(cpu_dedicated_set='3-8'))

    def test_in_both_sets(self):
        self.assertEqual(
            ['[compute] cpu_shared_set and cpu_dedicated_set both have CPU '
             '2; a CPU can be in only one of them'], self.problems(
                cpu_shared_set='0-3', cpu_dedicated_set='2,3'))
