# SPDX-License-Identifier: Apache-2.0
"""The support matrix says what the driver and the tests of the gate say."""

import ast
import importlib.util
import pathlib
import re

from nova.virt import driver as nova_driver
from oslotest import base
from testtools import matchers

from labkit import features
from xen44_driver import driver

ROOT = pathlib.Path(__file__).parents[2]
GATE = ROOT / 'tests' / 'gate'

#: The class of tests/gate that has a guest for all its tests, by column.
COLUMNS = {'x86-pv': 'test_guests.PV', 'x86-pvh': 'test_guests.PVH',
           'x86-hvm': 'test_guests.HVM', 'arm': 'test_arm.ARM'}
CELLS = {'complete', 'partial', 'unknown', 'missing'}

#: Every row of Nova 2026.2's matrix: what a driver has that supports it,
#: capabilities (``supports_...``, ``has_...``) and methods; nothing where Nova
#: leaves it to what the driver does at spawn.
NOVA_ROWS = {
    'operation.attach-volume': ('attach_volume',),
    'operation.attach-tagged-volume': ('supports_tagged_attach_volume',),
    'operation.detach-volume': ('detach_volume',),
    'operation.extend-volume': ('supports_extend_volume', 'extend_volume'),
    'operation.attach-interface': (
        'supports_attach_interface', 'attach_interface'),
    'operation.attach-tagged-interface': (
        'supports_tagged_attach_interface',),
    'operation.detach-interface': ('detach_interface',),
    'operation.maintenance-mode': ('host_maintenance_mode',),
    'operation.evacuate': ('supports_evacuate',),
    'operation.rebuild': ('spawn', 'destroy'),
    'operation.rebuild-volume-backed': ('attach_volume',),
    'operation.get-guest-info': ('get_info',),
    'operation.get-host-uptime': ('get_host_uptime',),
    'operation.get-host-ip': ('get_host_ip_addr',),
    'operation.live-migrate': (
        'check_can_live_migrate_destination',
        'check_can_live_migrate_source', 'live_migration'),
    'operation.force-live-migration-to-complete': (
        'live_migration_force_complete',),
    'operation.abort-in-progress-live-migration': ('live_migration_abort',),
    'operation.launch': ('spawn',),
    'operation.pause': ('pause',),
    'operation.reboot': ('reboot',),
    'operation.rescue': ('rescue', 'unrescue'),
    'operation.resize': (
        'migrate_disk_and_power_off', 'finish_migration',
        'finish_revert_migration', 'confirm_migration'),
    'operation.resume': ('resume',),
    'operation.set-admin-password': ('set_admin_password',),
    'operation.snapshot': ('snapshot',),
    'operation.suspend': ('suspend',),
    'operation.swap-volume': ('swap_volume',),
    'operation.terminate': ('destroy', 'cleanup'),
    'operation.trigger-crash-dump': ('trigger_crash_dump',),
    'operation.unpause': ('unpause',),
    'guest.disk.autoconfig': (),
    'guest.disk.rate-limit': (),
    'guest.setup.configdrive': ('spawn',),
    'guest.setup.inject.file': (),
    'guest.setup.inject.networking': (),
    'console.rdp': (),
    'console.serial.log': ('get_console_output',),
    'console.serial.interactive': ('get_serial_console',),
    'console.spice': ('get_spice_console',),
    'console.vnc': ('get_vnc_console',),
    'storage.block': ('attach_volume',),
    'storage.block.backend.fibrechannel': ('attach_volume',),
    'storage.block.backend.iscsi': ('attach_volume',),
    'storage.block.backend.iscsi.auth.chap': ('attach_volume',),
    'storage.image': ('spawn',),
    'operation.uefi-boot': (),
    'operation.device-tags': ('supports_device_tagging',),
    'operation.quiesce': ('quiesce',),
    'operation.unquiesce': ('unquiesce',),
    'operation.multiattach-volume': ('supports_multiattach',),
    'operation.encrypted-volume': ('attach_volume',),
    'operation.trusted-certs': ('supports_trusted_certs',),
    'operation.file-backed-memory': ('supports_mem_backing_file',),
    'operation.report-cpu-traits': ('update_provider_tree',),
    'operation.port-with-resource-request': (),
    'operation.boot-encrypted-vm': (),
    'operation.cache-images': ('has_imagecache', 'cache_image'),
    'operation.boot-emulated-tpm': ('supports_vtpm',),
    'operation.boot-stateless-firmware': ('supports_stateless_firmware',),
}

#: Rows whose methods or capabilities other rows need too, or that need more
#: than these: to have them does not mean to support the row.
MORE_THAN_METHODS = {
    'operation.rebuild-volume-backed', 'storage.block.backend.fibrechannel',
    'storage.block.backend.iscsi', 'storage.block.backend.iscsi.auth.chap',
    'operation.encrypted-volume',
    # The method refuses block devices, with a reason.
    'operation.swap-volume',
}


def has(name):
    """Whether our driver has a capability, or a method of its own."""
    if name.startswith(('supports_', 'has_')):
        return bool(driver.Xen44Driver.capabilities.get(name))
    return (getattr(driver.Xen44Driver, name)
            is not getattr(nova_driver.ComputeDriver, name))


def gate_tests():
    """The gate's tests as the matrix names them, without an import.

    A class has those of the classes it is made of, in whatever module of the
    gate they are.
    """
    classes = {}
    for path in GATE.rglob('*.py'):
        module = '.'.join(path.relative_to(GATE).with_suffix('').parts)
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                classes[module, node.name] = node

    def tests(node):
        found = {each.name for each in node.body
                 if isinstance(each, ast.FunctionDef)
                 and each.name.startswith('test_')}
        for name in (ast.unparse(each).rpartition('.')[2]
                     for each in node.bases):
            for (_, other), base_node in classes.items():
                if other == name:
                    found |= tests(base_node)
        return found

    return {f'{module}.{name}.{test}'
            for (module, name), node in classes.items()
            if module.rpartition('.')[2].startswith('test_')
            for test in tests(node)}


class MatrixTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.matrix = features.load()
        self.rows = {name: row for name, row in self.matrix.items()
                     if name in NOVA_ROWS}

    def cells(self):
        for name, row in self.rows.items():
            for column in COLUMNS:
                yield name, column, row[f'driver.{column}']

    def proof(self, name, column):
        return self.rows[name].get(f'tests.{column}', '').split()

    def test_rows_are_novas(self):
        self.assertEqual(59, len(NOVA_ROWS))
        known = {'DEFAULT', *(f'driver.{column}' for column in COLUMNS)}
        self.assertEqual(set(NOVA_ROWS), set(self.matrix) - known)

    def test_keys(self):
        known = {'title', 'status', 'notes', 'cli', *(
            f'{kind}.{column}' for column in COLUMNS
            for kind in ('driver', 'driver-notes', 'tests'))}
        for name, row in self.rows.items():
            self.assertEqual(set(), set(row) - known, name)
            self.assertRegex(
                row['status'],
                r'^(mandatory|optional|choice\(.+\)|condition\(.+\))$', name)

    def test_cells(self):
        for name, column, cell in self.cells():
            with self.subTest(row=name, column=column):
                self.assertIn(cell, CELLS)
                if cell == 'partial':
                    self.assertIn(f'driver-notes.{column}', self.rows[name])
                self.assertEqual(cell in features.PARTIAL,
                                 bool(self.proof(name, column)))

    def test_mandatory_rows(self):
        for name, row in self.rows.items():
            if row['status'] == 'mandatory':
                for column in COLUMNS:
                    self.assertNotEqual(
                        'missing', row[f'driver.{column}'], name)

    def test_proof_exists(self):
        known = gate_tests()
        tempest = [re.compile(line) for line
                   in (GATE / 'tempest.txt').read_text().splitlines()
                   if line and not line.startswith('#')]
        for name, column, _ in self.cells():
            for test in self.proof(name, column):
                with self.subTest(row=name, column=column, test=test):
                    if test.startswith('tempest.'):
                        self.assertEqual(features.COLUMN, column)
                        self.assertTrue(any(
                            one.search(test) for one in tempest))
                        continue
                    self.assertIn(test, known)
                    module, class_name = test.split('.')[:2]
                    of_column, class_of_column = COLUMNS[column].split('.')
                    # An ARM host proves nothing about another, nor they
                    # about it.
                    self.assertEqual(of_column == 'test_arm',
                                     module == 'test_arm')
                    if module == 'test_guests':
                        self.assertThat(
                            class_name,
                            matchers.EndsWith(class_of_column))

    def test_driver_agrees(self):
        for name, wanted in NOVA_ROWS.items():
            supported = any(cell != 'missing' for row, _, cell
                            in self.cells() if row == name)
            there = {each: has(each) for each in wanted}
            with self.subTest(row=name, supported=supported, **there):
                if supported:
                    self.assertTrue(all(there.values()))
                elif wanted and name not in MORE_THAN_METHODS:
                    self.assertFalse(all(there.values()))

    def test_columns_of_the_gate(self):
        known = gate_tests()
        for name in COLUMNS.values():
            self.assertTrue(any(
                test.startswith(f'{name}.') for test in known))


class ManualTest(base.BaseTestCase):
    """The manual's tables are made of the matrix."""

    def test_up_to_date(self):
        script = ROOT / 'doc' / 'matrix.py'
        spec = importlib.util.spec_from_file_location('matrix', script)
        manual = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(manual)
        for path, content in manual.pages().items():
            self.assertEqual(content, path.read_text(),
                             'run: PYTHONPATH=lab python doc/matrix.py')

    def test_every_switch_of_tempest_is_explained(self):
        template = (ROOT / 'lab/openstack/templates/tempest.conf').read_text()
        page = (ROOT / 'doc/source/contributor/tempest.rst').read_text()
        off = re.findall(r'^(\w+) = false$', template, re.M)
        self.assertIn('cinder', off)
        for name in off:
            self.assertIn(f'``{name}``', page)
