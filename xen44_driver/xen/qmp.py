# SPDX-License-Identifier: Apache-2.0
"""A client of QEMU's monitors (QMP) for synchronous code.

It connects for each call and disconnects at its end, because a monitor serves
one client at a time. The package ``qemu.qmp``, QEMU's own client, speaks the
protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import logging
import socket
from typing import Any

from qemu import qmp

from xen44_driver.xen import errors

# It logs as errors what is raised here, such as that a guest is off.
logging.getLogger('qemu.qmp').setLevel(logging.CRITICAL)

#: A command of QMP: its name and its arguments.
Command = tuple[str, Mapping[str, Any]]

# Seconds that the end of a connection may take.
_DISCONNECT_TIMEOUT = 5.0


class MonitorUnavailable(errors.XenError):
    """A monitor cannot be reached, or does not answer.

    It is not known whether a command that was sent took effect.
    """


class CommandFailed(errors.XenError):
    """QEMU refused a command.

    :ivar command: the command's name.
    :ivar kind: QEMU's class of the error, such as ``GenericError``.
    :ivar reason: QEMU's message.
    """

    # The arguments stay as they are, so that privsep can make the exception
    # anew in another process.
    def __init__(self, command: str, kind: str, reason: str) -> None:
        super().__init__(command, kind, reason)
        self.command = command
        self.kind = kind
        self.reason = reason

    def __str__(self) -> str:
        return f'QEMU refuses {self.command}: {self.reason}'


def execute(
    path: str, commands: Sequence[Command], timeout: float,
) -> list[Any]:
    """Execute commands one after the other, on one connection.

    :param path: path of the monitor's socket.
    :param commands: the commands.
    :param timeout: seconds for all of it.
    :returns: QEMU's answer to each command.
    :raises MonitorUnavailable: the monitor cannot be reached, or did not
        answer in time, for example because it serves another client.
    :raises CommandFailed: QEMU refused a command; the commands after it were
        not sent.
    """
    return asyncio.run(_execute(path, commands, timeout))


async def _execute(
    path: str, commands: Sequence[Command], timeout: float,
) -> list[Any]:
    client = qmp.QMPClient()
    answers: list[Any] = []
    try:
        async with asyncio.timeout(timeout):
            await client.connect(path)
            for name, arguments in commands:
                try:
                    answers.append(
                        await client.execute(name, dict(arguments)))
                except qmp.ExecuteError as error:
                    raise CommandFailed(
                        name, error.error_class, str(error)) from error
    except TimeoutError as error:
        raise MonitorUnavailable(
            f'the monitor {path} did not answer within {timeout:g} s; it '
            'serves one client at a time') from error
    except (qmp.QMPError, OSError, EOFError) as error:
        raise MonitorUnavailable(f'the monitor {path}: {error}') from error
    finally:
        # Whatever goes wrong here, the answers are known.
        with contextlib.suppress(
                qmp.QMPError, OSError, EOFError, TimeoutError):
            await asyncio.wait_for(client.disconnect(), _DISCONNECT_TIMEOUT)
    return answers


def is_there(path: str) -> bool:
    """Return whether a QEMU has a monitor open.

    A QEMU closes its monitors last, after it has written and closed its disk
    files. So once its monitor is not there, these files are whole.

    :param path: path of the monitor's socket.
    """
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        try:
            client.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except BlockingIOError:
            # There is one, and others wait for it.
            return True
    return True
