# SPDX-License-Identifier: Apache-2.0
"""``xen44-host remove``: what it refuses, and that it can be run again."""

import json
import os

import fixtures
from nova.compute import power_state
import openstack
from openstack import exceptions

from tests.unit.cmd import base
from tests.unit.cmd import fakenova
from xen44_driver.cmd import systemd

REMOVE = ('remove', '--yes')
UNIT = 'nova-compute.service'
DISABLE = ('systemctl', 'disable', '--now', UNIT)


class RemovalTestCase(base.CommandTestCase):
    """A host whose service is disabled, without instances; it reports."""

    def setUp(self):
        super().setUp()
        self.state = self.useFixture(fixtures.TempDir()).path
        self.flags(host='xen1', state_path=self.state)
        self.nova = fakenova.Nova()
        self.nova.service.update(status='disabled', disabled_reason='old')
        self.connect = self.patch(openstack, 'connect')
        connection = self.connect.return_value.__enter__.return_value
        connection.compute = connection.placement = self.nova
        self.unit = ['active', 'enabled']
        self.commands = []
        self.patch(systemd.processutils, 'execute', self._execute)
        self.fake_time()

    def _execute(self, *command, check_exit_code, timeout):
        if command[1] == 'show':
            return 'ActiveState={}\nUnitFileState={}\n'.format(*self.unit), ''
        self.commands.append(command)
        self.unit = ['inactive', 'disabled']
        return '', ''

    def json(self, *argv, status):
        found, text = self.run_json(*argv)
        self.assertEqual(status, found, text)
        return json.loads(text)

    def assert_refused(self, reason):
        """Nothing was touched, and this is why."""
        found = self.json(*REMOVE, status=1)
        self.assertFalse(found['removed'])
        self.assertEqual(1, len(found['reasons']), found)
        self.assertIn(reason, found['reasons'][0])
        self.assertEqual([], self.commands)
        self.assertEqual([], self.nova.calls)


class GoldenTest(RemovalTestCase):

    def test_removed(self):
        status, text = self.run_host(*REMOVE)
        self.assertEqual(0, status, text)
        self.assert_golden('remove.txt', text)
        self.assertEqual([DISABLE], self.commands)
        self.assertEqual(['delete_service'], self.nova.calls)

    def test_again(self):
        self.run_host(*REMOVE)
        status, text = self.run_host(*REMOVE)
        self.assertEqual(0, status, text)
        self.assert_golden('remove-again.txt', text)
        self.assertEqual([DISABLE], self.commands)

    def test_refused(self):
        self.nova.service['status'] = 'enabled'
        self.nova.add(1, name='K\x9bse')
        self.nova.add(2, vm_state='soft-delete', power=power_state.SHUTDOWN)
        self.nova.all_migrations.append({
            'migration_type': 'resize', 'status': 'finished',
            'server_id': base.fake.uuid(3), 'source_compute': 'xen1',
            'dest_compute': 'xen2'})
        status, text = self.run_host(*REMOVE)
        self.assertEqual(1, status)
        self.assert_golden('remove-refused.txt', text)
        self.assertEqual([], self.commands)
        self.assertEqual([], self.nova.calls)

    def test_json(self):
        self.assert_golden('remove.json', self.run_json(*REMOVE)[1])


class RemovalTest(RemovalTestCase):

    def test_each_reason_alone(self):
        self.nova.service['status'] = 'enabled'
        self.assert_refused('xen44-host maintenance on')
        self.nova.service['status'] = 'disabled'
        server = self.nova.add(1, vm_state='stopped',
                               power=power_state.SHUTDOWN)
        self.assert_refused(server)
        self.nova.all.clear()
        self.nova.all_migrations = [
            {'migration_type': 'resize', 'status': status}
            for status in ('confirmed', 'error', 'finished')]
        self.assert_refused('has not ended (finished)')

    def test_asked(self):
        self.answer('no')
        status, text = self.run_host('remove')
        self.assertEqual(1, status)
        self.assertEqual('Stop nova-compute, and remove xen1 from Nova? '
                         '[y/N] Nothing was done.\n', text)
        self.assertEqual([], self.commands)
        self.assertEqual([], self.nova.calls)

    def test_no_terminal(self):
        status, text = self.run_host('remove')
        self.assertEqual(2, status)
        self.assertIn('add --yes', text)

    def test_enabled_unit_that_is_stopped(self):
        """It would start with the host, and register again."""
        self.unit = ['inactive', 'enabled']
        self.nova.service['state'] = 'down'
        self.json(*REMOVE, status=0)
        self.assertEqual([DISABLE], self.commands)

    def test_stopped_a_moment_ago(self):
        self.unit = ['inactive', 'disabled']

        def report_no_more():
            self.nova.service['state'] = 'down'

        self.at_sleep = report_no_more
        self.json(*REMOVE, status=0)
        self.assertEqual([], self.commands)
        self.assertEqual(['delete_service'], self.nova.calls)

    def test_run_by_another_unit(self):
        self.unit = ['inactive', '']
        found = self.json(*REMOVE, '--timeout', '70', status=1)
        self.assertIn('stop it where it runs', found['reasons'][0])
        self.assertEqual([], self.nova.calls)
        self.assertLess(self.now, 75)

    def test_nova_refuses(self):
        self.nova.fail['delete_service'] = fakenova.refusal('in-progress')
        found = self.json(*REMOVE, status=1)
        self.assertIn('Nova refuses: ', found['reasons'][0])
        self.assertIn('systemctl enable --now', found['reasons'][0])
        # The same again, after it was mended.
        self.nova.service['state'] = 'down'
        self.assertTrue(self.json(*REMOVE, status=0)['removed'])

    def test_provider_is_left(self):
        self.nova.stuck.add('provider')
        found = self.json(*REMOVE, status=1)
        self.assertIn(f'openstack resource provider delete {self.nova.node}',
                      found['reasons'][0])
        # Nova does not know its UUID any more; the host does.
        with open(os.path.join(self.state, 'compute_id'), 'w') as file:
            file.write(self.nova.node)
        self.assertFalse(self.json(*REMOVE, status=1)['removed'])
        self.nova.providers.clear()
        self.assertTrue(self.json(*REMOVE, status=0)['removed'])

    def test_killed_before_it_stopped_nova_compute(self):
        """As after "openstack compute service delete" by hand."""
        self.nova.service = None
        found = self.json(*REMOVE, status=1)
        self.assertEqual([DISABLE], self.commands)
        self.assertIn('compute node xen1.test', found['reasons'][0])

    def test_nova_goes_away(self):
        self.nova.fail['resource_providers'] = exceptions.SDKException('gone')
        status, text = self.run_host(*REMOVE)
        self.assertEqual(2, status)
        self.assertIn('gone. Done before that: nova-compute is stopped', text)
        self.assertEqual(0, self.run_host(*REMOVE)[0])

    def test_bad_identity(self):
        with open(os.path.join(self.state, 'compute_id'), 'w') as file:
            file.write('what?')
        status, text = self.run_host(*REMOVE)
        self.assertEqual(2, status)
        self.assertIn('compute_id', text)
        self.assertEqual([], self.commands)

    def test_not_root(self):
        self.patch(os, 'geteuid', lambda: 1000)
        self.assertEqual((2, 'xen44-host: run it as root\n'),
                         self.run_host(*REMOVE))
