# SPDX-License-Identifier: Apache-2.0
"""What nova-compute does and refuses when it starts."""

import os
import types
from unittest import mock

import fixtures
from nova import exception

from tests.unit import base
from xen44_driver import faultpoints
from xen44_driver.compute import checks
from xen44_driver.compute import dom0
from xen44_driver.compute import lvmfilter
from xen44_driver.compute import privileges
from xen44_driver.compute import quiesce
from xen44_driver.compute import startup
from xen44_driver.core import loopdevices
from xen44_driver.xen import errors
from xen44_driver.xen import events
from xen44_driver.xen import host as xen_host


class StartTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.node = base.node()
        self.node.host.cpus.return_value = 2
        self.node.host.records.return_value = {}
        self.node.host.versions.return_value = base.versions(4, 20, 0)
        self.node.host.memory.return_value = xen_host.HostMemory(
            total_mib=4096, dom0_mib=1024, free_mib=1024)
        self.order = mock.Mock()
        self.order.attach_mock(self.node.host.connect, 'connect')
        for name in ('start', 'result', 'warn_if_refused'):
            self.order.attach_mock(self.useFixture(
                fixtures.MockPatchObject(privileges, name)).mock, name)
        privileges.result.return_value = True
        self.useFixture(fixtures.MockPatchObject(quiesce, 'mend'))
        for name in ('device_model', 'console_logging', 'log_rotation',
                     'guest_units', 'unknown_domains', 'switch',
                     'integration_bridge', 'bridge_filters'):
            self.useFixture(fixtures.MockPatchObject(
                dom0, name, return_value=[]))
        self.useFixture(fixtures.MockPatchObject(
            lvmfilter, 'problems', return_value=[]))

    def test_privsep_starts_beside_the_rest(self):
        startup.start(self.node)
        names = [name for name, _, _ in self.order.mock_calls]
        self.assertEqual(
            ['start', 'start', 'warn_if_refused', 'connect', 'result'],
            names[:5])

    def test_loop_devices_of_guests_that_are_off(self):
        self.node.host.records.return_value = {
            uuid: events.DomainRecord(uuid=uuid, name='x', state=state)
            for uuid, state in (
                (base.UUID, events.DomainState.PAUSED),
                (base.IMAGE, events.DomainState.SHUTDOWN))}
        with mock.patch.object(
                loopdevices, 'remove_leftovers') as remove:
            startup.start(self.node)
        remove.assert_called_once_with(self.instances, {base.UUID})

    def test_warnings_do_not_stop_it(self):
        dom0.switch.return_value = ['100% wrong']
        with mock.patch.object(startup.LOG, 'warning') as warning:
            startup.start(self.node)
        self.assertIn(mock.call('%s', '100% wrong'), warning.mock_calls)

    def test_unsupported_host_is_refused(self):
        self.node.host.check.side_effect = errors.HostUnsupported(
            'Xen 4.3 is too old')
        self.assertRaisesRegex(
            exception.InvalidConfiguration, 'Xen 4.3 is too old',
            startup.start, self.node)

    def test_leftovers(self):
        """Directories of instances that have no domain."""
        for name in (base.UUID, base.IMAGE, '_base'):
            os.mkdir(os.path.join(self.instances, name))
        self.node.host.records.return_value = {
            base.IMAGE: events.DomainRecord(
                uuid=base.IMAGE, name='x', state=events.DomainState.PAUSED)}
        with mock.patch.object(startup.LOG, 'warning') as warning:
            startup.start(self.node)
        self.assertEqual(
            [os.path.join(self.instances, base.UUID)],
            [call.args[1] for call in warning.mock_calls
             if 'has no domain' in call.args[0]])

    def test_encrypted_spice_is_refused(self):
        self.flags(require_secure=True, group='spice')
        startup.start(self.node)
        self.flags(enabled=True, group='spice')
        raised = self.assertRaises(
            exception.InvalidConfiguration, startup.start, self.node)
        self.assertIn('[spice] require_secure is true', str(raised))

    def test_what_cannot_be_told_is_no_warning(self):
        dom0.switch.side_effect = checks.CannotTell('who knows')
        with mock.patch.object(startup.LOG, 'warning') as warning:
            startup.start(self.node)
        self.assertNotIn('who knows', str(warning.mock_calls))

    def test_fault_points_are_told_of(self):
        for action, told in ((None, 0), (mock.Mock(), 1)):
            self.useFixture(fixtures.MonkeyPatch(
                'xen44_driver.faultpoints._action', action))
            with mock.patch.object(startup.LOG, 'warning') as warning:
                startup.start(self.node)
            self.assertEqual(told, len([
                call for call in warning.mock_calls
                if faultpoints.VARIABLE in call.args]))

    def test_no_privileges(self):
        privileges.result.side_effect = exception.InvalidConfiguration('x y')
        self.assertRaisesRegex(
            exception.InvalidConfiguration, 'cannot work on this host: x y',
            startup.start, self.node)


class GroupTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MockPatchObject(privileges, 'start'))
        self.useFixture(fixtures.MockPatchObject(
            privileges, 'warn_if_refused'))
        self.group = self.useFixture(fixtures.MockPatch(
            'grp.getgrnam', return_value=types.SimpleNamespace(
                gr_gid=104, gr_name='libvirt'))).mock
        self.useFixture(fixtures.MockPatch('os.geteuid', return_value=989))
        self.useFixture(fixtures.MockPatch('os.getegid', return_value=989))
        self.useFixture(fixtures.MockPatch(
            'pwd.getpwuid', return_value=types.SimpleNamespace(
                pw_name='nova')))
        self.node = base.node()
        self.node.host.connect.side_effect = errors.ConnectionFailed(
            'xen:///system', 'denied')

    def message(self, groups):
        with mock.patch('os.getgroups', return_value=groups):
            raised = self.assertRaises(
                exception.HypervisorUnavailable, startup.start, self.node)
        return str(raised)

    def test_named_when_missing(self):
        self.assertIn('user nova is not in the group libvirt',
                      self.message([989]))

    def test_not_named_when_there(self):
        self.assertNotIn('group', self.message([989, 104]))

    def test_no_such_group(self):
        self.group.side_effect = KeyError
        self.assertNotIn('group', self.message([]))
