# SPDX-License-Identifier: Apache-2.0
"""Volumes of Cinder; `xenlab gate` starts cinder-volume for them."""

from __future__ import annotations

from collections.abc import Callable
import datetime
import shlex
import time
from typing import Any
from typing import ClassVar

from labkit import images
from labkit import util
from labkit import volumes
from labkit.cloud import Cloud
from tests.gate import base
from tests.gate import guest as guest_lib
from tests.gate.alone import test_kill_points

#: Seconds for Cinder, Nova, libxl and the guest together.
TIMEOUT = 300

GIB = 1024 ** 3


class VolumeCase(base.GateCase):
    """A PV guest, and volumes.

    :cvar guest_type: the guest's type.
    :cvar kind: the type of the volumes, and the backend that they are on.
    :cvar device: the guest's name of its first volume.
    """

    guest_type: ClassVar[str] = 'pv'
    kind: ClassVar[str] = 'lvm'
    device: ClassVar[str] = 'xvdb'

    #: The guest writes a number to each page of its volume, one after the
    #: other, until it is told to end; each is on the disk before the next.
    WRITER = (
        'n={first}; while [ ! -e /tmp/end ]; do '
        'printf "%08d" $n | dd of=/dev/{device} bs=4k seek=$n '
        'conv=fsync,notrunc 2>/dev/null || break; '
        'n=$((n + 1)); echo $n > /tmp/written; done')

    def volume(self, size: int = 1, **options: Any) -> Any:
        """Make a volume and wait until it is there."""
        volume = self.cloud.block_storage.create_volume(
            name=self._name('volume'), size=size,
            **{'volume_type': self.kind, **options})
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
        """Remove a volume, and after a failure who has it."""
        for attachment in self.cloud.block_storage.get_volume(
                volume.id).attachments:
            self.remove_server(attachment['server_id'])
            self.wait_for_volume(volume, 'available')
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

    def volume_type(self, **specs: str) -> Any:
        """Make a type of volumes.

        :param specs: its extra specs.
        """
        kind = self.cloud.block_storage.create_type(
            name=self._name('type'), extra_specs=specs)
        self.addCleanup(self.cloud.block_storage.delete_type, kind)
        return kind

    def attach(self, guest: guest_lib.Guest, volume: Any,
               **options: Any) -> None:
        self.cloud.compute.create_volume_attachment(
            guest.id, volume_id=volume.id, **options)
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

    def wait_until_gone(self, guest: guest_lib.Guest) -> None:
        """Wait until the guest has the volume no more."""
        util.wait_for(f'{self.device} of {guest.name} to go',
                      lambda: not self.size(guest), TIMEOUT, interval=2)

    def write(self, guest: guest_lib.Guest, text: str) -> None:
        """Write to the beginning of the volume."""
        guest.ssh(f'echo {text} | dd of=/dev/{self.device} bs=512 count=1 '
                  'conv=sync,fsync')

    def read(self, guest: guest_lib.Guest) -> str:
        """Read what :meth:`write` wrote, from the volume itself."""
        return guest.ssh(f'dd if=/dev/{self.device} bs=512 count=1 '
                         "iflag=direct 2>/dev/null | tr -d '\\0'")

    def start_writer(self, guest: guest_lib.Guest, first: int = 0) -> None:
        """Have the guest write numbers; wait until it does.

        :param first: the first of them.
        """
        writer = self.WRITER.format(first=first, device=self.device)
        guest.ssh(f'rm -f /tmp/end /tmp/written; ({writer}) '
                  '>/dev/null 2>&1 &')
        self.wait_for_writer(guest, first + 10)

    def wait_for_writer(self, guest: guest_lib.Guest, more: int = 1) -> None:
        """Wait until the guest has written more numbers."""
        count = self.written(guest) + more
        util.wait_for(f'{guest.name} to write {count} numbers',
                      lambda: self.written(guest) >= count, TIMEOUT)

    def written(self, guest: guest_lib.Guest) -> int:
        """How many numbers the guest has written."""
        return int(guest.ssh('cat /tmp/written', check=False) or 0)

    def end_writer(self, guest: guest_lib.Guest) -> int:
        """End the writer, and check what is on the volume.

        :returns: how many numbers it wrote.
        """
        self.wait_for_writer(guest)
        guest.ssh('touch /tmp/end')
        time.sleep(2)
        count = self.written(guest)
        self.check_numbers(guest, count)
        util.say(f'  {guest.name} wrote {count} numbers')
        return count

    def check_numbers(self, guest: guest_lib.Guest, count: int) -> None:
        """Read from the volume what the writer wrote.

        :param count: how many numbers it wrote.
        """
        found = guest.ssh(
            f'dd if=/dev/{self.device} bs=4k count={count} iflag=direct '
            "2>/dev/null | tr -d '\\0'", timeout=TIMEOUT)
        self.assertEqual(''.join(f'{n:08d}' for n in range(count)), found)

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


class BackendCase(VolumeCase):
    """What has a backend of Cinder's beside the usual ones."""

    @classmethod
    def add_backend(cls, name: str, options: str) -> None:
        """Have a backend until the class has ended.

        :param options: their lines in Cinder's configuration.
        """
        cls.keep(volumes.CINDER_CONF, cls.restart)
        section = f'\n[{name}]\nvolume_backend_name = {name}\n{options}'
        cls.host.ssh(
            f"sed -i 's/^enabled_backends.*/&,{name}/' {volumes.CINDER_CONF} "
            f'&& printf %s {shlex.quote(section)} >> {volumes.CINDER_CONF}')
        cls.restart(name)

    @classmethod
    def keep(cls, path: str, restored: Callable[[], None] | None = None,
             ) -> None:
        """Have a file of dom0 as it is now when the class has ended.

        :param restored: called then.
        """
        cls.host.ssh(['cp', '-p', path, f'{path}.gate'])
        if restored:
            # The last added comes first.
            cls.addClassCleanup(restored)
        cls.addClassCleanup(cls.host.ssh, ['mv', f'{path}.gate', path])

    @classmethod
    def restart(cls, *more: str) -> None:
        """Restart cinder-volume; wait until it has all its backends."""
        begin = datetime.datetime.now(datetime.UTC)
        cls.host.ssh(['systemctl', 'restart', 'cinder-volume'],
                     timeout=volumes.TIMEOUT)
        Cloud().wait_volumes(cls.host.name, volumes.TIMEOUT, begin,
                             more=more)


class VolumeLife:
    """Attach, write, extend, reboot, detach; boot from a volume."""

    @base.slow
    def test_attach_write_extend_detach(self: Any) -> None:
        guest, volume = self.running(), self.volume()
        self.attach(guest, volume, tag='gate-disk')
        self.wait_for_size(guest, GIB)
        self.write(guest, 'written')
        # Nova's metadata is cached for 15 s.
        util.wait_for(
            f'the tag of a volume of {guest.name}',
            lambda: 'gate-disk' in guest.ssh(
                f'wget -q -O - {guest_lib.METADATA}', check=False), TIMEOUT,
            interval=5)

        size = self.extend(guest, volume)

        # Every start connects it anew.
        self.cloud.compute.reboot_server(guest.id, 'HARD')
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        self.wait_for_size(guest, size)
        self.assertIn('written', self.read(guest))

        self.detach(guest, volume)
        self.wait_until_gone(guest)
        self.assert_gone(guest, volume)

        # Another guest has what this one wrote.
        self.cloud.compute.stop_server(guest.id)
        guest.wait_for_status('SHUTOFF', guest_lib.STOP_TIMEOUT)
        self.attach(guest, volume)
        self.cloud.compute.start_server(guest.id)
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        self.assertIn('written', self.read(guest))
        self.detach(guest, volume)
        self.assert_gone(guest, volume)

    def extend(self: Any, guest: guest_lib.Guest, volume: Any) -> int:
        """Extend the volume while the guest has it.

        :returns: its bytes after that.
        """
        self.cloud.block_storage.extend_volume(volume.id, 2)
        self.wait_for_size(guest, 2 * GIB)
        return 2 * GIB

    @base.slow
    def test_boot_from_volume(self: Any) -> None:
        volume = self.volume(image_id=self.image().id)
        guest = self.running(volume=volume)
        guest.ssh('echo kept > /root/kept && sync')
        self.remove_server(guest.id)
        self.wait_for_volume(volume, 'available')
        guest = self.running(volume=volume)
        self.assertEqual('kept', guest.ssh('cat /root/kept'))

        # Cinder writes the image to it anew.
        before = guest.boot_id()
        self.cloud.compute.rebuild_server(guest.id, image=self.image().id)
        guest.wait_for_status('ACTIVE')
        guest.wait_for_reboot(before)
        self.assertEqual('', guest.ssh('cat /root/kept 2>/dev/null',
                                       check=False))
        self.remove_server(guest.id)
        self.wait_for_volume(volume, 'available')


class Volumes(VolumeLife, VolumeCase):
    """With a PV guest, and LVM."""

    @base.unhurried
    def test_boot_from_volume(self) -> None:
        super().test_boot_from_volume()


class VolumesHvm(VolumeLife, VolumeCase):
    """The same, with the first name that is not emulated."""

    guest_type = 'hvm'
    device = 'xvde'


class VolumesPvh(VolumeLife, VolumeCase):
    """The same."""

    guest_type = 'pvh'


class VolumesNfs(VolumeLife, VolumeCase):
    """The same with files, which the guest's QEMU serves."""

    kind = 'nfs'

    def extend(self: Any, guest: guest_lib.Guest, volume: Any) -> int:
        """Leave it: Cinder's driver for NFS extends none that is in use."""
        return GIB


class VolumesShared(VolumeCase):
    """A volume that two guests have at a time."""

    @base.unhurried
    def test_multiattach(self) -> None:
        kind = self.volume_type(multiattach='<is> True',
                                volume_backend_name=self.kind)
        volume = self.volume(volume_type=kind.name)
        guests = [self.running() for _ in range(2)]
        for guest in guests:
            self.attach(guest, volume)
            self.wait_for_size(guest, GIB)
        for writer, reader in (guests, guests[::-1]):
            self.write(writer, f'by-{writer.name}')
            self.assertIn(f'by-{writer.name}', self.read(reader))
        # The other one keeps it.
        self.cloud.compute.delete_volume_attachment(guests[0].id, volume.id)
        self.wait_until_gone(guests[0])
        # Cinder knows it a little later, and detaches one at a time.
        self.wait_for_volume(volume, 'in-use')
        self.write(guests[1], 'alone')
        self.assertIn('alone', self.read(guests[1]))
        self.detach(guests[1], volume)
        self.wait_until_gone(guests[1])
        for guest in guests:
            self.assert_gone(guest, volume)


class VolumesEncrypted(VolumeCase):
    """A volume of which the target has ciphertext only."""

    @base.unhurried
    def test_luks(self) -> None:
        kind = self.volume_type(volume_backend_name=self.kind)
        self.cloud.block_storage.create_type_encryption(
            kind, provider='luks', cipher='aes-xts-plain64', key_size=256,
            control_location='front-end')
        volume = self.volume(volume_type=kind.name)
        guest = self.running()
        self.attach(guest, volume)
        util.wait_for(f'{self.device} in {guest.name}',
                      lambda: self.size(guest), TIMEOUT, interval=2)
        # The header is not the guest's.
        self.assertLess(self.size(guest), GIB)
        self.write(guest, 'written')
        device = self.dom0('find', '/dev', '-name', f'volume-{volume.id}')
        self.assertEqual('LUKS', self.dom0('head', '-c', '4', device.strip()))
        self.assertEqual('0', self.host.ssh(
            f'head -c 32M {device.strip()} | grep -ac written',
            check=False).stdout.strip())
        # As every start does, with the key.
        self.cloud.compute.reboot_server(guest.id, 'HARD')
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        self.assertIn('written', self.read(guest))
        self.detach(guest, volume)
        self.wait_until_gone(guest)
        self.assert_gone(guest, volume)
        # Versions say it in words, or say nothing.
        self.assertIn(self.dom0('dmsetup', 'ls', '--target', 'crypt').strip(),
                      ('', 'No devices found'))


class VolumesBriefly(VolumeCase):
    """What the others do at length, in the time that the first tier has."""

    def test_each_once(self) -> None:
        # Given its kernel, it boots in half the time.
        guest = self.running(image=self.image(images.DIRECT))
        volume = self.volume()
        self.attach(guest, volume)
        self.wait_for_size(guest, GIB)
        self.write(guest, 'written')
        self.cloud.block_storage.extend_volume(volume.id, 2)
        self.wait_for_size(guest, 2 * GIB)
        self.assertIn('written', self.read(guest))
        self.detach(guest, volume)
        self.wait_until_gone(guest)
        self.assert_gone(guest, volume)


class VolumesLimited(VolumeCase):
    """A volume on NFS whose type limits it."""

    #: Reads that take a second.
    IOPS = 10

    def limited_type(self) -> str:
        """A volume type with QoS specs; returns its name."""
        storage = self.cloud.block_storage
        kind = self.volume_type(volume_backend_name='nfs')
        answer = storage.post('/qos-specs', json={'qos_specs': {
            'name': kind.name, 'consumer': 'front-end',
            'total_iops_sec': str(self.IOPS)}})
        specs = answer.json()['qos_specs']['id']
        self.addCleanup(storage.delete, f'/qos-specs/{specs}?force=true')
        storage.get(f'/qos-specs/{specs}/associate?vol_type_id={kind.id}')
        name: str = kind.name
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


class VolumesMoved(test_kill_points.KillPointsCase, VolumeCase):
    """A volume that Cinder moves to another backend while a guest writes."""

    kind = 'nfs'

    def retype(self, volume: Any, kind: str) -> None:
        """Ask Cinder to move a volume, whoever has it."""
        self.cloud.block_storage.retype_volume(
            volume, kind, migration_policy='on-demand')

    def files(self, volume: Any) -> list[str]:
        """The files of the volume in which it is now, of all backends.

        Cinder has a name of its own for a volume that it has moved.
        """
        volume = self.cloud.block_storage.get_volume(volume.id)
        name = volume.migration_id or volume.id
        return self.dom0('find', '/srv/volumes', '-name',
                         f'volume-{name}').split()

    @base.slow
    def test_retype(self) -> None:
        guest, volume = self.running(), self.volume()
        self.attach(guest, volume)
        self.wait_for_size(guest, GIB)
        before = guest.boot_id()
        old, = self.files(volume)
        count = 0
        for kind in ('nfs2', 'nfs'):
            self.start_writer(guest, count)
            began = time.monotonic()
            self.retype(volume, kind)
            self.wait_for_volume(volume, 'retyping')
            self.wait_for_volume(volume, 'in-use')
            util.say(f'  moved to {kind} in {time.monotonic() - began:.1f} s')
            found = self.cloud.block_storage.get_volume(volume.id)
            self.assertEqual((kind, f'xen1@{kind}#{kind}'),
                             (found.volume_type, found.host))
            count = self.end_writer(guest)
            self.assertEqual(before, guest.boot_id())
            new, = self.files(volume)
            self.assertNotEqual(old, new)
            self.assertEqual('', self.host.ssh(
                ['ls', old], check=False).stdout)
            self.assertEqual({name_of(new)}, self.opened(old, new))
            old = new
        # A guest that reboots by itself, and one that Nova starts.
        guest.ssh('reboot', check=False)
        guest.wait_for_reboot(before)
        self.wait_for_size(guest, GIB)
        self.check_numbers(guest, count)
        self.cloud.compute.reboot_server(guest.id, 'HARD')
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        self.check_numbers(guest, count)
        self.detach(guest, volume)
        self.wait_until_gone(guest)
        self.assert_gone(guest, volume)
        self.assertEqual(set(), self.opened(old, new))

    def opened(self, *files: str) -> set[str]:
        """The names of those files that a process of dom0 has open."""
        found = self.host.ssh('ls -l /proc/[0-9]*/fd', check=False).stdout
        return {name_of(file) for file in files if name_of(file) in found}

    @base.slow
    def test_kill(self) -> None:
        guest = self.present()
        for point, moved in (('swap volume: copied', False),
                             ('swap volume: link changed', False),
                             ('swap volume: noted', True)):
            volume = self.volume()
            self.attach(guest, volume)
            self.wait_for_size(guest, GIB)
            self.start_writer(guest)
            before = guest.boot_id()
            self.kill(guest, point, self.retype, volume, 'nfs2',
                      expected='ACTIVE')
            # It goes on with the volume that Nova knows, alone.
            file = self.dom0('readlink', self.link(guest, volume)).strip()
            self.assertEqual(moved, not file.endswith(volume.id))
            self.assertEqual({name_of(file)}, self.opened(
                f'volume-{volume.id}', f'volume-{self.target(volume).id}'))
            count = self.end_writer(guest)
            self.assertEqual(before, guest.boot_id())
            self.cloud.compute.reboot_server(guest.id, 'HARD')
            guest.wait_for_status('ACTIVE')
            guest.wait_for_reboot(before)
            self.wait_for_size(guest, GIB)
            self.assertEqual(file, self.dom0(
                'readlink', self.link(guest, volume)).strip())
            self.check_numbers(guest, count)
            # What an operator does.
            self.cloud.block_storage.reset_volume_status(
                volume, 'in-use', 'attached', 'none')
            self.detach(guest, volume)
            self.wait_until_gone(guest)
            self.assert_gone(guest, volume)
            self.remove_target(volume)

    @staticmethod
    def link(guest: guest_lib.Guest, volume: Any) -> str:
        """The link with which the guest is defined."""
        return f'/run/xen44/volumes/{guest.id}/{volume.id}'

    def target(self, volume: Any) -> Any:
        """What a volume was to be moved to."""
        found, = [
            other for other in self.cloud.block_storage.volumes(
                all_projects=True)
            if other.migration_status == f'target:{volume.id}']
        return found

    def remove_target(self, volume: Any) -> None:
        """Remove what a volume was to be moved to."""
        storage, target = self.cloud.block_storage, self.target(volume)
        for attachment in storage.attachments(volume_id=target.id):
            storage.delete_attachment(attachment)
        storage.reset_volume_status(target, 'available', 'detached', 'none')
        storage.delete_volume(target.id, force=True)


def name_of(file: str) -> str:
    """The name of a volume's file, wherever its share is mounted."""
    return file.rpartition('/')[2]


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
