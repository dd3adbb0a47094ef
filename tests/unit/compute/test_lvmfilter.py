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
        self.execute.assert_called_once_with(
            '/usr/sbin/lvmconfig', '--typeconfig', 'full',
            'devices/global_filter', 'devices/filter',
            'devices/use_devicesfile', 'devices/devicesfile',
            timeout=lvmfilter.TIMEOUT)

    def test_where_the_program_is(self):
        """Also where only administrators have programs, and without PATH."""
        for path in ('/opt/nova/bin', None):
            with fixtures.EnvironmentVariable('PATH', path):
                self.problems()
            directories = self.which.call_args.kwargs['path'].split(':')
            self.assertEqual((path or os.defpath).split(':'),
                             directories[:-2])
            self.assertEqual(['/usr/sbin', '/sbin'], directories[-2:])

    def test_setting_that_lvm_does_not_have(self):
        self.execute.return_value = ('filter="r|.*|"\n', '')
        self.assertEqual([], list(lvmfilter.problems()))
        self.execute.return_value = ('use_devicesfile=0\n', '')
        self.assertEqual(1, len(list(lvmfilter.problems())))

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
