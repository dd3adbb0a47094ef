# SPDX-License-Identifier: Apache-2.0
"""nova-compute runs as an operator runs it: as nova, with little of root."""

from __future__ import annotations

import re

from labkit import compute
from tests.gate import base

#: The daemons that run as root for nova-compute: the driver's, os-vif's.
CONTEXTS = ('xen44_driver.privsep.sys_admin_pctxt',
            'vif_plug_ovs.privsep.vif_plug')

#: The one thing that sudo lets nova do.
RULE = re.compile(
    r'\(root\) NOPASSWD: (?P<program>/\S+/nova-rootwrap) '
    r'(?P<configuration>/etc/nova/rootwrap\.conf) \*')

#: Exit status of nova-rootwrap for what no filter allows.
UNAUTHORIZED = 99


class Privileges(base.GateCase):
    """Who is who in dom0."""

    def test_users_of_processes(self) -> None:
        pid = self.dom0('systemctl', 'show', '--value', '--property=MainPID',
                        compute.NOVA_COMPUTE).strip()
        self.assertEqual('nova', self.dom0(
            'ps', '-o', 'user=', '-p', pid).strip())
        processes = [line.split(maxsplit=1) for line in self.dom0(
            'ps', '-e', '-o', 'user=', '-o', 'args=').splitlines()]
        for context in CONTEXTS:
            users = {user for user, *command in processes
                     if 'privsep-helper' in ''.join(command)
                     and context in ''.join(command)}
            self.assertEqual({'root'}, users, context)

    def test_sudo_starts_rootwrap_only(self) -> None:
        listed = self.dom0('sudo', '-l', '-U', 'nova')
        _, _, rules = listed.partition('may run the following commands')
        given = [line.strip() for line in rules.splitlines()[1:]
                 if line.strip()]
        self.assertEqual(1, len(given), listed)
        rule = RULE.fullmatch(given[0])
        self.assertIsNotNone(rule, listed)
        assert rule is not None
        # And rootwrap starts what its filters name.
        done = self.host.ssh(
            ['runuser', '-u', 'nova', '--', 'sudo', '-n', rule['program'],
             rule['configuration'], 'cat', '/etc/shadow'], check=False)
        self.assertEqual(UNAUTHORIZED, done.returncode, done.stderr)
        self.assertEqual('', done.stdout)

    def test_images_are_private(self) -> None:
        """Nobody but nova and root reads the images that guests lie on."""
        wrong = self.host.ssh(
            ['find', base.IMAGES, '-type', 'f',
             '(', '!', '-user', 'nova', '-o', '!', '-perm', '600', ')',
             '-printf', r'%u %m %f\n'], check=False).stdout
        self.assertEqual('', wrong)
