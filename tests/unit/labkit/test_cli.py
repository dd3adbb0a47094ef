# SPDX-License-Identifier: Apache-2.0
"""The command line: options, exit statuses, errors."""

import dataclasses
import io
import signal

import fixtures

from labkit import cli
from labkit import compute
from labkit import guest
from labkit import image
from labkit import images
from labkit import network
from labkit import qemu
from labkit import util
from labkit.cloud import settings
from tests.unit.labkit import base


class MainTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.patch(util, 'need_root', lambda: None)
        handler = signal.getsignal(signal.SIGTERM)
        self.addCleanup(signal.signal, signal.SIGTERM, handler)
        self.errors = io.StringIO()
        self.useFixture(fixtures.MonkeyPatch('sys.stderr', self.errors))

    def test_check(self):
        self.patch(network, 'refuse_beside_another', lambda: None)
        self.assertEqual(0, cli.main(['check']))

    def test_an_error_shows_the_end_of_its_log(self):
        log = self.directory / 'log'
        log.write_text('why\n')

        def refuse():
            raise util.LabError('another lab runs', log)

        self.patch(network, 'refuse_beside_another', refuse)
        for command in ('check', 'up'):
            self.assertEqual(1, cli.main([command]))
        self.assertIn('xenlab: another lab runs', self.errors.getvalue())
        self.assertIn('  | why\n', self.errors.getvalue())

    def test_build(self):
        built = []
        self.output()
        for module, name in ((image, 'get'), (qemu, 'command'),
                             (guest, 'small_guest'),
                             (guest, 'debian_guest')):
            self.patch(module, name, lambda name=name: built.append(name))
        cloud = images.Cloud.__new__(images.Cloud)
        cloud.install = lambda: built.append('install')
        self.patch(images, 'Cloud', lambda: cloud)
        self.assertEqual(0, cli.main(['build']))
        usual = ['command', 'get', 'install', 'small_guest']
        self.assertEqual(usual, sorted(built))
        self.assertEqual(0, cli.main(['build', '--all']))
        self.assertEqual(sorted([*usual, *usual, 'debian_guest']),
                         sorted(built))

    def test_join(self):
        joined = []
        self.output()
        self.useFixture(fixtures.MonkeyPatch(
            'labkit.host.XenHost.check', lambda _: None))
        self.patch(compute, 'join',
                   lambda host, venv, cloud: joined.append(
                       (host.name, str(venv), cloud)))
        cloud = {field.name: field.name
                 for field in dataclasses.fields(settings.Foreign)}
        whole = '\n'.join(f'{name}={name}' for name in cloud)
        for text, status in (('', 1), ('{}', 1), ('address=a\n', 1),
                             (f'{whole}\nheight=1', 1), (whole, 0)):
            self.useFixture(fixtures.MonkeyPatch(
                'sys.stdin', io.StringIO(text)))
            self.assertEqual(
                status, cli.main(['join', '--venv', '/venv']), text)
        self.assertEqual(
            [('xen1', '/venv', settings.Foreign(**cloud))], joined)
        self.assertIn('standard input', self.errors.getvalue())

    def test_an_interrupt(self):
        def interrupt():
            raise KeyboardInterrupt

        self.patch(network, 'refuse_beside_another', interrupt)
        self.assertEqual(130, cli.main(['check']))

    def test_unknown_words_are_refused(self):
        for words in (['fly'], ['up', '--high'], ['gate', '--quick',
                                                  '--full']):
            ended = self.assertRaises(SystemExit, cli.main, words)
            self.assertEqual(2, ended.code)

    def test_a_host_that_is_none(self):
        self.assertEqual(1, cli.main(['ssh', 'xen9']))
        self.assertIn('no such host: xen9', self.errors.getvalue())
