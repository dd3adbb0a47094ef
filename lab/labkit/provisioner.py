# SPDX-License-Identifier: Apache-2.0
"""A double of CloudStack's provisioner of External hypervisors.

Tests of all tiers have it, too.

It builds payloads as a version of CloudStack does, runs an extension's
executable as the management server does, and makes of the answer what the
management server makes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
import copy
import json
import os
import subprocess
import time
from typing import Any
import uuid

from labkit import config

#: One for each action, with made-up values and the structure of CloudStack
#: 4.22.
PAYLOADS = config.LAB / 'cloudstack' / 'payloads'

#: The versions whose payloads differ.
VERSIONS = ('4.21', '4.22.0', '4.22.1')

#: Bytes of a pipe: the server reads only after the executable has ended, so
#: one that writes more never ends.
PIPE = 65536

#: Whose payload files are deleted after a success.
_TRIVIAL = ('status', 'statuses')

#: Actions that a version does not have.
_LATER = {'4.21': ('getconsole', 'statuses'), '4.22.0': ('statuses',)}


def payload(action: str, version: str = '4.22.1', *,
            parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Build a payload.

    :param action: a standard action, or the name of a custom one.
    :param parameters: those of a custom action.
    """
    assert action not in _LATER.get(version, ())
    path = PAYLOADS / f'{action}.json'
    custom = not path.exists()
    made: dict[str, Any] = json.loads(
        (PAYLOADS / 'custom.json' if custom else path).read_text())
    if custom:
        made['action'] = action
        made.pop('parameters')
        if parameters:
            made['parameters'] = dict(parameters)
    if version == '4.21':
        made.pop('caller', None)
        if custom:
            del made['externaldetails']['virtualmachine']
    return made


def merged(vm: Any, patch: Any) -> Any:
    """What CloudStack makes of a VM object and the output of ``prepare``.

    Arrays whose elements all have a ``uuid`` are merged by it; other arrays
    are replaced.
    """
    if isinstance(vm, dict) and isinstance(patch, dict):
        return {**vm, **{key: merged(vm.get(key), value)
                         for key, value in patch.items()}}
    if isinstance(vm, list) and isinstance(patch, list) and all(
            isinstance(item, dict) and 'uuid' in item
            for item in (*vm, *patch)):
        found = {item['uuid']: item for item in vm}
        for item in patch:
            found[item['uuid']] = merged(found.get(item['uuid']), item)
        return list(found.values())
    return patch


class Answer:
    """How a run ended.

    :ivar success: whether the exit status was 0.
    :ivar text: what was printed, or the words of the failure.
    """

    def __init__(self, success: bool, text: str) -> None:
        self.success = success
        self.text = text

    def __repr__(self) -> str:
        return f'Answer({self.success}, {self.text!r})'

    @property
    def json(self) -> dict[str, Any]:
        """The answer as the JSON object that it is."""
        found = json.loads(self.text)
        assert isinstance(found, dict), found
        return found

    @property
    def error(self) -> str:
        """Why it failed, by the extension's own words."""
        head, _, output = self.text.partition(', Output: ')
        assert not self.success and head.startswith('Exit code: '), self
        found = json.loads(output)
        assert found['status'] == 'error', found
        text: str = found['error']
        return text

    @property
    def power_state(self) -> str:
        """What a ping makes of the answer to ``status``."""
        if not self.success or not self.text:
            return 'unknown'
        state: Any = self.text
        if state.startswith('{'):
            try:
                state = self.json.get('power_state')
            except ValueError:
                return 'unknown'
        return {'poweron': 'on', 'poweroff': 'off'}.get(
            str(state).lower(), 'unknown')

    @property
    def report(self) -> dict[str, str] | None:
        """What a ping makes of ``statuses``; None to ask for each VM."""
        try:
            found = self.json
        except ValueError:
            return None
        states = found.get('power_state')
        if (not self.success or str(found.get('status')).lower() != 'success'
                or not isinstance(states, dict)):
            return None
        return {name: {'poweron': 'on', 'poweroff': 'off'}.get(
            str(state).lower(), 'unknown') for name, state in states.items()}

    @property
    def console(self) -> dict[str, Any]:
        """What the console proxy is told."""
        assert self.success, self
        console = self.json.get('console')
        assert isinstance(console, dict), 'Missing console object in output'
        assert console.get('url') or (
            console.get('host') and str(console.get('port', '')).isdigit()
        ), 'Missing required fields in output'
        return console


class Provisioner:
    """A management server, as an extension sees it.

    :param entry: the extension's executable.
    :param directory: where payloads are written.
    :param version: of CloudStack.
    :param environment: of the server.
    :param details: what administrators have set, instead of the payloads'
        own: by level (``host``, ``extension``, ``resourcemap``).
    """

    def __init__(self, entry: os.PathLike[str] | str,
                 directory: os.PathLike[str] | str,
                 version: str = '4.22.1', *,
                 environment: Mapping[str, str] | None = None,
                 details: Mapping[str, Mapping[str, str]] | None = None,
                 ) -> None:
        self.details = details or {}
        self.entry = os.fspath(entry)
        self.directory = os.fspath(directory)
        self.version = version
        self.environment = dict(environment or {})

    def run(self, action: str, payload_: Mapping[str, Any] | str, *,
            seconds: int = 1800) -> Answer:
        """Run the executable, and wait until it has ended.

        :param payload_: the payload, or the text that the file has instead.
        """
        if not os.access(self.entry, os.R_OK | os.X_OK):
            return Answer(False, 'File is not executable')
        path = os.path.join(self.directory, f'{uuid.uuid4()}.json')
        with open(path, 'w', encoding='utf-8') as file:
            file.write(payload_ if isinstance(payload_, str)
                       else json.dumps(payload_))
        # An input that nobody writes to or closes, one pipe for both outputs,
        # and nothing of the environment that a shell would have.
        reader, writer = os.pipe()
        try:
            with subprocess.Popen(
                    [self.entry, action, path, str(seconds)], cwd='/',
                    stdin=reader, stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT, umask=0o027,
                    env=self.environment) as process:
                try:
                    # Only then is the output read.
                    status = self._wait(process, seconds)
                except subprocess.TimeoutExpired:
                    process.kill()
                    return Answer(False, 'Timeout')
                assert process.stdout is not None
                output = process.stdout.read(PIPE).decode()
        finally:
            os.close(reader)
            os.close(writer)
        text = '\n'.join(
            line.rstrip() for line in output.splitlines()).strip()
        if status == 0 and action in _TRIVIAL:
            os.unlink(path)
        return (Answer(True, text) if status == 0 else
                Answer(False, f'Exit code: {status}, Output: {text}'))

    @staticmethod
    def _wait(process: subprocess.Popen[bytes], seconds: float) -> int:
        end = time.monotonic() + seconds
        while (status := process.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired('extension', seconds)
            time.sleep(0.02)
        return status

    def act(self, action: str, *, seconds: int = 1800,
            change: Any = None,
            parameters: Mapping[str, Any] | None = None) -> Answer:
        """Run an action with its payload.

        :param change: a function that changes the payload.
        :param parameters: those of a custom action.
        """
        return self.run(action, self.payload(
            action, change=change, parameters=parameters), seconds=seconds)

    def payload(self, action: str, *, change: Any = None,
                parameters: Mapping[str, Any] | None = None,
                ) -> dict[str, Any]:
        """Build the payload of :meth:`act`."""
        made = copy.deepcopy(payload(
            action, self.version, parameters=parameters))
        made['externaldetails'].update(copy.deepcopy(dict(self.details)))
        if change is not None:
            change(made)
        return made
