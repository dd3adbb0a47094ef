# SPDX-License-Identifier: Apache-2.0
"""Memory on disk: suspended guests and crash dumps; diagnostics."""

from __future__ import annotations

import time
from typing import Any

from labkit import compute
from labkit import util
from tests.gate import base

#: Seconds to write or read a guest's memory on dom0's disk.
SAVE_TIMEOUT = 300

SAVED = '/var/lib/libvirt/libxl/save'
#: ``[xen44] crash_dump_directory``.
DUMPS = '/var/lib/xen/dump/nova'

#: What a guest keeps in its memory alone.
NOTE = '/run/xen44-note'


class Suspend:
    """Nova's suspend and resume: the guest goes on where it was."""

    def test_power_suspend_and_resume(self: Any) -> None:
        guest = self.running()
        before = guest.boot_id()
        guest.ssh(f'echo remembered > {NOTE}')
        file = f'{SAVED}/{guest.domain}.save'
        begin = time.monotonic()
        self.cloud.compute.suspend_server(guest.id)
        guest.wait_for_status('SUSPENDED', SAVE_TIMEOUT)
        util.say(f'  {guest.name}: suspended', time.monotonic() - begin)
        self.assertNotIn(guest.domain, self.dom0('xl', 'list'))
        self.assertEqual('600 root', self.dom0(
            'stat', '-c', '%a %U', file).strip())
        self.while_suspended()

        begin = time.monotonic()
        self.cloud.compute.resume_server(guest.id)
        guest.wait_for_status('ACTIVE', SAVE_TIMEOUT)
        util.say(f'  {guest.name}: resumed', time.monotonic() - begin)
        guest.wait_for_ssh()
        self.assertEqual(before, guest.boot_id())
        self.assertEqual('remembered', guest.ssh(f'cat {NOTE}'))
        # A reboot must not restore it again.
        self.assertEqual('', self.dom0('find', SAVED, '-name',
                                       f'{guest.domain}.save'))
        # Its disk is the one it knew.
        guest.ssh('echo resumed > /root/resumed && sync')

    def while_suspended(self) -> None:
        """Do something to dom0; nothing here."""


class SlowSuspend(Suspend):
    """The same, where it takes longest."""

    @base.slow
    def test_power_suspend_and_resume(self: Any) -> None:
        super().test_power_suspend_and_resume()


class SuspendOverRestarts(Suspend):
    """The same while libvirtd and nova-compute restart; to run alone."""

    def while_suspended(self: Any) -> None:
        self.host.ssh(['systemctl', 'restart', 'libvirtd'], timeout=180)
        self.host.ssh(['systemctl', 'restart', compute.NOVA_COMPUTE],
                      timeout=compute.START_TIMEOUT)
        # Nova's first look at power states comes with the start.
        self.assertEqual('SUSPENDED', self.present().server().status)


class SuspendThenHardReboot:
    """A suspended guest can be started anew; its memory is given up."""

    def test_power_suspended_hard_reboot(self: Any) -> None:
        guest = self.running()
        before = guest.boot_id()
        self.cloud.compute.suspend_server(guest.id)
        guest.wait_for_status('SUSPENDED', SAVE_TIMEOUT)
        self.cloud.compute.reboot_server(guest.id, 'HARD')
        guest.wait_for_status('ACTIVE')
        guest.wait_for_reboot(before)
        self.assertEqual('', self.dom0('find', SAVED, '-name',
                                       f'{guest.domain}.save'))


class CrashDump:
    """A crash dump appears for the operator, and the guest runs on.

    Only for PV guests: libxl takes minutes for others, and is locked
    meanwhile.
    """

    @base.slow
    def test_crash_dump(self: Any) -> None:
        guest = self.running()
        before = guest.boot_id()
        self.cloud.compute.trigger_server_crash_dump(guest.id)

        def written() -> str:
            # The directory comes with the first dump.
            return self.host.ssh(
                ['find', DUMPS, '-name', f'{guest.id}-*.core', '-printf',
                 r'%m %u %s\n'], check=False).stdout.strip()

        mode, user, size = util.wait_for(
            f'a crash dump of {guest.name}', written, SAVE_TIMEOUT,
            interval=2).split()
        self.assertEqual(('600', 'root'), (mode, user))
        self.assertGreater(int(size), guest.server().flavor.ram * 1024 ** 2)
        guest.wait_for_ssh()
        self.assertEqual(before, guest.boot_id())
        self.assertEqual('ACTIVE', guest.server().status)


class Diagnostics:
    """Nova's diagnostics know what the guest has used."""

    def test_diagnostics(self: Any) -> None:
        guest = self.running()
        found = self.cloud.compute.get(
            f'/servers/{guest.id}/diagnostics', microversion='2.48').json()
        self.assertEqual(('running', 'xen', 1, 1), tuple(
            found[name] for name in (
                'state', 'hypervisor', 'num_cpus', 'num_nics')))
        self.assertGreater(found['cpu_details'][0]['time'], 10 ** 9)
        self.assertEqual(guest.server().flavor.ram,
                         found['memory_details']['maximum'])
        root = found['disk_details'][0]
        # It has booted from it.
        self.assertGreater(root['read_bytes'], 1024 ** 2)
        self.assertGreater(root['read_requests'], 10)
        nic, = found['nic_details']
        self.assertEqual(guest.port().mac_address, nic['mac_address'])
        # It has talked, by ssh at least.
        self.assertGreater(nic['rx_octets'], 1000)
        self.assertGreater(nic['tx_octets'], 1000)
