# SPDX-License-Identifier: Apache-2.0
"""Jobs in a QEMU: how they end, and how they are ended."""

from unittest import mock

import fixtures

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import blockjobs
from xen44_driver.core import monitor
from xen44_driver.xen import qmp


def job(status='running', progress=0, **values):
    return {'id': 'job', 'status': status, 'current-progress': progress,
            'total-progress': 100, **values}


OTHER = job('running') | {'id': 'other'}


class JobTest(base.TestCase):
    """A QEMU that says one thing after the other of its jobs."""

    def setUp(self):
        super().setUp()
        self.looks = []
        self.nodes = []
        self.asked = []
        self.same = True
        self.cancel_error = None
        self.useFixture(fixtures.MockPatchObject(
            privsep, 'execute_monitor', self.execute))
        self.useFixture(fixtures.MockPatchObject(
            blockjobs, '_FIRST_PAUSE', 0.001))

    def execute(self, uuid, commands, timeout, domid):
        (name, arguments), = commands
        self.assertEqual((base.UUID, 7), (uuid, domid))
        if name == 'query-jobs':
            look = self.looks.pop(0) if self.looks else None
            if isinstance(look, Exception):
                raise look
            return [[OTHER, look] if look else [OTHER]]
        if name == 'query-named-block-nodes':
            return [[{'node-name': node} for node in self.nodes]]
        self.assertEqual(
            {'blockdev-del': ['node-name']}.get(name, ['id']),
            [*arguments])
        self.asked.append((name, *arguments.values()))
        if name == 'job-cancel' and self.cancel_error:
            raise self.cancel_error
        return [{}]

    def wait(self, **options):
        blockjobs.wait(base.UUID, 'job', domid=7,
                       same_guest=lambda: self.same, **options)

    def clear(self):
        blockjobs.clear(base.UUID, 'job', ['target'], domid=7)


class WaitTest(JobTest):

    def test_success(self):
        self.looks = [job(), qmp.MonitorUnavailable('busy'),
                      job(progress=50), job('concluded', 100)]
        self.wait()
        self.assertEqual([], self.looks)

    def test_ready(self):
        self.looks = [job(), job('ready', 100), job('concluded', 100)]
        self.wait(status='ready')
        self.assertEqual(1, len(self.looks))

    def test_failure(self):
        self.looks = [job(), job('concluded', error='No space left')]
        self.assertRaisesRegex(
            blockjobs.JobFailed, '^No space left$', self.wait)

    def test_another_qemu(self):
        self.looks = [job(), None]
        self.assertRaisesRegex(
            blockjobs.JobFailed, 'stopped or rebooted', self.wait)

    def test_no_qemu(self):
        self.looks = [job(), qmp.MonitorUnavailable('refused')]
        self.same = False
        self.assertRaisesRegex(
            blockjobs.JobFailed, 'stopped or rebooted', self.wait)

    def test_stalled(self):
        # Progress counts, not the time it takes.
        clock = mock.Mock(side_effect=range(0, 100000, 200))
        self.useFixture(fixtures.MockPatch('time.monotonic', clock))
        self.useFixture(fixtures.MockPatch('time.sleep'))
        self.looks = [job(progress=number) for number in range(5)]
        self.looks += [job(progress=4)] * 5
        self.assertRaisesRegex(
            blockjobs.JobFailed, 'no progress for 300 s', self.wait)
        self.assertLess(len(self.looks), 5)


class ClearTest(JobTest):

    def test_running(self):
        self.looks = [job(), job('aborting'), job('concluded')]
        self.nodes = ['target', 'xvda-qcow2']
        self.clear()
        self.assertEqual(
            [('job-cancel', 'job'), ('job-dismiss', 'job'),
             ('blockdev-del', 'target')], self.asked)

    def test_concluded_and_without_node(self):
        self.looks = [job('concluded')]
        self.clear()
        self.assertEqual([('job-dismiss', 'job')], self.asked)

    def test_nothing_there(self):
        self.clear()
        self.assertEqual([], self.asked)

    def test_ends_by_itself(self):
        self.cancel_error = qmp.CommandFailed('job-cancel', 'x', 'aborting')
        self.looks = [job('aborting'), job('concluded')]
        self.clear()
        self.assertIn(('job-dismiss', 'job'), self.asked)

    def test_never_ends(self):
        self.useFixture(fixtures.MockPatchObject(
            blockjobs, 'CANCEL_TIMEOUT', -1))
        self.looks = [job()] * 3
        self.assertRaisesRegex(
            blockjobs.JobFailed, 'has not ended', self.clear)


class ClosedTest(base.TestCase):

    def test_waits(self):
        privsep.monitor_is_there.side_effect = [True, False]
        with mock.patch('time.sleep') as sleep:
            monitor.wait_until_closed(base.UUID)
        sleep.assert_called_once_with(0.2)

    def test_gives_up(self):
        privsep.monitor_is_there.return_value = True
        self.assertRaisesRegex(
            TimeoutError, 'has not ended', monitor.wait_until_closed,
            base.UUID, -1)
