# SPDX-License-Identifier: Apache-2.0
"""What cannot be is refused: the fault says why, and nothing is left."""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

import openstack

from labkit import guest as guest_images
from labkit import image as xen_image
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

    # Guest types

    def test_flavor_with_unknown_guest_type(self) -> None:
        guest = self.make_server(self.addCleanup, flavor=self.flavor('pvx'))
        self.assert_refused(guest, "xen44:guest_type 'pvx'", 'pv, pvh, hvm')

    def test_image_and_flavor_disagree(self) -> None:
        image = self.upload(self.files.disk_qcow2, 'qcow2', hw_vm_mode='xen')
        guest = self.make_server(self.addCleanup, image=image,
                                 flavor=self.flavor('pvh'))
        self.assert_refused(guest, 'hw_vm_mode=xen', 'xen44:guest_type=pvh')

    def test_image_with_impossible_interface(self) -> None:
        image = self.upload(self.files.disk_qcow2, 'qcow2',
                            hw_vif_model='e1000')
        guest = self.make_server(self.addCleanup, image=image,
                                 flavor=self.flavor('pv'))
        self.assert_refused(guest, "hw_vif_model 'e1000'", 'netfront')

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

    # Disks

    def test_image_larger_than_flavor(self) -> None:
        disk = self.directory / 'large.qcow2'
        util.run(['qemu-img', 'create', '-q', '-f', 'qcow2', disk, '2G'])
        guest = self.make_server(
            self.addCleanup, image=self.upload(disk, 'qcow2'))
        self.assert_refused(guest, str(2**30), str(2**31))

    def test_image_in_disguise(self) -> None:
        image = self.upload(self.files.disk_qcow2, 'raw')
        guest = self.make_server(self.addCleanup, image=image)
        self.assert_refused(guest, image.id)

    def test_image_with_backing_file(self) -> None:
        disk = self.directory / 'thief.qcow2'
        util.run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw',
                  '-u', '-b', '/etc/shadow', disk, '64M'])
        for disk_format in ('qcow2', 'raw'):
            try:
                image = self.upload(disk, disk_format)
            except openstack.exceptions.HttpException as error:
                # Glance looks into images as well, and is first.
                self.assertEqual(415, error.status_code)
                continue
            guest = self.make_server(self.addCleanup, image=image)
            self.assert_refused(guest, image.id)

    # Kernels

    def test_kernel_that_is_none(self) -> None:
        nonsense = self.directory / 'kernel'
        nonsense.write_bytes(b'this is no kernel\n' * 1000)
        kernel = self.upload(nonsense, 'aki', container_format='aki')
        image = self.upload(self.files.disk_qcow2, 'qcow2',
                            kernel_id=kernel.id)
        guest = self.make_server(self.addCleanup, image=image,
                                 flavor=self.flavor('pv'))
        self.assert_refused(guest, kernel.id, 'no kernel', 'bzImage')

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
