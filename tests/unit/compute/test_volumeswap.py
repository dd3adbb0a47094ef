# SPDX-License-Identifier: Apache-2.0
"""What an earlier nova-compute was swapping is ended.

tests/functional/test_volumes.py swaps through Nova.
"""

from unittest import mock

import fixtures
from nova import objects
from oslo_serialization import jsonutils

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import volumeswap
from xen44_driver.xen import domain
from xen44_driver.xen import events
from xen44_driver.xen import qmp

NEW = '2c7a1f0e-6d3b-4e8a-9b57-0d1e2f3a4b5c'
TARGET = 'swap-xvdb-2c7a1f0e'
FILES = {base.VOLUME: '/mnt/old', NEW: '/mnt/new'}


class MendTest(base.TestCase):
    """A QEMU, the links, and what Nova keeps of the volume."""

    def setUp(self):
        super().setUp()
        self.links = dict(FILES)
        self.noted = FILES[base.VOLUME]
        self.root = 'xvdb-raw'
        self.nodes = {'xvdb-raw': '/run/link', TARGET: FILES[NEW]}
        self.jobs = {volumeswap.JOB: 'ready'}
        self.error = None
        self.asked = []
        self.disk = domain.Disk(
            target='xvdb', source='/run/link', serial=base.VOLUME,
            format='raw')
        self.node = base.node()
        self.node.host.records.return_value = {base.UUID: mock.Mock(
            state=events.DomainState.RUNNING, id=7)}
        self.node.host.guest.return_value = mock.Mock(
            uuid=base.UUID, id=7,
            disks=lambda live: (self.disk,) if live else (),
            state=lambda: events.DomainState.RUNNING)
        for where, name, double in (
                (privsep, 'linked_volumes', lambda uuid: [*self.links]),
                (privsep, 'volume_device',
                 lambda uuid, volume: self.links[volume]),
                (privsep, 'link_volume', self.link),
                (privsep, 'unlink_volume',
                 lambda uuid, volume: self.links.pop(volume)),
                (privsep, 'execute_monitor', self.execute),
                (objects.BlockDeviceMapping, 'get_by_volume_and_instance',
                 lambda context, volume, uuid: mock.Mock(
                     connection_info=jsonutils.dumps(
                         {'data': {'device_path': self.noted}})))):
            self.useFixture(fixtures.MockPatchObject(where, name, double))

    def link(self, uuid, volume, device):
        self.links[volume] = device

    def execute(self, uuid, commands, timeout, domid):
        self.assertEqual((base.UUID, 7), (uuid, domid))
        return [getattr(self, name.replace('-', '_'))(**{
            key.replace('-', '_'): value
            for key, value in arguments.items()})
            for name, arguments in commands]

    def query_block(self):
        return [{'qdev': '/device', 'inserted': {
            'node-name': self.root, 'file': self.nodes[self.root],
            'image': {'virtual-size': 1}}}]

    def query_named_block_nodes(self, flat):
        return [{'node-name': name, 'file': file}
                for name, file in self.nodes.items()]

    def query_jobs(self):
        return [{'id': name, 'status': status, 'current-progress': 1,
                 'error': self.error} for name, status in self.jobs.items()]

    def job_complete(self, id):
        self.asked.append('complete')
        self.jobs[id] = 'concluded'
        self.root = TARGET

    def job_cancel(self, id):
        self.asked.append('cancel')
        self.jobs[id] = 'concluded'

    def job_dismiss(self, id):
        self.jobs.pop(id)

    def blockdev_del(self, node_name):
        self.assertNotEqual(self.root, node_name)
        del self.nodes[node_name]

    def mend(self):
        volumeswap.mend(self.node)

    def assert_has(self, volume, *asked):
        """The guest has one of them, alone, and its link leads there."""
        self.assertEqual([*asked], self.asked)
        self.assertEqual({}, self.jobs)
        self.assertEqual([self.root], [*self.nodes])
        self.assertEqual('xvdb-raw' if volume == base.VOLUME else TARGET,
                         self.root)
        self.assertEqual({base.VOLUME: FILES[volume]}, self.links)

    def test_copying(self):
        self.jobs[volumeswap.JOB] = 'running'
        self.mend()
        self.assert_has(base.VOLUME, 'cancel')

    def test_link_changed(self):
        self.links[base.VOLUME] = FILES[NEW]
        self.mend()
        self.assert_has(base.VOLUME, 'cancel')

    def test_noted(self):
        self.links[base.VOLUME] = self.noted = FILES[NEW]
        self.mend()
        self.assert_has(NEW, 'complete')

    def test_completed(self):
        self.links[base.VOLUME] = self.noted = FILES[NEW]
        self.root = TARGET
        self.jobs[volumeswap.JOB] = 'concluded'
        self.mend()
        self.assert_has(NEW)

    def test_noted_and_failed_since(self):
        """The guest has the old one alone, and the other one is stale."""
        self.links[base.VOLUME] = self.noted = FILES[NEW]
        self.jobs[volumeswap.JOB] = 'concluded'
        self.error = 'No space left on device'
        with self.assertLogs(volumeswap.LOG.logger, 'ERROR') as said:
            self.mend()
        self.assertIn(self.error, said.output[0])
        self.assertIn('is lost when Nova starts it anew', said.output[1])

    def test_closed(self):
        self.links[base.VOLUME] = self.noted = FILES[NEW]
        self.root = TARGET
        del self.nodes['xvdb-raw']
        self.jobs.clear()
        self.mend()
        self.assert_has(NEW)

    def test_rebooted_with_another_than_noted(self):
        self.links[base.VOLUME] = FILES[NEW]
        self.jobs.clear()
        del self.nodes[TARGET]
        with self.assertLogs(volumeswap.LOG.logger, 'ERROR') as said:
            self.mend()
        self.assertIn('is lost when Nova starts it anew', said.output[0])
        self.assertEqual(FILES[NEW], self.links[base.VOLUME])

    def test_another_attachment_was_interrupted(self):
        """It is left to the start that removes such links."""
        self.jobs.clear()
        del self.nodes[TARGET]
        with self.assertNoLogs(volumeswap.LOG.logger, 'WARNING'):
            self.mend()
        self.assertEqual(FILES, self.links)

    def test_nothing(self):
        """It costs no call of QEMU."""
        del self.links[NEW]
        with mock.patch.object(privsep, 'execute_monitor') as execute:
            self.mend()
            self.links.clear()
            self.mend()
            self.node.host.records.return_value[
                base.UUID].state = events.DomainState.SHUTDOWN
            self.mend()
        execute.assert_not_called()

    def test_no_answer(self):
        self.useFixture(fixtures.MockPatchObject(
            privsep, 'execute_monitor', mock.Mock(
                side_effect=qmp.MonitorUnavailable('busy'))))
        with self.assertLogs(volumeswap.LOG.logger, 'WARNING') as said:
            self.mend()
        self.assertIn('busy', said.output[0])
        self.assertEqual(FILES, self.links)
