# SPDX-License-Identifier: Apache-2.0
"""The operators' commands that take a host out of use, and back."""

from __future__ import annotations

import datetime
from typing import Any

from labkit import arch
from labkit import compute
from labkit import util
from labkit.cloud import Cloud
from labkit.host import SERVICES
from tests.gate import base
from tests.gate import commands

#: The command's record.
RECORD = '/var/lib/nova/xen44-maintenance.json'

REASON = 'gate: new RAM'

#: Seconds in which nova-compute notices that libvirtd was restarted.
BACK_TIMEOUT = 300


class HostOperations(commands.CommandCase):
    """Root runs them in the dom0 of the first host."""

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.put_back)
        # An earlier test may have restarted libvirtd.
        self.wait_for_service()

    def wait_for_service(self) -> None:
        """The compute service is enabled."""
        util.wait_for('the compute service to be enabled',
                      lambda: self.service().status == 'enabled',
                      BACK_TIMEOUT, interval=1)

    def put_back(self) -> None:
        """The host is in use, and nothing of a test is left in dom0."""
        self.host.ssh(['rm', '--force', RECORD])
        service = self.service()
        if service.status != 'enabled':
            self.cloud.compute.update_service(service.id, status='enabled')

    def run_json(self, *argv: str, status: int = 0) -> Any:
        """Run xen44-host.

        :param status: the exit status that it must have.
        :returns: what it prints.
        """
        return self.run_command('xen44-host', *argv, status=status)

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

    @base.slow
    def test_reboot(self) -> None:
        """Nova's API reboots the host while it is out of use."""
        self.start_with_the_host()
        self.configure(self.addCleanup,
                       '[xen44]\nallow_host_power_actions = true\n')
        guest = self.boot()
        before = guest.boot_id()
        for said in (self.ask_for('reboot', 400), self.maintain(True, 400)):
            self.assertIn(f'Xen runs guests ({guest.domain})', said)
        self.run_json('maintenance', 'on', '--reason', REASON, '--stop',
                      '--yes')
        self.assertIn('on_maintenance', self.maintain(True))
        self.assertIn('reboot', self.ask_for('reboot'))
        self.come_up()

        service = self.service()
        self.assertEqual(('disabled', 'maintenance mode'),
                         (service.status, service.disabled_reason))
        self.assertEqual('SHUTOFF', guest.server().status)
        self.assertIn('off_maintenance', self.maintain(False))
        found = self.run_json('maintenance', 'off', '--start')
        self.assertEqual([], found['problems'])
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        self.assertNotEqual(before, guest.boot_id())

    def ask_for(self, action: str, status: int = 200) -> str:
        """Ask Nova's API for a power action; returns what it answers."""
        return self.answer(self.cloud.compute.get(
            f'/os-hosts/{self.host.name}/{action}', microversion='2.42'),
            status)

    def maintain(self, on: bool, status: int = 200) -> str:
        """Ask Nova's API for maintenance; returns what it answers."""
        return self.answer(self.cloud.compute.put(
            f'/os-hosts/{self.host.name}', microversion='2.42', json={
                'maintenance_mode': 'enable' if on else 'disable'}), status)

    def answer(self, response: Any, status: int) -> str:
        self.assertEqual(status, response.status_code, response.text)
        text: str = response.text
        return text

    @base.slow
    def test_shutdown(self) -> None:
        """The host is shut down beneath its guests, who come back."""
        self.start_with_the_host()
        self.configure(self.addCleanup,
                       '[DEFAULT]\nresume_guests_state_on_host_boot = true\n')
        running, suspended = self.boot(), self.boot()
        boots = running.boot_id(), suspended.boot_id()
        self.cloud.compute.suspend_server(suspended.id)
        suspended.wait_for_status('SUSPENDED')

        found = self.run_json('shutdown', '--yes', status=1)
        self.assertIn(running.id, found['reasons'][0])
        self.assertTrue(
            self.run_json('shutdown', '--yes', '--force')['done'])
        self.come_up()

        running.wait_for_status('ACTIVE')
        running.wait_for_ssh()
        self.assertNotEqual(boots[0], running.boot_id())
        self.assertEqual('SUSPENDED', suspended.server().status)
        self.cloud.compute.resume_server(suspended.id)
        suspended.wait_for_status('ACTIVE')
        suspended.wait_for_ssh()
        self.assertEqual(boots[1], suspended.boot_id())

    def start_with_the_host(self) -> None:
        """Have the services start with dom0, as operators do."""
        self.addCleanup(self.host.ssh, ['systemctl', 'disable', *SERVICES])
        self.host.ssh(['systemctl', 'enable', *SERVICES])

    def come_up(self) -> None:
        """The host goes down, somebody turns it on, and Nova has it."""
        self.host.wait_until_down()
        # Only now: what ends reports once more.
        begin = datetime.datetime.now(datetime.UTC)
        self.host.power_on()
        compute.weigh(self.host)
        # Neutron's agent (29.0) hangs now and then if it starts together with
        # Open vSwitch: its OpenFlow library never answers it.
        self.host.ssh(['systemctl', 'restart', arch.AGENT],
                      timeout=compute.START_TIMEOUT)
        Cloud().wait_compute(self.host.name, compute.START_TIMEOUT, begin,
                             hopeless=self.host.check)

    @base.slow
    def test_remove(self) -> None:
        """The host is gone from Nova, and comes back."""
        self.addCleanup(self.come_back)
        found = self.run_json('remove', '--yes', status=1)
        self.assertIn('maintenance on', found['reasons'][0])
        before = self.service().id
        guest = self.boot()
        self.run_json('maintenance', 'on', '--reason', REASON)
        found = self.run_json('remove', '--yes', status=1)
        self.assertIn(guest.id, ' '.join(found['reasons']))
        self.assertEqual('up', self.service().state)
        self.remove_server(guest.id)

        found = self.run_json('remove', '--yes')
        self.assertTrue(found['removed'], found)
        self.assertEqual([], [
            service.host for service
            in self.cloud.compute.services(binary='nova-compute')
            if service.host == self.host.name])
        self.assertEqual([], [
            hypervisor.name for hypervisor
            in self.cloud.compute.hypervisors(details=True)
            if hypervisor.service_details['host'] == self.host.name])
        self.assertNotEqual('active', self.unit())
        # Once more: it is gone.
        self.assertTrue(self.run_json('remove', '--yes')['removed'])

        self.come_back()
        self.assertNotEqual(before, self.service().id)
        self.boot()

    def unit(self) -> str:
        """What systemd says of nova-compute."""
        return self.host.ssh(['systemctl', 'is-active', arch.NOVA_COMPUTE],
                             check=False).stdout.strip()

    def come_back(self) -> None:
        """nova-compute runs, and Nova has the host."""
        self.host.ssh(['systemctl', 'enable', '--now', arch.NOVA_COMPUTE],
                      timeout=compute.START_TIMEOUT)

        def is_back() -> bool:
            # Nova lists the node once its scheduler has found the host.
            return any(
                service.host == self.host.name and service.state == 'up'
                for service in self.cloud.compute.services(
                    binary='nova-compute')) and any(
                node.service_details['host'] == self.host.name for node
                in self.cloud.compute.hypervisors(details=True))

        util.wait_for(f'{self.host.name} to be back', is_back,
                      compute.START_TIMEOUT, interval=2)
