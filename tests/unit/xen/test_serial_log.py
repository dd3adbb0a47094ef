# SPDX-License-Identifier: Apache-2.0
"""The serial port of an HVM guest, as an argument of QEMU."""

import dataclasses

from lxml import etree
from oslotest import base

from tests.unit.xen import specs
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen.arch.x86_64 import X86_64
from xen44_driver.xen.domain import console

LOG = '/instances/console.log'
SOCKET = '/run/xen44/serial'
OTHERS = ('-chardev', 'socket,id=x44', '-mon', 'chardev=x44')


class SerialLogTest(base.BaseTestCase):

    def test_qemu_appends(self):
        _, chardev, _, serial = console.arguments(LOG)
        self.assertIn(f'path={LOG},append=on', chardev)
        self.assertTrue(serial.startswith('chardev:'))
        self.assertEqual((), console.arguments(None))

    def test_libvirt_is_not_told_of_it_as_well(self):
        # It would be a second serial port, and the file emptied.
        text = domain.to_xml(specs.HVM, X86_64())
        devices = etree.fromstring(text).find('devices')
        self.assertEqual([], devices.findall('serial'))
        self.assertEqual([], devices.findall('console'))

    def test_read_back(self):
        for log in (LOG, None):
            spec = dataclasses.replace(specs.HVM, serial_log=log)
            self.assertEqual(spec, domain.from_xml(
                domain.to_xml(spec, X86_64()), X86_64()))

    def test_read_back_beside_others(self):
        devices = etree.fromstring('<devices/>')
        for qemu in (console.arguments(LOG) + OTHERS,
                     OTHERS + console.arguments(LOG)):
            self.assertEqual((LOG, None), console.from_xml(devices, qemu))

    def test_socket(self):
        _, chardev, *serial = console.arguments(LOG, SOCKET)
        self.assertEqual(list(console.arguments(LOG)[2:]), serial)
        # The log is written as well, and is not emptied.
        for part in (f'path={SOCKET}', 'server=on,wait=off',
                     f'logfile={LOG}', 'logappend=on'):
            self.assertIn(part, chardev)
        self.assertEqual((LOG, SOCKET), console.from_xml(
            etree.fromstring('<devices/>'), (*OTHERS, '-chardev', chardev,
                                             *serial)))

    def test_refused(self):
        path = 'an absolute path without ".."'
        for field, says, values in (
                ('serial_socket', 'without a serial_log',
                 {'serial_log': None}),
                ('serial_socket', path, {'serial_socket': 'relative'}),
                ('serial_socket', f"{path} or ','",
                 {'serial_socket': '/a,b'}),
                ('agent_socket', f"{path} or ','",
                 {'agent_socket': '/a,b'})):
            error = self.assertRaises(
                errors.SpecError, dataclasses.replace, specs.HVM,
                **{'serial_socket': SOCKET, **values})
            self.assertEqual(field, error.field)
            self.assertIn(says, str(error))
        self.assertRaises(errors.SpecError, dataclasses.replace, specs.PV,
                          serial_log=LOG, serial_socket=SOCKET)

    def test_of_other_shapes(self):
        devices = etree.fromstring('<devices/>')
        _, chardev, *serial = console.arguments(LOG)
        for qemu in ((), OTHERS, ('-chardev', chardev),
                     ('-chardev', chardev, '-mon', 'chardev=x44'),
                     ('-chardev', 'file,path=/x', *serial)):
            self.assertEqual((None, None), console.from_xml(devices, qemu))

    def test_of_an_older_domain(self):
        devices = etree.fromstring(
            f'<devices><serial type="file"><source path="{LOG}"/>'
            '</serial></devices>')
        self.assertEqual((LOG, None), console.from_xml(devices, ()))
