# SPDX-License-Identifier: Apache-2.0
"""The module that Nova imports. (With real Novas: tests/functional.)"""

import importlib
import json
import subprocess
import sys

from oslotest import base

from xen44_driver import driver
from xen44_driver import loader


class LoaderTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        loader.install()
        self.addCleanup(sys.modules.pop, loader.MODULE, None)

    def test_driver(self):
        module = importlib.import_module('nova.virt.xen44')
        self.assertIs(driver.Xen44Driver, module.Xen44Driver)

    def test_no_such_driver(self):
        module = importlib.import_module('nova.virt.xen44')
        raised = self.assertRaises(
            AttributeError, getattr, module, 'XenDriver')
        self.assertIn('Xen44Driver', str(raised))

    def test_once_and_nothing_else(self):
        loader.install()
        self.assertEqual(1, sys.meta_path.count(loader.Finder))
        for name in ('nova', 'nova.virt', 'nova.virt.xen44.x', 'xen44'):
            self.assertIsNone(loader.Finder.find_spec(name))

    def test_import_is_light(self):
        code = ('import json, sys; before = set(sys.modules); '
                'import xen44_driver.loader; '
                'print(json.dumps(sorted(set(sys.modules) - before)))')
        out = subprocess.run(
            [sys.executable, '-c', code], check=True, capture_output=True,
            text=True, env={'PYTHONPATH': ':'.join(sys.path)}).stdout
        self.assertLessEqual(set(json.loads(out)), {
            '__future__', 'xen44_driver', 'xen44_driver.loader'})
