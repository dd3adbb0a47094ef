# SPDX-License-Identifier: Apache-2.0
"""Operators' commands that need credentials, run by root in dom0."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from labkit import compute
from tests.gate import base

#: Credentials in dom0, as long as a test runs.
CLOUDS = '/root/gate-clouds.yaml'

#: Seconds: imports under emulation, and then what Nova does.
TIMEOUT = 1200


class CommandCase(base.GateCase):
    """The dom0 of the first host has an administrator's credentials."""

    def setUp(self) -> None:
        super().setUp()
        clouds = pathlib.Path(os.environ['OS_CLIENT_CONFIG_FILE'])
        self.addCleanup(self.host.ssh, ['rm', '--force', CLOUDS])
        self.host.ssh(['install', '--mode=600', '/dev/stdin', CLOUDS],
                      input=clouds.read_text())

    def run_command(self, *argv: str, status: int = 0) -> Any:
        """Run a command of the driver's, with ``--json``.

        :param status: the exit status that it must have.
        :returns: what it prints; None for status 2.
        """
        done = self.host.ssh(
            ['env', f'OS_CLIENT_CONFIG_FILE={CLOUDS}',
             f'OS_CLOUD={os.environ["OS_CLOUD"]}',
             f'{compute.VENV}/bin/{argv[0]}', *argv[1:], '--json'],
            check=False, timeout=TIMEOUT)
        self.assertEqual(status, done.returncode,
                         f'{argv}: {done.stdout}{done.stderr}')
        return json.loads(done.stdout) if status != 2 else None
