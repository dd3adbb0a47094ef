# SPDX-License-Identifier: Apache-2.0
"""Devices of volumes that several instances share."""

from unittest import mock

import fixtures
from os_brick.privileged import rootwrap

from tests.unit import base
from xen44_driver.compute import sharing

NAME = f'xen44-{base.UUID}-{base.VOLUME}'
TABLE = '0 2048 linear /dev/sdb 0'


class SharingTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.execute = self.useFixture(fixtures.MockPatchObject(
            rootwrap, 'execute_root', return_value=('2048\n', ''))).mock
        self.there = self.useFixture(fixtures.MockPatchObject(
            sharing.os.path, 'lexists', return_value=False)).mock

    def commands(self):
        return [call.args for call in self.execute.call_args_list]

    def test_make(self):
        self.assertEqual(f'/dev/mapper/{NAME}', sharing.make(
            base.UUID, base.VOLUME, '/dev/sdb'))
        self.assertEqual([
            ('blockdev', '--getsz', '/dev/sdb'),
            ('dmsetup', 'create', NAME, '--table', TABLE)], self.commands())

    def test_make_anew(self):
        """The volume may have another device since."""
        self.there.return_value = True
        sharing.make(base.UUID, base.VOLUME, '/dev/sdb')
        self.assertEqual(
            ('dmsetup', 'remove', '--retry', NAME), self.commands()[0])

    def test_remove(self):
        sharing.remove(base.UUID, base.VOLUME)
        self.execute.assert_not_called()

    def test_extend(self):
        sharing.extend(base.UUID, base.VOLUME, '/dev/sdb')
        self.assertEqual([
            mock.call('blockdev', '--getsz', '/dev/sdb'),
            mock.call('dmsetup', 'load', NAME, '--table', TABLE),
            mock.call('dmsetup', 'resume', NAME)],
            self.execute.call_args_list)

    def test_only_uuids(self):
        self.assertRaises(ValueError, sharing.remove, '..', base.VOLUME)
