# SPDX-License-Identifier: Apache-2.0
"""Servers whose disks QEMU cannot open, and starts that libxl refuses."""

import os

from tests.functional import test_servers


class BrokenDiskTest(test_servers.ServersBase):
    """libvirt reports success, and the guest has no disk."""

    def setUp(self):
        super().setUp()
        self.flags(disk_open_timeout=1, group='xen44')

    def break_disk(self, server):
        """Leave nothing but garbage of a server's root disk."""
        path = os.path.join(
            self.below.instances, server['id'], 'disk.qcow2')
        with open(path, 'wb') as disk:
            disk.write(bytes(4096))
        return path

    def assert_logged(self, reason):
        """Nova was given a reason for a failed spawn.

        It then tries another host, and where there is none it shows that
        and not the reason.
        """
        self.assertIn(reason, self.stdlog.logger.output)

    def reboot(self, server, expected):
        self.api.post_server_action(
            server['id'], {'reboot': {'type': 'HARD'}})
        return self._wait_for_state_change(server, expected)

    def test_start_and_hard_reboot(self):
        server = self._stop_server(self.boot())
        path = self.break_disk(server)
        self.api.post_server_action(server['id'], {'os-start': {}})
        self._wait_for_instance_action_event(
            server, 'start', 'compute_start_instance', 'Error')
        server = self._wait_for_state_change(server, 'SHUTOFF')
        self.assertFalse(self.domain(server).isActive())

        server = self.reboot(server, 'ERROR')
        for text in (path, 'hda', 'Image is not in qcow2 format'):
            self.assertIn(text, server['fault']['message'])
        self.assertFalse(self.domain(server).isActive())

    def test_spawn(self):
        self.below.xenstore.deaf = True
        self.boot(expected='ERROR')
        self.assert_logged('disk.qcow2, cannot be opened')
        self.below.assert_nothing_left()

    def test_libxl_refuses(self):
        self.below.xenstore.libxl_log = (
            '2099-01-01 00:00:00.000+0000: libxl: libxl_dm.c:3351:'
            'device_model_postconfig_done: Domain 7:Post DM startup configs '
            'failed, rc=-9\n')
        self.below.host.failures['create'] = (
            "internal error: libxenlight failed to create new domain 'x'")
        self.boot(expected='ERROR')
        self.assert_logged('Post DM startup configs failed, rc=-9 (internal '
                           'error: libxenlight failed to create')
        self.below.assert_nothing_left()
