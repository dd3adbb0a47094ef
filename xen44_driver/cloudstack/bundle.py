# SPDX-License-Identifier: Apache-2.0
"""Make the folder that is copied to CloudStack's management servers."""

from __future__ import annotations

from collections.abc import Sequence
import glob
import os
import re
import shlex
import shutil
import sys

from oslo_concurrency import processutils

from xen44_driver.cloudstack import entrypoint

#: The files with this host's public keys.
HOST_KEYS = '/etc/ssh/ssh_host_*_key.pub'

KEY = 'id_ed25519'
KNOWN_HOSTS = 'known_hosts'

#: What the user of the management servers may run in dom0.
_LINE = 'restrict,command="{command}" {key}\n'

_STEPS = """\
{directory} is made. To use it:

1. Append this line to /root/.ssh/authorized_keys of this host:

{line}
2. Copy the folder to each management server, the same one to all of them:

   rsync -a --chown=cloud:cloud {directory}/ \\
       SERVER:/usr/share/cloudstack-management/extensions/{name}/

3. In CloudStack, give the host the detail dom0={address}{port}.

The folder holds a private key. Remove it here when it is copied.
"""


def make(
    directory: str, addresses: Sequence[str], port: int, *,
    config_files: Sequence[str] = (),
) -> str:
    """Make the folder, or add this host to an existing one.

    :param directory: the folder.
    :param addresses: addresses and names of this host.
    :param port: port of its SSH server.
    :param config_files: the program's configuration files, if not its default.
    :returns: what is to be done next, for people.
    :raises ValueError: an address or the folder's name is not possible.
    :raises OSError: the folder cannot be written, or this host has no keys.
    """
    directory = os.path.abspath(directory)
    name = os.path.basename(directory)
    # Where CloudStack looks for an extension with this name.
    if not re.fullmatch(r'[a-z0-9][a-z0-9._-]{0,63}', name):
        raise ValueError(
            f'the folder cannot have the name {name!r}; allowed: 1 to 64 '
            'lower-case letters, digits, dots, _ and -')
    for address in addresses:
        if not re.match(entrypoint.HOST, address):
            raise ValueError(f'{address!r} is not an address or a name')
    if not 0 < port < 65536:
        raise ValueError(f'{port} is not a port; allowed: 1 to 65535')
    command = shlex.join(own_command(config_files, 'serve'))
    if re.search(r'["\\\n]', command):
        raise ValueError(f'{command!r} cannot be in a file of keys')
    known = list(_known(addresses, port))
    os.makedirs(directory, mode=0o700, exist_ok=True)
    target = os.path.join(directory, f'{name}.py')
    shutil.copyfile(entrypoint.__file__, f'{target}.part')
    # The user of the management server runs it.
    os.chmod(f'{target}.part', 0o755)  # noqa: S103
    os.rename(f'{target}.part', target)
    key = os.path.join(directory, KEY)
    if not os.path.exists(key):
        processutils.execute(
            'ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C',
            f'cloudstack-{name}', '-f', key)
    _add(os.path.join(directory, KNOWN_HOSTS), known)
    with open(f'{key}.pub', encoding='utf-8') as file:
        line = _LINE.format(command=command, key=file.read().strip())
    return _STEPS.format(
        directory=directory, name=name, line=line, address=addresses[0],
        port='' if port == 22 else f' and ssh_port={port}')


def own_command(config_files: Sequence[str], *arguments: str) -> list[str]:
    """Return a command line of this program.

    :param config_files: its configuration files, if not its default.
    :param arguments: what follows.
    """
    return [os.path.abspath(sys.argv[0]),
            *(f'--config-file={os.path.abspath(path)}'
              for path in config_files), *arguments]


def _known(addresses: Sequence[str], port: int) -> list[str]:
    """Return lines for a file of known hosts.

    :raises OSError: this host has no keys.
    """
    names = ','.join(address if port == 22 else f'[{address}]:{port}'
                     for address in addresses)
    lines = []
    for path in sorted(glob.glob(HOST_KEYS)):
        with open(path, encoding='utf-8') as file:
            kind, key = file.read().split()[:2]
        lines.append(f'{names} {kind} {key}\n')
    if not lines:
        raise OSError(f'this host has no SSH keys: there is no {HOST_KEYS}')
    return lines


def _add(path: str, lines: Sequence[str]) -> None:
    """Add lines to a file that it does not have."""
    old = []
    if os.path.exists(path):
        with open(path, encoding='utf-8') as file:
            old = file.readlines()
    with open(path, 'w', encoding='utf-8') as file:
        file.writelines([*old, *(line for line in lines if line not in old)])
