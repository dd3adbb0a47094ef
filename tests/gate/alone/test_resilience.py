# SPDX-License-Identifier: Apache-2.0
"""libvirtd and nova-compute go away at bad moments, and come back."""

from __future__ import annotations

import datetime
import time

from labkit import compute
from labkit import util
from labkit.cloud import Cloud
from tests.gate import base
from tests.gate import guest as guest_lib

#: All of libvirtd: whoever connects to a socket would start it again.
LIBVIRTD = ('libvirtd.socket', 'libvirtd-ro.socket', 'libvirtd-admin.socket',
            'libvirtd.service')

#: Seconds that libvirtd is away, that nova-compute has to notice it, and to
#: notice that it is back.
AWAY = 20
NOTICED_TIMEOUT = 180
BACK_TIMEOUT = 300

#: Somebody else's domain, which is never started.
FOREIGN = '''
<domain type="xen">
  <name>gate-foreign</name>
  <memory unit="MiB">16</memory>
  <os>
    <type arch="x86_64" machine="xenpv">linux</type>
    <kernel>/nowhere/kernel</kernel>
  </os>
</domain>
'''


class Resilience(base.GateCase):
    """Nova knows what its host can do, and ends what was half done."""

    def setUp(self) -> None:
        super().setUp()
        # What a failed test broke is not the next test's trouble.
        self.addCleanup(self.ensure_compute)

    def ensure_compute(self) -> None:
        """libvirtd and nova-compute run."""
        self.host.ssh(['systemctl', 'start', 'libvirtd',
                       compute.NOVA_COMPUTE])
        Cloud().wait_compute(self.host.name, compute.START_TIMEOUT)

    def test_libvirtd_is_away(self) -> None:
        """No new servers are sent to a host that cannot make them."""
        self.assertEqual('enabled', self.service().status)
        tracebacks = self.tracebacks()

        self.host.ssh(['systemctl', 'stop', *LIBVIRTD], timeout=180)
        begin = time.monotonic()
        util.wait_for('the compute service to be disabled',
                      lambda: self.service().status == 'disabled',
                      NOTICED_TIMEOUT, interval=1)
        self.assertRegex(self.service().disabled_reason, r'^AUTO: .')
        time.sleep(max(0, AWAY - (time.monotonic() - begin)))
        self.host.ssh(['systemctl', 'start', *LIBVIRTD], timeout=180)
        util.wait_for('the compute service to be enabled again',
                      lambda: self.service().status == 'enabled',
                      BACK_TIMEOUT, interval=1)

        self.assertIsNone(self.service().disabled_reason)
        self.assertEqual('up', self.service().state)
        self.assertEqual(tracebacks, self.tracebacks())

    def tracebacks(self) -> str:
        """How many tracebacks nova-compute has logged."""
        return self.host.ssh(
            ['grep', '-c', 'Traceback', compute.NOVA_COMPUTE_LOG],
            check=False).stdout.strip()

    @base.unhurried
    def test_nova_compute_dies_while_it_spawns(self) -> None:
        # It starts beside a domain that is not Nova's, and leaves it alone.
        self.host.ssh(['virsh', 'define', '/dev/stdin'], input=FOREIGN)
        self.addCleanup(self.host.ssh, ['virsh', 'undefine', 'gate-foreign'])
        guest = self.make_server(
            self.addCleanup,
            flavor=self.make_flavor(self.addCleanup, guest_type='pv'))
        disks = f'/var/lib/nova/instances/{guest.id}'
        util.wait_for(
            f'nova-compute to be making {guest.name}',
            lambda: self.host.ssh(['test', '-e', disks],
                                  check=False).returncode == 0,
            guest_lib.ACTIVE_TIMEOUT, interval=0.2)
        pid = self.compute_pid()
        begin = datetime.datetime.now(datetime.UTC)
        self.host.ssh(['kill', '-KILL', pid])
        # systemd starts it again by itself.
        Cloud().wait_compute(self.host.name, compute.START_TIMEOUT, begin)
        self.assertNotEqual(pid, self.compute_pid())

        def settled() -> str:
            server = guest.server()
            done = (server.status in ('ERROR', 'ACTIVE')
                    and not server.task_state)
            return str(server.status) if done else ''

        status = util.wait_for(f'what became of {guest.name}', settled,
                               guest_lib.ACTIVE_TIMEOUT, interval=1)
        running = guest.domain in self.dom0('xl', 'list')
        self.assertEqual(status == 'ACTIVE', running)
        self.assert_vanishes(guest)
        self.assertIn('gate-foreign', self.dom0(
            'virsh', 'list', '--inactive', '--name').split())

    def assert_vanishes(self, guest: guest_lib.Guest) -> None:
        """Deleted, it leaves nothing."""
        traces = self.traces(guest)
        self.remove_server(guest.id)
        traces.wait_for_none(self.host, self.cloud)
