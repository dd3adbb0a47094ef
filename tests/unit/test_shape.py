# SPDX-License-Identifier: Apache-2.0
"""The package as a whole."""

import ast
import collections
import pathlib
import re

from oslotest import base

import xen44_driver

ROOT = pathlib.Path(xen44_driver.__file__).parent


def _modules():
    return {path: '.'.join(('xen44_driver', *path.relative_to(
        ROOT).with_suffix('').parts)).removesuffix('.__init__')
        for path in ROOT.rglob('*.py')}


class ShapeTest(base.BaseTestCase):

    def test_no_module_name_twice(self):
        names = collections.Counter(
            path.stem for path in ROOT.rglob('*.py')
            if path.stem != '__init__')
        twice = {name for name, count in names.items() if count > 1}
        self.assertEqual(set(), twice)

    def test_no_import_circle(self):
        graph = self._graph()
        done: set[str] = set()

        def visit(module, way):
            self.assertNotIn(module, way, 'modules import each other')
            if module not in done:
                for imported in sorted(graph[module]):
                    visit(imported, (*way, module))
                done.add(module)

        for module in sorted(graph):
            visit(module, ())

    def _graph(self):
        """Which module imports which, at the top or for type checkers."""
        modules = _modules()
        known = set(modules.values())
        graph: dict[str, set[str]] = {}
        for path, module in modules.items():
            graph[module] = set()
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found = {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    found = {
                        full if (full := f'{node.module}.{alias.name}')
                        in known else node.module for alias in node.names}
                else:
                    continue
                # A package of the importer's own is no circle.
                graph[module] |= {
                    name for name in found & known
                    if not f'{module}.'.startswith(f'{name}.')}
        return graph


class DialectTest(base.BaseTestCase):

    def test_annotations_are_postponed(self):
        # The entry point on management servers runs with Python 3.6.
        without = [
            module for path, module in _modules().items()
            if module != 'xen44_driver.cloudstack.entrypoint'
            and len(ast.parse(path.read_text()).body) > 1
            and 'from __future__ import annotations' not in path.read_text()]
        self.assertEqual([], without)

    def test_fields_are_sentences(self):
        """Fields of docstrings end in a full stop."""
        wrong = []
        for path, module in _modules().items():
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                    text = ast.get_docstring(node) or ''
                    wrong += [
                        f'{module}.{node.name}: {field.strip()}'
                        for field in re.findall(
                            r'^:(?:param|ivar|raises|returns)\b.*?'
                            r'(?=^:(?:param|ivar|raises|returns)\b|^$|\Z)',
                            text, re.M | re.S)
                        if not field.strip().endswith('.')]
        self.assertEqual([], wrong)
