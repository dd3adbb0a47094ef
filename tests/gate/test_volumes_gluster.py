# SPDX-License-Identifier: Apache-2.0
"""A guest's disk on GlusterFS, by iSCSI.

The volume group of a backend of Cinder's is on an iSCSI disk that tgt serves
from a Gluster volume (:mod:`labkit.gluster`).
"""

from __future__ import annotations

from typing import ClassVar

from labkit import config
from labkit import gluster
from labkit import util
from tests.gate import base
from tests.gate import test_volumes

GROUP = 'gate-gluster'
DISK = (f'/dev/disk/by-path/ip-{config.CONTROLLER_IP}:3260-iscsi-'
        f'{gluster.TARGET}-lun-1')
PORTAL = ('--targetname', gluster.TARGET, '--portal', config.CONTROLLER_IP)

LVM_CONF = '/etc/lvm/lvm.conf'
#: What lets dom0's LVM see the disk, too.
LVM_FILTER = r's#"r|#"a|^/dev/disk/by-path/.*:gluster-|", "r|#'
BACKEND = f'''
volume_driver = cinder.volume.drivers.lvm.LVMVolumeDriver
volume_group = {GROUP}
lvm_type = default
volume_clear = none
target_helper = lioadm
target_protocol = iscsi
'''


class VolumesGluster(test_volumes.BackendCase):
    """A guest writes while bricks are killed and healed."""

    served: ClassVar[gluster.Gluster]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.served = gluster.Gluster(config.STATE / 'gluster')
        cls.addClassCleanup(cls.served.stop)
        with util.step('Gluster, and its iSCSI disk'):
            cls.served.start(2 << 30, cls.host.address)
        cls.log_in()
        cls.keep(LVM_CONF)
        cls.host.ssh(['sed', '-i', LVM_FILTER, LVM_CONF])
        cls.host.ssh(['vgcreate', GROUP, DISK])
        cls.addClassCleanup(cls.host.ssh, ['vgremove', '--force', GROUP])
        cls.add_backend('gluster', BACKEND)

    @classmethod
    def log_in(cls) -> None:
        """Have the disk in dom0."""
        cls.host.ssh(['iscsiadm', '--mode', 'discovery', '--type',
                      'sendtargets', '--portal', config.CONTROLLER_IP])
        cls.addClassCleanup(cls.host.ssh, [
            'iscsiadm', '--mode', 'node', *PORTAL, '--op', 'delete'])
        cls.host.ssh(['iscsiadm', '--mode', 'node', *PORTAL, '--login'])
        cls.addClassCleanup(cls.host.ssh, [
            'iscsiadm', '--mode', 'node', *PORTAL, '--logout'])
        util.wait_for(DISK, lambda: not cls.host.ssh(
            ['test', '-e', DISK], check=False).returncode, 60, interval=1)

    @base.slow
    def test_bricks_die(self) -> None:
        kind = self.volume_type(volume_backend_name='gluster')
        guest, volume = self.running(), self.volume(volume_type=kind.name)
        self.attach(guest, volume)
        self.wait_for_size(guest, test_volumes.GIB)
        self.assertIn(GROUP, self.dom0('lvs', '--noheadings', '-o', 'vg_name',
                                       '--select', f'lv_name=~{volume.id}'))
        count = 0
        for number in range(gluster.BRICKS):
            # No brick ever has the only whole copy.
            self.start_writer(guest, count)
            self.served.kill_brick(number)
            util.wait_for(f'brick {number} to be away',
                          lambda: self.served.bricks() < gluster.BRICKS,
                          gluster.TIMEOUT)
            self.wait_for_writer(guest, 10)
            util.wait_for('Gluster to note what that brick lacks',
                          self.served.unhealed, gluster.TIMEOUT)
            self.served.start_bricks()
            # While something is written, something is to be healed.
            count = self.end_writer(guest)
            util.wait_for(
                'Gluster to heal', lambda: (
                    self.served.bricks() == gluster.BRICKS
                    and not self.served.unhealed()), gluster.TIMEOUT)

        # With the bricks that were healed first.
        self.served.kill_brick(2)
        before = guest.boot_id()
        self.cloud.compute.reboot_server(guest.id, 'HARD')
        guest.wait_for_status('ACTIVE')
        guest.wait_for_reboot(before)
        self.wait_for_size(guest, test_volumes.GIB)
        self.check_numbers(guest, count)
        self.detach(guest, volume)
        self.wait_until_gone(guest)
        self.assert_gone(guest, volume)
