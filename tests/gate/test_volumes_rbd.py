# SPDX-License-Identifier: Apache-2.0
"""Volumes of Ceph (:mod:`labkit.ceph`), which dom0's kernel maps."""

from __future__ import annotations

import json
from typing import ClassVar

from labkit import ceph
from labkit import config
from labkit import util
from tests.gate import base
from tests.gate import guest as guest_lib
from tests.gate import test_volumes
from tests.gate.test_volumes import GIB

BACKEND = f'''
volume_driver = cinder.volume.drivers.rbd.RBDDriver
rbd_pool = {ceph.POOL}
rbd_user = {ceph.USER}
rbd_ceph_conf = {ceph.CLIENT_CONF}
'''


class VolumesRbd(test_volumes.BackendCase):
    """Attach, write, extend, detach, and boot."""

    served: ClassVar[ceph.Ceph]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.served = ceph.Ceph(config.STATE / 'ceph')
        cls.addClassCleanup(cls.served.stop)
        with util.step('Ceph'):
            cls.served.start(4 * GIB)
        with util.step("Ceph's client in dom0"):
            ceph.install_client(cls.host)
        cls.addClassCleanup(cls.host.ssh, [
            'rm', '-rf', ceph.CLIENT_CONF, ceph.CLIENT_KEYRING])
        for path, text in (
                (ceph.CLIENT_CONF, cls.served.client_conf()),
                (ceph.CLIENT_KEYRING, cls.served.client_keyring())):
            cls.host.ssh(['install', '-D', '--mode=600', '/dev/stdin', path],
                         input=text)
        cls.host.ssh(['modprobe', 'rbd'])
        cls.addClassCleanup(cls.host.ssh, ['modprobe', '--remove', 'rbd'])
        cls.add_backend('rbd', BACKEND)

    def setUp(self) -> None:
        super().setUp()
        # When all else is undone.
        self.addCleanup(self.check_nothing_left)
        self.type = self.volume_type(volume_backend_name='rbd').name

    def check_nothing_left(self) -> None:
        """dom0 has mapped nothing, and Ceph has nothing."""
        self.assertEqual([], self.mapped())
        self.assertEqual([], self.served.images())

    def mapped(self) -> list[str]:
        """The images that dom0's kernel has mapped."""
        return [one['name'] for one in json.loads(self.dom0(
            'rbd', 'showmapped', '--format=json'))]

    @base.slow
    def test_attach_write_extend_detach(self) -> None:
        guest, volume = self.running(), self.volume(volume_type=self.type)
        name = f'volume-{volume.id}'
        self.attach(guest, volume)
        self.wait_for_size(guest, GIB)
        self.assertEqual([name], self.mapped())

        self.start_writer(guest)
        self.cloud.block_storage.extend_volume(volume.id, 2)
        self.wait_for_size(guest, 2 * GIB)
        count = self.end_writer(guest)
        self.detach(guest, volume)
        self.wait_until_gone(guest)
        self.assert_gone(guest, volume)
        self.assertEqual([], self.mapped())

        self.attach(guest, volume)
        self.wait_for_size(guest, 2 * GIB)
        self.check_numbers(guest, count)

        # As after dom0 was booted anew.
        self.cloud.compute.stop_server(guest.id)
        guest.wait_for_status('SHUTOFF', guest_lib.STOP_TIMEOUT)
        if self.mapped():
            self.dom0('rbd', 'unmap', f'{ceph.POOL}/{name}')
        self.cloud.compute.start_server(guest.id)
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        self.assertEqual([name], self.mapped())
        self.check_numbers(guest, count)
        self.detach(guest, volume)
        self.wait_until_gone(guest)
        self.assert_gone(guest, volume)

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
        self.assertEqual([f'volume-{volume.id}'], self.mapped())
        self.remove_server(guest.id)
        self.wait_for_volume(volume, 'available')
