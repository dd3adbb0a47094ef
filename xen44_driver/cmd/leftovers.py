# SPDX-License-Identifier: Apache-2.0
"""Take over what Nova's libvirt driver left (``virt_type = xen``).

Nova still has the instance, and the driver makes its record when it first
starts it (:func:`xen44_driver.compute.machine.adopt`). Both drivers call an
instance's files the same, except for the root disk. So what is left to do is
to rename that, and to undefine the old driver's domain, which has the UUID
that the new one needs.
"""

from __future__ import annotations

from collections.abc import Iterator
import os
import re
import stat
from typing import Any

from nova import conf
from nova import exception
from nova import objects
from nova.compute import vm_states
from openstack import exceptions

from xen44_driver.cmd import foreign as foreign_lib
from xen44_driver.compute import guest_type
from xen44_driver.compute import machine as machine_lib
from xen44_driver.storage import layout

CONF = conf.CONF

#: The old driver's name of a root disk.
ROOT_FILE = 'disk'

# The other disks that both drivers call the same; this one's are raw.
_OTHERS = re.compile(r'disk\.(swap|config|eph\d+)')


def problems(connection: Any, foreign: foreign_lib.Foreign, server: Any,
             options: machine_lib.Options) -> Iterator[str]:
    """Yield why an instance cannot be taken over.

    :param connection: openstacksdk's connection.
    :param foreign: the domain.
    :param server: Nova's record of it.
    :param options: this host's.
    """
    yield from foreign.problems
    if server.vm_state != vm_states.STOPPED or server.task_state:
        yield (f'Nova calls the server {server.vm_state}'
               f'{", " if server.task_state else ""}'
               f'{server.task_state or ""}: openstack server stop {server.id}')
    files = _files(foreign)
    for disk in foreign.disks:
        directory, name = os.path.split(disk.source)
        # Volumes are Nova's to connect.
        if directory != files.directory or name == ROOT_FILE:
            continue
        if not _OTHERS.fullmatch(name):
            yield f'the driver has no disk that is called {name}'
        elif disk.format != 'raw':
            yield (f'disk {disk.target} is {disk.format}: make it raw with '
                   f'qemu-img convert -f {disk.format} -O raw')
    try:
        _root(foreign)
    except OSError as error:
        yield f'its root disk cannot be used: {error}'
    yield from _other_type(connection, foreign, server, options)


def _other_type(connection: Any, foreign: foreign_lib.Foreign, server: Any,
                options: machine_lib.Options) -> Iterator[str]:
    """Yield why the driver would start another type of guest."""
    try:
        chosen = guest_type.choose(
            objects.ImageMeta.from_dict({
                'properties': _mode(connection, server)}),
            objects.Flavor(extra_specs=dict(
                server.flavor.extra_specs or {})),
            default=options.default_guest_type, offered=options.offered)
    except exception.Invalid as error:
        yield error.format_message()
        return
    if chosen is not foreign.guest_type:
        yield (f'the driver would start it as {chosen}: set '
               f'[xen44_{options.arch.name}] default_guest_type = '
               f'{foreign.guest_type} until it has been started once, if '
               'neither its image nor its flavor asks for a type')


def _mode(connection: Any, server: Any) -> dict[str, str]:
    """Return what an instance's image asks for, as far as Glance knows."""
    if not server.image or not server.image.id:
        return {}
    try:
        image = connection.image.get_image(server.image.id)
    except exceptions.NotFoundException:
        return {}
    mode = (image.properties or {}).get('hw_vm_mode') or image.vm_mode
    return {'hw_vm_mode': mode} if mode else {}


def take(foreign: foreign_lib.Foreign) -> None:
    """Give the root disk the driver's name; safe to repeat.

    :raises OSError: it cannot be done; nothing was changed.
    """
    files = _files(foreign)
    old, new = _root(foreign)
    # libvirt gave it to QEMU's user; nova-compute's has the directory.
    owner = os.stat(files.directory)
    descriptor = os.open(
        old, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
    os.rename(old, new)


def _files(foreign: foreign_lib.Foreign) -> layout.InstanceFiles:
    return layout.InstanceFiles(CONF.instances_path, foreign.uuid)


def _root(foreign: foreign_lib.Foreign) -> tuple[str, str]:
    """Return the path that a root disk has, and the one that it gets.

    They are the same after a run that was killed.

    :raises OSError: it is not there, or not a file.
    """
    files = _files(foreign)
    old = files.path(ROOT_FILE)
    for disk in foreign.disks:
        if disk.source == old:
            break
    else:
        raise OSError(f'no disk of the domain is {old}')
    new = files.path(machine_lib.ROOT_FILE.format(format=disk.format))
    if os.path.lexists(new):
        if os.path.lexists(old):
            raise OSError(f'there are both {old} and {new}')
        old = new
    if not stat.S_ISREG(os.lstat(old).st_mode):
        raise OSError(f'{old} is not a file')
    return old, new
