# SPDX-License-Identifier: Apache-2.0
"""Loop devices, on which dom0's kernel serves the files of guests' disks.

libxl's script ``block`` makes one when a file is attached to a guest, and
removes it when it is detached, also if the guest ends or reboots itself. It
removes none if libvirtd ends in between, or if the file's path has changed
before.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import glob
import os
import re

#: Where Linux tells of block devices.
SYSFS = '/sys/block'

#: The names of loop devices.
NAME = re.compile(r'loop\d+')

# A file in an instance's directory (xen44_driver.storage.layout), whose name
# may have a suffix, and which may be deleted by now.
_FILE = re.compile(
    r'(?P<instances>.*)/(?P<uuid>[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})'
    r'(_[a-z_]+)?/[^/]+')


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """The loop device of a file of an instance.

    :ivar name: its name, such as ``loop3``.
    :ivar instances: the directory of all instances that the file is in.
    :ivar uuid: the instance's UUID.
    """

    name: str
    instances: str
    uuid: str


def found() -> Iterator[Loop]:
    """Yield the loop devices of this host that are of instances' files."""
    for path in glob.glob(os.path.join(SYSFS, 'loop*', 'loop',
                                       'backing_file')):
        name = os.path.basename(os.path.dirname(os.path.dirname(path)))
        loop = read(name)
        if loop is not None:
            yield loop


def read(name: str) -> Loop | None:
    """Look which instance's file a loop device is of.

    :param name: the device's name.
    :returns: None if it has no file, or one that is not an instance's.
    """
    try:
        with open(os.path.join(SYSFS, name, 'loop', 'backing_file'),
                  encoding='utf-8', errors='replace') as file:
            match = _FILE.fullmatch(file.read().rstrip('\n'))
    except OSError:
        # It was removed meanwhile.
        return None
    return match and Loop(
        name=name, instances=match['instances'], uuid=match['uuid'])
