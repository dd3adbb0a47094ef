# SPDX-License-Identifier: Apache-2.0
"""``xen44-host maintenance`` through openstacksdk on Nova's real API."""

import contextlib
import io
import json
import os

import fixtures
from keystoneauth1 import noauth
from keystoneauth1 import session
import openstack

from tests.functional import test_servers
from xen44_driver.cmd import maintenance


class MaintenanceTest(test_servers.ServersBase):

    def setUp(self):
        super().setUp()
        self.flags(host='xen1', state_path=self.useFixture(
            fixtures.TempDir()).path)
        for place, name, double in (
                (os, 'geteuid', lambda: 0), (maintenance, 'INTERVAL', 0.1),
                (openstack, 'connect', self.connect)):
            self.useFixture(fixtures.MockPatchObject(place, name, double))

    def connect(self, *, api_timeout):
        """A connection of openstacksdk's, as an administrator."""
        return openstack.connection.Connection(session=session.Session(
            auth=noauth.NoAuth(endpoint=self.admin_api.base_url),
            timeout=api_timeout, additional_headers={
                'X-Auth-User': 'admin', 'X-Roles': 'admin',
                'X-Auth-Project-Id': self.admin_api.project_id}))

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
