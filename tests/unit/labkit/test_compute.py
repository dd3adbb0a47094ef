# SPDX-License-Identifier: Apache-2.0
"""What of OpenStack the lab starts in dom0."""

import datetime
import subprocess
import types

from labkit import arch
from labkit import compute
from labkit import util
from labkit.cloud import cloud as cloud_lib
from tests.unit.labkit import base

FILES = {'/etc/neutron/neutron.conf': 'a', '/etc/nova/nova.conf': 'b',
         '/var/lib/nova/compute_id': 'c'}


class FreshTest(base.TestCase):
    """Where nova-compute is not the lab's."""

    def setUp(self):
        super().setUp()
        self.done = []
        self.there = set()
        self.host = types.SimpleNamespace(
            name='xen1', number=1, ssh=self.ssh, check=lambda: None,
            arch=arch.x86_64(arch.KINDS['fresh']))
        self.cloud = types.SimpleNamespace(
            attach_host=lambda number: None,
            render_compute_config=lambda number: FILES,
            wait_agent=self.wait_agent)
        self.patch(compute, 'configure',
                   lambda host, files: self.done.append(sorted(files)))
        self.patch(compute.time, 'sleep', lambda seconds: None)
        self.output()

    def ssh(self, argv, check=True, timeout=None):
        self.done.append(' '.join(argv))
        failed = argv[0] == 'test' and argv[-1] not in self.there
        return subprocess.CompletedProcess(argv, int(failed), '', '')

    def wait_agent(self, host, timeout, since, hopeless):
        hopeless()
        self.done.append('agent')

    def test_start(self):
        compute.start(self.host, self.cloud)
        self.assertEqual(
            ['test -e /etc/neutron/neutron.conf',
             ['/etc/neutron/neutron.conf'],
             'xl sched-credit2 -d 0 -w 5120',
             'systemctl is-failed neutron-openvswitch-agent', 'agent'],
            self.done)

    def test_start_again(self):
        self.there.add(compute.NEUTRON_CONF)
        compute.start(self.host, self.cloud)
        self.assertIn('systemctl start neutron-openvswitch-agent', self.done)
        self.assertEqual([], [one for one in self.done
                              if 'nova-compute' in one])

    def test_reinstall(self):
        error = self.assertRaises(
            util.LabError, compute.reinstall, self.host, self.cloud)
        self.assertIn("xen1: its nova-compute is not the lab's", str(error))
        self.assertEqual([], self.done)


class AgentTest(base.TestCase):

    def test_it_has_reported(self):
        """What it said before it was started again does not count."""
        since = datetime.datetime(2026, 11, 28, 12, tzinfo=datetime.UTC)
        agents = []
        client = types.SimpleNamespace(
            call=lambda *request: {'agents': agents})
        for up, alive, stamp in ((True, True, '2026-11-28 12:00:01'),
                                 (False, True, '2026-11-28 11:59:59'),
                                 (False, False, '2026-11-28 12:00:01')):
            agents[:] = [{'alive': alive, 'heartbeat_timestamp': stamp}]
            self.assertEqual(
                up, cloud_lib._agent_is_up(client, 'xen1', since))
        agents.clear()
        self.assertFalse(cloud_lib._agent_is_up(client, 'xen1', None))
