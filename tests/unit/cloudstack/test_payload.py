# SPDX-License-Identifier: Apache-2.0
"""What CloudStack asks for, and what of it is refused."""

import copy
import json

import ddt
import hypothesis
from hypothesis import strategies as st
from oslotest import base

from labkit import provisioner
from xen44_driver.cloudstack import payload as payload_lib
from xen44_driver.xen import errors

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda part: st.lists(part, max_size=3)
    | st.dictionaries(st.text(), part, max_size=3), max_leaves=6)


def changed(change, action='create'):
    """The payload after a change."""
    values = copy.deepcopy(provisioner.payload(action))
    change(values)
    return payload_lib.parse(values)


def vm_of(values):
    return values['cloudstack.vm.details']


@ddt.ddt
class PayloadTest(base.BaseTestCase):

    @ddt.data(*provisioner.VERSIONS)
    def test_create(self, version):
        payload = payload_lib.parse(provisioner.payload('create', version))
        vm, hardware = payload.vm(), payload.hardware()
        self.assertEqual(
            ('7d1f6a52-93b4-4c0e-8a57-0b6f4c2d9e11', 'i-4-231-VM'),
            (vm.uuid, vm.name))
        self.assertEqual('debian-13-pvh.qcow2', vm.details.file('image'))
        self.assertEqual(12, payload.root_disk_gb())
        self.assertEqual(('x86_64', 2048, 2), (
            hardware.arch, hardware.memory_mib, hardware.vcpus))
        self.assertEqual((payload_lib.Nic(
            mac='02:01:00:d9:00:0a', vlan=1204, default=True, rate_mbps=200,
            addresses=('10.20.0.37/24',), gateways=('10.20.0.1',),
            name_servers=('192.0.2.53', '192.0.2.54')),), hardware.nics)

    def test_keys_may_be_missing(self):
        for action in ('stop', 'delete', 'status', 'CreateSnapshot'):
            for version in provisioner.VERSIONS:
                payload = payload_lib.parse(
                    provisioner.payload(action, version))
                self.assertEqual('i-4-231-VM', payload.vm().name)
                self.assertEqual((), payload.hardware().nics)
        payload_lib.parse({})
        for values in (None, [], 'x', 1):
            if values is not None:
                self.assertRaises(errors.SpecError, payload_lib.parse, values)

    def test_details_refused(self):
        for change, field in (
                (lambda made: made['externaldetails'].update(host=7),
                 'externaldetails.host'),
                (lambda made: made.update(parameters=7), 'parameters')):
            self.assertEqual(field, self.assertRaises(
                errors.SpecError, changed, change).field)
        details = changed(lambda made: made.update(
            parameters={'name': '/'})).parameters
        self.assertEqual('parameters.name', self.assertRaises(
            errors.SpecError, details.file, 'name').field)

    def test_names(self):
        for key, bad in (
                ('virtualmachineid', ('', 'x', '../x', 7, None)),
                ('virtualmachinename', ('', '-x', 'a/b', 'a b', 'a\n', 7,
                                        'x' * 65, None))):
            for value in bad:
                def change(values, key=key, value=value):
                    values[key] = value
                    vm_of(values)['uuid'] = vm_of(values)['name'] = value

                self.assertEqual(key, self.assertRaises(
                    errors.SpecError, changed(change).vm).field)

    def test_nics_in_order(self):
        def change(values):
            [nic] = vm_of(values)['nics']
            vm_of(values)['nics'] = [
                {**nic, 'deviceId': 10, 'broadcastUri': 'vlan://untagged'},
                {**nic, 'deviceId': 9, 'ip': None},
                {'deviceId': 1, 'mac': '02:01:00:D9:00:0B'}]

        nics = changed(change).hardware().nics
        self.assertEqual([None, 1204, None], [nic.vlan for nic in nics])
        self.assertEqual('02:01:00:d9:00:0b', nics[0].mac)
        self.assertEqual((), nics[1].addresses)

    def test_nics_refused(self):
        for key, values in {
                'broadcastUri': ('vxlan://5004', 'vlan://0', 'vlan://4095',
                                 'vlan://1;x', 'vlan://', 7),
                'mac': ('', None, 'x', '02:01:00:d9:00:0a\n'),
                'ip': ('1.2.3', 'x'), 'gateway': ('x',), 'dns1': ('1',),
                'networkRateMbps': ('x', 1.5), 'mtu': (70000,)}.items():
            for value in values:
                payload = changed(lambda made, key=key, value=value: vm_of(
                    made)['nics'][0].update({key: value}))
                error = self.assertRaises(
                    errors.SpecError, payload.hardware)
                self.assertIn('nics[0]', error.field)
                self.assertIn(key, error.field)

    def test_hardware_refused(self):
        for key, values in {
                'maxRam': (0, 'x', None, True, 2 ** 60),
                'cpus': (0, None, 5000), 'bootType': ('UEFI',),
                'arch': (7,), 'nics': ({'a': 1}, [7])}.items():
            for value in values:
                def change(made, key=key, value=value):
                    vm_of(made)[key] = value
                    vm_of(made).pop('minRam')

                error = self.assertRaises(
                    errors.SpecError, changed(change).hardware)
                self.assertIn(key, error.field)

    def test_user_data(self):
        for given, data in (('I2Nsb3VkLWNvbmZpZw==', b'#cloud-config'),
                            ('#!/bin/sh', b'#!/bin/sh'), (None, None)):
            payload = changed(lambda made, given=given: vm_of(made).update(
                vmData=[['metadata', 'x', 'y'],
                        ['userdata', 'user_data', given]]))
            self.assertEqual(data, payload.user_data())

    def test_details(self):
        details = payload_lib.Details(
            {'n': '7', 'number': 8, 'yes': 'TRUE', 'truth': False,
             'kind': 'PVH', 'empty': '', 'list': [1]}, 'here')
        self.assertEqual(
            (7, 8, True, False, 'pvh', None, None), (
                details.number('n', 1, 9), details.number('number', 1, 9),
                details.flag('yes'), details.flag('truth'),
                details.one_of('kind', ('pv', 'pvh')),
                details.file('empty'), details.file('missing')))
        for ask in (lambda: details.number('n', 8, 9),
                    lambda: details.flag('n'), lambda: details.file('list'),
                    lambda: details.one_of('kind', ('pv',))):
            self.assertIn('here.', self.assertRaises(
                errors.SpecError, ask).field)

    def test_passwords_are_not_shown(self):
        payload = payload_lib.parse(provisioner.payload('create'))
        for shown in (repr(payload), repr(payload.hardware())):
            self.assertNotIn('Qm3rT8xL', shown)

    @hypothesis.settings(deadline=None, max_examples=200)
    @hypothesis.given(st.sampled_from([
        ('externaldetails',), ('externaldetails', 'host'),
        ('externaldetails', 'virtualmachine'), ('virtualmachineid',),
        ('virtualmachinename',), ('cloudstack.vm.details',),
        *(('cloudstack.vm.details', name) for name in (
            'cpus', 'maxRam', 'arch', 'bootType', 'details', 'nics',
            'vmData')),
        ('externaldetails', 'virtualmachine', 'image'),
        ('externaldetails', 'virtualmachine', 'root_disk_gb')]), _JSON)
    def test_any_value_is_read_or_refused(self, path, value):
        values = copy.deepcopy(provisioner.payload('create'))
        where = values
        for name in path[:-1]:
            where = where[name]
        where[path[-1]] = value
        try:
            payload = payload_lib.parse(json.loads(json.dumps(values)))
            vm = payload.vm()
            payload.hardware()
            payload.root_disk_gb()
            payload.ssh_keys()
            payload.user_data()
            image = vm.details.file('image')
        except errors.SpecError:
            return
        self.assertRegex(vm.name, r'\A[A-Za-z0-9_-]+\Z')
        self.assertRegex(vm.uuid, r'\A[0-9a-f-]{36}\Z')
        self.assertRegex(image or 'x', r'\A[A-Za-z0-9_][A-Za-z0-9_.+@-]*\Z')
