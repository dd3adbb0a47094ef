# SPDX-License-Identifier: Apache-2.0
"""Which CPUs vCPUs run on, and what Nova is told of a host's CPUs."""

import dataclasses
import json

from nova import exception
from nova.objects import numa
from nova.virt import hardware

from tests.unit import base
from xen44_driver.compute import cpusets
from xen44_driver.compute import resources

DEDICATED = {'hw:cpu_policy': 'dedicated'}
MIXED = {'hw:cpu_policy': 'mixed', 'hw:cpu_dedicated_mask': '1'}


class OfInstanceTest(base.TestCase):

    def cpus(self, shared=None, dedicated=range(4, 8), *, specs=None,
             **values):
        return cpusets.of_instance(
            base.instance(extra_specs=specs, **values),
            None if shared is None else frozenset(shared),
            frozenset(dedicated))

    def refuse(self, says, *args, **values):
        raised = self.assertRaises(exception.InvalidInput, self.cpus, *args,
                                   **values)
        self.assertIn(says, str(raised))

    def test_all(self):
        self.assertEqual((), self.cpus())

    def test_those_that_all_share(self):
        self.assertEqual((frozenset({1, 3}),) * 2, self.cpus({1, 3}))

    def test_its_own(self):
        for shared in (None, {0}):
            for specs in (DEDICATED, {'resources:PCPU': '2'}):
                self.assertEqual(
                    (frozenset({7}), frozenset({4})),
                    self.cpus(
                        shared, specs=specs,
                        numa_topology=base.numa_topology({0: 7, 1: 4})))

    def test_in_several_nodes(self):
        topology = base.numa_topology({0: 7})
        topology.cells += base.numa_topology({1: 4}).cells
        self.assertEqual((frozenset({7}), frozenset({4})),
                         self.cpus(specs=DEDICATED, numa_topology=topology))

    def test_some_of_its_own(self):
        numa_topology = base.numa_topology({1: 7}, {0})
        self.assertEqual(
            (frozenset({2, 3}), frozenset({7})),
            self.cpus({2, 3}, specs=MIXED, numa_topology=numa_topology))
        self.refuse('cpu_shared_set is not set', specs=MIXED,
                    numa_topology=numa_topology)

    def test_not_chosen_by_nova(self):
        topology = base.numa_topology({0: 7, 1: 4})
        topology.cells[0].cpu_pinning = {0: 7}
        self.refuse('vCPU 1 is to have', specs=DEDICATED,
                    numa_topology=topology)
        self.refuse('vCPU 0 is to have', specs=DEDICATED)

    def test_of_another_flavor(self):
        """As a resize that failed may leave it."""
        self.refuse('vCPU 0 is not to have a CPU of its own, and Nova has '
                    'chosen CPU 7', {0},
                    numa_topology=base.numa_topology({0: 7, 1: 4}))

    def test_not_dedicated_any_more(self):
        self.refuse('CPU 7, which', dedicated={4, 5}, specs=DEDICATED,
                    numa_topology=base.numa_topology({0: 7, 1: 4}))


class PolicyTest(base.TestCase):

    def check(self, *, offered, image=None, flavor=None):
        cpusets.check_policy(base.image(**(image or {})),
                             base.instance(extra_specs=flavor).flavor,
                             offered=offered)

    def test_none_to_give(self):
        self.check(offered=False)
        self.check(offered=False, flavor={'hw:cpu_policy': 'shared'})
        for values in ({'flavor': DEDICATED}, {'flavor': MIXED},
                       {'flavor': {'resources:PCPU': '2'}},
                       {'image': {'hw_cpu_policy': 'dedicated'}}):
            # Nova tries another host.
            raised = self.assertRaises(
                exception.ComputeResourcesUnavailable, self.check,
                offered=False, **values)
            for text in ('hw:cpu_policy', 'cpu_dedicated_set'):
                self.assertIn(text, str(raised))
            self.check(offered=True, **values)


class TopologyTest(base.TestCase):
    """Nova's own functions take what it is told."""

    def topology(self, **options):
        self.flags(group='compute', **options)
        return cpusets.topology(base.host_capabilities(), 8)

    def test_none_without_dedicated_cpus(self):
        self.assertIsNone(self.topology())
        self.assertIsNone(self.topology(cpu_shared_set='0-3'))

    def test_nova_pins_an_instance(self):
        host = self.topology(cpu_shared_set='0-1', cpu_dedicated_set='2-7')
        self.assertEqual(
            [({0, 1}, {2, 3}, 4096), (set(), {4, 5, 6, 7}, 4096)],
            [(cell.cpuset, cell.pcpuset, cell.memory)
             for cell in host.cells])
        # As the resource tracker sends it.
        host = numa.NUMATopology.obj_from_db_obj(host._to_json())
        asked = hardware.numa_get_constraints(
            base.instance(extra_specs={
                'hw:cpu_policy': 'dedicated',
                'hw:cpu_thread_policy': 'require'}).flavor, base.image())
        placed = hardware.numa_fit_instance_to_host(host, asked, None)
        # Threads of one core.
        self.assertEqual([{0: 4, 1: 5}],
                         [cell.cpu_pinning for cell in placed.cells])
        used = hardware.numa_usage_from_instance_numa(host, placed)
        self.assertEqual({4, 5}, used.cells[1].pinned_cpus)
        for taken in ({2, 3}, {6, 7}):
            placed = hardware.numa_fit_instance_to_host(used, asked, None)
            self.assertEqual(taken, placed.cpu_pinning)
            used = hardware.numa_usage_from_instance_numa(used, placed)
        self.assertIsNone(
            hardware.numa_fit_instance_to_host(used, asked, None))

    def test_the_resource_tracker_gets_it(self):
        self.flags(cpu_dedicated_set='4-5', group='compute')
        node = base.node()
        node.host.memory.return_value.total_mib = 8192
        node.host.memory.return_value.free_mib = 4096
        node.host.cpus.return_value = 8
        node.host.versions.return_value = base.versions(4, 20, 0)
        node.host.hostname.return_value = 'xen1'
        found = resources.available(node)
        # A host of dedicated CPUs alone.
        self.assertEqual(0, found['vcpus'])
        json.loads(found['numa_topology'])


class SiblingsTest(base.TestCase):

    def siblings(self, threads, **options):
        self.flags(group='compute', **options)
        caps = base.host_capabilities()
        caps = dataclasses.replace(caps, topology=dataclasses.replace(
            caps.topology, threads=threads))
        return [cell.siblings for cell in cpusets.topology(caps, 8).cells]

    def test_of_cpus_that_guests_have(self):
        self.assertEqual(
            [[{0}, {2, 3}], []],
            self.siblings(2, cpu_shared_set='0', cpu_dedicated_set='2-3'))

    def test_cores_with_one_thread(self):
        self.assertEqual(
            [[{2}, {3}], [{4}]], self.siblings(1, cpu_dedicated_set='2-4'))


class InstancesTest(base.TestCase):
    """Options that leave instances of the host without CPUs."""

    OWN = ({0: 7, 1: 4},), DEDICATED
    SOME = ({1: 7}, {0}), MIXED
    NONE = None, None

    def check(self, *asked, **options):
        self.flags(group='compute', **options)
        cpusets.check_instances([
            base.instance(
                extra_specs=specs,
                numa_topology=base.numa_topology(*placed) if placed else None)
            for placed, specs in asked])

    def refuse(self, says, *asked, **options):
        raised = self.assertRaises(exception.InvalidConfiguration, self.check,
                                   *asked, **options)
        self.assertIn(says, str(raised))
        self.assertIn(base.UUID, str(raised))

    def test_as_they_are(self):
        self.check(self.NONE)
        self.check(self.OWN, cpu_dedicated_set='4,7')
        self.check(self.OWN, self.SOME, self.NONE, cpu_dedicated_set='4-7',
                   cpu_shared_set='0')

    def test_nothing_is_shared_any_more(self):
        for asked in (self.NONE, self.SOME):
            self.refuse('cpu_shared_set', asked, cpu_dedicated_set='4-7')

    def test_a_cpu_is_not_dedicated_any_more(self):
        self.refuse('CPU 7, which', self.OWN, cpu_dedicated_set='4-6')
        self.refuse('CPU 4, which', self.OWN, cpu_dedicated_set=None)
