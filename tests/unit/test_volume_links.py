# SPDX-License-Identifier: Apache-2.0
"""The links to volumes, which root makes."""

import os

import fixtures

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.xen import sockets
from xen44_driver.xen import volumelinks

# The real one.
LINKED = privsep.linked_volumes
OTHER = '2c7a1f0e-6d3b-4e8a-9b57-0d1e2f3a4b5c'


class LinksTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MockPatchObject(
            privsep.sys_admin_pctxt, 'client_mode', False))
        self.run = self.useFixture(fixtures.TempDir()).path
        self.useFixture(fixtures.MockPatchObject(
            sockets, 'DIRECTORY', self.run))
        self.device = os.path.join(self.run, 'sdb')
        self.put(self.device)

    def put(self, path):
        with open(path, 'w'):
            pass

    def link(self, instance=base.UUID):
        return volumelinks.path(instance, base.VOLUME)

    def test_link(self):
        privsep.link_volume(base.UUID, base.VOLUME, self.device)
        self.assertEqual(self.device, os.readlink(self.link()))
        self.assertEqual(
            self.device, privsep.volume_device(base.UUID, base.VOLUME))
        for directory in ('volumes', f'volumes/{base.UUID}'):
            self.assertEqual(0o700, os.stat(os.path.join(
                self.run, directory)).st_mode & 0o777)
        self.put(f'{self.device}2')
        privsep.link_volume(base.UUID, base.VOLUME, f'{self.device}2')
        self.assertEqual(f'{self.device}2', os.readlink(self.link()))
        self.assertEqual([base.VOLUME], os.listdir(
            os.path.dirname(self.link())))

    def test_unlink(self):
        privsep.link_volume(base.UUID, base.VOLUME, self.device)
        self.assertEqual(
            self.device, privsep.unlink_volume(base.UUID, base.VOLUME))
        self.assertIsNone(privsep.unlink_volume(base.UUID, base.VOLUME))
        self.assertEqual(['sdb'], os.listdir(self.run))

    def test_users(self):
        self.assertFalse(privsep.volume_is_linked(base.VOLUME))
        for instance in (base.UUID, OTHER):
            privsep.link_volume(instance, base.VOLUME, self.device)
        # One that leads nowhere is one, too.
        os.unlink(self.device)
        privsep.unlink_volume(base.UUID, base.VOLUME)
        self.assertTrue(privsep.volume_is_linked(base.VOLUME))
        self.assertFalse(privsep.volume_is_linked(OTHER))
        privsep.unlink_volume(OTHER, base.VOLUME)
        self.assertFalse(privsep.volume_is_linked(base.VOLUME))

    def test_of_an_instance(self):
        self.assertEqual([], LINKED(base.UUID))
        privsep.link_volume(base.UUID, base.VOLUME, self.device)
        # As after a kill.
        os.symlink(self.device, f'{self.link()}.new')
        self.assertEqual([base.VOLUME], LINKED(base.UUID))
        self.assertEqual([], LINKED(OTHER))

    def test_no_device(self):
        self.assertRaises(
            FileNotFoundError, privsep.link_volume, base.UUID, base.VOLUME,
            '/nowhere')
        self.assertFalse(os.path.lexists(self.link()))

    def test_only_uuids(self):
        for names in (('..', base.VOLUME), (base.UUID, '../x'),
                      (base.UUID.upper(), base.VOLUME)):
            self.assertRaises(ValueError, volumelinks.path, *names)

    def test_only_disks_are_detached(self):
        self.assertRaises(ValueError, privsep.detach_disk, 1, 'vif0')
