# SPDX-License-Identifier: Apache-2.0
"""What a disk's file says of itself."""

import struct

# Of a qcow2 header: what it begins with, and the disk's size behind version,
# backing file's offset and length, and cluster bits (QEMU's
# docs/interop/qcow2.rst).
_HEADER = struct.Struct('>4s20xQ')
_MAGIC = b'QFI\xfb'


def virtual_size(path: str) -> int | None:
    """Size of the disk in a qcow2 file.

    :param path: a file whose beginning no guest writes: an image that Nova
        has inspected, or an overlay
    :returns: bytes, or None for a file that is no qcow2
    """
    with open(path, 'rb') as file:
        head = file.read(_HEADER.size)
    if not head.startswith(_MAGIC) or len(head) < _HEADER.size:
        return None
    _magic, size = _HEADER.unpack(head)
    return int(size)
