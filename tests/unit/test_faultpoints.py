# SPDX-License-Identifier: Apache-2.0
"""Named points at which a test lets nova-compute end."""

import ast
import collections
import os
import pathlib
import re
import signal
import subprocess
import sys

import fixtures

from tests.unit import base
import xen44_driver
from xen44_driver import faultpoints

ROOT = pathlib.Path(xen44_driver.__file__).parent
CHECKOUT = pathlib.Path(__file__).parents[2]

PROGRAM = ('from xen44_driver import faultpoints; '
           'faultpoints.reached("spawn: disks made"); '
           'print("went on")')


class FaultPointsTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.file = os.path.join(
            self.useFixture(fixtures.TempDir()).path, 'point')

    def run_program(self, *, switched_on=True, **environment):
        if switched_on:
            environment[faultpoints.VARIABLE] = self.file
        done = subprocess.run(
            [sys.executable, '-c', PROGRAM], capture_output=True, text=True,
            check=False, cwd=ROOT.parent,
            env={**os.environ, 'PYTHONPATH': str(ROOT.parent),
                 **environment})
        return done.returncode, done.stdout.strip()

    def name_point(self, point):
        pathlib.Path(self.file).write_text(f'{point}\n')

    def test_off(self):
        self.assertFalse(faultpoints.is_on())
        self.name_point('spawn: disks made')
        self.assertEqual((0, 'went on'), self.run_program(switched_on=False))
        self.assertTrue(os.path.exists(self.file))

    def test_ends_once(self):
        self.name_point('spawn: disks made')
        self.assertEqual((-signal.SIGKILL, ''), self.run_program())
        self.assertFalse(os.path.exists(self.file))
        self.assertEqual((0, 'went on'), self.run_program())

    def test_another_point(self):
        self.name_point('spawn: disks')
        self.assertEqual((0, 'went on'), self.run_program())
        self.assertTrue(os.path.exists(self.file))

    def test_the_shipped_unit_unsets_it(self):
        unit = (CHECKOUT / 'share/xen44/nova-compute.service').read_text()
        self.assertIn(f'UnsetEnvironment={faultpoints.VARIABLE}\n', unit)

    def test_names(self):
        """Each is a literal, of one form, and at one place."""
        names = collections.Counter()
        for path in ROOT.rglob('*.py'):
            for node in ast.walk(ast.parse(path.read_text())):
                if (isinstance(node, ast.Call) and ast.unparse(node.func)
                        == 'faultpoints.reached'):
                    self.assertIsInstance(node.args[0], ast.Constant)
                    names[node.args[0].value] += 1
        self.assertGreater(len(names), 15)
        for name, places in names.items():
            self.assertTrue(re.fullmatch(r'[a-z ]+: [a-z ]+', name), name)
            self.assertEqual(1, places, name)
