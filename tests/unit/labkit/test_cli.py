# SPDX-License-Identifier: Apache-2.0
"""The command line: options, exit statuses, errors."""

import dataclasses
import io
import signal
from unittest import mock

import fixtures

from labkit import arch
from labkit import cli
from labkit import compute
from labkit import config
from labkit import guest
from labkit import images
from labkit import network
from labkit import util
from labkit.cloud import dashboard
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
        self.patch(arch, 'get', lambda name: mock.Mock(
            dom0_image=lambda: built.append(f'dom0 {name}'),
            program=mock.Mock(command=lambda: built.append('qemu'))))
        self.patch(guest, 'small_guest',
                   lambda name: built.append(f'guest {name}'))
        self.patch(guest, 'debian_guest', lambda: built.append('debian'))
        self.patch(dashboard, 'install', lambda: built.append('horizon'))
        cloud = images.Cloud.__new__(images.Cloud)
        cloud.install = lambda: built.append('install')
        self.patch(images, 'Cloud', lambda: cloud)
        self.assertEqual(0, cli.main(['build']))
        usual = ['dom0 x86_64', 'guest x86_64', 'install', 'qemu']
        self.assertEqual(usual, sorted(built))
        built.clear()
        self.assertEqual(0, cli.main(['build', '--all']))
        self.assertEqual(sorted([*usual, 'debian', 'horizon']), sorted(built))
        built.clear()
        self.assertEqual(0, cli.main(['build', '--arch', 'aarch64']))
        self.assertEqual(['dom0 aarch64', 'guest aarch64', 'install', 'qemu'],
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
        for words in (['fly'], ['up', '--high'],
                      ['up', '--arch', 'riscv64'], ['gate', '--quick',
                                                  '--full']):
            ended = self.assertRaises(SystemExit, cli.main, words)
            self.assertEqual(2, ended.code)

    def test_an_architecture_that_is_none(self):
        self.patch(config, 'ARCHITECTURE', 'riscv64')
        self.assertEqual(1, cli.main(['check']))
        self.assertIn('XENLAB_ARCH=riscv64: no such architecture (there are: '
                      'x86_64 aarch64)', self.errors.getvalue())

    def test_a_host_that_is_none(self):
        for name in ('xen9', 'arm5'):
            self.assertEqual(1, cli.main(['ssh', name]))
            self.assertIn(f'no such host: {name}', self.errors.getvalue())

    def test_ssh_into_the_host_that_runs(self):
        self.useFixture(fixtures.MonkeyPatch(
            'labkit.host.XenHost.running',
            property(lambda host: host.name == 'arm1')))
        called = []
        self.patch(cli, '_exec_in_netns', called.append)
        for words in (['ssh', 'true'], ['ssh', 'arm1', '--', 'true']):
            cli.main(words)
            self.assertEqual(['root@192.168.144.15', 'true'],
                             called.pop()[-2:])
        self.assertEqual(1, cli.main(['ssh', 'xen1', 'true']))
        self.assertIn('xen1 is down', self.errors.getvalue())

    def test_up_starts_hosts_of_one_architecture(self):
        started = []
        self.output()
        self.patch(network, 'refuse_beside_another', lambda: None)
        self.patch(cli, '_start_host', lambda host: started.append(host.name))
        for words in ([], ['--arch', 'aarch64']):
            self.assertEqual(0, cli.main(['up', '--host-only', *words]))
        self.assertEqual(['xen1', 'arm1'], started)

    def test_down_stops_the_host_alone(self):
        ended = []
        self.output()
        self.useFixture(fixtures.MonkeyPatch(
            'labkit.host.XenHost.running',
            property(lambda host: host.name == 'xen1')))
        self.useFixture(fixtures.MonkeyPatch(
            'labkit.host.XenHost.stop', lambda host: ended.append(host.name)))
        self.patch(network, 'down', lambda: ended.append('network'))
        self.patch(cli, 'Cloud', lambda: mock.Mock(
            stop=lambda: ended.append('cloud')))
        self.assertEqual(0, cli.main(['down', '--host-only']))
        self.assertEqual(['xen1'], ended)
        ended.clear()
        self.assertEqual(0, cli.main(['down']))
        self.assertEqual(['cloud', 'xen1', 'network'], ended)
