# SPDX-License-Identifier: Apache-2.0
"""Whether dom0's LVM looks into guests' disks."""

import os

import fixtures
from oslo_concurrency import processutils

from tests.unit import base
from xen44_driver.compute import lvmfilter


class FilterTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.which = self.useFixture(fixtures.MockPatch(
            'shutil.which', return_value='/usr/sbin/lvmconfig')).mock
        self.execute = self.useFixture(fixtures.MockPatch(
            'oslo_concurrency.processutils.execute')).mock
        self.directory = self.useFixture(fixtures.TempDir()).path
        self.useFixture(fixtures.MockPatchObject(
            lvmfilter, 'DEVICES_FILE', os.path.join(self.directory, '{}')))

    def problems(self, own='["a|.*|"]', commands='["a|.*|"]', listed=0):
        # As lvmconfig of LVM 2.03 writes it.
        self.execute.return_value = (
            f'global_filter={own}\nfilter={commands}\n'
            f'use_devicesfile={listed}\ndevicesfile="system.devices"\n', '')
        return list(lvmfilter.problems())

    def test_as_installed(self):
        warning, = self.problems()
        for text in (*lvmfilter.DEVICES, 'global_filter'):
            self.assertIn(text, warning)
        self.assertEqual('--typeconfig', self.execute.call_args.args[1])

    def test_own_devices_only(self):
        for own in ('["a|^/dev/sda|","r|.*|"]', '"r|.*|"',
                    '["a/^\\/dev\\/(nvme0n1|md0)/","r/.*/"]'):
            self.assertEqual([], self.problems(own))
            # Both filters apply.
            self.assertEqual([], self.problems(commands=own))

    def test_some_of_them(self):
        warning, = self.problems('["r|^/dev/(sd|rbd|dm-|loop)|","a|.*|"]')
        self.assertIn('/dev/nvme99n1, /dev/mapper/crypt-volume:', warning)
        self.assertNotIn('/dev/sdzz', warning)

    def test_loop_devices(self):
        """Those of disks that dom0's kernel serves."""
        warning, = self.problems('["a|^/dev/(sda|loop)|","r|.*|"]')
        self.assertIn('such as /dev/loop99:', warning)

    def test_devices_file(self):
        self.assertTrue(self.problems(listed=1))
        with open(os.path.join(self.directory, 'system.devices'), 'w'):
            pass
        self.assertEqual([], self.problems(listed=1))
        self.assertTrue(self.problems(listed=0))

    def test_no_lvm(self):
        self.which.return_value = None
        self.assertEqual([], self.problems())
        self.execute.assert_not_called()

    def test_it_does_not_tell(self):
        self.execute.side_effect = processutils.ProcessExecutionError(
            stderr='no such option')
        warning, = lvmfilter.problems()
        self.assertIn('no such option', warning)
