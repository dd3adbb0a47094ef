# SPDX-License-Identifier: Apache-2.0
"""``xen44-host probe-uefi``: what counts as a start of the firmware."""

import hashlib
import json
import os
import pathlib

from lxml import etree

from tests.unit import schema
from tests.unit.cmd import base
from tests.unit.xen import fake
from xen44_driver.compute import proof

SHELL = ('BdsDxe: failed to load Boot0001\r\n'
         'UEFI Interactive Shell v2.2\r\n')


class ProbeTest(base.CommandTestCase):
    """The guest's serial port says what a test lets it say."""

    def setUp(self):
        super().setUp()
        self.directory = pathlib.Path(self.instances)
        self.patch(proof, 'DIRECTORY', str(self.directory / 'xen44'))
        self.firmware = self.directory / 'OVMF.fd'
        self.firmware.write_bytes(b'firmware')
        self.flags(uefi_firmware=str(self.firmware), group='xen44_x86_64')
        self.patch(proof, 'platform', self.platform)
        self.patch(os, 'umask')
        self.fake_time()
        self.at_sleep = self.write
        #: By the seconds that the guest has run.
        self.said = {}
        self.xml = []
        define = fake.Connection.defineXML

        def defined(connection, xml):
            self.xml.append(xml)
            return define(connection, xml)

        self.patch(fake.Connection, 'defineXML', defined)

    def platform(self, firmware=''):
        return proof.Platform(xen='4.20.4', build='Thu', cpu='EPYC',
                              firmware=firmware)

    def write(self):
        """Write to the console what the guest says then."""
        work, = self.directory.glob('xen44/xen44-uefi-probe-*')
        with open(work / 'console.log', 'a') as file:
            file.write(self.said.pop(self.now, ''))

    def problem(self):
        return proof.UEFI.problem(self.platform(
            hashlib.sha256(self.firmware.read_bytes()).hexdigest()))

    def domains(self):
        return [state.name for state in self.libvirt.domains.values()
                if state.name != 'Domain-0']

    def test_it_starts(self):
        self.said = {1: '\x1b[2J', 3: SHELL}
        status, text = self.run_host('probe-uefi')
        self.assertEqual(0, status, text)
        self.assertEqual(3, self.now)
        self.assertIn('The firmware has started: Xen 4.20.4 (Thu) on EPYC '
                      'with firmware ', text)
        self.assertIsNone(self.problem())
        self.assertEqual([], self.domains())
        # Another build of it has to be tried again.
        self.firmware.write_bytes(b'other')
        self.assertIn('run xen44-host probe-uefi', self.problem())

    def test_its_domain(self):
        self.said = {1: SHELL}
        self.run_host('probe-uefi')
        text, = self.xml
        schema.assert_valid(text)
        domain = etree.fromstring(text)
        self.assertEqual(str(self.firmware), domain.findtext('os/loader'))
        self.assertEqual([], domain.findall('devices/disk'))
        self.assertIsNone(domain.find('metadata'))

    def test_it_does_not_start(self):
        """hvmloader alone, or nothing, is no firmware."""
        self.said = {1: 'HVM Loader\n(d3) Invoking OVMF ...\n'}
        status, text = self.run_json('probe-uefi', '--timeout', '5')
        found = json.loads(text)
        self.assertEqual((1, False, 5), (status, found['works'], self.now))
        self.assertIn('has not said how it went in 5 s', found['problem'])
        self.assertIn('(d3) Invoking OVMF ...', found['console'])
        self.assertIn('has not been seen to start', self.problem())
        self.assertEqual([], self.domains())

    def test_libvirt_starts_another(self):
        """What would be seen is not the firmware that is configured."""
        self.libvirt.lib_version = 9_000_000
        status, text = self.run_host('probe-uefi')
        self.assertEqual(2, status)
        self.assertIn('libvirt 9.0.0 starts the firmware that Xen was built '
                      f'with, and not [xen44_x86_64] uefi_firmware '
                      f'{self.firmware}; 9.2.0 or newer', text)
        self.assertEqual([], self.xml)

    def test_there_is_none(self):
        self.firmware.unlink()
        self.assertEqual(
            (2, 'xen44-host: there is no UEFI firmware for HVM guests: '
             f'[xen44_x86_64] uefi_firmware is {self.firmware}\n'),
            self.run_host('probe-uefi'))
