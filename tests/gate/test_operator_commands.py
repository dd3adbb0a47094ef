# SPDX-License-Identifier: Apache-2.0
"""The operators' commands, on a host that works."""

from __future__ import annotations

import json
from typing import Any

from labkit import compute
from tests.gate import base

BIN = f'{compute.VENV}/bin'

#: Seconds: under emulation the imports of Nova's code are most of it, and a
#: check starts two privsep daemons.
TIMEOUT = 300


class OperatorCommands(base.GateCase):
    """Root runs them in the dom0 of the first host."""

    def run_json(self, *argv: str) -> Any:
        """Run a command that succeeds; returns what it prints."""
        done = self.host.ssh([f'{BIN}/{argv[0]}', *argv[1:]],
                             timeout=TIMEOUT)
        return json.loads(done.stdout)

    @base.slow
    def test_check(self) -> None:
        found = self.run_json('xen44-host', 'check', '--json')
        results = {check['check']: (check['result'], check['texts'])
                   for check in found['checks']}
        self.assertTrue(found['complete'], results)
        self.assertEqual({}, {
            name: result for name, result in results.items()
            if result[0] == 'FAIL'})
        # Those that the lab's host does not skip, and prepare-dom0 cares for.
        for name in ('privileges', 'port-privileges', 'loaders', 'bridge',
                     'device-model', 'dom0-memory', 'console-logs',
                     'log-rotation', 'guest-services', 'ovsdb'):
            self.assertEqual(('PASS', []), results[name], name)

    @base.slow
    def test_status(self) -> None:
        guest = self.make_server(
            self.addCleanup, flavor=self.make_flavor(
                self.addCleanup, guest_type='pv'))
        guest.wait_for_status('ACTIVE', base.ACTIVE_TIMEOUT)
        found = self.run_json('xen44-host', 'status', '--json')
        [domain] = [domain for domain in found['domains']
                    if domain['uuid'] == guest.id]
        self.assertEqual(
            ('nova', 'pv', 1, 192, 'running'),
            tuple(domain[key] for key in (
                'owner', 'guest_type', 'vcpus', 'memory_mib', 'state')))
        self.assertEqual(guest.name, domain['name'])
        self.assertEqual(1, len(domain['macs']))
        self.assertGreater(found['totals']['memory_mib']['free'], 0)

    @base.slow
    def test_upgrade_check(self) -> None:
        found = self.run_json('xen44-status', 'upgrade', 'check', '--json')
        self.assertEqual(
            {0}, {check['result'] for check in found['checks']}, found)
