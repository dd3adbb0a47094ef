# SPDX-License-Identifier: Apache-2.0
"""``xen44-status upgrade check``: what stands against an upgrade."""

import os
import pathlib
import re

import fixtures
from oslo_upgradecheck import upgradecheck

from tests.unit.cmd import base
from tests.unit.compute import golden
from xen44_driver.cmd import upgrade

CODE = upgradecheck.Code
PROJECT = pathlib.Path(__file__).parents[3]


class UpgradeTestCase(base.CommandTestCase):

    def setUp(self):
        super().setUp()
        self.checks = upgrade.Checks()
        self.directory = self.useFixture(fixtures.TempDir()).path

    def configure(self, text, more=''):
        path = os.path.join(self.directory, 'nova.conf')
        os.makedirs(path + '.d', exist_ok=True)
        for name, content in ((path, text), (f'{path}.d/x.conf', more)):
            with open(name, 'w') as file:
                file.write(content)
        upgrade.CONF(['--config-file', path, '--config-dir', f'{path}.d'],
                     project='nova')

    def assert_result(self, code, result, *texts):
        self.assertEqual(code, result.code, result.details)
        for text in texts:
            self.assertIn(text, result.details)


class MachineRecordsTest(UpgradeTestCase):

    def setUp(self):
        super().setUp()
        self.domain = self.libvirt.add(1)
        self.domain.xml = golden.path('pvh_x86_64_grub').read_text(
            encoding='utf-8')

    def test_readable(self):
        self.assertIn('"version":1', self.domain.xml)
        self.assert_result(CODE.SUCCESS, self.checks.machine_records())

    def test_newer(self):
        self.domain.xml = self.domain.xml.replace(
            '"version":1', '"version":2')
        self.assert_result(
            CODE.FAILURE, self.checks.machine_records(),
            self.domain.uuid, 'its version is 2')

    def test_many(self):
        xml = self.domain.xml.replace('"version":1', '"version":2')
        self.domain.xml = xml
        for number in range(2, 13):
            self.libvirt.add(number).xml = xml
        self.assert_result(
            CODE.FAILURE, self.checks.machine_records(), 'and 2 more')

    def test_none(self):
        self.domain.xml = re.sub('<xen44:machine>.*</xen44:machine>', '',
                                 self.domain.xml)
        self.assert_result(CODE.SUCCESS, self.checks.machine_records())

    def test_no_libvirt(self):
        self.stop_libvirt()
        self.assert_result(
            CODE.FAILURE, self.checks.machine_records(), 'refused')


class SettingsTest(UpgradeTestCase):

    OURS = '[DEFAULT]\ncompute_driver = xen44.Xen44Driver\n'

    def test_ours(self):
        self.configure(self.OURS, '[libvirt]\nvirt_type = kvm\n')
        self.assert_result(CODE.SUCCESS, self.checks.settings())

    def test_other_driver(self):
        self.configure('[DEFAULT]\ncompute_driver = libvirt.LibvirtDriver\n')
        self.assert_result(
            CODE.FAILURE, self.checks.settings(), 'libvirt.LibvirtDriver',
            'xen44.Xen44Driver')

    def test_leftovers(self):
        self.configure(self.OURS + '[libvirt]\nvirt_type = xen\n',
                       '[xenserver]\nconnection_url = http://localhost\n')
        self.assert_result(
            CODE.WARNING, self.checks.settings(), 'virt_type = xen',
            '[xenserver]')


class OptionsTest(UpgradeTestCase):

    def test_known(self):
        self.configure('[xen44]\ndisk_format = raw\n[libvirt]\nx = 1\n',
                       '[xen44_privileged]\nthread_pool_size = 8\n')
        self.assert_result(CODE.SUCCESS, self.checks.options())

    def test_unknown(self):
        self.configure('[xen44]\ndisk_fromat = raw\n',
                       '[xen44_sparc]\npv_loader = /x\n')
        self.assert_result(
            CODE.WARNING, self.checks.options(), '[xen44] disk_fromat',
            '[xen44_sparc] pv_loader')


class ReleaseTest(UpgradeTestCase):

    def result(self, version):
        self.patch(upgrade.version, 'version_string', return_value=version)
        return self.checks.release()

    def test_releases(self):
        oldest, newest = upgrade.RELEASES[0], upgrade.RELEASES[-1]
        self.assert_result(CODE.FAILURE, self.result(f'{oldest - 1}.2.0'),
                           f'{oldest}.0.0')
        for release in upgrade.RELEASES:
            self.assert_result(
                CODE.SUCCESS, self.result(f'{release}.1.0.dev7'))
        self.assert_result(CODE.WARNING, self.result(f'{newest + 1}.0.0'),
                           f'{newest + 1}.0.0')

    def test_oldest_is_required(self):
        oldest = upgrade.RELEASES[0]
        self.assertIn(f'nova>={oldest}.0.0',
                      (PROJECT / 'requirements.txt').read_text())
        self.assertIn(f'python3-nova (>= 2:{oldest}~)',
                      (PROJECT / 'etc/debian/control').read_text())
