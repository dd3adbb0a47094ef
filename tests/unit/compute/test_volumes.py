# SPDX-License-Identifier: Apache-2.0
"""Which disk a volume is, and which volumes are refused."""

from nova import exception

from tests.unit import base
from xen44_driver.compute import disklimits
from xen44_driver.compute import machine as machine_lib
from xen44_driver.compute import transports
from xen44_driver.compute import volumes
from xen44_driver.storage import kinds
from xen44_driver.xen import arch
from xen44_driver.xen.diskclass import DiskClass
from xen44_driver.xen.guesttype import GuestType

PROFILE = arch.load('x86_64').profile(GuestType.PVH)


class RecordTest(base.TestCase):

    def record(self, info, disk_class=DiskClass.QEMU):
        return volumes.record(
            base.instance(), info, 'xvdb', PROFILE, None, disk_class)

    def refuse(self, *says, error=exception.InvalidVolume, **info):
        raised = self.assertRaises(
            error, self.record, base.connection_info(**info))
        for text in says:
            self.assertIn(text, str(raised))

    def test_block(self):
        for kind in ('iscsi', 'iser', 'fibre_channel', 'nvmeof', 'rbd',
                     'local'):
            # Whatever it says of the format: it is a device.
            record = self.record(base.connection_info(
                kind=kind, format='qcow2'))
            self.assertEqual(
                ('volume', '/dev/xvdb', 'xvdb', 'raw', True, False),
                (record.kind, record.name, record.target, record.format,
                 record.block, record.readonly))
            self.assertEqual(
                f'/run/xen44/volumes/{base.UUID}/{base.VOLUME}',
                record.file)

    def test_file(self):
        for data, format in (({}, 'raw'), ({'format': 'raw'}, 'raw'),
                             ({'format': 'qcow2'}, 'qcow2')):
            record = self.record(base.connection_info(kind='nfs', **data))
            self.assertEqual((False, format), (record.block, record.format))
            self.assertEqual('file', kinds.load(record, '/').spec().type)

    def test_by_kernel(self):
        self.record(base.connection_info(), DiskClass.KERNEL)
        record = self.record(base.connection_info(kind='nfs'),
                             DiskClass.KERNEL)
        for disk_class in DiskClass:
            disk = kinds.load(record, '/').spec(disk_class)
            self.assertEqual(
                ('file', disk_class is DiskClass.KERNEL),
                (disk.type, disk.by_kernel))
        raised = self.assertRaises(
            exception.InvalidVolume, self.record,
            base.connection_info(kind='nfs', format='qcow2'),
            DiskClass.KERNEL)
        self.assertIn('class kernel: raw', str(raised))
        raised = self.assertRaises(
            exception.InvalidVolume, self.record, base.connection_info(
                kind='nfs', qos_specs={'read_iops_sec': '10'}),
            DiskClass.KERNEL)
        self.assertIn('limits (read_iops_sec)', str(raised))

    def test_readonly(self):
        for mode, readonly in (('ro', True), ('rw', False), (None, False)):
            record = self.record(base.connection_info(access_mode=mode))
            self.assertEqual(readonly, record.readonly)
            self.assertEqual(
                readonly, kinds.load(record, '/').spec().readonly)

    def test_limits(self):
        specs = {'total_bytes_sec': '1024', 'read_iops_sec': '0', 'x': 'y'}
        for kind, limits in (('nfs', {'total_bytes_sec': 1024}),
                             ('iscsi', None)):
            record = self.record(base.connection_info(
                kind=kind, qos_specs=specs))
            self.assertEqual(limits, record.limits)
        for specs in (None, {}, 'odd'):
            self.assertIsNone(self.record(base.connection_info(
                kind='nfs', qos_specs=specs)).limits)
        self.refuse('total_iops_sec', kind='nfs', error=exception.InvalidInput,
                    qos_specs={'total_iops_sec': '-1'})
        machine = machine_lib.Machine(
            guest_type=GuestType.PVH, disks=(self.record(base.connection_info(
                kind='nfs', qos_specs={'total_iops_sec': 7})),))
        self.assertEqual(
            {base.VOLUME: disklimits.Limits(total_iops_sec=7)},
            machine_lib.Machine.from_json(machine.to_json()).volume_limits)

    def test_refused(self):
        self.refuse("'vmdk'", *transports.TRANSPORTS, kind='vmdk')
        self.refuse("'vhdx'", 'raw, qcow2', kind='nfs', format='vhdx')
        self.refuse("'ro'", 'block device', kind='nfs', access_mode='ro')
        self.assertRaises(exception.InvalidVolume, self.record, {
            **base.connection_info(kind='nfs'), 'multiattach': True})
        self.refuse('append', access_mode='append',
                    error=exception.InvalidVolumeAccessMode)
        self.refuse('../x', 'a UUID', volume='../x')
        self.refuse('volume_id', volume='')

    def test_only_connected_volumes(self):
        info = base.connection_info()
        mappings = [{'connection_info': info}, {'connection_info': None},
                    {'connection_info': {}}, {}]
        self.assertEqual(mappings[:1], volumes.mappings(
            {'block_device_mapping': mappings}))
        self.assertEqual([], volumes.mappings(None))
