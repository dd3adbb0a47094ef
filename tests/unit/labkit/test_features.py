# SPDX-License-Identifier: Apache-2.0
"""What Tempest is told of the driver."""

import configparser
import io

import fixtures
from nova import conf

from labkit import features
from labkit import release
from labkit.cloud import settings
from tests.unit.labkit import base

#: Every option of the group in Tempest 47, which the lab's constraints name.
TEMPEST_47 = {
    'attach_encrypted_volume', 'block_migration_for_live_migration',
    'can_migrate_between_any_hosts', 'change_password', 'cold_migration',
    'config_drive', 'console_output', 'dhcp_domain', 'disk_config',
    'enable_instance_password', 'hostname_fqdn_sanitization', 'ide_bus',
    'interface_attach', 'live_migrate_back_and_forth', 'live_migration',
    'metadata_service', 'nova_policy_roles', 'pause', 'personality',
    'rescue', 'resize', 'scheduler_enabled_filters', 'serial_console',
    'shelve', 'shelve_migrate', 'snapshot', 'spice_console',
    'stable_rescue', 'suspend', 'swap_volume', 'unified_limits',
    'vnc_console', 'volume_backed_live_migration', 'volume_multiattach',
    'vtpm_live_migration',
}


def matrix(**cells):
    """A support matrix of the rows that the options follow, all missing.

    :param cells: the column x86-pv of some rows, by the last word of their
        name.
    """
    found = configparser.ConfigParser(interpolation=None)
    for column, title in (('x86-pv', 'x86 PV'), ('x86-hvm', 'x86 HVM')):
        found[f'driver.{column}'] = {'title': title}
    for rule in features.OPTIONS.values():
        for name in getattr(rule, 'names', ()):
            found[name] = {
                'title': name, 'driver.x86-hvm': 'complete',
                'driver.x86-pv': cells.get(
                    name.rpartition('.')[2].replace('-', '_'), 'missing')}
    return found


class OptionsTest(base.TestCase):

    def on(self, **cells):
        """The options that are true because of some cells."""
        nothing = features.options(matrix())
        return {name for name, value
                in features.options(matrix(**cells)).items()
                if value == 'true' != nothing[name]}

    def test_every_option(self):
        self.assertEqual(35, len(TEMPEST_47))
        self.assertEqual(TEMPEST_47, set(features.OPTIONS))
        self.assertIn('\ntempest==47.',
                      release.CURRENT.constraints.read_text())

    def test_both_ways(self):
        self.assertEqual({'suspend'},
                         self.on(suspend='complete', resume='partial'))
        self.assertEqual(set(), self.on(suspend='complete'))
        self.assertEqual({'pause'},
                         self.on(pause='complete', unpause='complete'))

    def test_what_is_not_proven_is_not_there(self):
        self.assertEqual(set(), self.on(snapshot='unknown'))

    def test_partly(self):
        self.assertEqual({'resize'}, self.on(resize='partial'))
        self.assertEqual({'resize', 'cold_migration'},
                         self.on(resize='complete'))
        self.assertEqual({'snapshot', 'shelve'}, self.on(snapshot='partial'))
        self.assertEqual(
            {'snapshot', 'shelve', 'shelve_migrate', 'resize',
             'cold_migration'},
            self.on(snapshot='complete', resize='complete'))
        self.assertEqual({'rescue'}, self.on(rescue='partial'))

    def test_another_guest_type(self):
        # Only PV guests lack a screen and IDE disks.
        known = matrix(rescue='complete')
        self.assertEqual('false', features.options(known)['ide_bus'])
        self.assertEqual('false', features.options(known)['vnc_console'])
        known = features.options(known, 'x86-hvm')
        self.assertEqual('true', known['ide_bus'])
        self.assertEqual('true', known['vnc_console'])

    def test_an_incomplete_matrix(self):
        known = matrix()
        del known['operation.pause']
        self.assertRaises(KeyError, features.options, known)
        self.assertRaises(KeyError, features.options, matrix(), 'riscv')

    def test_filters_are_novas(self):
        option = conf.CONF.filter_scheduler._group._opts['enabled_filters']
        self.assertEqual(
            option['opt'].default,
            features.OPTIONS['scheduler_enabled_filters'].value.split(','))


class MainTest(base.TestCase):
    """What another cloud is told: the driver's part."""

    def test_the_rows_of_a_guest_type(self):
        known = features.load()
        for column in ('x86-pv', 'x86-hvm'):
            out = self.output()
            features.main([column])
            wanted = features.options(known, column)
            self.assertEqual(
                [f'{name}={wanted[name]}'
                 for name, rule in features.OPTIONS.items()
                 if isinstance(rule, features.Rows)],
                out.getvalue().splitlines())

    def test_no_such_guest_type(self):
        self.useFixture(fixtures.MonkeyPatch('sys.stderr', io.StringIO()))
        self.assertRaises(SystemExit, features.main, ['x86-none'])


class SkippedTest(base.TestCase):

    def test_a_reason_for_each(self):
        known = matrix(pause='complete', unpause='complete')
        off = {name for name, value in features.options(known).items()
               if value == 'false'}
        why = features.skipped(known)
        self.assertEqual(off, set(why))
        for reason in why.values():
            self.assertTrue(reason.endswith('.'), reason)

    def test_reasons(self):
        why = features.skipped(matrix(rescue='partial'))
        self.assertEqual(
            'Not for x86 PV guests. "operation.rescue" is partial for x86 PV '
            'guests. Only HVM guests have IDE disks.', why['ide_bus'])
        self.assertEqual('The cloud has one version of nova-compute.',
                         why['live_migrate_back_and_forth'])


class LabTest(base.TestCase):
    """The lab's own tempest.conf."""

    def test_from_the_matrix(self):
        wanted = features.options(features.load())
        text = settings.render_one(
            release.CURRENT.templates / 'tempest.conf',
            _Names(compute_features='\n'.join(
                f'{name} = {value}' for name, value in wanted.items())))
        parser = configparser.ConfigParser(
            interpolation=None, default_section='')
        parser.read_string(text)
        self.assertEqual(wanted, dict(parser['compute-feature-enabled']))


class _Names(dict):
    """Gives a template a value for every name."""

    def __missing__(self, name):
        return name
