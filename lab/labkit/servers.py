# SPDX-License-Identifier: Apache-2.0
"""Nova's servers, for the demo and the bench: by the API, as the admin."""

from __future__ import annotations

from typing import Any

from labkit import config
from labkit import util
from labkit.cloud import GUEST_KEY
from labkit.cloud import rest
from labkit.cloud.content import KEYPAIR

#: Seconds that hardly ever pass under emulation.
TIMEOUT = 300

#: Into a guest, from inside the lab's namespace: without the user, the host
#: and the command.
SSH = ['ssh', '-F', 'none', '-i', str(GUEST_KEY),
       '-o', 'BatchMode=yes', '-o', 'IdentitiesOnly=yes',
       '-o', 'ConnectTimeout=20', '-o', 'LogLevel=ERROR',
       # Addresses are used again by other guests.
       '-o', 'StrictHostKeyChecking=no',
       '-o', 'UserKnownHostsFile=/dev/null']


class Servers:
    """Servers of the lab's cloud.

    :param client: the APIs.
    """

    def __init__(self, client: rest.Client):
        self._client = client

    def create(self, name: str, image: str, flavor: str) -> str:
        """Ask for a server on the lab's network; returns its id.

        :param image: its id; also ``flavor``.
        """
        network = self._client.call(
            'GET', 'network', f'/v2.0/networks?name={config.LAB_NET}')
        server: str = self._client.call('POST', 'compute', '/servers', {
            'server': {
                'name': name, 'imageRef': image, 'flavorRef': flavor,
                'key_name': KEYPAIR,
                'networks': [{'uuid': network['networks'][0]['id']}],
            }})['server']['id']
        return server

    def named(self, prefix: str) -> dict[str, dict[str, Any]]:
        """The servers whose name begins so, by name."""
        found = self._client.call(
            'GET', 'compute', f'/servers/detail?name=%5E{prefix}')['servers']
        return {server['name']: server for server in found}

    def get(self, ident: str) -> dict[str, Any]:
        """One server, as Nova has it."""
        server: dict[str, Any] = self._client.call(
            'GET', 'compute', f'/servers/{ident}')['server']
        return server

    def act(self, ident: str, action: str,
            arguments: dict[str, Any] | None = None) -> Any:
        """One of Nova's actions on a server; returns the answer."""
        return self._client.call('POST', 'compute',
                                 f'/servers/{ident}/action',
                                 {action: arguments})

    def wait(self, ident: str, status: str = 'ACTIVE',
             timeout: float = TIMEOUT) -> dict[str, Any]:
        """Wait for a status, and the end of what leads to it.

        :raises util.LabError: it became ERROR, or did not come in time.
        """
        def reached() -> dict[str, Any] | None:
            server = self.get(ident)
            if server['status'] == 'ERROR':
                reason = server.get('fault', {}).get('message', '?')
                raise util.LabError(
                    f'server {server["name"]} is in ERROR: {reason}')
            return server if (
                server['status'] == status
                and not server['OS-EXT-STS:task_state']) else None

        return util.wait_for(f'server to be {status}', reached, timeout,
                             interval=0.2)

    def delete(self, *idents: str, timeout: float = TIMEOUT) -> None:
        """Delete servers and wait until Nova knows them no more."""
        for ident in idents:
            self._client.call('DELETE', 'compute', f'/servers/{ident}')

        def gone() -> bool:
            left = self._client.call('GET', 'compute', '/servers')['servers']
            return not {one['id'] for one in left} & set(idents)

        util.wait_for('servers to be gone', gone, timeout, interval=0.2)

    def console(self, ident: str) -> str:
        """The console log."""
        output: str = self.act(ident, 'os-getConsoleOutput', {})['output']
        return output

    def ssh(self, ident: str, command: str, *, check: bool = True,
            timeout: float = 90) -> str:
        """Run a shell command as root in its guest; returns what it prints.

        :raises util.LabError: no ssh, or the command failed.
        """
        address = self.get(ident)['addresses'][config.LAB_NET][0]['addr']
        return util.run([*SSH, f'root@{address}', command], netns=True,
                        check=check, timeout=timeout).stdout.strip()

    def wait_for_ssh(self, ident: str) -> None:
        """Wait until ssh into its guest works."""
        util.wait_for('ssh into the guest', lambda: self.ssh(
            ident, 'echo in', check=False), TIMEOUT, interval=2)

    def screen(self, ident: str) -> str:
        """Address of the VNC console in a browser, with its token."""
        url: str = self._client.call(
            'POST', 'compute', f'/servers/{ident}/remote-consoles',
            {'remote_console': {'protocol': 'vnc', 'type': 'novnc'}},
        )['remote_console']['url']
        return url
