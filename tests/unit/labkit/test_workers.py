# SPDX-License-Identifier: Apache-2.0
"""Every test of the gate belongs to one worker: stestr runs no other."""

import ast
import pathlib
import re

from oslotest import base
import yaml

from labkit import gate

GATE = pathlib.Path(__file__).parents[2] / 'gate'


def classes_of(path):
    """Return the classes of a module by name, without importing it."""
    return {node.name: node for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.ClassDef)}


def names(path):
    """Return the ids of a module's tests."""
    own = classes_of(path)
    classes = {name: node for row in (GATE / 'rows').glob('*.py')
               for name, node in classes_of(row).items()} | own

    def line(name):
        """A class and those of the gate that it is made of."""
        bases = [getattr(base, 'attr', getattr(base, 'id', None))
                 for base in classes[name].bases]
        return [classes[name], *(part for base in bases if base in classes
                                 for part in line(base))]

    for name, node in own.items():
        # What is no test case of its own is a part of others.
        if (name.endswith('Case') or not node.bases
                or not any('Case' in ast.unparse(base)
                           for part in line(name) for base in part.bases)):
            continue
        yield from {f'tests.gate.{path.stem}.{name}.{test.name}'
                    for part in line(name) for test in part.body
                    if isinstance(test, ast.FunctionDef)
                    and test.name.startswith('test_')}


class WorkersTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.workers = [
            one['worker'] for one in
            yaml.safe_load((GATE / 'workers.yaml').read_text())]
        # Those of volumes, and of hosts of another kind, come one after the
        # other (labkit.gate).
        self.tests = [name for path in sorted(GATE.glob('test_*.py'))
                      for name in names(path)
                      if not name.startswith(
                          (gate.VOLUMES, *gate.KINDS.values()))]

    def test_two_workers(self):
        self.assertEqual(2, len(self.workers))

    def test_every_test_has_one(self):
        self.assertIn('tests.gate.test_guests.PV.test_power_stop_and_start',
                      self.tests)
        self.assertGreater(len(self.tests), 50)
        for name in self.tests:
            runs = [worker for worker in self.workers
                    if any(re.search(pattern, name) for pattern in worker)]
            self.assertEqual(1, len(runs), name)

    def test_every_pattern_has_a_test(self):
        for pattern in (each for worker in self.workers for each in worker):
            self.assertTrue([name for name in self.tests
                             if re.search(pattern, name)], pattern)
