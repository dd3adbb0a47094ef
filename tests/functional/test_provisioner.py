# SPDX-License-Identifier: Apache-2.0
"""The double of the provisioner does what CloudStack's own tests state."""

import json
import pathlib

import fixtures
from oslotest import base

from labkit import provisioner

VM_KEYS = {'virtualmachineid', 'virtualmachinename', 'cloudstack.vm.details'}


class PayloadTest(base.BaseTestCase):

    def test_keys(self):
        for version in provisioner.VERSIONS:
            for action in ('create', 'stop', 'ListSnapshots'):
                found = provisioner.payload(action, version)
                self.assertEqual({'externaldetails', *VM_KEYS},
                                 {*found} - {'caller', 'action'})
                self.assertEqual(version != '4.21', 'caller' in found)
                self.assertNotIn('caller', found['externaldetails'])
        # Of no VM.
        self.assertEqual({'externaldetails', 'caller'},
                         {*provisioner.payload('statuses')})

    def test_merge(self):
        vm = provisioner.payload('prepare')['cloudstack.vm.details']
        [nic] = vm['nics']
        found = provisioner.merged(vm, {
            'details': {'External:a': 'b'},
            'nics': [{'uuid': nic['uuid'], 'mac': '00:16:3e:5a:0c:11'}]})
        self.assertEqual(
            {**vm, 'details': {**vm['details'], 'External:a': 'b'},
             'nics': [{**nic, 'mac': '00:16:3e:5a:0c:11'}]}, found)
        self.assertEqual([1], provisioner.merged([{'uuid': 1}], [1]))


class AnswerTest(base.BaseTestCase):

    def test_power_state(self):
        for text, state in (
                ('{"power_state": "PowerOn"}', 'on'),
                ('{"power_state": "poweroff"}', 'off'), ('PowerOn', 'on'),
                ('{"state": "PowerOn"}', 'unknown'), ('{', 'unknown'),
                ('', 'unknown'), ('running', 'unknown')):
            self.assertEqual(
                state, provisioner.Answer(True, text).power_state, text)
        self.assertEqual(
            'unknown', provisioner.Answer(False, 'PowerOn').power_state)

    def test_report(self):
        states = '"power_state": {"i-1-2-VM": "PowerOff"}}'
        self.assertEqual({'i-1-2-VM': 'off'}, provisioner.Answer(
            True, '{"status": "Success", ' + states).report)
        for text in ('', '{', '{"status": "error", ' + states,
                     '{"status": "success"}'):
            self.assertIsNone(provisioner.Answer(True, text).report, text)

    def test_console(self):
        console = {'host': '127.0.0.1', 'port': 5900, 'password': 'pass',
                   'protocol': 'vnc'}
        self.assertEqual(console, provisioner.Answer(
            True, json.dumps({'console': console})).console)
        for text, words in (('{}', 'Missing console object'),
                            ('{"console": {"host": "a"}}',
                             'Missing required fields')):
            error = self.assertRaises(AssertionError, getattr,
                                      provisioner.Answer(True, text),
                                      'console')
            self.assertIn(words, str(error))


class RunTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        place = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.entry, self.payloads = place / 'entry', place / 'payloads'
        self.payloads.mkdir()
        self.server = provisioner.Provisioner(self.entry, self.payloads)
        self.script('cat "$2"')

    def script(self, text):
        self.entry.write_text(f'#!/bin/sh\n{text}\n')
        self.entry.chmod(0o755)

    def test_payload_file(self):
        payload = self.server.payload('status')
        self.assertEqual(payload, self.server.run('status', payload).json)
        self.assertEqual([], list(self.payloads.iterdir()))
        self.assertTrue(self.server.act('start').success)
        self.script('echo sorry; exit 3')
        self.assertEqual('Exit code: 3, Output: sorry',
                         self.server.act('status').text)
        self.assertEqual(2, len(list(self.payloads.iterdir())))

    def test_entry_that_cannot_be_run(self):
        self.entry.chmod(0o644)
        self.assertIn('not executable', self.server.act('status').text)
        self.entry.unlink()
        self.assertIn('not executable', self.server.act('status').text)
        self.assertEqual([], list(self.payloads.iterdir()))
