# SPDX-License-Identifier: Apache-2.0
"""What a flavor says of disks, and what a guest's QEMU is told."""

import fixtures
from nova import exception

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import disklimits
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen import qmp

DISKS = (domain.Disk(target='hda', source='/disk', format='qcow2'),
         domain.Disk(target='hdd', source='/iso', device='cdrom'))
LIMITS = disklimits.Limits(read_bytes_sec=1024, write_iops_sec=7)
THROTTLE = {'bps': 0, 'bps_rd': 1024, 'bps_wr': 0,
            'iops': 0, 'iops_rd': 0, 'iops_wr': 7}


class FlavorTest(base.TestCase):

    def limits(self, **specs):
        return disklimits.of_flavor(base.instance(extra_specs={
            f'quota:disk_{name}': value
            for name, value in specs.items()}).flavor)

    def test_none(self):
        self.assertEqual(disklimits.NONE, self.limits())
        self.assertEqual(disklimits.NONE, self.limits(total_iops_sec='0'))

    def test_each(self):
        for name in ('read_bytes_sec', 'write_bytes_sec', 'total_bytes_sec',
                     'read_iops_sec', 'write_iops_sec', 'total_iops_sec'):
            self.assertEqual(disklimits.Limits(**{name: 10 ** 15}),
                             self.limits(**{name: str(10 ** 15)}))
        self.assertEqual(LIMITS, self.limits(
            read_bytes_sec='1024', write_iops_sec='7'))

    def test_total_of_one_and_parts_of_the_other(self):
        self.assertEqual(
            disklimits.Limits(total_bytes_sec=1, read_iops_sec=2),
            self.limits(total_bytes_sec='1', read_iops_sec='2'))

    def test_refused(self):
        for value in ('-1', 'many', '', '1.5', '\u0661', str(10 ** 15 + 1)):
            raised = self.assertRaises(exception.InvalidInput, self.limits,
                                       total_iops_sec=value)
            self.assertIn('quota:disk_total_iops_sec', str(raised))
            self.assertIn('allowed: 0', str(raised))

    def test_total_and_parts(self):
        for unit in ('bytes', 'iops'):
            for part in ('read', 'write'):
                raised = self.assertRaises(
                    exception.InvalidInput, self.limits,
                    **{f'total_{unit}_sec': '1', f'{part}_{unit}_sec': '2'})
                self.assertIn(f'quota:disk_{part}_{unit}_sec', str(raised))


class SpecsTest(base.TestCase):
    """What Cinder's QoS specs ask for."""

    def test_limits(self):
        limits = disklimits.of_specs({
            'read_bytes_sec': '1024', 'read_bytes_sec_max': 2048,
            'write_iops_sec': '7', 'size_iops_sec': '4096',
            # An array's own.
            'minIOPS': '100'})
        self.assertEqual({
            **THROTTLE, 'bps_rd_max': 2048, 'iops_size': 4096},
            limits.throttle())
        self.assertEqual(disklimits.NONE, disklimits.of_specs({'x': 'y'}))

    def test_refused(self):
        for specs, says in (
                ({'total_iops_sec': 'many'}, "total_iops_sec 'many'"),
                ({'total_iops_sec': '1', 'read_iops_sec': '1'},
                 'read_iops_sec; allowed: a total'),
                ({'read_iops_sec_max': '5'}, 'with read_iops_sec'),
                ({'read_iops_sec': '6', 'read_iops_sec_max': '5'},
                 'read_iops_sec_max 5')):
            raised = self.assertRaises(
                exception.InvalidInput, disklimits.of_specs, specs)
            self.assertIn(says, str(raised))

    def test_flavors_have_no_bursts(self):
        self.assertEqual(disklimits.NONE, disklimits.of_flavor(base.instance(
            extra_specs={'quota:disk_read_iops_sec_max': '5'}).flavor))


class QemuTestCase(base.TestCase):
    """A QEMU with an emulated disk, the PV disk beside it, and a CD-ROM.

    :ivar devices: throttle and node of each device.
    """

    def setUp(self):
        super().setUp()
        self.devices = {'ide': ({}, '#block1', '/disk'),
                        'pv': ({}, 'hda-qcow2', '/disk'),
                        'cd': ({}, '#block2', '/iso')}
        self.obeys = True
        self.useFixture(fixtures.MockPatchObject(
            privsep, 'execute_monitor', side_effect=self.execute))

    def execute(self, uuid, commands, timeout, domid):
        self.assertEqual(base.UUID, uuid)
        (command, arguments), = commands
        if command == 'query-block':
            return [[{'device': '', 'qdev': device, 'inserted': {
                'node-name': node, 'file': path, **throttle,
                'image': {'virtual-size': 1}}}
                for device, (throttle, node, path) in self.devices.items()]]
        device = arguments.pop('id')
        if device == 'ide':
            self.unplug()
        if device not in self.devices or not self.obeys:
            raise qmp.CommandFailed(command, 'GenericError', 'no such device')
        self.devices[device][0].update(arguments)
        return [{}]

    def unplug(self):
        pass

    def throttles(self):
        return {device: throttle
                for device, (throttle, *_) in self.devices.items()}


class ApplyTest(QemuTestCase):

    def apply(self, limits=LIMITS, volumes=None):
        disklimits.apply(base.UUID, DISKS, limits, volumes or {})

    def test_both_devices_of_a_disk(self):
        self.apply()
        self.assertEqual({'ide': THROTTLE, 'pv': THROTTLE, 'cd': {}},
                         self.throttles())

    def test_none(self):
        self.devices.clear()
        self.apply(disklimits.NONE)

    def test_volume(self):
        """It has its own, not the flavor's."""
        volume = domain.Disk(target='xvde', source='/volume',
                             serial=base.VOLUME)
        self.devices['volume'] = {}, 'xvde-raw', '/volume'
        disklimits.apply(
            base.UUID, (*DISKS, volume), LIMITS,
            {base.VOLUME: disklimits.Limits(total_iops_sec=9,
                                            total_iops_sec_max=12)})
        self.assertEqual(THROTTLE, self.throttles()['pv'])
        self.assertEqual(
            {**dict.fromkeys(THROTTLE, 0), 'iops': 9, 'iops_max': 12},
            self.throttles()['volume'])
        disklimits.apply(base.UUID, [volume], LIMITS, {})
        self.assertEqual(9, self.throttles()['volume']['iops'])

    def test_emulated_disk_is_unplugged_meanwhile(self):
        self.unplug = lambda: self.devices.pop('ide')
        self.apply()
        self.assertEqual({'pv': THROTTLE, 'cd': {}}, self.throttles())

    def test_not_taken(self):
        self.obeys = False
        self.assertIn('#block1', str(
            self.assertRaises(errors.OperationFailed, self.apply)))

    def test_disk_is_missing(self):
        del self.devices['ide'], self.devices['pv']
        self.assertIn('hda', str(
            self.assertRaises(errors.OperationFailed, self.apply)))
