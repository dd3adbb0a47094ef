# SPDX-License-Identifier: Apache-2.0
"""The calls of CloudStack's API that the manual has are well-formed.

The client ``cs`` makes them, one after the other, and a double of the API
knows the parameters of each and what has been made so far.
"""

import base64
import hashlib
import hmac
import pathlib
import re
import shlex
import urllib.parse
import uuid

import cs
from oslotest import base
from requests_mock.contrib import fixture as requests_mock

from xen44_driver.cloudstack import customactions

MANUAL = (pathlib.Path(__file__).parents[3]
          / 'doc/source/admin/cloudstack.rst').read_text()
ENDPOINT = 'https://cloudstack.example.com/client/api'
KEY, SECRET = 'key', 'secret'

#: Of CloudStack 4.21 and later: what has to be there, what may be, and the
#: word of the manual for what is made. Names of maps end with "[]".
CALLS = {
    'createExtension': (
        'name type', 'description path orchestratorrequirespreparevm state '
        'details[]', 'EXTENSION'),
    'addCluster': (
        'clustername clustertype hypervisor podid zoneid',
        'allocationstate arch extensionid externaldetails[]', 'CLUSTER'),
    'addHost': (
        'hypervisor podid url zoneid',
        'allocationstate clusterid clustername externaldetails[] hosttags '
        'password username', 'HOST'),
    'registerTemplate': (
        'format hypervisor name url',
        'arch displaytext extensionid externaldetails[] isextractable '
        'isfeatured ispublic ostypeid requireshvm zoneid zoneids',
        'TEMPLATE'),
    'createServiceOffering': (
        'name', 'cpunumber cpuspeed displaytext externaldetails[] hosttags '
        'memory offerha', 'OFFERING'),
    'deployVirtualMachine': (
        'serviceofferingid templateid zoneid',
        'displayname externaldetails[] keypair keypairs name networkids '
        'startvm', 'VM'),
    'addCustomAction': (
        'extensionid name', 'allowedroletypes description details[] enabled '
        'errormessage parameters[] resourcetype successmessage timeout',
        'ACTION'),
    'runCustomAction': (
        'customactionid resourceid', 'parameters[] resourcetype', 'JOB'),
}

#: Words of the manual for what exists before.
THERE = ('ZONE', 'POD', 'OSTYPE', 'NETWORK')

#: By parameter, or command and parameter: what it can be.
VALUES = {
    'type': 'Orchestrator|NetworkOrchestrator',
    'hypervisor': 'External', 'format': 'External',
    'clustertype': 'CloudManaged|ExternalManaged',
    'resourcetype': 'VirtualMachine',
    'allowedroletypes': '((Admin|ResourceAdmin|DomainAdmin|User)(,|$))+',
    'timeout': '[0-9]+', 'cpunumber': '[0-9]+', 'memory': '[0-9]+',
    'cpuspeed': '[0-9]+', 'enabled': 'true|false', 'requireshvm': 'true|false',
    'orchestratorrequirespreparevm': 'true|false',
    'parameters[].type': 'STRING|NUMBER|BOOLEAN|DATE',
    'parameters[].required': 'true|false',
    'addCustomAction name': '[a-zA-Z0-9 _-]+',
}


def documented():
    """Yield command and parameters of each call in the manual."""
    text = MANUAL.replace('\\\n', ' ')
    for verb, noun, rest in re.findall(
            r'^ +(create|add|register|deploy|run) ([a-z]+)( .+)$', text, re.M):
        names = {name.lower(): name for name in CALLS}
        yield names.get(f'{verb}{noun}', f'{verb} {noun}'), dict(
            word.split('=', 1) for word in shlex.split(rest))


class ApiTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        #: By id, the manual's word for it.
        self.things = {str(uuid.uuid4()): word for word in THERE}
        self.made = []
        self.useFixture(requests_mock.Fixture()).get(
            ENDPOINT, json=self.answer,
            headers={'Content-Type': 'application/json'})
        self.client = cs.CloudStack(ENDPOINT, key=KEY, secret=SECRET)

    def answer(self, request, _context):
        """What the double of the API does."""
        query = urllib.parse.parse_qsl(
            urllib.parse.urlsplit(request.url).query, strict_parsing=True)
        values = dict(query)
        self.assertEqual(len(query), len(values), 'a parameter is there twice')
        self.check_signature(values)
        for name in ('apiKey', 'response', 'signatureVersion', 'expires'):
            values.pop(name)
        command = values.pop('command')
        required, optional, word = CALLS[command]
        generic = {re.sub(r'\[\d+\]\.?.*', '[]', name) for name in values}
        self.assertEqual(set(), {*required.split()} - generic, command)
        self.assertEqual(set(), generic - {
            *required.split(), *optional.split()}, command)
        for name, value in values.items():
            plain = re.sub(r'\[\d+\]', '[]', name)
            pattern = VALUES.get(f'{command} {plain}') or VALUES.get(plain)
            if pattern:
                self.assertRegex(value, f'^({pattern})$', name)
            if name.endswith(('id', 'ids')):
                self.assertIn(value, self.things, name)
        made = str(uuid.uuid4())
        self.things[made] = word
        self.made.append((command, values))
        return {f'{command.lower()}response': {'id': made}}

    def check_signature(self, values):
        signature = values.pop('signature')
        text = '&'.join(
            f'{name}={urllib.parse.quote(value, safe="*")}' for name, value
            in sorted(values.items(), key=lambda pair: pair[0].lower())
        ).lower()
        self.assertEqual(signature, base64.b64encode(hmac.digest(
            SECRET.encode(), text.encode(), hashlib.sha1)).decode())

    def call(self, command, values):
        # Of several that were made, the last one.
        ids = {word: ident for ident, word in self.things.items()}
        return getattr(self.client, command)(**{
            name: ids.get(value, value) for name, value in values.items()})

    def test_manual(self):
        for command, values in documented():
            self.assertIn(command, CALLS)
            self.call(command, values)
        self.assertEqual({*CALLS}, {command for command, _ in self.made})
        calls = dict(self.made)
        # CloudStack finds the entry point only there.
        self.assertEqual(calls['createExtension']['path'],
                         f'{calls["createExtension"]["name"]}.py')
        self.assertIn('--chown=cloud:cloud /root/'
                      f'{calls["createExtension"]["name"]}/', MANUAL)
        for command, values in self.made:
            if command == 'addCustomAction':
                self.assertIn(values['name'].lower(), customactions.ACTIONS)
            for name in values:
                # The manual tells what each detail is.
                if name.startswith('externaldetails'):
                    self.assertIn(f'``{name.partition(".")[2]}``', MANUAL)

    def test_double_refuses(self):
        """The double is not content with everything."""
        good = {'name': 'xen44', 'type': 'Orchestrator'}
        self.call('createExtension', good)
        for wrong in ({'name': 'x'}, {**good, 'typo': '1'},
                      {**good, 'type': 'orchestrator'}):
            self.assertRaises(AssertionError, self.call, 'createExtension',
                              wrong)
        self.client.secret = 'another'
        self.assertRaises(AssertionError, self.call, 'createExtension', good)
