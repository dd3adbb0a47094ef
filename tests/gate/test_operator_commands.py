# SPDX-License-Identifier: Apache-2.0
"""The operators' commands, on a host that works."""

from __future__ import annotations

import json
from typing import Any
from typing import ClassVar

from labkit import compute
from labkit import images
from tests.gate import base

BIN = f'{compute.VENV}/bin'


class OperatorCommands(base.GateCase):
    """Root runs them in the dom0 of the first host.

    :cvar guest_type: of the guest that they see.
    :cvar image_name: what it boots.
    :cvar passed: checks that the lab's host does not skip, and that
        ``prepare-dom0`` cares for.
    :cvar event_channels_are_known: whether dom0 has Xen's lsevtchn.
    """

    guest_type: ClassVar[str] = 'pv'
    image_name: ClassVar[str] = images.DISK
    passed: ClassVar[tuple[str, ...]] = (
        'privileges', 'port-privileges', 'loaders', 'bridge', 'device-model',
        'dom0-memory', 'console-logs', 'log-rotation', 'guest-services',
        'ovsdb')
    event_channels_are_known: ClassVar[bool] = True

    def run_json(self, *argv: str) -> Any:
        """Run a command that succeeds; returns what it prints."""
        done = self.host.ssh([f'{BIN}/{argv[0]}', *argv[1:]],
                             timeout=base.CHECK_TIMEOUT)
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
        for name in self.passed:
            self.assertEqual(('PASS', []), results[name], name)

    @base.slow
    def test_status(self) -> None:
        guest = self.make_server(
            self.addCleanup, image=self.image(self.image_name),
            flavor=self.make_flavor(
                self.addCleanup, guest_type=self.guest_type))
        guest.wait_for_status('ACTIVE', base.ACTIVE_TIMEOUT)
        found = self.run_json('xen44-host', 'status', '--json')
        [domain] = [domain for domain in found['domains']
                    if domain['uuid'] == guest.id]
        self.assertEqual(
            ('nova', self.guest_type, 1, 192, 'running'),
            tuple(domain[key] for key in (
                'owner', 'guest_type', 'vcpus', 'memory_mib', 'state')))
        self.assertEqual(guest.name, domain['name'])
        self.assertEqual(1, len(domain['macs']))
        self.assertLess(domain['uptime_seconds'], base.ACTIVE_TIMEOUT)
        self.assertGreater(found['totals']['memory_mib']['free'], 0)
        if self.event_channels_are_known:
            # Xenstore, console, a vCPU, a disk, an interface.
            self.assertGreater(domain['event_channels'], 4)
            self.assertGreater(found['totals']['event_channels']['dom0'],
                               domain['event_channels'])

    @base.slow
    def test_upgrade_check(self) -> None:
        found = self.run_json('xen44-status', 'upgrade', 'check', '--json')
        self.assertEqual(
            {0}, {check['result'] for check in found['checks']}, found)
