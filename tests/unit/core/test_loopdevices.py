# SPDX-License-Identifier: Apache-2.0
"""Loop devices that ended guests have left."""

import os
from unittest import mock

import fixtures

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.core import loopdevices
from xen44_driver.core import monitor
from xen44_driver.xen import loops
from xen44_driver.xen import programs


class LoopsCase(base.TestCase):

    def setUp(self):
        super().setUp()
        self.sysfs = self.useFixture(fixtures.TempDir()).path
        self.useFixture(fixtures.MockPatchObject(loops, 'SYSFS', self.sysfs))
        self.useFixture(fixtures.MockPatchObject(
            privsep.sys_admin_pctxt, 'client_mode', False))
        self.run = self.useFixture(fixtures.MockPatchObject(
            programs, 'run', side_effect=self.losetup)).mock

    def losetup(self, *command):
        """As the program: the device is free then."""
        self.assertEqual(('losetup', '--detach'), command[:2])
        name = os.path.basename(command[2])
        os.unlink(os.path.join(self.sysfs, name, 'loop', 'backing_file'))

    def make(self, name, file, uuid=base.UUID):
        """A loop device of a file beside those of an instance."""
        directory = os.path.join(self.sysfs, name, 'loop')
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, 'backing_file'), 'w') as entry:
            entry.write(f'{self.instances}/{uuid}{file}\n')

    def names(self):
        return sorted(loop.name for loop in loops.found())


class FoundTest(LoopsCase):

    def test_of_an_instance(self):
        for file in ('/disk.raw', '/disk.raw (deleted)', '_resize/disk.raw',
                     '_del/disk.eph0 (deleted)', '_resize_del/disk.config'):
            self.make('loop3', file)
            self.assertEqual(
                [loops.Loop(name='loop3', instances=self.instances,
                            uuid=base.UUID)], list(loops.found()))

    def test_others(self):
        os.makedirs(os.path.join(self.sysfs, 'loop0'))
        os.makedirs(os.path.join(self.sysfs, 'sda'))
        self.make('loop1', '.img')
        self.make('loop2', '/a/b')
        self.make('loop4', '/disk.raw', uuid='somebody')
        self.assertEqual([], list(loops.found()))
        self.assertIsNone(loops.read('loop0'))


class WaitTest(LoopsCase):

    def setUp(self):
        super().setUp()
        self.now = 0.0
        self.removes_at = None
        clock = self.useFixture(fixtures.MockPatchObject(
            loopdevices, 'time')).mock
        clock.monotonic = lambda: self.now
        clock.sleep = self.sleep

    def sleep(self, seconds):
        self.now += seconds
        if self.removes_at is not None and self.now >= self.removes_at:
            for name in self.names():
                self.losetup('losetup', '--detach', f'/dev/{name}')

    def test_none(self):
        self.make('loop3', '/disk.raw', uuid=base.IMAGE)
        loopdevices.wait_until_removed(base.UUID, 300)
        self.assertEqual((0, ['loop3']), (self.now, self.names()))

    def test_libxl_removes_it(self):
        self.make('loop3', '/disk.raw')
        self.removes_at = 3
        # Who waits for the QEMU waits for that, too.
        monitor.wait_until_closed(base.UUID)
        self.run.assert_not_called()
        self.assertAlmostEqual(3, self.now, delta=0.3)

    def test_left_behind(self):
        self.make('loop3', '/disk.raw')
        self.make('loop4', '/disk.raw', uuid=base.IMAGE)
        loopdevices.wait_until_removed(base.UUID, 300)
        self.run.assert_called_once_with(
            'losetup', '--detach', '/dev/loop3')
        self.assertAlmostEqual(loopdevices.PATIENCE, self.now, delta=0.5)
        self.assertEqual(['loop4'], self.names())

    def test_does_not_go(self):
        self.make('loop3', '/disk.raw')
        for failure in (OSError('busy'), [None]):
            self.run.side_effect = failure
            self.run.reset_mock()
            self.now = 0.0
            raised = self.assertRaises(
                TimeoutError, loopdevices.wait_until_removed, base.UUID, 10)
            self.assertIn('loop3', str(raised))
            self.run.assert_called_once()
            self.assertAlmostEqual(10, self.now, delta=0.5)


class LeftoversTest(LoopsCase):

    def remove(self, *running):
        loopdevices.remove_leftovers(self.instances, running)
        return self.names()

    def test_of_guests_that_do_not_run(self):
        self.make('loop3', '/disk.raw')
        self.make('loop4', '_del/disk.raw (deleted)', uuid=base.IMAGE)
        self.assertEqual(['loop3'], self.remove(base.UUID))
        self.assertEqual([], self.remove())

    def test_of_another_directory(self):
        self.make('loop3', '/disk.raw')
        loopdevices.remove_leftovers('/srv', ())
        self.assertEqual(['loop3'], self.names())

    def test_behind_a_link(self):
        self.make('loop3', '/disk.raw')
        link = os.path.join(self.sysfs, 'link')
        os.symlink(self.instances, link)
        loopdevices.remove_leftovers(link, ())
        self.assertEqual([], self.names())

    def test_failure(self):
        self.make('loop3', '/disk.raw')
        self.make('loop4', '/disk.eph0')
        self.run.side_effect = OSError('no losetup')
        with mock.patch.object(loopdevices.LOG, 'error') as error:
            self.remove()
        self.assertEqual(2, error.call_count)


class PrivsepTest(LoopsCase):

    def test_only_the_domains_own(self):
        self.make('loop3', '/disk.raw')
        privsep.remove_loop('loop3', base.IMAGE)
        privsep.remove_loop('loop4', base.UUID)
        self.assertEqual(['loop3'], self.names())
        privsep.remove_loop('loop3', base.UUID)
        self.assertEqual([], self.names())

    def test_names(self):
        for name in ('sda', '../sda', 'loop', 'loop3p1', 'loop3\n'):
            self.assertRaises(ValueError, privsep.remove_loop, name,
                              base.UUID)
