# SPDX-License-Identifier: Apache-2.0
"""Volumes by NVMe-oF over TCP, of which dom0 is the target and the host."""

from __future__ import annotations

from typing import Any

from labkit import nvme
from labkit import util
from tests.gate import base
from tests.gate import guest as guest_lib
from tests.gate import test_volumes
from tests.gate.test_volumes import GIB

PREFIX = '2026-02.org.openstack.xenlab:nvme'
PORTS = f'{nvme.TARGET}/ports'
BACKEND = f'''
volume_driver = cinder.volume.drivers.lvm.LVMVolumeDriver
volume_group = xenlab-volumes
lvm_type = thin
target_helper = nvmet
target_protocol = nvmet_tcp
target_port = 4420
target_prefix = {PREFIX}
nvmeof_conn_info_version = 2
'''


class VolumesNvme(test_volumes.BackendCase):
    """Attach, write, extend, detach, and boot."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        with util.step('Programs of NVMe-oF in dom0'):
            nvme.install(cls.host)
        cls.host.ssh(['modprobe', '--all', *nvme.MODULES])
        cls.addClassCleanup(cls.host.ssh, [
            'modprobe', '--remove', *nvme.MODULES])
        # Cinder leaves the port, which keeps the module.
        cls.addClassCleanup(cls.host.ssh, [
            'find', PORTS, '-mindepth', '1', '-maxdepth', '1',
            '-exec', 'rmdir', '{}', '+'])
        cls.add_backend('nvme', BACKEND)

    def setUp(self) -> None:
        super().setUp()
        # When all else is undone.
        self.addCleanup(self.check, [])
        self.type = self.volume_type(volume_backend_name='nvme').name

    def check(self, volumes: list[Any]) -> None:
        """dom0 serves these volumes and no others, and is connected to them.

        Each has a subsystem of its own.
        """
        expected = sorted(map(self.subsystem, volumes))
        served = self.dom0('ls', f'{nvme.TARGET}/subsystems').split()
        connected = self.host.ssh(
            'cat /sys/class/nvme/*/subsysnqn', check=False).stdout.split()
        self.assertEqual((expected, expected),
                         (sorted(served), sorted(connected)))

    @staticmethod
    def subsystem(volume: Any) -> str:
        """The name (NQN) that Cinder gives to a volume's subsystem."""
        return f'nqn.{PREFIX}-{volume.id}'

    @base.slow
    def test_attach_write_extend_detach(self) -> None:
        guest, volume = self.running(), self.volume(volume_type=self.type)
        self.attach(guest, volume)
        self.wait_for_size(guest, GIB)
        self.check([volume])

        self.start_writer(guest)
        self.cloud.block_storage.extend_volume(volume.id, 2)
        self.wait_for_size(guest, 2 * GIB)
        count = self.end_writer(guest)
        self.detach(guest, volume)
        self.wait_until_gone(guest)
        self.assert_gone(guest, volume)
        self.check([])

        self.attach(guest, volume)
        self.wait_for_size(guest, 2 * GIB)
        self.check_numbers(guest, count)

        # As after dom0 was booted anew, when another has the device's name.
        self.cloud.compute.stop_server(guest.id)
        guest.wait_for_status('SHUTOFF', guest_lib.STOP_TIMEOUT)
        self.dom0('nvme', 'disconnect', '--nqn', self.subsystem(volume))
        other = self.volume(volume_type=self.type)
        self.attach(guest, other)
        self.cloud.compute.start_server(guest.id)
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        self.check([volume, other])
        self.wait_for_size(guest, 2 * GIB)
        self.check_numbers(guest, count)
        self.detach(guest, volume)
        self.wait_until_gone(guest)
        self.assert_gone(guest, volume)
        self.check([other])
        self.detach(guest, other)
        self.assert_gone(guest, other)
        self.check([])

    @base.slow
    def test_boot_from_volume(self) -> None:
        volume = self.volume(volume_type=self.type,
                             image_id=self.image().id)
        guest = self.running(volume=volume)
        guest.ssh('echo kept > /root/kept && sync')
        before = guest.boot_id()
        self.cloud.compute.reboot_server(guest.id, 'HARD')
        guest.wait_for_status('ACTIVE')
        guest.wait_for_reboot(before)
        self.assertEqual('kept', guest.ssh('cat /root/kept'))
        self.check([volume])
        self.remove_server(guest.id)
        self.wait_for_volume(volume, 'available')
