# SPDX-License-Identifier: Apache-2.0
"""Suspend and resume, crash dumps, diagnostics, CPU limits: through Nova."""

import os
import time
from unittest import mock

import libvirt
from nova import context as nova_context
from nova import objects

from tests.functional import test_servers
from xen44_driver import privsep

SHUTDOWN, RUNNING = 4, 1


class SuspendCase(test_servers.ServersBase):

    def quotas(self, vcpu=1, **quotas):
        """Make a flavor with extra specs ``quota:``."""
        return self._create_flavor(
            memory_mb=256, vcpu=vcpu, disk=1, ephemeral=0, swap=0,
            extra_spec={f'quota:{name}': value
                        for name, value in quotas.items()})

    def act(self, server, action, state):
        self.api.post_server_action(server['id'], {action: None})
        return self._wait_for_state_change(server, state)

    def suspend(self, server=None):
        return self.act(server or self.boot(), 'suspend', 'SUSPENDED')

    def resume(self, server):
        return self.act(server, 'resume', 'ACTIVE')

    def wait_for_end(self, server, action):
        """Wait until an action failed; returns the server."""
        self._wait_for_action_fail_completion(
            server, action, f'compute_{action}_instance')
        return self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None})

    def fault(self, server):
        """The fault of an action, which an active server does not show."""
        return objects.InstanceFaultList.get_by_instance_uuids(
            nova_context.get_admin_context(),
            [server['id']])[0].message

    def restored(self):
        return self.below.host.restored

    def sync(self):
        """Nova's periodic look at power states."""
        self.compute.manager._sync_power_states(
            nova_context.get_admin_context())


class SuspendTest(SuspendCase):
    """A server that is suspended, and all that can follow."""

    def test_suspend_and_resume(self):
        for kind in ('pv', 'pvh', 'hvm'):
            server = self.boot(flavor=self.flavor(xen44_guest_type=kind))
            server = self.suspend(server)
            self.assertEqual(SHUTDOWN, server['OS-EXT-STS:power_state'])
            self.assertFalse(self.domain(server).isActive())
            self.below.plugged.clear()
            server = self.resume(server)
            self.assertEqual(RUNNING, server['OS-EXT-STS:power_state'])
            self.assertEqual([server['id']], self.restored())
            self.assertEqual(set(), self.below.host.saved)
            self.assertEqual(1, len(self.below.plugged))
            self._delete_server(server)
            self.restored().clear()
        self.below.assert_nothing_left()

    def test_it_stays_suspended(self):
        server = self.suspend()
        self.below.host.restart_libvirtd()
        self.compute = self.restart_compute_service(self.compute)
        self.sync()
        server = self.api.get_server(server['id'])
        self.assertEqual('SUSPENDED', server['status'])
        self.resume(server)
        self.assertEqual([server['id']], self.restored())

    def test_host_boots(self):
        self.flags(resume_guests_state_on_host_boot=True)
        suspended, running = self.suspend(), self.boot()
        self.domain(running).running = libvirt.VIR_DOMAIN_SHUTOFF
        self.domain(running).id = -1
        self.compute = self.restart_compute_service(self.compute)
        self.assertTrue(self.domain(running).isActive())
        self.assertFalse(self.domain(suspended).isActive())
        self.resume(suspended)

    def test_delete(self):
        self._delete_server(self.suspend())
        self.below.assert_nothing_left()

    def test_hard_reboot(self):
        server = self.suspend()
        self._reboot_server(server, hard=True)
        self.assertTrue(self.domain(server).isActive())
        self.assertEqual([], self.restored())
        self.assertEqual(set(), self.below.host.saved)

    def test_stop(self):
        # The API lets only administrators stop it, by resetting its state.
        server = self.suspend()
        self.api.post_server_action(
            server['id'], {'os-resetState': {'state': 'active'}})
        self._stop_server(server)
        self._start_server(server)
        self.assertEqual([], self.restored())
        self.assertEqual(set(), self.below.host.saved)

    def test_no_room(self):
        server = self.boot()
        self.below.memory_room = 100
        self.api.post_server_action(server['id'], {'suspend': None})
        server = self.wait_for_end(server, 'suspend')
        self.assertEqual('ACTIVE', server['status'])
        self.assertIn('there are 100 MiB', self.fault(server))
        self.assertTrue(self.domain(server).isActive())

    def test_suspend_fails(self):
        server = self.boot()
        self.below.host.failures['save'] = 'Failed to save domain'
        self.below.hanging = True
        self.api.post_server_action(server['id'], {'suspend': None})
        server = self.wait_for_end(server, 'suspend')
        self.assertEqual('ACTIVE', server['status'])
        self.assertIn('Failed to save domain', self.fault(server))
        # Xen lets it run on.
        self.assertFalse(self.below.hanging)
        del self.below.host.failures['save']
        self.suspend(server)

    def test_resume_fails_and_then_does_not(self):
        server = self.suspend()
        self.below.host.failures['restore'] = 'libxenlight failed to restore'
        self.api.post_server_action(server['id'], {'resume': None})
        server = self.wait_for_end(server, 'resume')
        self.assertEqual('SUSPENDED', server['status'])
        self.assertIn('failed to restore', self.fault(server))
        del self.below.host.failures['restore']
        self.resume(server)

    def test_its_memory_is_lost(self):
        server = self.suspend()
        self.below.host.saved.clear()
        self.api.post_server_action(server['id'], {'resume': None})
        server = self.wait_for_end(server, 'resume')
        self.assertEqual('SUSPENDED', server['status'])
        self.assertIn('hard reboot', self.fault(server))
        self._reboot_server(server, hard=True)


class CrashDumpTest(SuspendCase):

    def dump(self, server):
        self.api.post_server_action(
            server['id'], {'trigger_crash_dump': None})

    def test_crash_dump(self):
        server = self.boot()
        for _ in range(2):
            self.dump(server)
            self._wait_for_action_success(server)
        (name,) = os.listdir(self.below.crash_dumps)
        self.assertTrue(name.startswith(server['id']))
        self.assertEqual(0o600, os.stat(os.path.join(
            self.below.crash_dumps, name)).st_mode & 0o777)
        self.assertTrue(self.domain(server).isActive())
        self._delete_server(server)
        self.below.assert_nothing_left()

    def test_no_room(self):
        server = self.boot()
        with mock.patch.object(privsep, 'crash_dump_room',
                               return_value=(1, 0)):
            self.dump(server)
            self._wait_for_action_fail_completion(
                server, 'trigger_crash_dump', 'compute_trigger_crash_dump')
        self.assertIn('there are 0 MiB', self.fault(server))
        self.assertEqual([], os.listdir(self.below.crash_dumps))

    def _wait_for_action_success(self, server):
        end = time.monotonic() + 120
        while time.monotonic() < end:
            action = self.api.get_instance_actions(server['id'])[0]
            events = self.api.api_get(
                f'/servers/{server["id"]}/os-instance-actions/'
                f'{action["request_id"]}').body['instanceAction']['events']
            if events and events[0]['result'] == 'Success':
                return
            time.sleep(0.1)
        self.fail('the dump did not succeed')


class DiagnosticsTest(SuspendCase):

    def test_diagnostics(self):
        server = self.boot()
        found = self.api.get_server_diagnostics(server['id'])
        self.assertEqual(
            ('running', 'libvirt', 'xen', 1, 1, 1),
            tuple(found[name] for name in (
                'state', 'driver', 'hypervisor', 'num_cpus', 'num_nics',
                'num_disks')))
        self.assertEqual(256, found['memory_details']['maximum'])
        self.assertEqual(2080, found['nic_details'][0]['rx_octets'])
        # As QEMU's double says.
        self.assertEqual((1024, 1), tuple(
            found['disk_details'][0][name]
            for name in ('read_bytes', 'write_requests')))
        self.api.microversion = '2.47'
        self.assertEqual(6 * 10 ** 9, self.api.get_server_diagnostics(
            server['id'])['cpu0_time'])


class AfterEachStart:
    """Limits are set again whenever the guest has started.

    :ivar limited: a flavor with limits.
    """

    def test_after_each_start(self):
        server = self.boot(flavor=self.limited)
        self.assert_limited(server)
        self._reboot_server(server)
        self.assert_limited(server)
        self._reboot_server(server, hard=True)
        self.assert_limited(server)
        # By itself.
        self.domain(server).reboot()
        self.assert_limited(server)
        self.resume(self.suspend(server))
        self.assert_limited(server)


class CpuLimitsTest(AfterEachStart, SuspendCase):

    def setUp(self):
        super().setUp()
        self.limited = self.quotas(
            vcpu=2, cpu_shares='512', cpu_period='100000', cpu_quota='25000')

    def assert_limited(self, server):
        end = time.monotonic() + 120
        while (found := self.domain(server).scheduler) != {
                'weight': 128, 'cap': 50}:
            self.assertLess(time.monotonic(), end, found)
            time.sleep(0.05)

    def test_impossible_ones(self):
        flavor = self.quotas(cpu_period='5')
        server = self.boot(flavor=flavor, expected='ERROR')
        self.assertIn("quota:cpu_period 5", server['fault']['message'])
        self.below.assert_nothing_left()

    def test_not_taken(self):
        self.below.host.failures['schedule'] = 'sched-credit2 says no'
        server = self.boot(flavor=self.limited, expected='ERROR')
        # Its fault may be that no other host is left to try.
        self.assertIn('sched-credit2 says no', self.stdlog.logger.output)
        self._delete_server(server)
        self.below.assert_nothing_left()


class DiskLimitsTest(AfterEachStart, SuspendCase):

    def setUp(self):
        super().setUp()
        self.limited = self.quotas(disk_total_iops_sec='50')

    def assert_limited(self, server, limit=50):
        end = time.monotonic() + 120
        while not (found := [
                throttle.get('iops') for throttle in self.below.qemu.qemus[
                    self.domain(server).ID()].throttles.values()]
                ) or {*found} != {limit}:
            self.assertLess(time.monotonic(), end, found)
            time.sleep(0.05)

    def test_resize_changes_them(self):
        self.flags(allow_resize_to_same_host=True)
        server = self.boot(flavor=self.limited)
        self.api.post_server_action(server['id'], {'resize': {
            'flavorRef': self.quotas(disk_total_iops_sec='80')}})
        server = self._wait_for_state_change(server, 'VERIFY_RESIZE')
        self.assert_limited(server, 80)
        self.api.post_server_action(server['id'], {'revertResize': None})
        self.assert_limited(self._wait_for_state_change(server, 'ACTIVE'))

    def test_impossible_ones(self):
        server = self.boot(flavor=self.quotas(
            disk_total_bytes_sec='5', disk_read_bytes_sec='5'),
            expected='ERROR')
        self.assertIn('quota:disk_read_bytes_sec', server['fault']['message'])
        self.below.assert_nothing_left()

    def test_not_taken(self):
        self.below.qemu.refused['block_set_io_throttle'] = 'not today'
        server = self.boot(flavor=self.limited, expected='ERROR')
        self.assertIn('was to have', self.stdlog.logger.output)
        self._delete_server(server)
        self.below.assert_nothing_left()
