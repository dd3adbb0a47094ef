# SPDX-License-Identifier: Apache-2.0
"""See what the qcow2 file of a volume leads to.

QEMU opens as root what such a file names, and a guest could write one to a
volume that was raw. Cinder makes files that lie on others for its snapshots:
those are in the same directory, and are named by the same volume.
"""

from __future__ import annotations

from nova import exception

from xen44_driver import privsep
from xen44_driver.storage import header

#: The most files that may lie on each other: Cinder makes one for each
#: snapshot.
MAX_FILES = 256


def check(instance: str, volume: str, name: str) -> None:
    """Refuse a qcow2 file that leads to others than the volume's own.

    :param instance: the instance's UUID.
    :param volume: Cinder's id of the volume, to which the instance has a link.
    :param name: name of the volume's file.
    :raises nova.exception.InvalidVolume: it does; the message names them.
    :raises OSError: a file cannot be read.
    """
    # Such as "volume-UUID.SNAPSHOT".
    own = name.partition('.')[0]
    above, looked = name, None
    for _ in range(MAX_FILES):
        found = header.parse_qcow2(
            privsep.read_volume_head(instance, volume, header.HEAD, looked))
        if found is None:
            raise _refused(volume, f'{above} is not qcow2')
        if found.data_file or found.encrypted:
            raise _refused(volume, f'{above} has its content elsewhere, or '
                                   'encrypted')
        below = found.backing_file
        if below is None:
            return
        if below.partition('.')[0] != own or '/' in below or ':' in below:
            raise _refused(volume, f'{above} lies on {below!r}')
        if found.backing_format == 'raw':
            return
        if found.backing_format != 'qcow2':
            # QEMU would look what it is.
            raise _refused(volume, f'{above} lies on {below!r} of the format '
                                   f'{found.backing_format!r}')
        above = looked = below
    raise _refused(volume, f'it has more than {MAX_FILES} files')


def _refused(volume: str, why: str) -> exception.InvalidVolume:
    return exception.InvalidVolume(
        reason=f'volume {volume} is a qcow2 file, and {why}; allowed: files '
               'of the volume itself, in one directory, raw or qcow2')
