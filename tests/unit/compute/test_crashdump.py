# SPDX-License-Identifier: Apache-2.0
"""Crash dumps, and what privsep does for them and for saved memory."""

import os
import subprocess
from unittest import mock

import fixtures
from nova import exception

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import crashdump
from xen44_driver.xen import errors
from xen44_driver.xen.events import DomainState

OTHER = 'd1b8f5c1-0b3e-4f1e-9f4e-6f1f3c5b7a11'
LISTED = ('Name                   ID   Mem VCPUs      State   Time(s)\n'
          'instance-00000001       7   256     2     {}      25.2\n')


class CrashDumpCase(base.TestCase):

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MockPatchObject(
            privsep.sys_admin_pctxt, 'client_mode', False))
        self.dumps = os.path.join(self.instances, 'dumps')
        self.flags(crash_dump_directory=self.dumps, group='xen44')
        self.node = base.node()
        self.instance = base.instance()
        self.guest = self.node.host.guest.return_value
        self.guest.state.return_value = DomainState.RUNNING
        self.guest.name = 'instance-1'
        self.guest.dump_core.side_effect = self.dump

    @staticmethod
    def dump(path):
        with open(path, 'w') as file:
            file.write('core')
        os.chmod(path, 0o644)

    def names(self):
        return sorted(os.listdir(self.dumps))


class TriggerTest(CrashDumpCase):

    def trigger(self):
        crashdump.trigger(self.node, self.instance)

    def test_written(self):
        self.trigger()
        (name,) = self.names()
        self.assertRegex(name, rf'^{base.UUID}-\d+\.core$')
        self.assertEqual(0o700, os.stat(self.dumps).st_mode & 0o777)
        self.assertEqual(0o600, os.stat(os.path.join(
            self.dumps, name)).st_mode & 0o777)

    def test_bounded(self):
        seen = []
        self.flags(crash_dumps_kept=2, group='xen44')
        for _ in range(4):
            self.trigger()
            seen.append(self.names())
        self.assertEqual([1, 2, 2, 2], [len(names) for names in seen])
        # The latest ones.
        self.assertEqual(seen[2][1], seen[3][0])

    def test_off(self):
        self.guest.state.return_value = DomainState.SHUTDOWN
        raised = self.assertRaises(exception.InstanceNotReady, self.trigger)
        self.assertIn(base.UUID, str(raised))

    def test_not_allowed(self):
        self.flags(crash_dump_directory='', group='xen44')
        self.assertRaises(exception.TriggerCrashDumpNotSupported,
                          self.trigger)
        crashdump.forget(self.instance)

    def test_no_room(self):
        with mock.patch.object(privsep, 'crash_dump_room',
                               return_value=(1, 1024 ** 2)):
            raised = self.assertRaises(exception.Invalid, self.trigger)
        self.assertIn('there are 1 MiB', str(raised))
        self.guest.dump_core.assert_not_called()

    def test_fails_half_way(self):
        def fail(path):
            self.dump(path)
            raise errors.OperationFailed('domainCoreDump', base.UUID, 1, 'x')

        self.guest.dump_core.side_effect = fail
        self.assertRaises(errors.OperationFailed, self.trigger)
        self.assertEqual([], self.names())

    def test_forgotten(self):
        crashdump.forget(self.instance)
        self.trigger()
        self.dump(os.path.join(self.dumps, f'{OTHER}-00000000000001.core'))
        self.dump(os.path.join(self.dumps, f'{base.UUID}-1.part'))
        crashdump.forget(self.instance)
        self.assertEqual([f'{OTHER}-00000000000001.core'], self.names())


class PrivsepTest(CrashDumpCase):

    def test_paths(self):
        self.assertEqual(
            f'{self.dumps}/{base.UUID}-00000000000007.core',
            privsep.crash_dump_path(base.UUID, 7, whole=True))
        for name in ('../x', '', '/etc/passwd'):
            self.assertRaises(ValueError, privsep.crash_dump_path, name, 1,
                              whole=False)
            self.assertRaises(ValueError, privsep.remove_crash_dumps, name,
                              0)

    def test_room(self):
        with mock.patch.object(privsep.savedmemory, 'DIRECTORY',
                               self.instances):
            device, free = privsep.saved_memory_room()
        self.assertEqual(os.stat(self.instances).st_dev, device)
        self.assertGreater(free, 0)

    def test_wake(self):
        for state, wakes in (('-b----', False), ('r-----', False),
                             ('--p---', False), ('---s--', True)):
            with mock.patch.object(
                    subprocess, 'run', return_value=mock.Mock(
                        stdout=LISTED.format(state))) as run:
                self.assertIs(wakes, privsep.wake_domain(7))
            commands = [call.args[0] for call in run.call_args_list]
            self.assertEqual(
                [('xl', 'list', '7')]
                + ([('xl', 'resume', '7')] if wakes else []), commands)
