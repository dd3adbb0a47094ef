# SPDX-License-Identifier: Apache-2.0
"""The command lines, and the manual's copies of them."""

import configparser
import contextlib
import importlib.util
import io
import os
import pathlib
import re

import fixtures

from tests.unit import base
from xen44_driver.cmd import cli
from xen44_driver.cmd import hostcheck
from xen44_driver.compute import checks
from xen44_driver.compute import privileges

PROJECT = pathlib.Path(__file__).parents[3]


class CommandLineTest(base.TestCase):

    def test_bad_usage(self):
        on = ['maintenance', 'on', '--reason', 'x', '--timeout']
        for argv in ([], ['unknown'], ['check', '--compare'], ['--json'],
                     ['maintenance'], ['maintenance', 'on'],
                     *([*on, bad] for bad in (
                         '0', '-1', '1.5', '86401', '9' * 5000, '²', ''))):
            with (contextlib.redirect_stderr(io.StringIO()),
                  self.subTest(argv)):
                raised = self.assertRaises(SystemExit, cli.host_main, argv)
                self.assertEqual(2, raised.code)

    def test_no_such_configuration(self):
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            status = cli.host_main(['--config-file', '/no/such', 'check'])
        self.assertEqual(2, status)
        self.assertIn('/no/such', err.getvalue())

    def test_configuration(self):
        directory = self.useFixture(fixtures.TempDir()).path
        path = os.path.join(directory, 'nova.conf')
        with open(path, 'w') as file:
            file.write('[xen44]\nconnection_uri = xen:///there\n')
        relative = os.path.relpath(path)
        cli._configure(cli.host_parser().parse_args(
            ['--config-file', relative, 'check']))
        self.assertEqual('xen:///there', cli.CONF.xen44.connection_uri)
        self.assertEqual([path], cli.CONF.config_file)

    def test_scripts(self):
        """What setup.cfg names is there."""
        setup = configparser.ConfigParser()
        setup.read(PROJECT / 'setup.cfg')
        scripts = dict(
            line.split(' = ') for line in setup['entry_points'][
                'console_scripts'].strip().splitlines())
        self.assertEqual(
            {'xen44-cloudstack', 'xen44-host', 'xen44-import',
             'xen44-status'}, {*scripts})
        for place in scripts.values():
            module, name = place.split(':')
            getattr(importlib.import_module(module), name)


class ManualTest(base.TestCase):

    def test_usage_is_current(self):
        self.useFixture(fixtures.EnvironmentVariable('COLUMNS', '40'))
        spec = importlib.util.spec_from_file_location(
            'commands', PROJECT / 'doc' / 'commands.py')
        commands = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(commands)
        for path, content in commands.pages().items():
            self.assertEqual(content, path.read_text(),
                             'run: python doc/commands.py')

    def test_every_check_is_explained(self):
        self.useFixture(fixtures.MockPatchObject(privileges, 'start'))
        page = (PROJECT / 'doc/source/cli/xen44-host.rst').read_text()
        keys = [check.key for check in (
            *hostcheck.FIRST, *checks.HostChecks(base.node()).all)]
        self.assertEqual(
            keys, re.findall(r'^   \* - ``([a-z0-9-]+)``$', page, re.M))
