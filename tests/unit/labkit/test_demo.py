# SPDX-License-Identifier: Apache-2.0
"""``lab/demo --cloudstack``."""

import contextlib
import pathlib
import types

import fixtures

from labkit import arch
from labkit import cli
from labkit import cloudstack
from labkit import demo
from labkit import provisioner
from labkit import util
from tests.unit.labkit import base


class CloudStackTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.done = []
        self.left = ''
        key = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'key'
        key.with_suffix('.pub').write_text('ssh-ed25519 AAAA xenlab\n')
        self.patch(cloudstack, 'GUEST_KEY', key)
        self.patch(util, 'need_root', lambda: None)
        self.patch(demo, '_xenlab',
                   lambda *argv: self.done.append(' '.join(argv)))
        self.patch(demo.guest, 'small_guest', lambda architecture: None)
        self.patch(demo.rest, 'lab_namespace', contextlib.nullcontext)
        self.patch(demo, 'hosts', lambda architecture: [types.SimpleNamespace(
            name='xen1', ssh=self.ssh, arch=arch.get(architecture))])

        @contextlib.contextmanager
        def management_server(host):
            self.done.append('set up')
            yield types.SimpleNamespace(act=self.act)
            self.done.append('put back')

        self.patch(cloudstack, 'management_server', management_server)
        self.failing = None

    def ssh(self, argv, check=True):
        return types.SimpleNamespace(
            stdout=self.left if isinstance(argv, str) else '')

    def act(self, action, *, change, **_):
        made = provisioner.payload(action)
        change(made)
        if action == 'create':
            self.details = made['externaldetails']['virtualmachine']
        self.done.append(action)
        if action == self.failing:
            return provisioner.Answer(False, 'Exit code: 1, Output: broken')
        return provisioner.Answer(
            True, '{"status": "success", "message": "xen login:"}')

    def test_order(self):
        self.output()
        self.assertEqual(0, cli.main(['demo', '--cloudstack']))
        self.assertEqual(
            ['up --arch x86_64', 'set up', 'prepare', 'create', 'status',
             'statuses', 'ConsoleLog', 'ConsoleLog', 'stop', 'delete',
             'statuses',
             # Once more, as after a failure.
             'delete', 'put back', 'down'], self.done)
        self.assertNotIn('kernel', self.details)

    def test_arm(self):
        """There the guest does not boot by itself."""
        self.output()
        self.assertEqual(
            0, cli.main(['demo', '--cloudstack', '--arch', 'aarch64']))
        self.assertEqual('up --arch aarch64', self.done[0])
        self.assertEqual(cloudstack.KERNEL, self.details['kernel'])

    def test_failures(self):
        """What was made is removed all the same."""
        self.output()
        self.failing = 'create'
        self.assertEqual(1, cli.main(['demo', '--cloudstack']))
        self.assertEqual(['create', 'delete'], self.done[3:5])
        self.failing, self.left = None, 'i-9-1-VM\n'
        self.assertEqual(1, cli.main(['demo', '--cloudstack']))

    def test_nothing_to_keep(self):
        self.patch(demo.util, 'say', lambda *_: None)
        self.assertRaises(SystemExit, cli.main,
                          ['demo', '--cloudstack', '--keep'])
