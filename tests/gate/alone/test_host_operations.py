# SPDX-License-Identifier: Apache-2.0
"""The operators' commands that take a host out of use, and back."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from labkit import compute
from labkit import util
from tests.gate import base

COMMAND = f'{compute.VENV}/bin/xen44-host'

#: Credentials in dom0, as long as a test runs, and the command's record.
CLOUDS = '/root/gate-clouds.yaml'
RECORD = '/var/lib/nova/xen44-maintenance.json'

REASON = 'gate: new RAM'

#: Seconds: imports under emulation, and then guests that stop or start.
TIMEOUT = 1200

#: Seconds in which nova-compute notices that libvirtd was restarted.
BACK_TIMEOUT = 300


class HostOperations(base.GateCase):
    """Root runs them in the dom0 of the first host."""

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.put_back)
        # An earlier test may have restarted libvirtd.
        self.wait_for_service()
        clouds = pathlib.Path(os.environ['OS_CLIENT_CONFIG_FILE'])
        self.host.ssh(['install', '--mode=600', '/dev/stdin', CLOUDS],
                      input=clouds.read_text())

    def wait_for_service(self) -> None:
        """The compute service is enabled."""
        util.wait_for('the compute service to be enabled',
                      lambda: self.service().status == 'enabled',
                      BACK_TIMEOUT, interval=1)

    def put_back(self) -> None:
        """The host is in use, and nothing of a test is left in dom0."""
        self.host.ssh(['rm', '--force', CLOUDS, RECORD])
        service = self.service()
        if service.status != 'enabled':
            self.cloud.compute.update_service(service.id, status='enabled')

    def run_json(self, *argv: str, status: int = 0) -> Any:
        """Run xen44-host.

        :param status: the exit status that it must have.
        :returns: what it prints.
        """
        done = self.host.ssh(
            ['env', f'OS_CLIENT_CONFIG_FILE={CLOUDS}',
             f'OS_CLOUD={os.environ["OS_CLOUD"]}', COMMAND, *argv, '--json'],
            check=False, timeout=TIMEOUT)
        self.assertEqual(status, done.returncode,
                         f'{argv}: {done.stdout}{done.stderr}')
        return json.loads(done.stdout)

    def boot(self) -> base.Guest:
        """A guest that runs, and takes ssh."""
        guest = self.make_server(
            self.addCleanup,
            flavor=self.make_flavor(self.addCleanup, guest_type='pv'))
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        return guest

    @base.slow
    def test_restart_toolstack(self) -> None:
        guest = self.boot()
        before = guest.boot_id()
        libvirtd, xenstored = self.pid('libvirtd'), self.pid('o?xenstored')

        found = self.run_json('restart-toolstack')

        self.assertEqual([], found['problems'])
        self.assertEqual('libvirtd', found['daemon'])
        self.assertIn(guest.id, found['guests'])
        self.assertNotEqual(libvirtd, self.pid('libvirtd'))
        self.assertEqual(xenstored, self.pid('o?xenstored'))
        self.assertEqual(before, guest.boot_id())
        self.wait_for_service()
        # Nova reaches it too.
        self.cloud.compute.pause_server(guest.id)
        guest.wait_for_status('PAUSED')
        self.cloud.compute.unpause_server(guest.id)
        guest.wait_for_status('ACTIVE')
        self.assertEqual(before, guest.boot_id())

    def pid(self, name: str) -> str:
        """Process id of a daemon, by a regular expression of its name."""
        return self.dom0('pgrep', '--oldest', '--exact', name).strip()

    @base.slow
    def test_maintenance(self) -> None:
        guest = self.boot()
        before = guest.boot_id()

        # It is in use: nothing reboots it.
        found = self.run_json('reboot', '--yes', status=1)
        self.assertFalse(found['done'])
        self.assertEqual(2, len(found['reasons']), found)
        self.assertIn(guest.id, found['reasons'][0])

        found = self.run_json('maintenance', 'on', '--reason', REASON)
        self.assertEqual({'status': 'disabled', 'reason': REASON},
                         found['service'])
        self.assertIn(guest.id, [server['uuid']
                                 for server in found['running']])
        self.assertEqual(before, guest.boot_id())

        found = self.run_json(
            'maintenance', 'on', '--reason', REASON, '--stop', '--yes')
        self.assertEqual([], found['problems'])
        self.assertEqual([], found['running'])
        self.assertIn(guest.id, found['stopped'])
        self.assertEqual('SHUTOFF', guest.server().status)
        self.assertEqual(REASON, self.service().disabled_reason)
        self.assertEqual('root 600', self.dom0(
            'stat', '--format=%U %a', RECORD).strip())

        found = self.run_json('maintenance', 'off', '--start')
        self.assertEqual([], found['problems'])
        self.assertEqual([], found['stopped'])
        self.assertEqual('enabled', self.service().status)
        self.assertIsNone(self.service().disabled_reason)
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        self.assertNotEqual(before, guest.boot_id())
