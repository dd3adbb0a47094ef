# SPDX-License-Identifier: Apache-2.0
"""What a VM becomes, from its payload to libvirt's XML."""

import copy
import dataclasses
import pathlib

import ddt
from oslotest import base

from labkit import provisioner
from tests.unit import schema
from xen44_driver.cloudstack import describe
from xen44_driver.cloudstack import payload as payload_lib
from xen44_driver.storage import layout
from xen44_driver.xen import arch
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen.guesttype import GuestType

GOLDEN = pathlib.Path(__file__).parent / 'golden'
VMS = '/var/lib/xen44/cloudstack'


def options(name='x86_64', **values):
    """The options of a host."""
    architecture = arch.load(name)
    return describe.HostOptions(**{
        'arch': architecture, 'offered': architecture.guest_types,
        'default_guest_type': GuestType.PVH,
        'max_vcpus': {}, 'loaders': {
            kind: f'/boot/{kind}' for kind in architecture.guest_types
            if not architecture.profile(kind).firmware},
        'disk_format': 'qcow2', 'config_drive': True, 'network_mode': 'ovs',
        'network_bridge': None, **values})


def payload(change=None, **details):
    """A payload for a new VM, with other details."""
    values = copy.deepcopy(provisioner.payload('create'))
    values['externaldetails']['virtualmachine'].update(details)
    if change is not None:
        change(values)
    return payload_lib.parse(values)


def decide(payload_, options_):
    return describe.decide(
        payload_.vm(), payload_.root_disk_gb(), options_)


def build(payload_, options_):
    vm = payload_.vm()
    return describe.build(
        vm, payload_.hardware(), decide(payload_, options_).record,
        host=payload_.host, files=layout.InstanceFiles(VMS, vm.uuid),
        options=options_)


#: By the name of the golden file.
CASES = {
    'pv': (payload(guest_type='pv'), options()),
    'pvh': (payload(), options()),
    'hvm': (payload(guest_type='hvm', nic_model='e1000'), options()),
    'kernel': (payload(kernel='vmlinuz', ramdisk='initrd',
                       cmdline='root=/dev/xvda1'), options()),
    'bridge': (payload(config_drive='false'), options(
        network_mode='bridge', disk_format='raw')),
    'aarch64': (payload(lambda values: values[
        'cloudstack.vm.details'].update(arch='aarch64')),
        options('aarch64')),
}


@ddt.ddt
class GoldenTest(base.BaseTestCase):

    @ddt.data(*CASES)
    def test_golden(self, name):
        payload_, options_ = CASES[name]
        text = domain.to_xml(build(payload_, options_), options_.arch)
        schema.assert_valid(text)
        path = GOLDEN / f'{name}.xml'
        self.assertEqual(path.read_text(), text)


class RefusedTest(base.BaseTestCase):

    def refused(self, field, payload_, options_=None):
        error = self.assertRaises(
            errors.SpecError, build, payload_, options_ or options())
        self.assertIn(field, error.field)

    def test_refused(self):
        for field, details in (
                ('image', {'image': ''}), ('image', {'image': '.x'}),
                ('guest_type', {'guest_type': 'kvm'}),
                ('image_format', {'image_format': 'exe'}),
                ('ramdisk', {'ramdisk': 'initrd'}),
                ('kernel', {'kernel': '../vmlinuz'}),
                ('cmdline', {'kernel': 'k', 'cmdline': 'a\nb'}),
                ('nic_model', {'nic_model': 'e1000'}),
                ('root_disk_gb', {'root_disk_gb': '0'}),
                ('config_drive', {'config_drive': 'perhaps'})):
            self.refused(field, payload(**details))

    def test_host(self):
        self.refused('guest_type', payload(guest_type='hvm'),
                     options(offered=(GuestType.PVH,)))
        self.refused('guest_type', payload(),
                     options(loaders={GuestType.PVH: None}))
        self.refused('cpus', payload(), options(
            max_vcpus={GuestType.PVH: 1}))
        build(payload(), options(max_vcpus={GuestType.PVH: 2}))
        self.refused('arch', payload(), options('aarch64'))
        self.refused('network_bridge', payload(lambda values: values[
            'externaldetails']['host'].pop('network_bridge')))
        # Users cannot name another bridge.
        self.refused('network_bridge', payload(lambda values: values[
            'externaldetails'].pop('host'), network_bridge='br0'))

    def test_sizes(self):
        for details, gib in (
                ({}, 12), ({'min_disk_gb': '20'}, 20),
                ({'root_disk_gb': ''}, 0)):
            self.assertEqual(gib * 1024 ** 3, decide(
                payload(**details), options()).record.root.size)
        stored = payload(lambda values: values[
            'cloudstack.vm.details']['details'].update(rootdisksize='7'),
            root_disk_gb='')
        self.assertEqual(7 * 1024 ** 3,
                         decide(stored, options()).record.root.size)

    def test_boot_order(self):
        record = decide(payload(guest_type='hvm'), options()).record
        record = record.with_disk(dataclasses.replace(
            record.disks[1], file='disk.iso', target='hdc'))
        payload_ = payload()
        spec = describe.build(
            payload_.vm(), payload_.hardware(), record, host=payload_.host,
            files=layout.InstanceFiles(VMS, payload_.vm().uuid),
            options=options())
        self.assertEqual(('hd', 'cdrom'), spec.boot.devices)
        self.assertEqual(('hd',), build(
            payload(guest_type='hvm'), options()).boot.devices)
