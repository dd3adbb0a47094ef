#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The extension's executable on CloudStack's management servers.

CloudStack runs it as ``ENTRY ACTION PAYLOAD SECONDS``. It hands the payload to
xen44-cloudstack in the dom0 that the host's details name, over SSH, and prints
what that answers. Nothing of the payload gets into a command line but the
address, which is checked.

This file is complete: "xen44-cloudstack bundle" copies it. It needs Python
3.6 and OpenSSH's client, nothing else. It writes nothing to standard error,
which CloudStack would take for a part of the answer, and does not read its
standard input, which never ends.
"""

import json
import os
import re
import stat
import subprocess
import sys
import tempfile
import time
from typing import Any
from typing import Dict
from typing import List
from typing import Optional
from typing import Tuple
import zlib

#: Version of what is sent. The other side refuses any other.
PROTOCOL = 1

#: Bytes of the longest answer; CloudStack waits for ever at 64 KiB.
MAX_ANSWER = 60000

#: Bytes of the longest name of a socket, on Linux.
MAX_SOCKET = 108

#: Seconds that CloudStack's time is cut by, so that it does not kill us.
RESERVE = 3

#: Names of actions that CloudStack has. It also sends names of its own
#: classes, which have a dot.
ACTION = r'[A-Za-z0-9 _-]{1,64}\Z'

HOST = r'[A-Za-z0-9][A-Za-z0-9.:-]{0,254}\Z'
USER = r'[a-z_][a-z0-9_-]{0,31}\Z'
PATH = r'/[A-Za-z0-9_./+@-]{1,254}\Z'


class Failed(Exception):
    """The action was not carried out; the message says why."""


def detail(payload: Dict[str, Any], name: str, pattern: str,
           levels: Tuple[str, ...] = ('host', 'extension')) -> Optional[str]:
    """Return a detail that an administrator set, or None.

    Users set those of VMs, which are not looked at.
    """
    external = payload.get('externaldetails')
    for level in levels:
        values = external.get(level) if isinstance(external, dict) else None
        value = values.get(name) if isinstance(values, dict) else None
        if value is None or value == '':
            continue
        if not isinstance(value, str) or not re.match(pattern, value):
            raise Failed('the detail %s of the %s in CloudStack is not '
                         'possible: %.100r' % (name, level, value))
        return value
    return None


def sharing(key: str, directory: Optional[str] = None) -> List[str]:
    """Return options that let many calls with a key share one connection.

    Other keys may be for other commands: ssh does not look at that.

    None if the directory of its socket is not ours alone, or its name too
    long for one.
    """
    path = directory or os.path.join(
        tempfile.gettempdir(), 'xen44-cloudstack-%d-%08x' % (
            os.getuid(), zlib.crc32(os.fsencode(key)) & 0xffffffff))
    # With the name that ssh gives it until it listens, 59 bytes longer.
    if len(os.fsencode(path)) > MAX_SOCKET - 59:
        return []
    try:
        os.mkdir(path, 0o700)
    except OSError:
        pass
    try:
        found = os.lstat(path)
    except OSError:
        return []
    if (not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid()
            or stat.S_IMODE(found.st_mode) != 0o700):
        return []
    return ['-o', 'ControlMaster=auto', '-o', 'ControlPersist=120',
            '-o', 'ControlPath=%s/%%C' % path]


def make_private(path: str) -> None:
    """Let only us read a file of ours, or ssh would not use it.

    CloudStack's packages let everybody read all extensions at each update.
    """
    found = os.stat(path)
    if found.st_uid == os.getuid() and found.st_mode & 0o077:
        os.chmod(path, 0o600)


def command(payload: Dict[str, Any], here: str) -> List[str]:
    """Return the command that reaches the host.

    :param payload: what CloudStack passed.
    :param here: the directory of this file.
    """
    host = detail(payload, 'dom0', HOST, ('host',))
    if host is None:
        raise Failed('the host has no detail "dom0" in CloudStack: the '
                     'address of its dom0')
    user = detail(payload, 'ssh_user', USER) or 'root'
    port = detail(payload, 'ssh_port', r'[0-9]{1,5}\Z') or '22'
    key = (detail(payload, 'ssh_key_file', PATH)
           or os.path.join(here, 'id_ed25519'))
    known = (detail(payload, 'ssh_known_hosts', PATH)
             or os.path.join(here, 'known_hosts'))
    for path in (key, known):
        if not os.access(path, os.R_OK):
            raise Failed('%s is missing, or cannot be read by the user of '
                         'the management server' % path)
    make_private(key)
    # Without a command, a key that may do more would get a shell.
    return ['ssh', '-F', 'none', '-T', '-x', '-a'] + sharing(key) + [
        '-o', 'BatchMode=yes', '-o', 'IdentitiesOnly=yes', '-i', key,
        '-o', 'UserKnownHostsFile=%s' % known,
        '-o', 'GlobalKnownHostsFile=/dev/null',
        '-o', 'StrictHostKeyChecking=yes', '-o', 'UpdateHostKeys=no',
        '-o', 'ConnectTimeout=30', '-o', 'ServerAliveInterval=15',
        '-o', 'ServerAliveCountMax=8', '-o', 'LogLevel=ERROR',
        '-p', port, '-l', user, '--', host, 'xen44-cloudstack serve']


def read_payload(path: str) -> Dict[str, Any]:
    """Read the payload."""
    try:
        with open(path, 'rb') as file:
            payload = json.loads(file.read().decode('utf-8'))
    except (OSError, ValueError) as error:
        # JSON's errors do not quote the text.
        raise Failed('the payload cannot be read: %s' % error)
    if not isinstance(payload, dict):
        raise Failed('the payload is not a JSON object')
    return payload


def ask(argv: List[str], request: bytes,
        seconds: float) -> Tuple[int, str, str]:
    """Run a command; return its exit status and what it printed.

    Not through pipes: the process that keeps a shared connection open would
    hold them.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, \
            tempfile.TemporaryFile() as err:
        given.write(request)
        given.seek(0)
        try:
            status = subprocess.call(
                argv, stdin=given, stdout=out, stderr=err, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Failed('the host has not answered within %d s' % seconds)
        except OSError as error:
            raise Failed('ssh cannot be run: %s' % error)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read(MAX_ANSWER + 1).decode('utf-8', 'replace'))
    return status, texts[0], texts[1]


def checked(out: str) -> str:
    """Return an answer that CloudStack can read, in ASCII.

    It is nothing or a JSON object. Else something in dom0 has printed before.
    """
    if len(out) > MAX_ANSWER:
        raise Failed('the answer has more than %d bytes' % MAX_ANSWER)
    if not out.strip():
        return ''
    try:
        found = json.loads(out)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Failed('the answer of the host is not JSON, but begins with '
                     '%.100r' % out.strip())
    text = json.dumps(found)
    if len(text) > MAX_ANSWER:
        raise Failed('the answer has more than %d bytes' % MAX_ANSWER)
    return text


def act(argv: List[str], here: str) -> Tuple[int, str]:
    """Carry out an action; return exit status and answer."""
    started = time.time()
    if len(argv) != 4:
        raise Failed('usage: %s ACTION PAYLOAD SECONDS' % argv[0])
    action = argv[1]
    if not re.match(ACTION, action):
        raise Failed('there is no action %.100r' % action)
    if not re.match(r'[0-9]{1,9}\Z', argv[3]):
        raise Failed('%.100r is not a number of seconds' % argv[3])
    seconds = max(1, min(int(argv[3]), 86400) - RESERVE)
    payload = read_payload(argv[2])
    request = json.dumps({
        'protocol': PROTOCOL, 'action': action, 'payload': payload,
        'seconds': seconds}).encode('utf-8')
    status, out, err = ask(
        command(payload, here), request,
        max(1.0, seconds - (time.time() - started)))
    if status == 255 and not out.strip():
        last = err.strip().splitlines()[-1:] or ['no reason given']
        raise Failed('the host cannot be reached: %s' % last[0][:500])
    if status and not out.strip():
        raise Failed('xen44-cloudstack ended with status %d; see its log in '
                     'dom0' % status)
    return (1 if status else 0), checked(out)


def main(argv: List[str]) -> int:
    """Run the entry point; returns its exit status."""
    os.umask(0o077)
    try:
        status, answer = act(argv, os.path.dirname(
            os.path.abspath(argv[0])))
    except (Failed, OSError) as error:
        status, answer = 1, json.dumps(
            {'status': 'error', 'error': str(error)})
    except Exception as error:
        status, answer = 1, json.dumps(
            {'status': 'error', 'error': 'the entry point failed: %s'
             % type(error).__name__})
    print(answer)
    return status


if __name__ == '__main__':
    sys.exit(main(sys.argv))
