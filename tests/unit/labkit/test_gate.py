# SPDX-License-Identifier: Apache-2.0
"""Counting results, and the tables made of them."""

import pathlib
import re
from unittest import mock

from labkit import browser
from labkit import ceph
from labkit import config
from labkit import gate
from labkit import guest
from labkit import installpage
from labkit import nvme
from labkit import stockguest
from labkit import util
from labkit import volumes
from labkit.cloud import dashboard
from tests.unit.labkit import base

SUMMARY = """\
Totals
======
Ran: 12 tests in 100.0000 sec.
 - Passed: 9
 - Skipped: 1
 - Expected Fail: 0
 - Unexpected Success: 1
 - Failed: 1
"""


class ResultTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.patch(gate, 'REPORT', self.state / 'gate/report.tsv')
        self.out = self.output()

    def result(self, **values):
        return gate.Result('guests', pathlib.Path('/log/guests'), **values)

    def test_stestrs_summary(self):
        result = self.result()
        for line in SUMMARY.splitlines():
            result.read(line)
        self.assertEqual((9, 2, 1),
                         (result.passed, result.failed, result.skipped))

    def test_a_report(self):
        status = gate.report([self.result(passed=9, seconds=61.4),
                              self.result(passed=2, failed=1)])
        self.assertEqual(1, status)
        self.assertIn('\n11 passed, 1 failed\n', self.out.getvalue())
        self.assertEqual(
            ['guests\t61\tpassed\t9\t0\t/log/guests',
             'guests\t0\tFAILED\t2\t1\t/log/guests'],
            gate.REPORT.read_text().splitlines())

    def test_status(self):
        self.assertEqual(0, gate.report([self.result(passed=1)]))
        self.assertEqual(1, gate.report([]))
        self.assertEqual(1, gate.report([self.result(skipped=3)]))


class TierTest(base.TestCase):

    def test_attributes(self):
        for name in ('tests.gate.test_debian.Debian.test_x[slow]',
                     'a.B.test_x[abc,slow,xyz]'):
            self.assertTrue(gate.has_attribute(name, 'slow'), name)
        for name in ('a.B.test_slow', 'a.B.test_x[slower]', 'a.slow.test_x',
                     'a.B.test_x[unhurried]'):
            self.assertFalse(gate.has_attribute(name, 'slow'), name)


class NeedsTest(base.TestCase):
    """What only some tests need is made and installed only for them."""

    def test_tiers(self):
        names = ('tests.gate.test_guests.PV.test_x',
                 'tests.gate.test_iso.Iso.test_x[unhurried]',
                 'tests.gate.test_guests.PV.test_y[slow]')
        next(self.needed(*names))
        said = []
        self.patch(util, 'say', said.append)
        for many, options in (
                (1, {'hurry': True}), (2, {}), (3, {'full': True}),
                (3, {'pattern': 'x'})):
            list(gate.run_gate(mock.Mock(venv='/venv'), **options))
            chosen = (self.directory / 'guests').read_text().split()
            self.assertEqual(list(names[:many]), chosen, options)
        self.assertEqual(['In a hurry, without:', f'  {names[1]}'], said)

    def test_order(self):
        """What may end the lab comes last."""
        needed = self.needed('tests.gate.test_uefi.Uefi.test_x',
                             'tests.gate.test_volumes.PV.test_x',
                             'tests.gate.alone.test_spice.X.test_x',
                             'tests.gate.test_guests.PV.test_x')
        next(needed)
        self.assertEqual(['guests', 'alone', 'volumes', 'tempest', 'uefi'],
                         self.parts)

    def needed(self, *names):
        needed = []
        self.patch(gate, '_names', lambda cloud, pattern: list(names))
        self.patch(gate, 'RESULTS', self.directory)
        self.patch(gate, 'run_part', lambda *args: args[1])
        self.patch(guest, 'debian_guest', lambda: needed.append('debian'))
        self.patch(dashboard, 'install', lambda: needed.append('horizon'))
        self.patch(util, 'need_packages', lambda *debs: needed.extend(debs))
        self.patch(volumes, 'start',
                   lambda host, cloud: needed.append(host.name))
        self.patch(volumes, 'stop',
                   lambda host: needed.append(f'{host.name} is stopped'))
        for full in (False, True):
            self.parts = list(gate.run_gate(
                mock.Mock(venv='/venv'), full=full,
                tempest=lambda: 'tempest'))
            yield list(needed)
            needed.clear()

    def test_hosts_of_another_kind(self):
        """Only what needs them is tried there, and nowhere else."""
        names = ('tests.gate.test_nested.Nested.test_x[slow]',
                 'tests.gate.test_two_level.TwoLevel.test_x[slow]',
                 'tests.gate.test_guests.PV.test_x')
        for kind, parts in (('', ['guests', 'tempest']),
                            ('nested', ['nested']), ('pci', []),
                            ('two-level', ['two-level']), ('fresh', [])):
            self.patch(config, 'KIND', kind)
            list(self.needed(*names))
            self.assertEqual(parts, self.parts)

    def test_browser(self):
        self.assertEqual([[], list(browser.PACKAGES)], list(self.needed(
            'tests.gate.test_guests.HVM.test_screen',
            'tests.gate.test_guests.HVM.test_screen_in_a_browser[slow]')))

    def test_tools(self):
        self.assertEqual(
            [[], list(gate.TOOLS['tests.gate.test_uefi.'])],
            list(self.needed(
                'tests.gate.test_guests.HVM.test_screen',
                'tests.gate.test_uefi.Uefi.test_x[slow]')))

    def test_volumes(self):
        self.assertEqual([[], ['xen1', 'xen1 is stopped']], list(self.needed(
            'tests.gate.test_guests.PV.test_volume',
            'tests.gate.test_volumes.PV.test_attach[slow]')))

    def test_rbd(self):
        """What dom0 gets is unpacked where there are downloads."""
        self.patch(ceph, 'client', lambda: needed.append('client'))
        needed = []
        ran = self.needed('tests.gate.test_guests.PV.test_x',
                          'tests.gate.test_volumes_rbd.X.test_x[slow]')
        next(ran)
        self.assertEqual([], needed)
        self.assertEqual([*ceph.PACKAGES, 'xen1', 'xen1 is stopped'],
                         next(ran))
        self.assertEqual(['client'], needed)

    def test_nvme(self):
        self.patch(nvme, 'tools', lambda: needed.append('tools'))
        needed = []
        ran = self.needed('tests.gate.test_guests.PV.test_x',
                          'tests.gate.test_volumes_nvme.X.test_x[slow]')
        next(ran)
        self.assertEqual([], needed)
        self.assertEqual(['xen1', 'xen1 is stopped'], next(ran))
        self.assertEqual(['tools'], needed)

    def test_install_page(self):
        """What pip builds the driver with is fetched before."""
        self.patch(config, 'KIND', 'fresh')
        self.patch(installpage, 'build_requirements',
                   lambda: needed.append('wheels'))
        needed = []
        ran = self.needed('tests.gate.test_fresh.Wheel.test_x[slow]')
        next(ran)
        self.assertEqual((['wheels'], ['fresh']), (needed, self.parts))

    def test_debian(self):
        self.assertEqual([[], ['debian']], list(self.needed(
            'tests.gate.test_guests.HVM.test_screen',
            'tests.gate.test_debian.Debian.test_x[slow]')))

    def test_stock_debian(self):
        """Each that is booted, and no other."""
        built = []
        self.patch(stockguest, 'stock_guest', built.append)
        ran = self.needed('tests.gate.test_stock_debian.Trixie.test_x[slow]',
                          'tests.gate.test_stock_debian.BookwormI386.'
                          'test_x[slow]')
        next(ran)
        self.assertEqual([], built)
        next(ran)
        self.assertEqual(['trixie', 'i386'], built)

    def test_horizon(self):
        self.assertEqual([[], ['horizon', *browser.PACKAGES]], list(
            self.needed('tests.gate.test_guests.HVM.test_screen',
                        'tests.gate.alone.test_horizon.Horizon.'
                        'test_host_in_a_browser[slow]')))

    def test_a_guest_cannot_be_built(self):
        """The tests of all others run."""
        needed = self.needed('tests.gate.test_debian.Debian.test_x[slow]',
                             'tests.gate.test_guests.PV.test_x')
        next(needed)
        self.patch(guest, 'debian_guest', mock.Mock(
            side_effect=util.LabError('mmdebstrap failed')))
        said = []
        self.patch(util, 'say', said.append)
        next(needed)
        self.assertEqual(['guests', 'tempest'], self.parts)
        self.assertEqual(['mmdebstrap failed'], said)


class TempestListTest(base.TestCase):

    def expressions(self, name):
        lines = (gate.TESTS / name).read_text().splitlines()
        return [re.compile(line) for line in lines
                if line and not line.startswith('#')]

    def test_the_whole_has_all_of_the_first_tier(self):
        whole = self.expressions(gate.FULL_TEMPEST)
        for one in self.expressions(gate.TEMPEST):
            name = one.pattern.lstrip('^').replace('\\.', '.')
            self.assertTrue(any(other.search(name) for other in whole), name)
