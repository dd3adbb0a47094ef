# SPDX-License-Identifier: Apache-2.0
"""A guest agent, at the other end of a socket."""

import base64
import json
import threading


class GuestAgent:
    """Answers as qemu-ga does.

    :ivar noise: what the guest wrote before anybody asked.
    :ivar answers: command to what is answered instead, in bytes.
    :ivar deaf: commands that are never answered.
    :ivar commands: the commands that came, without the one to get in step.
    :ivar passwords: by user.
    :ivar frozen: whether the file systems are frozen.
    """

    def __init__(self) -> None:
        self.noise = b''
        self.answers: dict[str, bytes] = {}
        self.deaf: set[str] = set()
        self.commands: list[str] = []
        self.passwords: dict[str, str] = {}
        self.frozen = False

    def serve(self, connection) -> None:
        """Serve one client in a thread, until it goes."""
        threading.Thread(target=self._serve, args=(connection,),
                         daemon=True).start()

    def _serve(self, connection) -> None:
        with connection, connection.makefile('rb') as lines:
            try:
                connection.sendall(self.noise)
                for line in lines:
                    connection.sendall(self._answer(line))
            except OSError:
                return

    def _answer(self, line):
        request = json.loads(line.lstrip(b'\xff'))
        command, arguments = request['execute'], request.get('arguments')
        if command in self.deaf:
            return b''
        if command == 'guest-sync-delimited':
            return b'\xff' + self._value(arguments['id'])
        self.commands.append(command)
        if command in self.answers:
            return self.answers[command]
        if command == 'guest-set-user-password':
            if arguments['username'] not in ('root', 'Administrator', 'me'):
                return b'{"error": {"desc": "no such user"}}\n'
            self.passwords[arguments['username']] = base64.b64decode(
                arguments['password']).decode()
            return self._value({})
        count = 2 if self.frozen != (command == 'guest-fsfreeze-freeze') else 0
        self.frozen = command == 'guest-fsfreeze-freeze'
        return self._value(count)

    @staticmethod
    def _value(value):
        return json.dumps({'return': value}).encode() + b'\n'
