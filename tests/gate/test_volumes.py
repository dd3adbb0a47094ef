# SPDX-License-Identifier: Apache-2.0
"""Volumes of Cinder; `xenlab gate` starts cinder-volume for them."""

from __future__ import annotations

from typing import Any
from typing import ClassVar

from labkit import util
from tests.gate import base
from tests.gate import guest as guest_lib
from tests.gate.alone import test_kill_points

#: Seconds for Cinder, Nova, libxl and the guest together.
TIMEOUT = 300

GIB = 1024 ** 3


class VolumeCase(base.GateCase):
    """A PV guest, and volumes.

    :cvar guest_type: the guest's type.
    :cvar device: the guest's name of its first volume.
    """

    guest_type: ClassVar[str] = 'pv'
    device: ClassVar[str] = 'xvdb'

    def volume(self, size: int = 1, **options: Any) -> Any:
        """Make a volume and wait until it is there."""
        volume = self.cloud.block_storage.create_volume(
            name=self._name('volume'), size=size, **options)
        self.addCleanup(self.remove_volume, volume)
        self.wait_for_volume(volume, 'available')
        return volume

    def wait_for_volume(self, volume: Any, status: str) -> None:
        """Wait until Cinder calls a volume so."""
        def reached() -> bool:
            found = self.cloud.block_storage.get_volume(volume.id).status
            if found.startswith('error') and found != status:
                raise util.LabError(f'volume {volume.id} is in {found}')
            return bool(found == status)

        util.wait_for(f'volume {volume.id} to be {status}', reached, TIMEOUT,
                      interval=2)

    def remove_volume(self, volume: Any) -> None:
        self.cloud.block_storage.delete_volume(volume.id)
        self.cloud.block_storage.wait_for_delete(volume, wait=TIMEOUT)

    def running(self, **options: Any) -> guest_lib.Guest:
        """A guest that has booted."""
        guest = self.make_server(
            self.addCleanup, flavor=self.make_flavor(
                self.addCleanup, guest_type=self.guest_type), **options)
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        return guest

    def attach(self, guest: guest_lib.Guest, volume: Any) -> None:
        self.cloud.compute.create_volume_attachment(
            guest.id, volume_id=volume.id)
        self.wait_for_volume(volume, 'in-use')

    def detach(self, guest: guest_lib.Guest, volume: Any) -> None:
        self.cloud.compute.delete_volume_attachment(guest.id, volume.id)
        self.wait_for_volume(volume, 'available')

    def size(self, guest: guest_lib.Guest) -> int:
        """Bytes of the volume as the guest has it; 0 if it does not."""
        return 512 * int(guest.ssh(
            f'cat /sys/class/block/{self.device}/size', check=False) or 0)

    def wait_for_size(self, guest: guest_lib.Guest, size: int) -> None:
        util.wait_for(f'{size} bytes of {self.device} in {guest.name}',
                      lambda: self.size(guest) == size, TIMEOUT, interval=2)

    def assert_gone(self, guest: guest_lib.Guest, volume: Any) -> None:
        """dom0 has nothing of a volume."""
        for which in ([], ['--inactive']):
            self.assertNotIn(volume.id, self.dom0(
                'virsh', 'domblklist', guest.domain, *which))
        self.assertEqual('', self.dom0(
            'find', '/run/xen44', '-name', volume.id).strip())
        # Whatever the transport, the device's name has the volume's id.
        self.assertNotIn(volume.id, self.host.ssh(
            'ls /dev/disk/by-path /dev/rbd/*', check=False).stdout)


class Volumes(VolumeCase):
    """Attach, write, extend, reboot, detach; boot from a volume."""

    @base.slow
    def test_attach_write_extend_detach(self) -> None:
        guest, volume = self.running(), self.volume()
        self.attach(guest, volume)
        self.wait_for_size(guest, GIB)
        guest.ssh(f'echo written | dd of=/dev/{self.device} bs=512 count=1 '
                  'conv=sync,fsync')

        self.cloud.block_storage.extend_volume(volume.id, 2)
        self.wait_for_size(guest, 2 * GIB)

        # Every start connects it anew.
        self.cloud.compute.reboot_server(guest.id, 'HARD')
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        self.wait_for_size(guest, 2 * GIB)
        self.assertIn('written', self.read(guest))

        self.detach(guest, volume)
        util.wait_for(f'{self.device} of {guest.name} to go',
                      lambda: not self.size(guest), TIMEOUT, interval=2)
        self.assert_gone(guest, volume)

        # Another guest has what this one wrote.
        self.cloud.compute.stop_server(guest.id)
        guest.wait_for_status('SHUTOFF', guest_lib.STOP_TIMEOUT)
        self.attach(guest, volume)
        self.cloud.compute.start_server(guest.id)
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        self.assertIn('written', self.read(guest))

    @base.slow
    def test_boot_from_volume(self) -> None:
        volume = self.volume(image_id=self.image().id)
        guest = self.running(volume=volume)
        guest.ssh('echo kept > /root/kept && sync')
        self.remove_server(guest.id)
        self.wait_for_volume(volume, 'available')
        guest = self.running(volume=volume)
        self.assertEqual('kept', guest.ssh('cat /root/kept'))
        self.remove_server(guest.id)
        self.wait_for_volume(volume, 'available')

    def read(self, guest: guest_lib.Guest) -> str:
        return guest.ssh(f'dd if=/dev/{self.device} bs=512 count=1 '
                         "2>/dev/null | tr -d '\\0'")


class VolumesHvm(Volumes):
    """The same, with the first name that is not emulated."""

    guest_type = 'hvm'
    device = 'xvde'


class VolumesPvh(Volumes):
    """The same."""

    guest_type = 'pvh'


class VolumesLimited(VolumeCase):
    """A volume on NFS whose type limits it."""

    #: Reads that take a second.
    IOPS = 10

    def limited_type(self) -> str:
        """A volume type with QoS specs; returns its name."""
        storage = self.cloud.block_storage
        name = self._name('limited')
        kind = storage.create_type(
            name=name, extra_specs={'volume_backend_name': 'nfs'})
        self.addCleanup(storage.delete_type, kind)
        answer = storage.post('/qos-specs', json={'qos_specs': {
            'name': name, 'consumer': 'front-end',
            'total_iops_sec': str(self.IOPS)}})
        specs = answer.json()['qos_specs']['id']
        self.addCleanup(storage.delete, f'/qos-specs/{specs}?force=true')
        storage.get(f'/qos-specs/{specs}/associate?vol_type_id={kind.id}')
        return name

    def seconds(self, guest: guest_lib.Guest) -> float:
        """Seconds of 30 reads, each of one page."""
        clock = 'cut -d" " -f1 /proc/uptime'
        began, ended = guest.ssh(
            f'{clock}; dd if=/dev/{self.device} of=/dev/null bs=4k count=30 '
            f'iflag=direct 2>/dev/null; {clock}').split()
        return float(ended) - float(began)

    @base.slow
    def test_limits(self) -> None:
        volume = self.volume(volume_type=self.limited_type())
        guest = self.running()
        self.attach(guest, volume)
        self.wait_for_size(guest, GIB)
        self.assertGreater(self.seconds(guest), 30 / self.IOPS - 1.5)
        # The guest's own reboot gives it another QEMU.
        before = guest.boot_id()
        guest.ssh('reboot', check=False)
        util.wait_for(f'{guest.name} to boot anew',
                      lambda: guest.boot_id() != before, TIMEOUT, interval=5)
        self.wait_for_size(guest, GIB)
        self.assertGreater(self.seconds(guest), 30 / self.IOPS - 1.5)
        self.detach(guest, volume)


class KilledVolumes(test_kill_points.KillPointsCase, VolumeCase):
    """nova-compute is killed at each named point."""

    @base.slow
    def test_volumes(self) -> None:
        guest = self.present()
        for point in ('volume: connected', 'attach volume: recorded',
                      'attach volume: defined', 'attach volume: attached',
                      'detach volume: undefined', 'detach volume: detached',
                      'detach volume: forgotten', 'volume: link removed'):
            volume = self.volume()
            if 'detach' in point or 'removed' in point:
                self.attach(guest, volume)
                self.kill(guest, point,
                          self.cloud.compute.delete_volume_attachment,
                          guest.id, volume.id, expected='ACTIVE')
            else:
                self.kill(guest, point,
                          self.cloud.compute.create_volume_attachment,
                          guest.id, volume_id=volume.id, expected='ACTIVE')
                # Nova knows of it: a reboot brings it.
                self.cloud.compute.reboot_server(guest.id, 'SOFT')
                guest.wait_for_status('ACTIVE')
                guest.wait_for_ssh()
                self.wait_for_size(guest, GIB)
            # The user takes it away.
            self.cloud.block_storage.reset_volume_status(
                volume, 'in-use', 'attached')
            self.detach(guest, volume)
            self.assert_gone(guest, volume)
