# SPDX-License-Identifier: Apache-2.0
"""A server of the lab, seen through Nova and from inside."""

from __future__ import annotations

import re
from typing import Any

import openstack

from labkit import util
from labkit.servers import SSH

#: Seconds that hardly ever pass: emulation on a slow machine.
ACTIVE_TIMEOUT = 600
LOGIN_TIMEOUT = 600
STOP_TIMEOUT = 300

#: The boot report and the prompt on a guest's console (lab/guest/small).
READY = '=== ready ==='
LOGIN = re.compile(r'^\S+ login:', re.MULTILINE)

#: Inside: where Nova's metadata is.
METADATA = 'http://169.254.169.254/openstack/latest/meta_data.json'

#: A script for a first boot.
USER_DATA = '#!/bin/sh\necho "user data of $(hostname)" > /root/user-data\n'


class Guest:
    """A server, by its id.

    :ivar name: of the server.
    :ivar user: who may come in by ssh.
    """

    def __init__(self, cloud: openstack.connection.Connection,
                 server_id: str, user: str = 'root') -> None:
        self.cloud = cloud
        self.id = server_id
        self.user = user
        self.name: str = self.server().name
        self._port: str | None = None

    # Through Nova and Neutron

    def server(self) -> Any:
        """Nova's record, fresh."""
        return self.cloud.compute.get_server(self.id)

    def exists(self) -> bool:
        """Whether Nova still knows it."""
        try:
            self.server()
        except openstack.exceptions.NotFoundException:
            return False
        return True

    @property
    def domain(self) -> str:
        """Its name on the Xen host, once Nova has chosen one."""
        name: str = self.server().instance_name
        return name

    def port(self) -> Any:
        """Neutron's record of the port that it was made with, fresh."""
        if self._port is None:
            port, = self.cloud.network.ports(device_id=self.id)
            self._port = port.id
        return self.cloud.network.get_port(self._port)

    @property
    def address(self) -> str:
        """Its address as Neutron has it."""
        address: str = self.port().fixed_ips[0]['ip_address']
        return address

    def fault(self) -> str:
        """What ``openstack server show`` says went wrong; may be empty."""
        message: str = (self.server().fault or {}).get('message', '')
        return message

    def console(self) -> str:
        """What ``openstack console log show`` prints."""
        answer = self.cloud.compute.get_server_console_output(self.id)
        return answer['output'] or ''

    def wait_for_status(self, status: str,
                        timeout: float = ACTIVE_TIMEOUT) -> None:
        """Wait until Nova calls it so.

        :raises util.LabError: it became ERROR instead, or nothing in time.
        """
        def reached() -> bool:
            server = self.server()
            if server.status == 'ERROR' != status:
                raise util.LabError(f'{self.name} is in ERROR: '
                                    f'{self.fault()}')
            return bool(server.status == status and not server.task_state)

        util.wait_for(f'{self.name} to be {status}', reached, timeout,
                      interval=1)

    def wait_for_delete(self, timeout: float = STOP_TIMEOUT) -> None:
        """Wait until Nova knows it no more."""
        util.wait_for(f'{self.name} to be gone',
                      lambda: not self.exists(), timeout, interval=1)

    def wait_for_login(self, timeout: float = LOGIN_TIMEOUT) -> str:
        """Wait for a login prompt in the console log; returns the log."""
        def prompted() -> str:
            text = self.console()
            return text if LOGIN.search(text) else ''

        # Each look is work for dom0, which the guest needs as well.
        return util.wait_for(f'login prompt of {self.name}', prompted,
                             timeout, interval=5)

    # From inside

    def ssh(self, command: str, *, check: bool = True,
            timeout: float = 90) -> str:
        """Run a shell command in it; returns what it prints.

        :raises util.LabError: no ssh, or the command failed.
        """
        done = util.run([*SSH, f'{self.user}@{self.address}', command],
                        check=check, timeout=timeout)
        return done.stdout.strip()

    def reachable(self) -> bool:
        """Whether ssh works, found out in at most half a minute."""
        try:
            return util.run([*SSH, f'{self.user}@{self.address}', 'true'],
                            check=False, timeout=30).returncode == 0
        except util.LabError:
            return False

    def wait_for_ssh(self, timeout: float = LOGIN_TIMEOUT) -> None:
        """Wait until ssh into it works."""
        util.wait_for(f'ssh into {self.name}', self.reachable, timeout,
                      interval=2)

    def boot_id(self) -> str:
        """Changes at every boot."""
        return self.ssh('cat /proc/sys/kernel/random/boot_id')

    def wait_for_reboot(self, before: str,
                        timeout: float = LOGIN_TIMEOUT) -> None:
        """Wait until it has booted anew.

        :param before: what :meth:`boot_id` was.
        """
        def rebooted() -> bool:
            try:
                return self.boot_id() != before
            except util.LabError:
                return False

        util.wait_for(f'{self.name} to have rebooted', rebooted, timeout,
                      interval=2)

    def leave(self, command: str) -> None:
        """Run a command that ends the connection it came through."""
        self.ssh(f'(sleep 1; {command}) >/dev/null 2>&1 &')
