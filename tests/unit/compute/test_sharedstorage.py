# SPDX-License-Identifier: Apache-2.0
"""Hosts that see each other's files."""

import os

from tests.unit import base
from xen44_driver.compute import sharedstorage


class SharedStorageTest(base.TestCase):

    def test_same_directory(self):
        node, instance = base.node(), base.instance()
        self.assertIsNone(sharedstorage.offer(node, instance))
        files = node.files(instance)
        files.create()
        data = sharedstorage.offer(node, instance)
        self.assertTrue(sharedstorage.seen(data))
        self.flags(instances_path=os.path.join(self.instances, 'other'))
        self.assertFalse(sharedstorage.seen(data))
        self.flags(instances_path=self.instances)
        sharedstorage.withdraw(data)
        sharedstorage.withdraw(data)
        self.assertFalse(sharedstorage.seen(data))
        self.assertEqual([], files.names())
