# SPDX-License-Identifier: Apache-2.0
"""What cannot be is refused: the server's fault says why, nothing is left."""

import os
from unittest import mock

import fixtures
from nova import conf
from nova import exception
from nova import test
from nova.virt import fake
import os_vif.exception

from tests.functional import base
from tests.functional import test_servers
from xen44_driver import driver
from xen44_driver import loader
from xen44_driver import privsep

CONF = conf.CONF


class RefusalTest(test_servers.ServersBase):
    """A server that cannot be."""

    def refuse(self, *says, image=None, **options):
        """Boot a server that is refused.

        :param says: what its fault has to say
        """
        server = self.boot(image=image, expected='ERROR', **options)
        fault = server['fault']['message']
        for text in says:
            self.assertIn(text, fault)
        self.below.assert_nothing_left()
        return server

    def test_unknown_guest_type(self):
        with self.unchecked():
            flavor = self.flavor(xen44_guest_type='pvx')
        self.refuse("xen44:guest_type 'pvx'", 'pv, pvh, hvm', flavor=flavor)

    def test_guest_type_host_lacks(self):
        self.flags(default_guest_type='pv', group='xen44_x86_64')
        for machine, kind in (('xenfv', 'hvm'), ('xenpvh', 'pvh')):
            self.below.host.machines.remove(machine)
            self.compute = self.restart_compute_service(self.compute)
            self.refuse(f'cannot run guest type {kind}', 'pv',
                        flavor=self.flavor(xen44_guest_type=kind))

    def test_image_and_flavor_disagree(self):
        image = base.create_image(
            self.glance, base.raw_image(), hw_vm_mode='xen')
        self.refuse('hw_vm_mode=xen', 'xen44:guest_type=pvh', image=image,
                    flavor=self.flavor(xen44_guest_type='pvh'))

    def test_impossible_interface_model(self):
        image = base.create_image(
            self.glance, base.raw_image(), hw_vif_model='virtio')
        self.refuse("hw_vif_model 'virtio'", 'netfront, e1000, rtl8139',
                    image=image)

    def test_firmware_we_lack(self):
        image = base.create_image(
            self.glance, base.raw_image(), hw_firmware_type='uefi')
        self.refuse("hw_firmware_type 'uefi'", 'bios', image=image,
                    flavor=self.flavor(xen44_guest_type='pvh'))
        self.flags(uefi_firmware='/nowhere/OVMF.fd', group='xen44_x86_64')
        self.refuse('/nowhere/OVMF.fd', 'uefi_firmware', image=image)

    def test_no_loader(self):
        self.flags(pvh_loader='/nowhere/grub', group='xen44_x86_64')
        self.refuse('/nowhere/grub', 'kernel_id',
                    flavor=self.flavor(xen44_guest_type='pvh'))

    def test_command_line_of_two_lines(self):
        kernel = base.create_image(self.glance, base.BZIMAGE,
                                   disk_format='aki', container_format='aki')
        image = base.create_image(
            self.glance, base.raw_image(), kernel_id=kernel,
            os_command_line='quiet\nroot=/dev/xvda')
        self.refuse('boot.cmdline', 'one line', image=image)

    def test_image_larger_than_flavor(self):
        image = base.create_image(
            self.glance, base.qcow2_image('2G', self.below.console_logs),
            disk_format='qcow2')
        os.unlink(os.path.join(self.below.console_logs, 'image.qcow2'))
        self.refuse(str(2 ** 30), str(2 ** 31), image=image)

    def test_image_with_backing_file(self):
        image = base.create_image(
            self.glance, base.qcow2_image(
                '1M', self.below.console_logs, backing='/etc/shadow'),
            disk_format='qcow2')
        os.unlink(os.path.join(self.below.console_logs, 'image.qcow2'))
        self.refuse(image, 'unacceptable', image=image)

    def test_image_in_disguise(self):
        image = base.create_image(
            self.glance, base.qcow2_image('1M', self.below.console_logs))
        os.unlink(os.path.join(self.below.console_logs, 'image.qcow2'))
        self.refuse(image, 'unacceptable', image=image)

    def test_kernel_that_is_none(self):
        kernel = base.create_image(self.glance, b'no kernel' * 1000,
                                   disk_format='aki', container_format='aki')
        image = base.create_image(
            self.glance, base.raw_image(), kernel_id=kernel)
        self.refuse(kernel, 'not a kernel', 'bzImage', image=image)

    def test_kernel_or_ramdisk_as_a_disk(self):
        """What came unchecked as a kernel must never become a disk."""
        content = base.qcow2_image(
            '1M', self.below.console_logs, backing='/etc/shadow')
        os.unlink(os.path.join(self.below.console_logs, 'image.qcow2'))
        kernel = base.create_image(self.glance, base.BZIMAGE,
                                   disk_format='aki', container_format='aki')
        for kind in ('aki', 'ari', 'ami'):
            stolen = base.create_image(
                self.glance, content, disk_format=kind,
                container_format=kind)
            image = base.create_image(
                self.glance, base.raw_image(), kernel_id=stolen)
            self.refuse(stolen, 'not a kernel', image=image)
            self.refuse(stolen, 'unacceptable', image=stolen)
            image = base.create_image(
                self.glance, base.raw_image(), kernel_id=kernel,
                ramdisk_id=stolen)
            self.api.delete_server(self.boot(image=image)['id'])
            self.refuse(stolen, 'unacceptable', image=stolen)

    def test_images_that_are_not_disks(self):
        for content, disk_format, says in (
                (b'', 'raw', '0 bytes'),
                (b'\x1f\x8b' + bytes(4096), 'raw', 'gzip archive'),
                (bytes(257) + b'ustar' + bytes(4096), 'vhd', 'tar archive'),
                (base.raw_image(), 'aki', 'recorded as a kernel'),
                (base.raw_image(), 'qcow2', 'recorded as qcow2')):
            image = base.create_image(
                self.glance, content, disk_format=disk_format)
            self.refuse(image, says, image=image)

    def test_port_of_another_kind(self):
        port = {**self.neutron.port_2, 'binding:vif_type': 'macvtap'}
        with mock.patch.object(self.neutron, 'default_port', port):
            self.refuse("vif_type 'macvtap'", 'allowed: ovs')

    def test_failed_start_leaves_nothing(self):
        self.below.host.failures['create'] = 'Post DM startup configs failed'
        self.boot(expected='ERROR')
        self.below.assert_nothing_left()

    def test_failed_plug_leaves_nothing(self):
        with mock.patch('os_vif.plug', side_effect=(
                os_vif.exception.PlugException(vif='vif', err='no OVS'))):
            self.boot(expected='ERROR')
        self.below.assert_nothing_left()


class StartTest(test.TestCase):
    """What stops nova-compute at its start, and what it says."""

    def setUp(self):
        super().setUp()
        self.below = self.useFixture(base.DriverFixture(self))
        loader.install()

    def assert_stops(self, kind, *says):
        """See that the driver does not start."""
        connection = driver.Xen44Driver(fake.FakeVirtAPI())
        self.addCleanup(connection.cleanup_host, 'host')
        raised = self.assertRaises(kind, connection.init_host, 'host')
        for text in says:
            self.assertIn(text, str(raised))

    def test_no_libvirtd(self):
        self.below.host.up = False
        self.assert_stops(exception.HypervisorUnavailable,
                          'xen:///system', 'libvirtd')

    def test_old_libvirt(self):
        self.below.host.libvirt_version = 5000000
        self.assert_stops(exception.InvalidConfiguration, '5.0.0', '9.0.0')

    def test_old_xen(self):
        self.below.host.xen_version = 4003000
        self.assert_stops(exception.InvalidConfiguration, '4.3.0', '4.4.0')

    def test_default_guest_type_host_lacks(self):
        self.below.host.machines.remove('xenfv')
        self.assert_stops(exception.InvalidConfiguration,
                          'default_guest_type is hvm', 'pv, pvh')

    def configure(self, **values):
        """Write values of [xen44] as an operator does: in a file."""
        path = os.path.join(self.useFixture(fixtures.TempDir()).path, 'conf')
        with open(path, 'w') as file:
            file.write('[xen44]\n')
            file.writelines(f'{key} = {value}\n'
                            for key, value in values.items())
        CONF([], project='nova', default_config_files=[path])

    def test_values_that_cannot_be(self):
        self.configure(disk_format='vhd', max_concurrent_starts=0)
        self.assert_stops(
            exception.InvalidConfiguration, '[xen44] disk_format', 'vhd',
            '[xen44] max_concurrent_starts')

    def test_no_instances_path(self):
        self.flags(instances_path='/nowhere')
        self.assert_stops(exception.InvalidConfiguration, "'/nowhere'")

    def test_no_privileges(self):
        with mock.patch.object(
                privsep, 'console_log_dir_readable',
                side_effect=FileNotFoundError(2, 'No such file', 'sudo')):
            self.assert_stops(exception.InvalidConfiguration,
                              'sudo', '[xen44_privileged] helper_command')

    def test_all_that_is_wrong_at_once(self):
        self.flags(default_guest_type='pv', group='xen44_x86_64')
        self.below.host.machines.remove('xenpv')
        self.flags(instances_path='/nowhere')
        self.assert_stops(exception.InvalidConfiguration,
                          'default_guest_type', "'/nowhere'")
