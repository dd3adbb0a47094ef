# SPDX-License-Identifier: Apache-2.0
"""The first boot of Debian's disks, and which of them there are."""

import ast
import pathlib
from unittest import mock

from labkit import gate
from labkit import qemu
from labkit import stockguest
from labkit import util
from tests.unit.labkit import base

GATE = pathlib.Path(__file__).parents[2] / 'gate'


class FinishTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.disk = self.directory / 'disk.raw'
        self.log = self.directory / 'log'
        self.patch(qemu, 'X86_64', mock.Mock(
            **{'command.return_value': ['qemu']}))

    def finish(self, said):
        """Boot the disk once.

        :param said: on its console.
        """
        def run(argv, **options):
            name, = (arg.removeprefix('file:') for arg in map(str, argv)
                     if arg.startswith('file:'))
            pathlib.Path(name).write_text(said)

        self.patch(util, 'run', run)
        stockguest._finish(self.disk, self.directory / 'vmlinuz',
                           self.directory / 'initrd', self.log)

    def test_done(self):
        self.finish('Generating grub configuration file ...\r\ndone\r\n'
                    f'{stockguest.FINISHED}\r\n')
        self.assertIn('Generating grub', self.log.read_text())

    def test_failed(self):
        """What was said is in the log."""
        error = self.assertRaises(util.LabError, self.finish,
                                  'grub-install: error: no device\r\n')
        self.assertEqual(['grub-install: error: no device'],
                         error.last_lines())

    def test_script_says_so(self):
        script = stockguest.RECIPE / 'root/finish'
        self.assertIn(f"echo '{stockguest.FINISHED}'", script.read_text())


class StocksTest(base.TestCase):

    def test_each_has_tests_of_its_own(self):
        tests = ast.parse((GATE / 'test_stock_debian.py').read_text())
        booted = {
            ast.literal_eval(statement.value):
                f'tests.gate.test_stock_debian.{node.name}.'
            for node in tests.body if isinstance(node, ast.ClassDef)
            for statement in node.body if isinstance(statement, ast.Assign)
            and statement.targets[0].id == 'stock'}
        self.assertEqual(booted, gate.STOCK)
        self.assertEqual({*booted}, {*stockguest.STOCKS})
