# SPDX-License-Identifier: Apache-2.0
"""Horizon: what it is made of, its settings, and who drives a browser."""

import ast
import contextlib
import re
import sys
from unittest import mock

from labkit import cli
from labkit import config
from labkit import demo
from labkit import horizon
from labkit import network
from labkit import release
from labkit import util
from labkit.cloud import dashboard
from labkit.cloud import install
from labkit.cloud import services
from tests.unit.labkit import base

#: Answers each request with what it was, until it is told to fail or to end.
ANSWERS = '''#!{python}
import json
import sys
for line in sys.stdin:
    what, arguments = json.loads(line)
    if what == 'end':
        break
    print(json.dumps([[what, arguments, sys.argv[1:]],
                      'broken' if what == 'fail' else '']), flush=True)
'''


def names(path):
    """Names of the packages that pip's file has a version of."""
    return {re.sub('[-_.]+', '-', name).lower() for name
            in re.findall(r'^([\w.-]+)==', path.read_text(), re.MULTILINE)}


class InstallTest(base.TestCase):

    def test_versions(self):
        """Each package has one, in one file alone."""
        common = names(release.CURRENT.constraints)
        own = names(release.CURRENT.dashboard_constraints)
        self.assertEqual(set(), common & own)
        self.assertEqual(
            set(), set(release.CURRENT.dashboard_packages) - common - own)

    def test_a_venv_of_its_own(self):
        before = dashboard.venv_path()
        self.assertEqual(before, dashboard.venv_path())
        self.assertNotEqual(install.venv_path(), before)
        self.patch(release, 'CURRENT', release.Release(
            release.CURRENT.name, (), ('horizon',)))
        self.assertNotEqual(before, dashboard.venv_path())

    def test_built_once(self):
        made = []
        venv = config.CACHE / 'venv-x'
        self.patch(util, 'say', lambda *_: None)

        def make():
            made.append(list(venv.parent.glob('venv-x')))
            venv.mkdir()
            if len(made) == 1:
                raise util.LabError('no network')

        self.assertRaises(util.LabError, install.ensure, venv, 'x', make)
        install.ensure(venv, 'x', make)
        install.ensure(venv, 'x', make)
        # What a build left that failed is thrown away.
        self.assertEqual([[], []], made)


class SettingsTest(base.TestCase):

    def test_settings(self):
        dashboard._write_settings(self.directory / 'horizon',
                                  self.directory / 'static')
        path = self.directory / 'horizon/local/local_settings.py'
        self.assertEqual(0o600, path.stat().st_mode & 0o777)
        text = path.read_text()
        self.assertNotIn('${', text)
        known = {}
        for node in ast.parse(text).body:
            if isinstance(node, ast.Assign):
                with contextlib.suppress(AttributeError, ValueError):
                    known[node.targets[0].id] = ast.literal_eval(node.value)
        self.assertEqual([config.CONTROLLER_IP], known['ALLOWED_HOSTS'])
        self.assertEqual(str(self.directory / 'static'),
                         known['STATIC_ROOT'])
        self.assertNotIn('DEBUG', known)
        # A file beside it, not here.
        self.assertNotIn('SECRET_KEY', known)
        self.assertIn(f'{self.directory}/horizon/secret_key', text)
        # Python prefers a package to a directory without this file.
        self.assertTrue((path.parent / '__init__.py').exists())

    def test_service(self):
        service = services.horizon(
            self.directory, self.directory / 'static', dashboard.DIRECTORY)
        self.assertIn(f'{config.CONTROLLER_IP}:80', service.argv)
        self.assertIn(f'/static={self.directory}/static', service.argv)
        self.assertTrue(service.url.endswith('/auth/login/'))
        # The others are what a lab needs.
        self.assertNotIn(service.name, {
            one.name for one in services.openstack(self.directory)})


class CommandsTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.done = []
        self.output()
        self.patch(util, 'need_root', lambda: None)
        for name in ('start', 'stop'):
            self.patch(dashboard, name,
                       lambda name=name: self.done.append(name))

    def test_start_and_stop(self):
        self.patch(network, 'exists', lambda: True)
        self.assertEqual(0, cli.main(['horizon']))
        self.assertEqual(0, cli.main(['horizon', '--stop']))
        self.assertEqual(['start', 'stop'], self.done)

    def test_the_lab_is_down(self):
        self.patch(network, 'exists', lambda: False)
        self.assertEqual(1, cli.main(['horizon']))
        self.assertEqual([], self.done)

    def test_demo(self):
        """It runs on, and this machine's browsers reach it."""
        self.patch(demo, '_xenlab',
                   lambda *argv: self.done.append(' '.join(argv)))
        self.patch(demo, 'Cloud', lambda: self)
        self.client = lambda: None
        self.patch(demo.images, 'ensure', lambda *_: None)
        self.patch(demo, 'Servers', lambda *_: mock.Mock(
            named=lambda prefix: {}))
        self.patch(demo, '_launch', lambda *_: {})
        self.patch(demo, '_show', lambda *_: None)
        out = self.output()
        self.assertEqual(0, cli.main(['demo', '--web']))
        self.assertEqual(['up --arch x86_64', 'horizon', 'node'], self.done)
        self.assertIn(f'{dashboard.URL}\n', out.getvalue())
        self.assertIn(f'OS_PASSWORD in {config.STATE}/openrc', out.getvalue())
        self.assertIn('horizon --stop', out.getvalue())


class VisitTest(base.TestCase):

    def setUp(self):
        super().setUp()
        python = self.directory / 'python'
        python.write_text(ANSWERS.format(python=sys.executable))
        python.chmod(0o700)
        self.patch(config, 'PYTHON', str(python))
        self.pictures = self.directory / 'pictures'
        self.visit = self.useContext(
            horizon.Visit('http://x/', self.pictures))

    def useContext(self, manager):
        self.addCleanup(manager.__exit__, None, None, None)
        return manager.__enter__()

    def test_answers(self):
        self.assertEqual(
            ['launch', {'name': 'a'}, [
                '-m', 'labkit.horizon', 'http://x/', str(self.pictures)]],
            self.visit.do('launch', name='a'))

    def test_failures(self):
        """The browser is still there, until it has ended."""
        error = self.assertRaises(util.LabError, self.visit.do, 'fail')
        self.assertEqual('fail: broken', str(error))
        self.visit.do('launch')
        error = self.assertRaises(util.LabError, self.visit.do, 'end')
        self.assertIn('has ended', str(error))

    def test_methods(self):
        """What tests of the gate ask for is there."""
        text = (config.CHECKOUT / 'tests/gate/alone/test_horizon.py'
                ).read_text()
        asked = set(re.findall(r"visit\.do\(\s*'(\w+)'", text))
        self.assertIn('log_in', asked)
        self.assertEqual(
            set(), {name for name in asked
                    if not hasattr(horizon.Pages, name)})
