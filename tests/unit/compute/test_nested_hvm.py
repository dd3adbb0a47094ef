# SPDX-License-Identifier: Apache-2.0
"""Guests that run guests: who may, and what their domains have.

A domain stands in data/golden.
"""

import json
import os
from unittest import mock

import fixtures
from nova import exception

from tests.unit import base
from tests.unit.compute import golden
from tests.unit.compute import test_machine
from xen44_driver.compute import checks
from xen44_driver.compute import machine
from xen44_driver.compute import privileges
from xen44_driver.compute import proof
from xen44_driver.xen import domain
from xen44_driver.xen import errors

ASKED = {'xen44:nested_hvm': 'true'}
POSSIBLE = {'nested_hvm_problem': None}
DAY = 'Thu Sep 11 10:00:00 UTC 2025'
HERE = proof.Platform(xen='4.20.4', build=DAY, cpu='EPYC')


class RefuseTest(test_machine.MachineCase):

    def case(self, specs, options=POSSIBLE):
        return golden.Case(extra_specs=specs, options=options)

    def refused(self, error, says, specs, options=POSSIBLE):
        raised = self.assertRaises(
            error, self.case(specs, options).machine)
        for text in says:
            self.assertIn(text, str(raised))

    def test_other_guest_types(self):
        for kind in ('pv', 'pvh'):
            self.refused(
                exception.InvalidInput,
                ("asks for xen44:nested_hvm 'true'",
                 f'allowed for a {kind} guest: false'),
                {**ASKED, 'xen44:guest_type': kind})

    def test_not_a_boolean(self):
        self.refused(exception.InvalidInput,
                     ("xen44:nested_hvm 'svm'", 'true, false'),
                     {'xen44:nested_hvm': 'svm'})

    def test_hosts_without_it(self):
        self.refused(exception.InvalidInput,
                     ('asks for xen44:nested_hvm,', 'it is off'), ASKED, {})
        self.refused(exception.InvalidInput, ('probe-nested',), ASKED,
                     {'nested_hvm_problem': 'run xen44-host probe-nested'})

    def test_not_asked(self):
        for specs in ({}, {'xen44:nested_hvm': 'no'}):
            made = self.case(specs, {}).machine()
            self.assertFalse(made.nested_hvm)
            # As records of older versions of the driver are.
            self.assertNotIn('nested_hvm', made.to_json())

    def test_record(self):
        made = self.case(ASKED).machine()
        self.assertTrue(made.nested_hvm)
        self.assertEqual(made, machine.Machine.from_json(made.to_json()))

    def test_instance_of_an_older_version(self):
        """It has done without it."""
        made = machine.adopt(
            base.instance(extra_specs=ASKED), None, self.options(),
            present={'disk.qcow2'})
        self.assertFalse(made.nested_hvm)

    def test_another_cpu(self):
        """Such as after a move to another host."""
        case = self.case(ASKED)
        with mock.patch.object(
                golden.spec, 'Options', lambda **values: _without(values)):
            raised = self.assertRaises(exception.InvalidInput, case.spec)
        self.assertIn('xen44:nested_hvm', str(raised))
        self.assertIn('neither svm nor vmx', str(raised))

    def test_bad_domains(self):
        good = self.case({}, {}).spec()
        self.assertRaises(errors.SpecError, golden.dataclasses.replace, good,
                          nested_hvm='avx')
        pvh = golden.CASES['pvh_x86_64_grub'].spec()
        self.assertRaises(errors.SpecError, golden.dataclasses.replace, pvh,
                          nested_hvm='svm')

    def test_intel(self):
        spec = golden.dataclasses.replace(
            self.case({}, {}).spec(), nested_hvm='vmx')
        arch = golden.arch.load('x86_64')
        text = domain.to_xml(spec, arch)
        self.assertIn('<feature policy="require" name="vmx"/>', text)
        self.assertEqual(spec, domain.from_xml(text, arch))


_Options = golden.spec.Options


def _without(values):
    return _Options(**{**values, 'nested_feature': None})


class ProofTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.directory = self.useFixture(fixtures.TempDir()).path
        self.patch(proof, 'DIRECTORY', os.path.join(self.directory, 'new'))
        self.patch(proof, '_XEN', self.directory)
        self.patch(proof, '_CPUS', self.write(
            'cpuinfo', 'processor\t: 0\nmodel\t\t: 1\n'
            'model name\t: AMD EPYC 7763\nmodel name\t: other\n'))
        for name, text in (('version/major', '4\n'), ('version/minor', '20\n'),
                           ('version/extra', '.4\n'),
                           ('compilation/compile_date', f'{DAY}\n')):
            self.write(name, text)

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w') as file:
            file.write(text)
        return path

    def problem(self, firmware=''):
        return proof.NESTED_HVM.problem(proof.platform(firmware))

    def test_platform(self):
        self.assertEqual(
            proof.Platform(xen='4.20.4', build=DAY, cpu='AMD EPYC 7763'),
            proof.platform())

    def test_none_yet(self):
        self.assertIn('probe-nested', self.problem())
        # It is removed although there is none.
        proof.NESTED_HVM.forget()

    def test_kept(self):
        proof.NESTED_HVM.keep(proof.platform())
        self.assertIsNone(self.problem())
        self.assertEqual(['nested-hvm.json'], os.listdir(
            proof.DIRECTORY))
        # nova-compute can read it.
        self.assertEqual(0o644, os.stat(proof.NESTED_HVM.path).st_mode & 0o777)
        proof.NESTED_HVM.forget()
        self.assertIn('probe-nested', self.problem())

    def test_of_something_else(self):
        for name, text, says in (
                ('version/extra', '.5', 'Xen 4.20.5'),
                ('compilation/compile_date', 'Fri', 'Xen 4.20.5 (Fri)'),
                ('cpuinfo', 'model name : Xeon', 'on Xeon')):
            proof.NESTED_HVM.keep(proof.platform())
            self.write(name, text)
            problem = self.problem()
            self.assertIn('it was tried with Xen 4.20', problem)
            self.assertIn(says, problem)
            self.assertIn('probe-nested', problem)

    def test_of_another_firmware(self):
        proof.UEFI.keep(proof.platform('a' * 64))
        self.assertIsNone(proof.UEFI.problem(proof.platform('a' * 64)))
        self.assertIn('with firmware bbbbbbbbbbbb: run xen44-host probe-uefi',
                      proof.UEFI.problem(proof.platform('b' * 64)))
        # The other proof is another file.
        self.assertIn('probe-nested', self.problem())

    def test_not_xen(self):
        proof.NESTED_HVM.keep(proof.platform())
        os.unlink(os.path.join(self.directory, 'version/minor'))
        self.assertIsNone(proof.platform())
        self.assertIn('not the dom0', self.problem())

    def test_damaged(self):
        for text in ('', '[]', '{"works": true}', json.dumps({'xen': '4'})):
            self.write('new/nested-hvm.json', text)
            self.assertIn('cannot be read', self.problem(), text)

    def test_cannot_be_kept(self):
        self.patch(os, 'rename', mock.Mock(side_effect=OSError('full')))
        self.assertRaises(OSError, proof.NESTED_HVM.keep, HERE)
        self.assertEqual([], os.listdir(proof.DIRECTORY))


class NodeTest(base.TestCase):
    """What an operator allows, and what was seen."""

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MockPatchObject(privileges, 'start'))
        self.node = base.node()
        self.proof = self.useFixture(fixtures.MockPatchObject(
            proof.Proof, 'problem', return_value=None)).mock

    def check(self):
        check, = (check for check in checks.HostChecks(self.node).others
                  if check.key == 'nested-hvm')
        return check.problems()

    def allow(self):
        self.flags(nested_hvm=True, group='xen44_x86_64')

    def test_off(self):
        self.assertEqual('it is off ([xen44_x86_64] nested_hvm)',
                         self.node.nested_hvm_problem())
        self.proof.assert_not_called()
        self.assertEqual([], self.check())

    def test_allowed_and_seen(self):
        self.allow()
        self.assertIsNone(self.node.nested_hvm_problem())
        self.assertIsNone(self.node.machine_options().nested_hvm_problem)
        self.assertEqual('svm', self.node.spec_options().nested_feature)
        self.assertEqual([], self.check())

    def test_allowed_and_not_seen(self):
        """The option alone is not enough."""
        self.allow()
        self.proof.return_value = 'not yet'
        self.assertEqual('not yet', self.node.nested_hvm_problem())
        self.assertEqual(
            ['flavors with xen44:nested_hvm are refused: not yet'],
            self.check())

    def test_cpu(self):
        self.allow()
        caps = base.host_capabilities()
        for features, found in (({'vmx'}, 'vmx'), ({'pni'}, None)):
            self.node.host.capabilities.return_value = (
                golden.dataclasses.replace(
                    caps, cpu_features=frozenset(features)))
            self.assertEqual(
                found, self.node.spec_options().nested_feature)
            self.assertEqual(
                None if found else 'the CPU has neither svm nor vmx',
                self.node.nested_hvm_problem())
