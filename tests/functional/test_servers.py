# SPDX-License-Identifier: Apache-2.0
"""Servers through Nova's real API, conductor, scheduler and placement."""

import os

from nova import context as nova_context
from nova import utils as nova_utils
from nova.tests.functional import integrated_helpers

from tests.functional import base


class ServersBase(base.PatientWaits,
                  integrated_helpers.ProviderUsageBaseTestCase):
    """A cloud of one compute node with our driver."""

    compute_driver = 'xen44.Xen44Driver'
    microversion = 'latest'

    def setUp(self):
        self.below = base.DriverFixture(self)
        self.useFixture(self.below)
        self.flags(api_paste_config=base.API_PASTE, group='wsgi')
        super().setUp()
        base.tolerate_noload()
        # For guests that do not shut down.
        self.flags(shutdown_retry_interval=1, group='compute')
        self.flags(shutdown_timeout=2)
        self.flags(soft_reboot_timeout=1, group='xen44')
        self.image = base.create_image(self.glance, base.raw_image())
        self.compute = self._start_compute('xen1')
        self.driver = self.compute.manager.driver

    def boot(self, *, image=None, flavor=None, expected='ACTIVE', **options):
        """Boot a server and wait for its state."""
        server = self._build_server(
            image_uuid=image or self.image, networks='auto',
            flavor_id=flavor or self.flavor())
        server = self.api.post_server({'server': {**server, **options}})
        return self._wait_for_state_change(server, expected)

    def flavor(self, *, memory_mb=256, disk=1, ephemeral=0, swap=0,
               **extra_specs):
        """Make a flavor; extra specs with ``_`` for ``:`` after xen44."""
        specs = {name.replace('xen44_', 'xen44:'): value
                 for name, value in extra_specs.items()}
        return self._create_flavor(
            memory_mb=memory_mb, vcpu=1, disk=disk, ephemeral=ephemeral,
            swap=swap, extra_spec=specs)

    def unchecked(self):
        """For a time, let extra specs pass that the API would refuse."""
        return nova_utils.temporary_mutation(
            self.admin_api, microversion='2.85')

    def domain(self, server):
        """The libvirt domain of a server."""
        return self.below.host.domains[server['id']]

    def traits(self):
        """Traits of the compute node."""
        return self._get_provider_traits(
            self._get_provider_uuid_by_host('xen1'))

    def inventory(self, resource):
        """What the compute node has of a resource."""
        return self._get_provider_inventory(
            self._get_provider_uuid_by_host('xen1'))[resource]


class LifeTest(ServersBase):
    """A server's life."""

    def test_boot_and_delete(self):
        server = self.boot()
        self.assertEqual('xen1.test',
                         server['OS-EXT-SRV-ATTR:hypervisor_hostname'])
        domain = self.domain(server)
        self.assertTrue(domain.isActive())
        self.assertEqual(server['OS-EXT-SRV-ATTR:instance_name'],
                         domain.name())
        self.assertEqual(1, len(self.below.plugged))
        self.assertIn(f'bridge="qbr{self.below.plugged[0][:11]}"',
                      domain.xml.replace("'", '"'))
        self.assertEqual(
            [f'{server["id"]}/console.log', f'{server["id"]}/disk.qcow2'],
            self.below.files())
        mode = os.stat(os.path.join(
            self.below.instances, server['id'], 'disk.qcow2')).st_mode
        self.assertEqual(0o600, mode & 0o777)
        self.below.write_console(domain.name(), 'login:')

        self._delete_server(server)
        self.below.assert_nothing_left()

    def test_each_guest_type(self):
        for kind in ('pv', 'pvh', 'hvm'):
            server = self.boot(flavor=self.flavor(xen44_guest_type=kind))
            machine = {'pv': 'xenpv', 'pvh': 'xenpvh', 'hvm': 'xenfv'}[kind]
            self.assertIn(machine, self.domain(server).xml)
            self._delete_server(server)

    def test_direct_kernel(self):
        kernel = base.create_image(
            self.glance, base.BZIMAGE, disk_format='aki',
            container_format='aki')
        ramdisk = base.create_image(
            self.glance, b'ramdisk', disk_format='ari',
            container_format='ari')
        image = base.create_image(
            self.glance, base.raw_image(), kernel_id=kernel,
            ramdisk_id=ramdisk, os_command_line='quiet root=/dev/xvda1')
        for kind in ('pv', 'pvh', 'hvm'):
            server = self.boot(
                image=image, flavor=self.flavor(xen44_guest_type=kind))
            xml = self.domain(server).xml
            self.assertIn(f'{server["id"]}/kernel</kernel>', xml)
            self.assertIn(f'{server["id"]}/ramdisk</initrd>', xml)
            self.assertIn('quiet root=/dev/xvda1</cmdline>', xml)
            self._delete_server(server)
        self.below.assert_nothing_left()

    def test_disks_and_config_drive(self):
        self.flags(default_ephemeral_format='ext4')
        server = self.boot(
            flavor=self.flavor(ephemeral=1, swap=64,
                               xen44_guest_type='pvh'),
            config_drive=True)
        self.assertEqual(
            ['disk.config', 'disk.eph0', 'disk.qcow2', 'disk.swap'],
            [os.path.basename(path) for path in self.below.files()])
        xml = self.domain(server).xml
        for target in ('xvda', 'xvdb', 'xvdc', 'xvdd'):
            self.assertIn(target, xml)
        directory = os.path.join(self.below.instances, server['id'])
        self.assertEqual(64 * 1024 ** 2, os.path.getsize(
            os.path.join(directory, 'disk.swap')))
        with open(os.path.join(directory, 'disk.config')) as drive:
            self.assertIn('openstack/latest/meta_data.json', drive.read())

    def test_raw_disks(self):
        self.flags(disk_format='raw', group='xen44')
        server = self.boot()
        disk = os.path.join(
            self.below.instances, server['id'], 'disk.raw')
        self.assertEqual(1024 ** 3, os.path.getsize(disk))
        # What a guest has stays when the option changes.
        self.flags(disk_format='qcow2', group='xen44')
        self._reboot_server(server, hard=True)
        self.assertIn(disk, self.domain(server).xml)

    def test_stop_and_start(self):
        server = self._stop_server(self.boot())
        self.assertFalse(self.domain(server).isActive())
        server = self._start_server(server)
        self.assertTrue(self.domain(server).isActive())
        self.assertEqual(1, server['OS-EXT-STS:power_state'])

    def test_stop_a_guest_that_does_not_obey(self):
        server = self.boot()
        self.below.host.guests_obey = False
        server = self._stop_server(server)
        self.assertFalse(self.domain(server).isActive())
        self._start_server(server)
        self._reboot_server(server)
        self.assertTrue(self.domain(server).isActive())

    def test_reboot(self):
        server = self.boot()
        before = self.domain(server).ID()
        for hard in (False, True):
            self._reboot_server(server, hard=hard)
            after = self.domain(server).ID()
            self.assertGreater(after, before)
            before = after
        self.assertEqual(1, len(self.below.plugged))

    def test_rebuild(self):
        server = self.boot()
        other = base.create_image(self.glance, base.raw_image(b'other'))
        self._rebuild_server(server, other)
        self.assertTrue(self.domain(server).isActive())
        self.assertEqual(1, len(self.below.host.domains))
        self._delete_server(server)
        self.below.assert_nothing_left()

    def test_rebuild_decides_anew(self):
        self.flags(default_ephemeral_format='ext4')
        server = self.boot(
            flavor=self.flavor(swap=64, ephemeral=1), config_drive=True)
        kernel = base.create_image(
            self.glance, base.BZIMAGE, disk_format='aki',
            container_format='aki')
        other = base.create_image(
            self.glance, base.raw_image(b'other'), hw_vm_mode='xen',
            kernel_id=kernel)
        self.flags(disk_format='raw', group='xen44')
        self._rebuild_server(server, other)
        xml = self.domain(server).xml
        self.assertIn('xenpv', xml)
        self.assertIn(f'{server["id"]}/kernel</kernel>', xml)
        self.assertEqual(
            ['disk.config', 'disk.eph0', 'disk.raw', 'disk.swap', 'kernel'],
            [os.path.basename(path) for path in self.below.files()])
        # The same image again.
        self._rebuild_server(server, other)
        self.assertTrue(self.domain(server).isActive())

    def test_rebuild_is_refused_while_the_disk_is_there(self):
        server = self.boot(flavor=self.flavor(xen44_guest_type='pvh'))
        domain = self.domain(server)
        before = domain.ID(), domain.xml, self.below.files()
        for image in (
                base.create_image(
                    self.glance, base.raw_image(), hw_vm_mode='hvm'),
                base.create_image(self.glance, b'')):
            self.api.post_server_action(
                server['id'], {'rebuild': {'imageRef': image}})
            self._wait_for_instance_action_event(
                server, 'rebuild', 'compute_rebuild_instance', 'Error')
            self._wait_for_server_parameter(server, {
                'status': 'ACTIVE', 'OS-EXT-STS:task_state': None})
        self.assertEqual(
            before, (domain.ID(), domain.xml, self.below.files()))
        self._rebuild_server(server, self.image)
        self._delete_server(server)
        self.below.assert_nothing_left()

    def test_nova_compute_restarts(self):
        # Guests go on; what happened meanwhile is noticed.
        running, stopped = self.boot(), self.boot()
        self.domain(stopped).shutdownFlags()
        self.compute = self.restart_compute_service(self.compute)
        self.compute.manager._sync_power_states(
            nova_context.get_admin_context())
        self._wait_for_state_change(stopped, 'SHUTOFF')
        self.assertTrue(self.domain(running).isActive())
        self._delete_server(running)
        self._delete_server(stopped)
        self.below.assert_nothing_left()

    def test_libvirtd_restarts(self):
        server = self.boot()
        self.below.host.restart_libvirtd()
        self._stop_server(server)
        self._delete_server(server)
        self.below.assert_nothing_left()

    def test_pause(self):
        server = self.boot()
        self.api.post_server_action(server['id'], {'pause': {}})
        server = self._wait_for_state_change(server, 'PAUSED')
        self.api.post_server_action(server['id'], {'unpause': {}})
        self._wait_for_state_change(server, 'ACTIVE')

    def test_guest_stops_by_itself(self):
        # Nova's answer to the event is to keep it stopped.
        server = self.boot()
        self.domain(server).shutdownFlags()
        self._wait_for_state_change(server, 'SHUTOFF')

    def test_guest_crashes(self):
        server = self.boot()
        self.domain(server).crash()
        self._wait_for_state_change(server, 'SHUTOFF')

    def test_console_output(self):
        server = self.boot(flavor=self.flavor(xen44_guest_type='pvh'))
        self.below.write_console(
            self.domain(server).name(), 'first\nlogin: ')
        output = self.api.post_server_action(
            server['id'], {'os-getConsoleOutput': {}})['output']
        self.assertIn('login:', output)

    def output(self, server):
        """What ``openstack console log show`` prints."""
        return self.api.post_server_action(
            server['id'], {'os-getConsoleOutput': {}})['output']

    def serial_log(self, server):
        """Path of the log of a server's serial port."""
        return os.path.join(
            self.below.instances, server['id'], 'console.log')

    def test_console_of_bytes(self):
        server = self.boot()
        with open(self.serial_log(server), 'ab') as log:
            log.write(bytes(range(256)) + b'end')
        output = self.output(server)
        self.assertIn('~', output)
        self.assertTrue(output.endswith('end'))
        self.assertNotIn('\0', output)

    def test_console_of_another_guest(self):
        # Of a cloud whose database counted from 1 as well.
        for number in range(10):
            self.below.write_console(f'instance-{number:08x}', 'secret')
        server = self.boot(flavor=self.flavor(xen44_guest_type='pvh'))
        self.assertEqual('', self.output(server))
        self.below.write_console(self.domain(server).name(), 'login:')
        self.assertEqual('login:', self.output(server))

    def test_console_over_a_hard_reboot(self):
        server = self.boot()
        with open(self.serial_log(server), 'a') as log:
            log.write('first boot\n')
        self._reboot_server(server, hard=True)
        self.assertIn('first boot', self.output(server))
        os.unlink(self.serial_log(server))
        self._reboot_server(server, hard=True)
        self.assertEqual(
            0o600, os.stat(self.serial_log(server)).st_mode & 0o777)
        self.assertEqual('', self.output(server))

    def test_console_is_bounded(self):
        self.flags(console_log_max_bytes=128 * 1024, group='xen44')
        server = self.boot()
        self.below.write_console(self.domain(server).name(), 'x' * 200_000)
        with open(self.serial_log(server), 'a') as log:
            log.write('s' * 200_000 + 'end of serial\n')
        self.driver._console_logs.look()
        self.assertEqual(64 * 1024, os.path.getsize(self.serial_log(server)))
        self.assertEqual(64 * 1024, os.path.getsize(os.path.join(
            self.below.console_logs,
            f'guest-{self.domain(server).name()}.log')))
        self.assertIn('send of serial', self.output(server))

    def test_no_vnc(self):
        self.flags(enabled=False, group='vnc')
        server = self.boot()
        self.assertNotIn('vnc', self.domain(server).xml)


class HostTest(ServersBase):
    """What the scheduler is told."""

    def test_inventory(self):
        # dom0's memory is not for guests.
        memory = self.inventory('MEMORY_MB')
        self.assertEqual(65536, memory['total'])
        self.assertGreaterEqual(memory['reserved'], 2)
        self.assertEqual(16, self.inventory('VCPU')['total'])
        self.assertGreater(self.inventory('DISK_GB')['total'], 0)

    def test_event_channels_of_dom0(self):
        inventory = self.inventory('CUSTOM_XEN_EVENT_CHANNELS')
        self.assertIn(inventory['total'], (4095, 131071))
        free = inventory['total'] - inventory['reserved']
        # Half of what is free, twice: the second one does not fit beside.
        flavor = self.flavor(
            **{'resources:CUSTOM_XEN_EVENT_CHANNELS': str(free // 2 + 1)})
        server = self.boot(flavor=flavor)
        self.assertEqual(free // 2 + 1, self._get_provider_usages(
            self._get_provider_uuid_by_host('xen1'))[
                'CUSTOM_XEN_EVENT_CHANNELS'])
        refused = self.boot(flavor=flavor, expected='ERROR')
        self.assertIn('No valid host', refused['fault']['message'])
        self.assertEqual([server['id']], list(self.below.host.domains))

    def test_traits(self):
        traits = self.traits()
        for trait in ('CUSTOM_XEN44_GUEST_PV', 'CUSTOM_XEN44_GUEST_PVH',
                      'CUSTOM_XEN44_GUEST_HVM', 'CUSTOM_XEN44_XEN_4_20',
                      'HW_ARCH_X86_64', 'HW_CPU_X86_SSE3',
                      'HW_CPU_X86_AESNI', 'HW_CPU_HYPERTHREADING',
                      'COMPUTE_NET_VIF_MODEL_NETFRONT',
                      'COMPUTE_STORAGE_BUS_XEN', 'COMPUTE_STORAGE_BUS_IDE',
                      'COMPUTE_STORAGE_BUS_SCSI',
                      'COMPUTE_GRAPHICS_MODEL_VGA',
                      'COMPUTE_IMAGE_TYPE_QCOW2'):
            self.assertIn(trait, traits)
        self.assertNotIn('HW_CPU_X86_SVM', traits)

    def test_traits_follow_the_host(self):
        self.below.host.machines.remove('xenfv')
        self.flags(default_guest_type='pvh', group='xen44_x86_64')
        self.compute = self.restart_compute_service(self.compute)
        self.assertNotIn('CUSTOM_XEN44_GUEST_HVM', self.traits())
        self.assertIn('CUSTOM_XEN44_GUEST_PVH', self.traits())
