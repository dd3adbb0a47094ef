# SPDX-License-Identifier: Apache-2.0
"""The guest agent, over a channel of real Xen."""

from __future__ import annotations

import shlex
from typing import Any

from labkit import util

PASSWORD = 'of-the-gate'

#: What the small guest has instead of qemu-ga: it speaks the same over the
#: same terminal, and keeps the password in a file.
AGENT = r'''
stty -F /dev/hvc1 raw -echo
exec 3<>/dev/hvc1
while IFS= read -r line <&3; do
    case "$line" in
    *guest-sync-delimited*)
        id=$(echo "$line" | sed 's/.*"id": *\([0-9]*\).*/\1/')
        printf '\377{"return": %s}\n' "$id" >&3 ;;
    *guest-set-user-password*)
        echo "$line" | sed 's/.*"password": *"\([^"]*\)".*/\1/' |
            base64 -d > /root/password
        printf '{"return": {}}\n' >&3 ;;
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

    def test_agent_sets_password(self: Any) -> None:
        guest = self.running()
        guest.ssh('rm -f /root/password; '
                  f'echo {shlex.quote(AGENT)} > /root/agent; '
                  'setsid sh /root/agent < /dev/null > /root/agent.log 2>&1 &')
        self.cloud.compute.change_server_password(guest.id, PASSWORD)
        self.assertEqual(PASSWORD, util.wait_for(
            f'{guest.name} to have the password',
            lambda: guest.ssh('cat /root/password', check=False), 60))
        # Nobody has written it down.
        logs = self.host.ssh(
            ['grep', '-rlF', PASSWORD, '/var/log/nova', '/var/log/syslog'],
            check=False).stdout
        self.assertEqual('', logs)
        guest.ssh('pkill -f /root/agent; true')
