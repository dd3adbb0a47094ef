# SPDX-License-Identifier: Apache-2.0
"""Talk to the QEMU guest agent inside a guest.

The agent receives commands as lines of JSON and answers each with a line. The
guest writes these answers: they are bounded in size and time, and only what is
of the expected type is used.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
import contextlib
import json
import random
import socket
import time
from typing import Any

from xen44_driver.xen import errors
from xen44_driver.xen.domain import check

#: Seconds that an agent has to answer at all. It does so at once, on a busy
#: host within seconds.
SYNC_TIMEOUT = 10
#: Seconds that it has for a command. Nova waits 60 s for an answer by default.
COMMAND_TIMEOUT = 20
#: Seconds that it has to write all that is cached and to freeze.
FREEZE_TIMEOUT = 40

#: The most bytes of an answer, and of what is skipped until the agent is in
#: step: what a guest had written when nobody was reading.
MAX_ANSWER = 64 * 1024
MAX_SKIPPED = 1024 * 1024

#: The most characters of a guest's message that are passed on.
_MAX_REASON = 120

#: The byte that resets the agent's parser, and that precedes its answer.
_DELIMITER = b'\xff'


class Agent:
    """The guest agent at the other end of a connection.

    Every method raises :class:`AgentSilent` if no answer comes in time, and
    :class:`AgentRefused` if the answer is an error or of no use.

    :param connection: connected to the socket of the guest's channel.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b''

    def sync(self) -> None:
        """See that an agent answers, and skip what was written before."""
        token = random.SystemRandom().randrange(2 ** 31)
        end = time.monotonic() + SYNC_TIMEOUT
        self._send('guest-sync-delimited', {'id': token}, end, _DELIMITER)
        left = MAX_SKIPPED
        while True:
            left -= self._skip(end, left)
            line = self._line(end)
            left = max(0, left - len(line))
            # Answers to earlier programs have other numbers.
            with contextlib.suppress(errors.AgentRefused):
                if self._value(line) == token:
                    return

    def set_password(self, user: str, password: str) -> None:
        """Set the password of a user in the guest."""
        encoded = base64.b64encode(password.encode()).decode()
        # The guest chooses the words of an error, and they are logged.
        self._call('guest-set-user-password', COMMAND_TIMEOUT, {
            'username': user, 'password': encoded, 'crypted': False},
            secrets=(encoded, password))

    def freeze(self) -> int:
        """Freeze the guest's file systems, in a consistent state.

        :returns: how many were frozen.
        """
        return self._count('guest-fsfreeze-freeze', FREEZE_TIMEOUT)

    def thaw(self) -> int:
        """Thaw the guest's file systems; do nothing if they are not frozen.

        :returns: how many were thawed.
        """
        return self._count('guest-fsfreeze-thaw', COMMAND_TIMEOUT)

    def _count(self, command: str, timeout: float) -> int:
        value = self._call(command, timeout)
        # JSON's true is an int for Python.
        if not isinstance(value, int) or isinstance(value, bool):
            raise errors.AgentRefused(f'its answer to {command} is no number')
        return value

    def _call(self, command: str, timeout: float,
              arguments: dict[str, Any] | None = None,
              secrets: Sequence[str] = ()) -> Any:
        end = time.monotonic() + timeout
        self._send(command, arguments, end)
        return self._value(self._line(end), secrets)

    def _send(self, command: str, arguments: dict[str, Any] | None,
              end: float, prefix: bytes = b'') -> None:
        request: dict[str, Any] = {'execute': command}
        if arguments is not None:
            request['arguments'] = arguments
        self._limit(end)
        try:
            self._connection.sendall(
                prefix + json.dumps(request).encode() + b'\n')
        except OSError as error:
            raise _silent(error) from None

    def _skip(self, end: float, most: int) -> int:
        """Skip all up to the delimiter.

        :param most: the largest number of bytes to skip.
        :returns: the number of bytes.
        """
        skipped = 0
        while (at := self._received.find(_DELIMITER)) < 0:
            skipped += len(self._received)
            self._received = b''
            if skipped >= most:
                break
            self._received = self._receive(end)
        skipped += at + 1
        if skipped > most:
            raise errors.AgentRefused(
                'the guest writes without end where its agent should answer')
        self._received = self._received[at + 1:]
        return skipped

    def _line(self, end: float) -> bytes:
        while b'\n' not in self._received:
            if len(self._received) > MAX_ANSWER:
                raise errors.AgentRefused(
                    f'an answer has more than {MAX_ANSWER} bytes')
            self._received += self._receive(end)
        line, _, self._received = self._received.partition(b'\n')
        return line

    def _receive(self, end: float) -> bytes:
        self._limit(end)
        try:
            received = self._connection.recv(4096)
        except OSError as error:
            raise _silent(error) from None
        if not received:
            raise errors.AgentSilent('the guest has ended')
        return received

    def _limit(self, end: float) -> None:
        """Let the next call of the connection last until a time at most."""
        left = end - time.monotonic()
        if left <= 0:
            raise _silent(TimeoutError())
        self._connection.settimeout(left)

    @staticmethod
    def _value(line: bytes, secrets: Sequence[str] = ()) -> Any:
        """Return the value in an answer.

        :param secrets: what must not be in the message of an error.
        """
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            raise errors.AgentRefused('its answer is not JSON') from None
        if isinstance(answer, dict) and 'return' in answer:
            return answer['return']
        reason: object = 'no reason'
        if isinstance(answer, dict) and isinstance(answer.get('error'), dict):
            reason = answer['error'].get('desc', reason)
        text = str(reason)
        for secret in filter(None, secrets):
            text = text.replace(secret, '***')
        # Cut last: a part of a secret would not be recognised.
        raise errors.AgentRefused(
            check.one_line(text)[:_MAX_REASON] or 'no reason')


def _silent(error: OSError) -> errors.AgentSilent:
    if isinstance(error, TimeoutError):
        return errors.AgentSilent('nothing answers in the guest')
    return errors.AgentSilent(f'the connection to the guest broke: {error}')
