# SPDX-License-Identifier: Apache-2.0
"""``xen44-host build-loaders``."""

import json
import os
import types

from tests.unit.cmd import base
from xen44_driver.xen import bootfile
from xen44_driver.xen import grub

BUILT = [bootfile.BootFile(
    path=f'/loaders/grub-{platform}.bin', sha256='ab' * 32)
    for platform in ('x86_64-xen', 'i386-xen_pvh')]


class BuildLoadersTest(base.CommandTestCase):

    def setUp(self):
        super().setUp()
        self.machine('x86_64')
        self.umask = self.patch(os, 'umask')
        self.build = self.patch(grub, 'build', return_value=BUILT)
        self.flags(loader_directory='/loaders', group='xen44_x86_64')

    def machine(self, name):
        self.patch(os, 'uname', lambda: types.SimpleNamespace(machine=name))

    def test_build(self):
        status, text = self.run_host('build-loaders')
        self.assertEqual(0, status)
        self.assertEqual(
            f'{"ab" * 32}  /loaders/grub-x86_64-xen.bin\n'
            f'{"ab" * 32}  /loaders/grub-i386-xen_pvh.bin\n', text)
        self.umask.assert_called_once_with(0o022)
        self.build.assert_called_once_with(
            '/loaders', ['x86_64-xen', 'i386-xen_pvh'])

    def test_json(self):
        status, text = self.run_json('build-loaders')
        self.assertEqual(0, status)
        self.assertEqual(
            {'path': '/loaders/grub-x86_64-xen.bin', 'sha256': 'ab' * 32},
            json.loads(text)['loaders'][0])

    def test_failures(self):
        self.build.side_effect = grub.CannotBuild('no modules')
        self.assertEqual((2, 'xen44-host: no modules\n'),
                         self.run_host('build-loaders'))
        self.machine('aarch64')
        status, text = self.run_host('build-loaders')
        self.assertEqual(2, status)
        self.assertIn('aarch64', text)
        self.patch(os, 'geteuid', lambda: 1)
        self.assertEqual((2, 'xen44-host: run it as root\n'),
                         self.run_host('build-loaders'))
