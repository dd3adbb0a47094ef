# SPDX-License-Identifier: Apache-2.0
"""The loaders that boot guests' own disks."""

import os

import fixtures
from oslo_config import cfg
from oslo_config import fixture as config_fixture

from tests.unit import base
from xen44_driver import conf
from xen44_driver.core import loaders
from xen44_driver.xen import arch
from xen44_driver.xen import grub
from xen44_driver.xen.guesttype import GuestType

PV, PVH, HVM = GuestType.PV, GuestType.PVH, GuestType.HVM


class ChooseTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.conf = self.useFixture(
            config_fixture.Config(cfg.ConfigOpts())).conf
        conf.register_opts(self.conf)
        self.own = self.useFixture(fixtures.TempDir()).path
        self.conf.set_override(
            'loader_directory', self.own, group='xen44_x86_64')

    def choose(self, *kinds):
        found = loaders.choose(
            arch.load('x86_64'), self.conf.xen44_x86_64, kinds)
        return {kind: loader and loader.path
                for kind, loader in found.items()}

    def test_distributions(self):
        self.assertEqual(
            {PV: grub.path(grub.DISTRIBUTION, 'x86_64-xen'),
             PVH: grub.path(grub.DISTRIBUTION, 'i386-xen_pvh')},
            self.choose(PV, PVH))

    def test_own(self):
        own = os.path.join(self.own, 'grub-x86_64-xen.bin')
        with open(own, 'wb') as file:
            file.write(b'grub')
        self.assertEqual({PV: own}, self.choose(PV))

    def test_configured(self):
        self.conf.set_override(
            'pv_loader', '/srv/loader', group='xen44_x86_64')
        self.assertEqual({PV: '/srv/loader'}, self.choose(PV))

    def test_firmware(self):
        self.assertEqual({}, self.choose(HVM))
