# SPDX-License-Identifier: Apache-2.0
"""What commands ask Nova for, through openstacksdk on Nova's real API."""

import contextlib
import io
import json
import os
import types

import fixtures
from keystoneauth1 import noauth
from keystoneauth1 import session
from keystoneauth1 import token_endpoint
import openstack
from openstack.placement.v1 import _proxy as placement_proxy

from tests.functional import test_servers
from xen44_driver.cmd import hostremoval
from xen44_driver.cmd import maintenance
from xen44_driver.cmd import systemd


class CommandsBase(test_servers.ServersBase):
    """Root runs commands on the host, with an administrator's credentials."""

    def setUp(self):
        super().setUp()
        self.flags(host='xen1', state_path=self.useFixture(
            fixtures.TempDir()).path)
        self.patch(os, 'geteuid', lambda: 0)
        self.patch(openstack, 'connect', self.connect)

    def patch(self, *args, **kwargs):
        return self.useFixture(fixtures.MockPatchObject(*args, **kwargs)).mock

    @contextlib.contextmanager
    def connect(self, *, api_timeout):
        """Connections of openstacksdk's, as an administrator."""
        nova = self._cloud(
            noauth.NoAuth(endpoint=self.admin_api.base_url),
            timeout=api_timeout, additional_headers={
                'X-Auth-User': 'admin', 'X-Roles': 'admin',
                'X-Auth-Project-Id': self.admin_api.project_id})
        endpoint = self.placement.fixture.endpoint
        placement = self._cloud(
            token_endpoint.Token(endpoint, 'admin'), timeout=api_timeout)
        # Without a catalog, openstacksdk does not find its version.
        yield types.SimpleNamespace(
            compute=nova.compute, placement=placement_proxy.Proxy(
                placement.session, service_type='placement',
                endpoint_override=endpoint))

    @staticmethod
    def _cloud(auth, **options):
        return openstack.connection.Connection(
            session=session.Session(auth=auth, **options))

    def call(self, function, *, status=0, **options):
        """Run a command; returns what it prints."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(
                io.StringIO()):
            found = function(timeout=60, as_json=True, **options)
        self.assertEqual(status, found, out.getvalue())
        return json.loads(out.getvalue())

    def enter(self, reason, **options):
        return self.call(maintenance.enter, reason=reason, yes=True,
                         **options)


class MaintenanceTest(CommandsBase):

    def setUp(self):
        super().setUp()
        self.patch(maintenance, 'INTERVAL', 0.1)

    def test_there_and_back(self):
        runs, paused, stopped = self.boot(), self.boot(), self.boot()
        self._stop_server(stopped)
        self.api.post_server_action(paused['id'], {'pause': {}})
        self._wait_for_state_change(paused, 'PAUSED')

        found = self.enter('dust', stop=False)
        self.assertEqual({'status': 'disabled', 'reason': 'dust'},
                         found['service'])
        self.assertEqual({runs['id'], paused['id']},
                         {server['uuid'] for server in found['running']})
        # Another reason, and Nova stops no paused instance.
        found = self.enter('new RAM', stop=True, status=1)
        self.assertEqual({'status': 'disabled', 'reason': 'new RAM'},
                         found['service'])
        self.assertEqual([runs['id']], found['stopped'])
        self.assertEqual([paused['id']],
                         [problem['uuid'] for problem in found['problems']])
        self.assertIn('paused', found['problems'][0]['text'])
        self.assertFalse(self.domain(runs).isActive())
        # The same again, after it was mended.
        self.api.post_server_action(paused['id'], {'unpause': {}})
        self._wait_for_state_change(paused, 'ACTIVE')
        found = self.enter('new RAM', stop=True)
        self.assertEqual({runs['id'], paused['id']}, set(found['stopped']))
        self.assertEqual([], found['running'])

        found = self.call(maintenance.leave, start=True)
        self.assertEqual({'status': 'enabled', 'reason': None},
                         found['service'])
        self.assertEqual({runs['id'], paused['id']},
                         {server['uuid'] for server in found['running']})
        self.assertEqual([], found['stopped'])
        self.assertFalse(self.domain(stopped).isActive())
        # Once more changes nothing.
        self.call(maintenance.leave, start=True)


class RemovalTest(CommandsBase):
    """``xen44-host remove``."""

    def setUp(self):
        super().setUp()
        self.patch(hostremoval, 'INTERVAL', 0.1)
        self.active = 'active'
        self.patch(systemd, 'systemctl', self.systemctl)
        self.flags(allow_resize_to_same_host=True)

    def systemctl(self, *arguments, timeout):
        if arguments[0] == 'disable':
            self.compute.stop()
            self.active = 'inactive'
        return f'ActiveState={self.active}\n'

    def remove(self, *, status=0):
        return self.call(hostremoval.run, yes=True, status=status)

    def test_remove(self):
        stopped, resized = self.boot(), self.boot()
        self._stop_server(stopped)
        self.api.post_server_action(resized['id'], {
            'resize': {'flavorRef': self.flavor(memory_mb=512)}})
        self._wait_for_state_change(resized, 'VERIFY_RESIZE')
        # And the service is enabled.
        self.assertEqual(4, len(self.remove(status=1)['reasons']))
        self.enter('old', stop=False)
        found = '\n'.join(self.remove(status=1)['reasons'])
        self.assertIn(stopped['id'], found)
        self.assertRegex(
            found, f'resize of server {resized["id"]} .* has not ended')
        self.assertEqual('active', self.active)
        self._delete_server(resized)
        # Nova does not list it, and refuses nevertheless.
        self.flags(reclaim_instance_interval=1000)
        self.api.delete_server(stopped['id'])
        self._wait_for_state_change(stopped, 'SOFT_DELETED')
        [reason] = self.remove(status=1)['reasons']
        self.assertIn(f'({stopped["id"]}) is on this host (soft-delete)',
                      reason)
        self.api.post_server_action(stopped['id'], {'forceDelete': {}})
        self._wait_until_deleted(stopped)

        aggregate = self.admin_api.post_aggregate(
            {'aggregate': {'name': 'xen'}})
        self.admin_api.add_host_to_aggregate(aggregate['id'], 'xen1')
        uuid = self._get_provider_uuid_by_host('xen1')
        found = self.remove()
        self.assertTrue(found['removed'])
        self.assertEqual('inactive', self.active)
        self.assertEqual([], [
            service for service in self.admin_api.get_services()
            if service['binary'] == 'nova-compute'])
        self.assertEqual([], self.admin_api.api_get(
            '/os-hypervisors').body['hypervisors'])
        self.assertEqual(404, self.placement.get(
            f'/resource_providers/{uuid}').status)
        self.assertEqual([], self.admin_api.api_get(
            f'/os-aggregates/{aggregate["id"]}').body['aggregate']['hosts'])
        # Once more: it is gone.
        self.assertTrue(self.remove()['removed'])
