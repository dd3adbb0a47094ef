# SPDX-License-Identifier: Apache-2.0
"""What an instance becomes with another flavor, and what is refused."""

import dataclasses
import os
from unittest import mock

from nova import exception
from nova import objects

from tests.unit import base
from xen44_driver.compute import before_resize
from xen44_driver.compute import disks
from xen44_driver.compute import machine
from xen44_driver.compute import resize
from xen44_driver.storage import kinds
from xen44_driver.storage import layout
from xen44_driver.xen import errors as xen_errors
from xen44_driver.xen import host as xen_host

GIB = 1024 ** 3
MIB = 1024 ** 2
BASE = kinds.Base(id=base.IMAGE, format='raw', virtual_size=MIB, size=MIB)

ROOT = kinds.DiskRecord(
    kind='overlay', name='/dev/xvda', target='hda', file='disk.qcow2',
    format='qcow2', size=GIB, base=BASE)
EPHEMERAL = kinds.DiskRecord(
    kind='blank', name='/dev/xvdb', target='hdb', file='disk.eph0',
    size=GIB, file_system='default', label='ephemeral0')
SWAP = kinds.DiskRecord(
    kind='blank', name='/dev/xvdc', target='hdc', file='disk.swap',
    size=64 * MIB, file_system='swap')
CONFIG = kinds.DiskRecord(
    kind='config', name='/dev/xvdd', target='hdd', file='disk.config',
    device='cdrom')


def flavor(**values):
    return objects.Flavor(**{
        'name': 'other', 'flavorid': '2', 'memory_mb': 512, 'vcpus': 2,
        'root_gb': 2, 'ephemeral_gb': 0, 'swap': 0, 'extra_specs': {},
        **values})


class ResizeCase(base.TestCase):

    def setUp(self):
        super().setUp()
        self.flags(pvh_loader=__file__, pv_loader=__file__,
                   group='xen44_x86_64')
        self.node = base.node()
        self.instance = base.instance(memory_mb=256)
        self.instance.save = mock.Mock()
        self.instance.drop_migration_context = mock.Mock()
        self.own = machine.Machine(guest_type='hvm', disks=(ROOT,))
        self.files = self.node.files(self.instance)

    def with_disks(self, *records):
        self.own = dataclasses.replace(self.own, disks=(ROOT, *records))


class PlanTest(ResizeCase):

    def plan(self, *, old=None, image=None, **values):
        self.instance.system_metadata = {
            f'image_{name}': value for name, value in (image or {}).items()}
        return resize.plan(
            self.node, self.instance, self.own,
            old or self.instance.flavor, flavor(**values), None)

    def disks(self, **values):
        return [(disk.file, disk.name, disk.target, disk.size)
                for disk in self.plan(**values).disks]

    def test_root(self):
        new = self.plan()
        self.assertEqual('hvm', new.guest_type)
        self.assertEqual(
            (dataclasses.replace(ROOT, size=2 * GIB),), new.disks)

    def test_format_and_guest_type_stay(self):
        """Whatever the options of the host are now."""
        self.flags(disk_format='raw', group='xen44')
        self.flags(default_guest_type='pvh', group='xen44_x86_64')
        new = self.plan()
        self.assertEqual('hvm', new.guest_type)
        self.assertEqual('qcow2', new.root.format)

    def test_guest_type_of_the_flavor(self):
        new = self.plan(extra_specs={'xen44:guest_type': 'pvh'})
        self.assertEqual('pvh', new.guest_type)
        self.assertEqual('xvda', new.root.target)
        # It was asked for, and is no longer.
        self.own = new
        new = self.plan(old=flavor(extra_specs={'xen44:guest_type': 'pvh'}))
        self.assertEqual('hvm', new.guest_type)

    def test_class_of_disks(self):
        """It stays if nobody asks; a qcow2 disk cannot go to the kernel."""
        pvh = {'xen44:guest_type': 'pvh'}
        kernel = {**pvh, 'xen44:disk_class': 'kernel'}
        raised = self.assertRaises(
            exception.InvalidInput, self.plan, extra_specs=kernel)
        for text in ('qcow2', 'disk_class kernel', 'allowed: qemu'):
            self.assertIn(text, str(raised))
        raw = dataclasses.replace(
            ROOT, kind='clone', file='disk.raw', format='raw')
        self.own = dataclasses.replace(self.own, disks=(raw,))
        new = self.plan(extra_specs=kernel)
        self.assertEqual(
            ('kernel', 'disk.raw', BASE),
            (new.disk_class, new.root.file, new.root.base))
        self.own = new
        self.assertEqual('kernel', self.plan(extra_specs=pvh).disk_class)
        # It was asked for, and is no longer.
        new = self.plan(old=flavor(extra_specs=kernel), extra_specs=pvh)
        self.assertEqual(('qemu', 'raw'), (new.disk_class, new.root.format))

    def test_guest_type_against_the_image(self):
        self.assertRaises(
            exception.InvalidInput, self.plan, image={'hw_vm_mode': 'hvm'},
            extra_specs={'xen44:guest_type': 'pv'})

    def test_ephemeral_grows(self):
        self.with_disks(EPHEMERAL)
        self.assertEqual(
            ('disk.eph0', '/dev/xvdb', 'hdb', 3 * GIB),
            self.disks(old=flavor(ephemeral_gb=1), ephemeral_gb=3)[1])

    def test_ephemeral_that_the_user_divided(self):
        self.with_disks(EPHEMERAL)
        self.assertEqual(
            GIB, self.disks(old=flavor(ephemeral_gb=2),
                            ephemeral_gb=3)[1][3])

    def test_ephemeral_is_new(self):
        self.with_disks(dataclasses.replace(
            SWAP, name='/dev/xvdb', target='hdb'))
        self.assertEqual(
            [('disk.qcow2', '/dev/xvda', 'hda', 2 * GIB),
             ('disk.eph0', '/dev/xvdc', 'hdc', GIB),
             ('disk.swap', '/dev/xvdb', 'hdb', 64 * MIB)],
            self.disks(ephemeral_gb=1))

    def test_swap(self):
        self.assertEqual([], self.disks()[1:])
        self.assertEqual(
            [('disk.swap', '/dev/xvdb', 'hdb', 32 * MIB)],
            self.disks(swap=32)[1:])
        self.with_disks(EPHEMERAL, SWAP)
        # Whole bytes, of a disk that stays too.
        self.assertEqual({int}, {type(size) for _, _, _, size in self.disks(
            old=flavor(swap=64, ephemeral_gb=1), ephemeral_gb=1, swap=64)})
        small = flavor(ephemeral_gb=1, swap=64)
        for swap, found in ((64, 64), (128, 128), (0, None)):
            sizes = {name: size for name, _, _, size in self.disks(
                old=small, ephemeral_gb=1, swap=swap)}
            self.assertEqual(found and found * MIB, sizes.get('disk.swap'))
        # The user took less than the flavor had.
        sizes = {name: size for name, _, _, size in self.disks(
            old=flavor(swap=256, ephemeral_gb=1), ephemeral_gb=1, swap=256)}
        self.assertEqual(64 * MIB, sizes['disk.swap'])

    def test_config_drive(self):
        self.with_disks(CONFIG)
        self.flags(default_config_drive=False, group='xen44')
        self.assertEqual('disk.config', self.disks()[1][0])
        self.with_disks()
        self.flags(default_config_drive=True, group='xen44')
        self.assertEqual([], self.disks()[1:])

    def test_kernel(self):
        self.instance.kernel_id = 'k'
        self.assertRaises(exception.InvalidInput, self.plan)
        self.own = dataclasses.replace(self.own, kernel_id='k')
        self.assertEqual('k', self.plan().kernel_id)

    def test_iso(self):
        cdrom = kinds.DiskRecord(
            kind='cdrom', name='/dev/xvdc', target='hdc', file='disk.iso',
            device='cdrom', base=BASE)
        self.own = dataclasses.replace(self.own, disks=(
            dataclasses.replace(ROOT, kind='blank', file='disk.raw',
                                format='raw', base=None), cdrom))
        new = self.plan(image={'disk_format': 'iso'})
        self.assertEqual(['blank', 'cdrom'],
                         [disk.kind for disk in new.disks])
        self.assertEqual(BASE, new.disks[1].base)
        self.assertEqual('/dev/xvdb', self.disks(
            image={'disk_format': 'iso'}, swap=1)[1][1])


class SizesTest(ResizeCase):

    def setUp(self):
        super().setUp()
        self.files.create()
        self.own = dataclasses.replace(self.own, disks=(
            dataclasses.replace(ROOT, kind='clone', file='disk.raw',
                                format='raw'), EPHEMERAL, SWAP, CONFIG))
        for record in self.own.disks:
            layout.create_private(
                self.files.path(record.file), record.size)

    def check(self, **sizes):
        new = dataclasses.replace(self.own, disks=tuple(
            dataclasses.replace(record, size=sizes.get(
                record.target, record.size))
            for record in self.own.disks
            if sizes.get(record.target, 1) is not None))
        resize._check_sizes(self.node, self.own, new, self.instance)

    def test_allowed(self):
        self.check()
        self.check(hda=2 * GIB, hdb=2 * GIB, hdc=1)
        self.check(hdc=None)
        # The size of the image, or what became of it.
        self.check(hda=0)

    def test_smaller(self):
        for sizes, name in (({'hda': GIB - 1}, '/dev/xvda'),
                            ({'hdb': GIB - 1}, '/dev/xvdb'),
                            ({'hdb': None}, '/dev/xvdb')):
            raised = self.assertRaises(
                exception.ResizeError, self.check, **sizes)
            self.assertIn(name, str(raised))

    def test_room(self):
        with open(self.files.path('disk.eph0'), 'wb') as disk:
            disk.write(b'x' * 8192)
        with mock.patch.object(resize.usage, 'shares_blocks',
                               return_value=False) as shares, \
                mock.patch('shutil.disk_usage') as free:
            free.return_value.free = 8192
            resize._check_room(self.node, self.own, self.instance)
            free.return_value.free = 8191
            self.assertRaises(OSError, resize._check_room, self.node,
                              self.own, self.instance)
            shares.return_value = True
            resize._check_room(self.node, self.own, self.instance)


class MemoryTest(ResizeCase):

    def check(self, memory_mb):
        resize._check_memory(self.node, self.instance, self.own, self.own,
                             flavor(memory_mb=memory_mb))

    def test_own_memory_counts_as_free(self):
        guest = self.node.host.guest.return_value
        self.node.host.memory.return_value = xen_host.HostMemory(
            free_mib=100, total_mib=4096, dom0_mib=512)
        guest.state.return_value.is_off = False
        self.check(300)
        self.assertRaises(
            exception.ComputeResourcesUnavailable, self.check, 400)
        guest.state.return_value.is_off = True
        self.check(400)
        self.node.host.guest.side_effect = xen_errors.DomainNotFound('x')
        self.check(400)


class BeforeResizeTest(ResizeCase):

    def setUp(self):
        super().setUp()
        self.node.host.guest.side_effect = xen_errors.DomainNotFound('x')
        machine.keep(self.instance, self.own)
        self.files.create()
        layout.create_private(self.files.path('old'))

    def become(self):
        """Let the resize be complete."""
        before_resize.keep(self.node, self.instance, self.own)
        self.files.create_part()
        new = machine.Machine(guest_type='pv', disks=(ROOT,))
        machine.keep(self.instance, new)
        self.files.complete()
        return new

    def old(self):
        return machine.recall(self.instance, machine.BEFORE_RESIZE)

    def test_confirm(self):
        new = self.become()
        self.assertEqual(self.own, self.old())
        resize.confirm(self.node, self.instance)
        resize.confirm(self.node, self.instance)
        self.assertIsNone(self.old())
        self.assertEqual(new, machine.recall(self.instance))
        self.assertEqual([], self.files.names())
        self.assertEqual([base.UUID], os.listdir(self.instances))

    def test_restore(self):
        self.become()
        self.assertTrue(before_resize.restore(self.node, self.instance))
        self.assertFalse(before_resize.restore(self.node, self.instance))
        self.assertEqual(self.own, machine.recall(self.instance))
        self.assertIsNone(self.old())
        self.assertEqual(['old'], self.files.names())

    def test_restore_is_interrupted(self):
        self.become()
        for step in ('os.rename', 'shutil.rmtree'):
            with mock.patch(step, side_effect=KeyboardInterrupt):
                self.assertRaises(
                    KeyboardInterrupt, before_resize.restore, self.node,
                    self.instance)
        self.assertTrue(before_resize.restore(self.node, self.instance))
        self.assertEqual(['old'], self.files.names())

    def test_directory_without_a_record_is_garbage(self):
        os.mkdir(self.files.before_resize)
        before_resize.mend(self.node, self.instance)
        self.assertFalse(before_resize.restore(self.node, self.instance))
        self.assertEqual(['old'], self.files.names())
        before_resize.keep(self.node, self.instance, self.own)
        before_resize.restore(self.node, self.instance)
        self.assertEqual(['old'], self.files.names())

    def test_garbage_is_never_restored(self):
        os.mkdir(self.files.before_resize)
        with mock.patch('os.rename', side_effect=KeyboardInterrupt):
            self.assertRaises(
                KeyboardInterrupt, before_resize.keep, self.node,
                self.instance, self.own)
        before_resize.restore(self.node, self.instance)
        self.assertEqual(['old'], self.files.names())

    def test_mend(self):
        before_resize.mend(self.node, self.instance)
        new = self.become()
        before_resize.mend(self.node, self.instance)
        self.assertEqual(new, machine.recall(self.instance))
        os.rename(self.files.directory, self.files.part)
        before_resize.mend(self.node, self.instance)
        self.assertEqual(self.own, machine.recall(self.instance))
        self.assertEqual(['old'], self.files.names())

    def test_running_guest_is_left_alone(self):
        """Nova starts, and finds the resize of it hardly begun."""
        self.node.host.guest.side_effect = None
        self.node.host.guest.return_value.state.return_value.is_off = False
        with mock.patch.object(resize.power, 'power_on') as power_on:
            resize.revert(self.node, None, self.instance, network_info=None,
                          block_device_info=None, power_on=True)
        power_on.assert_not_called()

    def test_what_is_reverted_is_started(self):
        self.become()
        with mock.patch.object(resize.power, 'power_on') as power_on:
            resize.revert(
                self.node, 'context', self.instance, network_info=['port'],
                block_device_info={'volumes': 1}, power_on=True)
        power_on.assert_called_once_with(
            self.node, 'context', self.instance, network_info=['port'],
            block_device_info={'volumes': 1})
        self.assertEqual(['old'], self.files.names())


class GiveUpTest(ResizeCase):
    """Nova is told that a resize has failed."""

    def setUp(self):
        super().setUp()
        self.migration = mock.Mock(uuid=base.PORT, status='migrating')
        self.instance.migration_context = objects.MigrationContext(
            migration_id=7)
        self.old = flavor(id=3, memory_mb=128, vcpus=1, root_gb=4,
                          ephemeral_gb=5)
        self.instance.old_flavor = self.old
        self.placement = mock.Mock()
        for where, name, value in (
                (objects.Migration, 'get_by_id_and_instance',
                 self.migration),
                (resize.report, 'report_client_singleton',
                 self.placement)):
            patcher = mock.patch.object(where, name, return_value=value)
            setattr(self, name, patcher.start())
            self.addCleanup(patcher.stop)

    def assert_given_up(self):
        self.get_by_id_and_instance.assert_called_with(
            'context', 7, base.UUID)
        self.assertEqual('error', self.migration.status)
        self.migration.save.assert_called_once_with()
        self.assertEqual(
            (self.old, 3, 128, 1, 4, 5),
            (self.instance.flavor, self.instance.instance_type_id,
             self.instance.memory_mb, self.instance.vcpus,
             self.instance.root_gb, self.instance.ephemeral_gb))
        self.placement.move_allocations.assert_called_once_with(
            'context', base.PORT, base.UUID)

    def test_old_flavor_counts_again(self):
        resize.give_up('context', self.instance)
        self.assert_given_up()
        self.instance.save.assert_called_once_with()
        # Once more, there is nothing to move.
        self.placement.get_allocations_for_consumer.return_value = {}
        resize.give_up('context', self.instance)
        self.placement.get_allocations_for_consumer.assert_called_with(
            'context', base.PORT)
        self.placement.move_allocations.assert_called_once()

    def mend(self, complete, error=None):
        """Bring an interrupted resize to an end.

        :param complete: whether its disks were.
        """
        if complete:
            self.files.create()
        self.instance.system_metadata['old_vm_state'] = 'stopped'
        with mock.patch.object(self.instance, 'get_network_info',
                               return_value='ports'), \
                mock.patch.object(resize.connections, 'renewed',
                                  return_value='volumes'), \
                mock.patch.object(resize, 'finish', side_effect=error) as \
                finish, mock.patch.object(resize, '_settle') as settle:
            try:
                return resize.mend_finish(
                    self.node, 'context', self.instance)
            finally:
                done, other = ((settle, finish) if complete
                               else (finish, settle))
                done.assert_called_once_with(
                    self.node, 'context', self.instance,
                    network_info='ports', block_device_info='volumes',
                    power_on=False)
                other.assert_not_called()

    def test_interrupted_one_is_completed(self):
        for complete in (False, True):
            self.migration.save.reset_mock()
            self.assertEqual('resized', self.mend(complete))
            self.assertEqual('finished', self.migration.status)
            self.migration.save.assert_called_once_with()
        self.placement.move_allocations.assert_not_called()

    def test_interrupted_one_that_cannot_be_completed(self):
        before = base.numa_topology({0: 5})
        self.instance.migration_context.old_numa_topology = before
        self.instance.numa_topology = base.numa_topology({0: 4, 1: 7})
        self.assertRaises(OSError, self.mend, False, OSError('no room'))
        self.assert_given_up()
        # The CPUs of its old flavor.
        self.assertEqual({5}, self.instance.numa_topology.cpu_pinning)
        self.instance.drop_migration_context.assert_called_once_with()


class BeginTest(ResizeCase):

    def setUp(self):
        super().setUp()
        self.files.create()
        self.own = dataclasses.replace(self.own, disks=(
            dataclasses.replace(ROOT, kind='clone', file='disk.raw',
                                format='raw'),))
        layout.create_private(self.files.path('disk.raw'), GIB)
        machine.keep(self.instance, self.own)
        self.instance.host = 'here'
        self.instance.migration_context = objects.MigrationContext(
            migration_id=7)
        self.migration = mock.Mock(dest_compute='here')
        for where, name, value in (
                (objects.Migration, 'get_by_id_and_instance',
                 self.migration),
                (resize.power, 'power_off', None),
                (resize, '_check_memory', None),
                (disks, 'tools', None)):
            patcher = mock.patch.object(where, name, return_value=value)
            setattr(self, name, patcher.start())
            self.addCleanup(patcher.stop)

    def begin(self, **values):
        return resize.begin(
            self.node, None, self.instance, flavor(**values),
            block_device_info=None, timeout=60, retry_interval=10)

    def refuse(self, *says, **values):
        raised = self.assertRaises(
            exception.InstanceFaultRollback, self.begin, **values)
        for text in says:
            self.assertIn(text, str(raised.inner_exception))
        self.power_off.assert_not_called()
        self.assertEqual(['disk.raw'], self.files.names())

    def test_success(self):
        self.assertEqual('{}', self.begin())
        self.power_off.assert_called_once_with(
            self.node, self.instance, timeout=60, retry_interval=10)
        self.assertTrue(self.files.was_set_aside())
        self.assertFalse(self.files.exist())
        self.assertEqual(self.own, machine.recall(
            self.instance, machine.BEFORE_RESIZE))

    def test_another_host(self):
        self.migration.dest_compute = 'there'
        self.refuse('another host', 'there')

    def test_cpus_of_its_own(self):
        """Nova's tracker would give one to two guests."""
        self.flags(cpu_dedicated_set='4-5', group='compute')
        self.instance.flavor.id = 3
        self.instance.flavor.extra_specs = {'hw:cpu_policy': 'dedicated'}
        self.instance.numa_topology = base.numa_topology({0: 4, 1: 5})
        self.refuse('CPUs of its own', 'another flavor', id=3)
        self.begin(id=4)

    def test_refused(self):
        os.truncate(self.files.path('disk.raw'), 3 * GIB)
        self.refuse('smaller')
        os.truncate(self.files.path('disk.raw'), GIB)
        self.refuse('xen44:guest_type', extra_specs={
            'xen44:guest_type': 'pvx'})
        self._check_memory.side_effect = (
            exception.ComputeResourcesUnavailable(reason='no memory'))
        self.refuse('no memory')
        self._check_memory.side_effect = OSError(28, 'No space')
        self.refuse('No space')

    def test_finish_without_what_was_set_aside(self):
        raised = self.assertRaises(
            exception.ResizeError, resize.finish, self.node, None,
            self.instance, network_info=None, block_device_info=None,
            power_on=True)
        self.assertIn('same host', str(raised))
