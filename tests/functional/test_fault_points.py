# SPDX-License-Identifier: Apache-2.0
"""Operations that fail at each of their named points."""

import time

import fixtures

from tests.functional import test_servers
from xen44_driver import faultpoints
from xen44_driver.xen import errors


class Fault(errors.XenError):
    """What is raised at a point instead of ending the process."""


class FaultPointsTest(test_servers.ServersBase):

    def setUp(self):
        super().setUp()
        self.reached = []
        self.fault = None
        self.useFixture(fixtures.MonkeyPatch(
            'xen44_driver.faultpoints._action', self.at))

    def at(self, point):
        """Note a point; raise at the one that is asked for, once."""
        self.reached.append(point)
        if point == self.fault:
            self.fault = None
            raise Fault(point)

    def points(self, operation, *args):
        """The points that an operation passes, in their order."""
        self.reached.clear()
        operation(*args)
        return list(dict.fromkeys(self.reached))

    def action(self, server, name, body=None, result='Error'):
        """Run an action of the API, and wait until the host has ended it."""
        action, event = {
            'os-start': ('start', 'compute_start_instance'),
            'os-stop': ('stop', 'compute_stop_instance'),
            'reboot': ('reboot', 'compute_reboot_instance'),
            'pause': ('pause', 'compute_pause_instance'),
            'unpause': ('unpause', 'compute_unpause_instance'),
        }[name]
        self.api.post_server_action(server['id'], {name: body or {}})
        # An earlier action of that name is no sign of this one's end.
        end = time.monotonic() + 120
        while self.fault and time.monotonic() < end:
            time.sleep(0.05)
        self._wait_for_instance_action_event(server, action, event, result)
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None})

    def assert_gone(self, server):
        """Nothing of a deleted server is left."""
        self.below.assert_nothing_left()
        self.assertEqual(
            {}, self._get_allocations_by_server_uuid(server['id']))

    def test_spawn(self):
        self.flags(default_ephemeral_format='ext4')
        flavor = self.flavor(ephemeral=1, xen44_guest_type='pvh')

        def spawn():
            self.server = self.boot(flavor=flavor, config_drive=True)

        points = self.points(spawn)
        self.assertEqual(
            ['spawn: planned', 'spawn: image fetched',
             'spawn: ports plugged', 'spawn: directory made',
             'disks: one made', 'config drive: written',
             'spawn: disks made', 'spawn: volumes connected',
             'spawn: domain defined', 'boot: domain started',
             'spawn: ports wired', 'spawn: guest booted'], points)
        self._delete_server(self.server)
        for self.fault in points:
            point = self.fault
            server = self.boot(
                flavor=flavor, config_drive=True, expected='ERROR')
            self.assertIsNone(self.fault, point)
            self.below.assert_nothing_left()
            self._delete_server(server)
            self.assert_gone(server)

    def test_delete(self):
        points = self.points(self._delete_server, self.boot())
        points = points[points.index('destroy: domain stopped'):]
        self.assertEqual(
            ['destroy: domain stopped', 'destroy: domain removed',
             'destroy: ports unplugged', 'destroy: volumes disconnected',
             'files: put aside', 'destroy: files removed'], points)
        for point in points:
            server = self.boot()
            self.fault = point
            self.api.delete_server(server['id'])
            server = self._wait_for_state_change(server, 'ERROR')
            self.assertIsNone(self.fault, point)
            # The user deletes it once more.
            self._delete_server(server)
            self.assert_gone(server)

    def test_start(self):
        server = self._stop_server(self.boot())
        points = self.points(self._start_server, server)
        self.assertEqual(
            ['power on: old domain stopped', 'power on: ports plugged',
             'power on: domain defined', 'boot: domain started'], points)
        for point in points:
            self._stop_server(server)
            self.fault = point
            self.action(server, 'os-start')
            self.assertIsNone(self.fault, point)
            # Whatever became of it, a hard reboot mends it.
            self._reboot_server(server, hard=True)
            self.assertTrue(self.domain(server).isActive())
        self.assertEqual(1, len(self.below.host.domains))
        self._delete_server(server)
        self.assert_gone(server)

    def test_stop(self):
        server = self.boot()
        points = self.points(self._stop_server, server)
        self.assertEqual(['power off: guest asked',
                          'power off: domain stopped'], points)
        for point in points:
            self._start_server(server)
            self.fault = point
            self.action(server, 'os-stop')
            self.assertIsNone(self.fault, point)
            # Nova ignores the guest's event while it stops the guest itself.
            self._stop_server(server)
            self.assertFalse(self.domain(server).isActive())
        self._delete_server(server)
        self.assert_gone(server)

    def test_soft_reboot(self):
        server = self.boot()
        points = self.points(self._reboot_server, server)
        self.assertEqual(
            ['soft reboot: guest shut down', 'boot: domain started'], points)
        for point in points:
            self.fault = point
            self.action(server, 'reboot', {'type': 'SOFT'})
            self.assertIsNone(self.fault, point)
            self._reboot_server(server, hard=True)
            self.assertTrue(self.domain(server).isActive())

    def test_pause(self):
        server = self.boot()
        self.fault = 'pause: domain paused'
        self.action(server, 'pause')
        self._reboot_server(server, hard=True)
        self.action(server, 'pause', result='Success')
        self.fault = 'unpause: domain resumed'
        self.action(server, 'unpause')
        self.assertIsNone(self.fault)
        self.assertTrue(self.domain(server).isActive())

    def test_off(self):
        self.useFixture(fixtures.MonkeyPatch(
            'xen44_driver.faultpoints._action', None))
        self.assertFalse(faultpoints.is_on())
        self._delete_server(self.boot())
        self.assertEqual([], self.reached)
