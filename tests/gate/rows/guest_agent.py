# SPDX-License-Identifier: Apache-2.0
"""The guest agent, over a channel of real Xen."""

from __future__ import annotations

import shlex
from typing import Any

import openstack

from labkit import util
from tests.gate import base
from tests.gate import guest as guest_lib
from tests.gate.rows.snapshot import IMAGE_TIMEOUT

PASSWORD = 'of-the-gate'

#: What the small guest has instead of qemu-ga: it speaks the same over the
#: same terminal, and keeps the password in a file.
AGENT = r'''
echo $$ > /dev/shm/pid
exec 3<>/dev/hvc1
# Only now: the terminal forgets it when nobody has it open.
stty raw -echo <&3
while IFS= read -r line <&3; do
    case "$line" in
    *guest-sync-delimited*)
        id=$(echo "$line" | sed 's/.*"id": *\([0-9]*\).*/\1/')
        printf '\377{"return": %s}\n' "$id" >&3 ;;
    *guest-set-user-password*)
        echo "$line" | sed 's/.*"password": *"\([^"]*\)".*/\1/' |
            base64 -d > /root/password
        printf '{"return": {}}\n' >&3 ;;
    *guest-fsfreeze-freeze*)
        # Its own file is not on the disk, which takes nothing now.
        echo frozen >> /dev/shm/agent
        fsfreeze --freeze / && printf '{"return": 1}\n' >&3 ;;
    *guest-fsfreeze-thaw*)
        fsfreeze --unfreeze / && printf '{"return": 1}\n' >&3
        echo thawed >> /dev/shm/agent ;;
    *)
        printf '{"error": {"class": "CommandNotFound", "desc": "no"}}\n' >&3 ;;
    esac
done
'''


class AgentChannel:
    """The password of a running guest, set by Nova.

    For PV and PVH, with an image that has ``hw_qemu_guest_agent=yes``. No
    boot.
    """

    def agent(self: Any) -> guest_lib.Guest:
        """The guest, with an agent in it."""
        guest: guest_lib.Guest = self.running()
        if guest.ssh('kill -0 $(cat /dev/shm/pid) && echo there',
                     check=False) != 'there':
            guest.ssh(
                'rm -f /root/password; '
                f'echo {shlex.quote(AGENT)} > /root/agent; '
                'setsid sh /root/agent < /dev/null > /dev/shm/log 2>&1 &')
        return guest

    @base.slow
    def test_agent_freezes_for_a_snapshot(self: Any) -> None:
        guest = self.agent()
        image = self.cloud.compute.create_server_image(
            guest.id, self._name('image'), wait=True, timeout=IMAGE_TIMEOUT)
        self.addCleanup(self.cloud.image.delete_image, image.id)
        self.assertEqual(['frozen', 'thawed'],
                         guest.ssh('cat /dev/shm/agent').split())
        # It writes again.
        guest.ssh('echo x > /root/after && sync')

    @base.slow
    def test_agent_does_not_answer(self: Any) -> None:
        guest = self.agent()
        guest.ssh('kill $(cat /dev/shm/pid)')
        self.assertRaises(
            openstack.exceptions.ConflictException,
            self.cloud.compute.change_server_password, guest.id, PASSWORD)
        self.assertEqual('ACTIVE', guest.server().status)

    @base.slow
    def test_agent_sets_password(self: Any) -> None:
        guest = self.agent()
        self.cloud.compute.change_server_password(guest.id, PASSWORD)
        self.assertEqual(PASSWORD, util.wait_for(
            f'{guest.name} to have the password',
            lambda: guest.ssh('cat /root/password', check=False), 60))
        # Nobody has written it down.
        logs = self.host.ssh(
            ['grep', '-rlF', PASSWORD, '/var/log/nova', '/var/log/syslog'],
            check=False).stdout
        self.assertEqual('', logs)
