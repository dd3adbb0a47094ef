# SPDX-License-Identifier: Apache-2.0
"""Ask systemd for something."""

from __future__ import annotations

import subprocess

from oslo_concurrency import processutils

from xen44_driver.cmd import report


def systemctl(*arguments: str, timeout: int, check: bool = True) -> str:
    """Run systemctl; this user has to be root.

    :param arguments: such as ``restart`` and a unit.
    :param timeout: seconds that it may take.
    :param check: whether another exit status than 0 is an error.
    :returns: its output.
    :raises xen44_driver.cmd.report.CannotWork: it is not there, failed, or
        took too long.
    """
    command = ('systemctl', *arguments)
    try:
        out, _ = processutils.execute(
            *command, check_exit_code=check, timeout=timeout)
    except processutils.ProcessExecutionError as error:
        raise report.CannotWork(
            f'{" ".join(command)} failed with exit status '
            f'{error.exit_code}: {(error.stderr or "").strip()}') from error
    except subprocess.TimeoutExpired as error:
        raise report.CannotWork(
            f'{" ".join(command)} took more than {timeout} s') from error
    except OSError as error:
        raise report.CannotWork(f'systemctl: {error}') from error
    return str(out)
