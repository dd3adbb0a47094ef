# SPDX-License-Identifier: Apache-2.0
"""The record of the instances that a maintenance has stopped."""

from __future__ import annotations

from collections.abc import Iterable
import contextlib
import json
import os
import stat
import uuid as uuid_lib

from nova import conf

from xen44_driver.cmd import keeping
from xen44_driver.cmd import report

CONF = conf.CONF

# Version of the file's format, and the most bytes that are read: an entry has
# 40, and Xen runs at most 32,751 domains.
_VERSION = 1
_MAX_BYTES = 4 << 20


def path() -> str:
    """Return the path of the file."""
    return os.path.join(CONF.state_path, 'xen44-maintenance.json')


def locked() -> contextlib.AbstractContextManager[None]:
    """Keep other commands away that write the file, or change the host.

    :raises xen44_driver.cmd.report.CannotWork: somebody else has it.
    :raises OSError: there is no directory for it.
    """
    return keeping.locked(
        CONF.state_path,
        'xen44-host maintenance, xen44-host remove or xen44-import')


class Stopped:
    """UUIDs of instances of this host, kept in a file.

    The file is replaced as a whole at each change, and is on the disk before
    the change returns.
    """

    def __init__(self) -> None:
        self._uuids = _read()

    @property
    def uuids(self) -> frozenset[str]:
        """The UUIDs."""
        return self._uuids

    def add(self, uuid: str) -> None:
        """Add an instance.

        :raises OSError: the file cannot be written.
        """
        self._write(self._uuids | {uuid})

    def discard(self, *uuids: str) -> None:
        """Remove instances, if they are there.

        :raises OSError: the file cannot be written.
        """
        self._write(self._uuids - set(uuids))

    def _write(self, uuids: Iterable[str]) -> None:
        wanted = frozenset(uuids)
        if wanted == self._uuids:
            return
        text = json.dumps({'version': _VERSION, 'host': CONF.host,
                           'stopped': sorted(wanted)}, indent=2)
        keeping.replace(path(), text + '\n')
        self._uuids = wanted


def _read() -> frozenset[str]:
    """Return the UUIDs in the file; none if there is no file.

    :raises xen44_driver.cmd.report.CannotWork: the file is not one that this
        command wrote on this host.
    """
    try:
        return _parse(_content())
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError) as error:
        raise report.CannotWork(
            f'{path()}, the record of stopped instances, cannot be used: '
            f'{error}. Look at it, start the instances in it by hand, and '
            'remove it') from error


def _content() -> str:
    # The directory is nova's, and a FIFO would block.
    descriptor = os.open(
        path(), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, encoding='utf-8') as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError('it is not a regular file')
        if found.st_uid != os.getuid():
            raise ValueError(f'it belongs to user {found.st_uid}, not to '
                             f'{os.getuid()}')
        if found.st_size > _MAX_BYTES:
            raise ValueError(f'it has {found.st_size} bytes, and may have '
                             f'{_MAX_BYTES}')
        return file.read(_MAX_BYTES)


def _parse(text: str) -> frozenset[str]:
    try:
        record = json.loads(text)
    except RecursionError as error:
        raise ValueError('it is nested too deeply') from error
    if not isinstance(record, dict) or record.get('version') != _VERSION:
        raise ValueError(f'it is not a record of version {_VERSION}')
    if record.get('host') != CONF.host:
        raise ValueError(f'it is of host {record.get("host")!r}, and this is '
                         f'{CONF.host!r}')
    uuids = record.get('stopped')
    if not isinstance(uuids, list):
        raise ValueError('it has no list "stopped"')
    for uuid in uuids:
        if not isinstance(uuid, str) or str(uuid_lib.UUID(uuid)) != uuid:
            raise ValueError(f'{uuid!r} is not the UUID of an instance')
    return frozenset(uuids)
