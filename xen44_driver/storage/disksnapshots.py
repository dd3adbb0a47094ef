# SPDX-License-Identifier: Apache-2.0
"""Snapshots inside a qcow2 disk; only of a guest that is off."""

from __future__ import annotations

import dataclasses
import datetime
import json

from oslo_concurrency import processutils


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A snapshot of a disk.

    :ivar name: its name.
    :ivar created: when it was made.
    """

    name: str
    created: datetime.datetime


def find(path: str) -> list[Snapshot]:
    """Return the snapshots in a disk, the oldest first.

    The guest may run.

    :param path: a qcow2 file whose header no guest can write.
    :raises oslo_concurrency.processutils.ProcessExecutionError: it cannot be
        read.
    """
    # A QEMU that serves the disk has locked it.
    text, _ = processutils.execute(
        'qemu-img', 'info', '--force-share', '--output=json', '-f', 'qcow2',
        path)
    return [
        Snapshot(name=found['name'], created=datetime.datetime.fromtimestamp(
            found['date-sec'], datetime.UTC))
        for found in json.loads(text).get('snapshots', ())]


def create(path: str, name: str) -> None:
    """Make a snapshot.

    :param path: the disk.
    :param name: a name that no other has; not a number, as qemu-img would
        take it for its own number of a snapshot.
    :raises oslo_concurrency.processutils.ProcessExecutionError: qemu-img
        failed.
    """
    _run('-c', name, path)


def restore(path: str, name: str) -> None:
    """Give a disk the content that it had; see :func:`create`."""
    _run('-a', name, path)


def delete(path: str, name: str) -> None:
    """Remove a snapshot; see :func:`create`."""
    _run('-d', name, path)


def _run(option: str, name: str, path: str) -> None:
    # With the format, as everywhere: it is never probed.
    processutils.execute(
        'qemu-img', 'snapshot', '-q', option, name, '--image-opts',
        f'driver=qcow2,file.driver=file,file.filename={path}')
