# SPDX-License-Identifier: Apache-2.0
"""Recognise what disk a file contains, by its beginning."""

from __future__ import annotations

import dataclasses
import math
import os
import struct
from typing import BinaryIO

from oslo_log import log as logging
from oslo_utils.imageutils import format_inspector

LOG = logging.getLogger(__name__)

#: Bytes of a sector. A disk consists of whole sectors.
SECTOR = 512

#: Bytes at the beginning of a file that all checks here need, except those of
#: oslo.utils, which reads the file itself.
HEAD = 64 * 1024

# The beginning of a qcow2 header: magic, version, backing file's offset and
# length, cluster bits, the disk's size, encryption method (QEMU's
# docs/interop/qcow2.rst).
_QCOW2 = struct.Struct('>4sIQIIQI')
_QCOW2_MAGIC = b'QFI\xfb'
_QCOW2_SNAPSHOTS = struct.Struct('>I')
_QCOW2_SNAPSHOTS_OFFSET = 60
_QCOW2_V2_LENGTH = 72
_QCOW2_V3_LENGTH = struct.Struct('>I')
_QCOW2_V3_LENGTH_OFFSET = 100
_QCOW2_EXTENSION = struct.Struct('>II')
_QCOW2_BACKING_FORMAT = 0xE2792ACA
# The incompatible features, and that of content in another file.
_QCOW2_FEATURES = struct.Struct('>Q')
_QCOW2_FEATURES_OFFSET = 72
_QCOW2_DATA_FILE = 1 << 2
# QEMU's own limit.
_QCOW2_BACKING_NAME_MAX = 1023

#: Signatures of formats: (name, offset, bytes). QEMU may accept a file with
#: one of them although the file is too short or too odd for the inspectors of
#: oslo.utils. The archives are listed because a disk may be packed in one.
_SIGNATURES = (
    ('qcow2', 0, _QCOW2_MAGIC),
    ('qed', 0, b'QED\x00'),
    ('vmdk', 0, b'KDMV'),
    ('vmdk', 0, b'COWD'),
    ('vmdk', 0, b'# Disk DescriptorFile'),
    ('vhdx', 0, b'vhdxfile'),
    ('vhd', 0, b'conectix'),
    ('parallels', 0, b'WithoutFreeSpace'),
    ('parallels', 0, b'WithouFreSpacExt'),
    ('cloop', 0, b'#!/bin/sh\n#V2.0 Format'),
    ('luks', 0, b'LUKS\xba\xbe'),
    ('gzip archive', 0, b'\x1f\x8b'),
    ('xz archive', 0, b'\xfd7zXZ\x00'),
    ('zstd archive', 0, b'\x28\xb5\x2f\xfd'),
    ('bzip2 archive', 4, b'1AY&SY'),
    ('zip archive', 0, b'PK\x03\x04'),
    ('tar archive', 257, b'ustar'),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a file contains.

    :ivar name: ``raw``, ``gpt`` (a raw disk with a GPT or MBR), ``iso``,
        Glance's name of another format, ``... archive``, ``empty`` or
        ``unknown``.
    :ivar virtual_size: bytes of the disk in it; 0 if that is not known.
    :ivar unsafe: why the file must not be used; None if it may be.
    """

    name: str
    virtual_size: int
    unsafe: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Qcow2:
    """The header of a qcow2 file.

    :ivar virtual_size: bytes of the disk in it.
    :ivar backing_file: path of the file that it is an overlay on, or None.
    :ivar backing_format: that file's format, as written in the header.
    :ivar encrypted: whether its content is encrypted.
    :ivar snapshots: number of the snapshots in it.
    :ivar data_file: whether its content is in another file.
    """

    virtual_size: int
    backing_file: str | None
    backing_format: str | None
    encrypted: bool
    snapshots: int = 0
    data_file: bool = False


def examine(path: str) -> Content:
    """Find out what a file contains, and whether it may be used as a disk.

    oslo.utils recognises the formats, and finds references to other files of
    the host. Only the beginning of the file is read (for some VMDK files also
    its end).

    :param path: a file or a block device that may contain anything.
    :raises OSError: it cannot be read, or is a symbolic link.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with open(descriptor, 'rb') as file:
        # Of a block device, fstat() does not tell it.
        size = file.seek(0, os.SEEK_END)
        if not size:
            return Content(name='empty', virtual_size=0)
        file.seek(0)
        head = file.read(HEAD)
        file.seek(0)
        try:
            found, unsafe = _inspect(file)
        except Exception as error:
            # The inspectors parse what an attacker may have written. A file
            # that makes them fail is not accepted as a disk.
            LOG.warning('Cannot inspect %(path)s: %(error)s',
                        {'path': path, 'error': error})
            return Content(name='unknown', virtual_size=0,
                           unsafe=f'it cannot be inspected ({error})')
    name = str(found)
    if name in {'raw', 'gpt'}:
        signed = _signature(head)
        if signed is not None:
            name = signed
            if 'archive' not in name:
                unsafe = f'it begins as {name} does, and is not whole'
    if name in {'raw', 'gpt', 'iso'}:
        virtual_size = math.ceil(size / SECTOR) * SECTOR
    else:
        virtual_size = int(found.virtual_size)
    if name == 'qcow2' and unsafe is None:
        header = parse_qcow2(head)
        if header is not None and header.encrypted:
            unsafe = 'its content is encrypted'
    return Content(name=name, virtual_size=virtual_size, unsafe=unsafe)


def _inspect(
    file: BinaryIO,
) -> tuple[format_inspector.FileInspector, str | None]:
    """Inspect a file with oslo.utils.

    :returns: the inspector of the file's format, and why the file must not be
        used, or None.
    :raises Exception: an inspector failed, with any type of exception.
    """
    wrapper = format_inspector.InspectWrapper(file)
    while wrapper.read(4096) and not wrapper.formats:
        pass
    wrapper.close()
    found = {str(inspector): inspector for inspector in wrapper.formats or ()}
    if found.keys() == {'iso', 'gpt'}:
        # A hybrid ISO image, which can also boot from a USB stick.
        return found['iso'], None
    if len(found) > 1:
        raise format_inspector.ImageFormatError(
            f'it is {" and ".join(sorted(found))} at once')
    inspector = next(iter(found.values()))
    try:
        inspector.safety_check()
    except format_inspector.SafetyCheckFailed as error:
        return inspector, '; '.join(
            str(failure) for failure in error.failures.values())
    return inspector, None


def _signature(head: bytes) -> str | None:
    for name, offset, magic in _SIGNATURES:
        if head[offset:offset + len(magic)] == magic:
            return name
    return None


def read_qcow2(path: str) -> Qcow2 | None:
    """Read the header of a qcow2 file.

    :param path: a file whose header no guest can write: an inspected image,
        or an overlay.
    :returns: the header, or None if the file is not qcow2.
    :raises OSError: the file cannot be read.
    """
    with open(path, 'rb') as file:
        return parse_qcow2(file.read(HEAD))


def parse_qcow2(head: bytes) -> Qcow2 | None:
    """Parse the header of a qcow2 file.

    :param head: the first :data:`HEAD` bytes of it.
    :returns: the header, or None if it is not qcow2.
    """
    if not head.startswith(_QCOW2_MAGIC) or len(head) < _QCOW2_V2_LENGTH:
        return None
    (_magic, version, offset, length, _cluster_bits, size,
     encryption) = _QCOW2.unpack_from(head)
    backing_file = None
    if offset:
        name = head[offset:offset + min(length, _QCOW2_BACKING_NAME_MAX)]
        backing_file = os.fsdecode(name)
    (snapshots,) = _QCOW2_SNAPSHOTS.unpack_from(head, _QCOW2_SNAPSHOTS_OFFSET)
    return Qcow2(
        virtual_size=int(size), backing_file=backing_file,
        backing_format=_backing_format(head, version),
        encrypted=encryption != 0, snapshots=int(snapshots),
        data_file=bool(_features(head, version) & _QCOW2_DATA_FILE))


def _features(head: bytes, version: int) -> int:
    """Return the incompatible features, which version 2 does not have."""
    if version < 3 or len(head) < _QCOW2_FEATURES_OFFSET + 8:
        return 0
    (found,) = _QCOW2_FEATURES.unpack_from(head, _QCOW2_FEATURES_OFFSET)
    return int(found)


def _backing_format(head: bytes, version: int) -> str | None:
    """Return the backing file's format from its header extension, or None."""
    position = _QCOW2_V2_LENGTH
    if version > 2 and len(head) >= _QCOW2_V3_LENGTH_OFFSET + 4:
        (position,) = _QCOW2_V3_LENGTH.unpack_from(
            head, _QCOW2_V3_LENGTH_OFFSET)
    while position + _QCOW2_EXTENSION.size <= len(head):
        kind, length = _QCOW2_EXTENSION.unpack_from(head, position)
        position += _QCOW2_EXTENSION.size
        if not kind:
            break
        if kind == _QCOW2_BACKING_FORMAT:
            return head[position:position + length].decode('ascii', 'replace')
        # Each extension is padded to a multiple of eight bytes.
        position += (length + 7) // 8 * 8
    return None


def virtual_size(path: str) -> int | None:
    """Return the size of the disk in a qcow2 file.

    :param path: see :func:`read_qcow2`.
    :returns: bytes, or None if the file is not qcow2.
    """
    header = read_qcow2(path)
    return None if header is None else header.virtual_size
