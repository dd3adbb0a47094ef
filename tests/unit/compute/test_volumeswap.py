# SPDX-License-Identifier: Apache-2.0
"""What an earlier nova-compute was swapping is ended.

tests/functional/test_volumes.py swaps through Nova.
"""

from unittest import mock

import fixtures

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import blockjobs
from xen44_driver.compute import volumeswap
from xen44_driver.core import monitor
from xen44_driver.xen import domain
from xen44_driver.xen import events
from xen44_driver.xen import qmp

NEW = '2c7a1f0e-6d3b-4e8a-9b57-0d1e2f3a4b5c'
TARGET = 'swap-xvdb-2c7a1f0e'
FILES = {base.VOLUME: '/mnt/old', NEW: '/mnt/new'}


class MendTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.links = dict(FILES)
        self.root = 'xvdb-raw'
        self.nodes = {'xvdb-raw': '/run/link', TARGET: FILES[NEW]}
        self.disk = domain.Disk(
            target='xvdb', source='/run/link', serial=base.VOLUME,
            format='raw')
        self.node = base.node()
        self.node.host.records.return_value = {base.UUID: mock.Mock(
            state=events.DomainState.RUNNING, id=7)}
        self.node.host.guest.return_value.disks = (
            lambda live: (self.disk,) if live else ())
        self.clear = mock.Mock()
        for where, name, double in (
                (privsep, 'linked_volumes', lambda uuid: [*self.links]),
                (privsep, 'volume_device',
                 lambda uuid, volume: self.links[volume]),
                (privsep, 'exchange_volume_links', self.exchange),
                (privsep, 'unlink_volume',
                 lambda uuid, volume: self.links.pop(volume)),
                (monitor, 'execute_all', self.execute),
                (blockjobs, 'clear', self.clear)):
            self.useFixture(fixtures.MockPatchObject(where, name, double))

    def exchange(self, uuid, one, other):
        self.links[one], self.links[other] = (
            self.links[other], self.links[one])

    def execute(self, uuid, commands, *, domid):
        self.assertEqual(
            ((base.UUID, 7), ['query-block', 'query-named-block-nodes']),
            ((uuid, domid), [name for name, _arguments in commands]))
        return [[{'qdev': '/device', 'inserted': {
            'node-name': self.root, 'file': '/run/link',
            'image': {'virtual-size': 1}}}],
            [{'node-name': name, 'file': file}
             for name, file in self.nodes.items()]]

    def mend(self):
        volumeswap.mend(self.node)

    def assert_ended(self):
        self.clear.assert_called_once_with(
            base.UUID, volumeswap.JOB, [TARGET], domid=7)
        self.assertEqual({base.VOLUME: '/mnt/old'}, self.links)

    def test_copying(self):
        self.mend()
        self.assert_ended()

    def test_links_exchanged(self):
        self.exchange(base.UUID, base.VOLUME, NEW)
        self.mend()
        self.assert_ended()

    def test_swapped(self):
        """Its link stays: what a reboot finds is what the guest has."""
        self.exchange(base.UUID, base.VOLUME, NEW)
        self.root = TARGET
        with self.assertLogs(volumeswap.LOG.logger, 'ERROR') as said:
            self.mend()
        self.assertIn('is lost when Nova starts it anew', said.output[0])
        self.clear.assert_not_called()
        self.assertEqual('/mnt/new', self.links[base.VOLUME])

    def test_another_attachment_was_interrupted(self):
        """It is left to the start that removes such links."""
        del self.nodes[TARGET]
        self.mend()
        self.clear.assert_not_called()
        self.assertEqual(FILES, self.links)

    def test_nothing(self):
        """It costs no call of QEMU."""
        del self.links[NEW]
        with mock.patch.object(monitor, 'execute_all') as execute:
            self.mend()
            self.links.clear()
            self.mend()
            self.node.host.records.return_value[
                base.UUID].state = events.DomainState.SHUTDOWN
            self.mend()
        execute.assert_not_called()

    def test_no_answer(self):
        self.useFixture(fixtures.MockPatchObject(
            monitor, 'execute_all', mock.Mock(
                side_effect=qmp.MonitorUnavailable('busy'))))
        with self.assertLogs(volumeswap.LOG.logger, 'WARNING') as said:
            self.mend()
        self.assertIn('busy', said.output[0])
        self.assertEqual(FILES, self.links)
