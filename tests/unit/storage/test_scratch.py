# SPDX-License-Identifier: Apache-2.0
"""The file of a snapshot."""

import collections
import os
from unittest import mock

import fixtures
from oslotest import base

from xen44_driver.storage import scratch

Usage = collections.namedtuple('Usage', 'total used free')


class ScratchTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.instances = self.useFixture(fixtures.TempDir()).path
        self.scratch = scratch.Scratch(self.instances, 'xen1', 'uuid')

    def test_private(self):
        self.scratch.create(4096, 0)
        path = self.scratch.path
        self.assertEqual(f'{self.instances}/snapshots/xen1/uuid', path)
        status = os.stat(path)
        self.assertEqual((0o600, 4096),
                         (status.st_mode & 0o777, status.st_size))
        while (path := os.path.dirname(path)) != self.instances:
            self.assertEqual(0o700, os.stat(path).st_mode & 0o777)

    def test_room(self):
        need = 64 * 1024 ** 2
        for free, fits in ((need, False), (need + 4 * 1024 ** 2, True)):
            with mock.patch('shutil.disk_usage',
                            return_value=Usage(2 * need, 0, free)):
                if fits:
                    self.scratch.create(0, need)
                else:
                    self.assertRaisesRegex(
                        scratch.NoRoom, 'may need 66 MiB.* 64 MiB free',
                        self.scratch.create, 0, need)
            self.assertEqual(fits, os.path.exists(self.scratch.path))

    def test_leftovers(self):
        self.assertEqual([], list(scratch.leftovers(self.instances, 'xen1')))
        self.scratch.create(0, 0)
        # Another host's, on a file system that both have.
        scratch.Scratch(self.instances, 'xen2', 'other').create(0, 0)
        for uuid, found in scratch.leftovers(self.instances, 'xen1'):
            self.assertEqual(('uuid', self.scratch.path),
                             (uuid, found.path))
            found.remove()
            found.remove()
        self.assertFalse(os.path.exists(self.scratch.path))
