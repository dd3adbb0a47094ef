# SPDX-License-Identifier: Apache-2.0
"""Dedicated CPUs, chosen by Nova's scheduler and resource tracker."""

import unittest
from unittest import mock

from lxml import etree
from nova import exception
from nova.virt import driver

from tests.functional import test_resize
from xen44_driver.compute import resize

DEDICATED = {'hw:cpu_policy': 'dedicated'}


class DedicatedCpusTest(test_resize.ResizeCase):
    """A host with two CPUs to dedicate, threads of one core."""

    def setUp(self):
        super().setUp()
        self.configure('0-3', '4-5')

    def configure(self, shared, dedicated):
        self.flags(cpu_shared_set=shared, cpu_dedicated_set=dedicated,
                   group='compute')
        self.compute = self.restart_compute_service(self.compute)

    def pins(self, server):
        tree = etree.fromstring(self.domain(server).xml)
        return [pin.get('cpuset')
                for pin in tree.iterfind('cputune/vcpupin')]

    def test_two_servers(self):
        servers = [self.boot(flavor=self.flavor(**DEDICATED))
                   for _number in range(2)]
        self.assertEqual([['4'], ['5']], sorted(map(self.pins, servers)))
        self.assertEqual(
            2, self._get_provider_usages(
                self._get_provider_uuid_by_host('xen1'))['PCPU'])
        # The scheduler has no NUMATopologyFilter, and so tries with a VCPU.
        late = self.boot(flavor=self.flavor(**DEDICATED), expected='ERROR')
        self.assertIn('maximum number of retries', late['fault']['message'])
        self.assertEqual(['0,1,2,3'], self.pins(self.boot()))

    def test_resize_there_and_back(self):
        server = self.boot()
        self.resize(server, self.larger(**DEDICATED))
        pins = self.pins(server)
        self.assertIn(pins, (['4'], ['5']))
        self.api.post_server_action(server['id'], {'reboot': {
            'type': 'HARD'}}, check_response_status=[409])
        self.act(server, 'revertResize')
        self.assertEqual(['0,1,2,3'], self.pins(server))
        self.resize(server, self.larger(**DEDICATED))
        self.api.post_server_action(server['id'], {'confirmResize': None})
        self._wait_for_state_change(server, 'ACTIVE')
        self.api.post_server_action(
            server['id'], {'reboot': {'type': 'HARD'}})
        self._wait_for_state_change(server, 'ACTIVE')
        self.assertIn(self.pins(server), (['4'], ['5']))

    def test_resize_that_fails(self):
        """It has what it had: never the CPUs of the other flavor."""
        for before, after, pins in (
                (DEDICATED, {}, (['4'], ['5'])),
                ({}, DEDICATED, (['0,1,2,3'],))):
            server = self.boot(flavor=self.flavor(**before))
            with mock.patch.object(resize, '_make',
                                   side_effect=OSError('no room')):
                self.resize(server, self.larger(**after), 'ERROR')
            self._wait_for_server_parameter(
                server, {'OS-EXT-STS:task_state': None})
            self.api.post_server_action(
                server['id'], {'reboot': {'type': 'HARD'}})
            self._wait_for_state_change(server, 'ACTIVE')
            self.assertIn(self.pins(server), pins)
            self._delete_server(server)

    def test_move_within_the_host(self):
        server = self.boot(flavor=self.flavor(**DEDICATED))
        self.api.post_server_action(server['id'], {'migrate': None})
        server = self._wait_for_state_change(server, 'ACTIVE')
        event = self._wait_for_action_fail_completion(
            server, 'migrate', 'compute_resize_instance')
        self.assertIn('CPUs of its own', event['details'])
        self.assertIn(self.pins(server), (['4'], ['5']))

    @unittest.skipUnless(
        hasattr(driver.ComputeDriver, 'process_instances_at_startup'),
        'Nova before 34 only warns')
    def test_options_that_take_a_cpu_away(self):
        server = self.boot(flavor=self.flavor(**DEDICATED))
        error = self.assertRaises(
            exception.InvalidConfiguration, self.configure, '0-3', '8-9')
        self.assertIn(server['id'], str(error))

    def test_hosts_with_none(self):
        """Nova's scheduler tries such hosts as well, with a VCPU."""
        self.configure('0-3', None)
        server = self.boot(flavor=self.flavor(**DEDICATED), expected='ERROR')
        self.assertIn('maximum number of retries', server['fault']['message'])
