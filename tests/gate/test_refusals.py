# SPDX-License-Identifier: Apache-2.0
"""What cannot be is refused: the fault says why, and nothing is left."""

from __future__ import annotations

import pathlib
import tarfile
import tempfile
from typing import Any

import openstack

from labkit import guest as guest_images
from labkit import image as xen_image
from labkit import images
from labkit import util
from tests.gate import base
from tests.gate import guest as guest_lib

#: Where the one partition of the guest's disk begins, in bytes.
PARTITION = guest_images.PARTITION_START * guest_images.SECTOR


class Refusals(base.GateCase):
    """Bad input, one kind each."""

    def setUp(self) -> None:
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        self.files = guest_images.small_guest()

    def upload(self, path: pathlib.Path, disk_format: str,
               **properties: Any) -> Any:
        """Make an image for the test."""
        return self.make_image(self.addCleanup, path, disk_format,
                               **properties)

    def flavor(self, guest_type: str | None) -> Any:
        """A flavor that asks for a guest type."""
        return self.make_flavor(self.addCleanup, guest_type=guest_type)

    def thief(self) -> pathlib.Path:
        """A disk image that lies on a file of whoever opens it."""
        disk = self.directory / 'thief.qcow2'
        util.run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw',
                  '-u', '-b', '/etc/shadow', disk, '64M'])
        return disk

    def assert_no_disk(self, image: Any, *fragments: str) -> None:
        """The host refuses an image as a disk, and keeps nothing of it.

        :param fragments: what the fault must mention.
        """
        guest = self.make_server(self.addCleanup, image=image)
        self.assert_refused(guest, image.id, *fragments)
        self.assertEqual([], self.kept_files(image))

    # Guest types

    @base.unhurried
    def test_flavor_with_unknown_guest_type(self) -> None:
        guest = self.make_server(self.addCleanup, flavor=self.flavor('pvx'))
        self.assert_refused(guest, "xen44:guest_type 'pvx'", 'pv, pvh, hvm')

    @base.slow
    def test_image_and_flavor_disagree(self) -> None:
        image = self.upload(self.files.disk_qcow2, 'qcow2', hw_vm_mode='xen')
        guest = self.make_server(self.addCleanup, image=image,
                                 flavor=self.flavor('pvh'))
        self.assert_refused(guest, 'hw_vm_mode=xen', 'xen44:guest_type=pvh')

    @base.slow
    def test_image_with_impossible_interface(self) -> None:
        image = self.upload(self.files.disk_qcow2, 'qcow2',
                            hw_vif_model='e1000')
        guest = self.make_server(self.addCleanup, image=image,
                                 flavor=self.flavor('pv'))
        self.assert_refused(guest, "hw_vif_model 'e1000'", 'netfront')

    @base.slow
    def test_image_with_foreign_vm_mode(self) -> None:
        # Nova's scheduler knows from supported_instances that no host has
        # it, and its API refuses what is no mode at all. What no host takes
        # is kept in cell0, which counts for itself: its instance name may be
        # that of another, so there are no traces to look for.
        image = self.upload(self.files.disk_qcow2, 'qcow2', hw_vm_mode='uml')
        guest = self.make_server(self.addCleanup, image=image)
        self.assert_fault(guest, 'no valid host')
        image = self.upload(self.files.disk_qcow2, 'qcow2', hw_vm_mode='xen5')
        refused = self.assertRaises(
            openstack.exceptions.BadRequestException, self.make_server,
            self.addCleanup, image=image)
        self.assertIn('xen5', str(refused))

    # What the host does not give

    @base.slow
    def test_flavor_with_dedicated_cpus(self) -> None:
        guest = self.make_server(
            self.addCleanup, flavor=self.make_flavor(
                self.addCleanup, specs={'hw:cpu_policy': 'dedicated'}))
        # Nova tries other hosts, and the lab has none.
        self.assert_refused(guest, 'maximum number of retries')

    @base.slow
    def test_flavor_with_too_little_memory(self) -> None:
        guest = self.make_server(
            self.addCleanup, flavor=self.make_flavor(self.addCleanup, ram=16))
        self.assert_refused(guest, 'aborted', '16 MiB', 'pv', '64 MiB')

    @base.slow
    def test_image_with_secure_boot(self) -> None:
        # Nova's scheduler asks for a trait that no host has here; see
        # test_image_with_foreign_vm_mode.
        image = self.upload(self.files.disk_qcow2, 'qcow2',
                            os_secure_boot='required')
        guest = self.make_server(self.addCleanup, image=image)
        self.assert_fault(guest, 'no valid host')

    # Disks

    @base.slow
    def test_image_larger_than_flavor(self) -> None:
        # A few hundred kilobytes, which would be 50 GiB as a raw disk.
        disk = self.directory / 'large.qcow2'
        util.run(['qemu-img', 'create', '-q', '-f', 'qcow2', disk, '50G'])
        image = self.upload(disk, 'qcow2')
        guest = self.make_server(self.addCleanup, image=image)
        self.assert_refused(guest, 'aborted', str(2**30), str(50 * 2**30))
        self.assertEqual([], self.kept_files(image))

    @base.slow
    def test_image_in_disguise(self) -> None:
        image = self.upload(self.files.disk_qcow2, 'raw')
        self.assert_no_disk(image)

    @base.slow
    def test_image_that_is_empty(self) -> None:
        empty = self.directory / 'empty'
        empty.touch()
        try:
            image = self.upload(empty, 'raw')
        except openstack.exceptions.HttpException as error:
            # Whose fault Glance takes it for.
            self.assertLess(error.status_code, 500)
            return
        if self.cloud.image.get_image(image.id).status == 'active':
            self.assert_no_disk(image, 'unacceptable')

    @base.slow
    def test_image_in_archive(self) -> None:
        """As the disks of XenServer were kept in Glance."""
        disk = self.directory / '0.vhd'
        util.run(['qemu-img', 'create', '-q', '-f', 'vpc', disk, '64M'])
        archive = self.directory / 'disk.tar'
        with tarfile.open(archive, 'w') as tar:
            tar.add(disk, disk.name)
        image = self.upload(archive, 'vhd', container_format='ovf')
        self.assert_no_disk(image, 'vhd', 'tar archive')

    def test_image_with_backing_file(self) -> None:
        disk = self.thief()
        for disk_format in ('qcow2', 'raw'):
            try:
                image = self.upload(disk, disk_format)
            except openstack.exceptions.HttpException as error:
                # Glance looks into images as well, and is first.
                self.assertEqual(415, error.status_code)
                continue
            self.assert_no_disk(image)
        # It does not look into what is in a container.
        image = self.upload(disk, 'raw', container_format='ovf')
        self.assert_no_disk(image, 'backing file')

    @base.slow
    def test_image_with_data_file(self) -> None:
        disk = self.directory / 'thief.qcow2'
        util.run(['qemu-img', 'create', '-q', '-f', 'qcow2',
                  '-o', f'data_file={self.directory / "data"}', disk, '64M'])
        image = self.upload(disk, 'qcow2', container_format='ovf')
        self.assert_no_disk(image, 'data_file')

    # Kernels and ramdisks, which nobody inspects as disks

    @base.slow
    def test_kernel_that_is_none(self) -> None:
        kernel = self.upload(self.thief(), 'aki', container_format='aki')
        image = self.upload(self.files.disk_qcow2, 'qcow2',
                            kernel_id=kernel.id)
        guest = self.make_server(self.addCleanup, image=image,
                                 flavor=self.flavor('pv'))
        self.assert_refused(guest, kernel.id, 'not a kernel', 'bzImage')
        self.assertEqual([], self.kept_files(kernel))
        # Nor does it become a disk.
        self.assert_no_disk(kernel, 'recorded as a kernel')

    @base.slow
    def test_ramdisk_that_is_a_disk(self) -> None:
        """It may be any file; a disk is never made of that file."""
        ramdisk = self.upload(self.thief(), 'raw', container_format='ovf')
        image = self.upload(
            self.files.disk_qcow2, 'qcow2', ramdisk_id=ramdisk.id,
            kernel_id=self.image(images.KERNEL).id,
            os_command_line=guest_images.CMDLINE)
        first = self.make_server(self.addCleanup, image=image,
                                 flavor=self.flavor('pv'))
        first.wait_for_status('ACTIVE')
        kept = self.kept_files(ramdisk)
        self.assertEqual(2, len(kept), kept)
        second = self.make_server(self.addCleanup, image=ramdisk)
        self.assert_refused(second, ramdisk.id, 'backing file')
        self.assertEqual(sorted(kept), sorted(self.kept_files(ramdisk)))
        self.assertTrue(all('.file' in name for name in kept), kept)

    @base.slow
    def test_kernel_that_grub_cannot_load(self) -> None:
        # grub's PV loader knows no zstd, which Debian packs kernels with:
        # dom0's is one. It runs in the guest: so the guest is made, and its
        # console tells.
        disk = self.directory / 'disk.raw'
        util.run(['cp', '--sparse=always', self.files.disk_raw, disk])
        util.run(['debugfs', '-w', '-f', '-', f'{disk}?offset={PARTITION}'],
                 input='rm /boot/vmlinuz\n'
                       f'write {xen_image.get().kernel} /boot/vmlinuz\n')
        guest = self.make_server(
            self.addCleanup, image=self.upload(disk, 'raw'),
            flavor=self.flavor('pv'))
        guest.wait_for_status('ACTIVE')
        util.wait_for(f'grub of {guest.name} to give up',
                      lambda: 'not xen image' in guest.console(),
                      guest_lib.LOGIN_TIMEOUT, interval=3)
        traces = self.traces(guest)
        self.remove_server(guest.id)
        traces.wait_for_none(self.host, self.cloud)
