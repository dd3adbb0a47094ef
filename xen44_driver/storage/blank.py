# SPDX-License-Identifier: Apache-2.0
"""Swap and ephemeral disks: sparse raw files with a file system."""

from nova import exception
from nova.privsep import fs
from nova.virt.disk import api as disk_api
from oslo_utils import fileutils

from xen44_driver.storage import layout

FORMAT = 'raw'

#: File systems an ephemeral disk can be made with.
FILE_SYSTEMS = ('ext2', 'ext3', 'ext4', 'xfs', 'vfat', 'ntfs')


def check_file_system(name: str | None) -> None:
    """Refuse a file system we cannot make.

    :param name: as the user asked for it; None means the default
    :raises nova.exception.InvalidInput: names it and what is allowed
    """
    if name and name not in FILE_SYSTEMS:
        raise exception.InvalidInput(
            reason=f'guest_format {name!r} of an ephemeral disk is not '
                   f'supported; allowed: {", ".join(FILE_SYSTEMS)}')


def create_swap(path: str, size: int) -> None:
    """Make a swap disk.

    :param path: its file
    :param size: bytes
    """
    layout.create_private(path, size)
    with fileutils.remove_path_on_error(path):
        fs.unprivileged_mkfs('swap', path)


def create_ephemeral(
    path: str, size: int, *, label: str, os_type: str | None,
    file_system: str | None,
) -> None:
    """Make an ephemeral disk.

    :param path: its file
    :param size: bytes
    :param label: of its file system
    :param os_type: the instance's; decides the file system where neither
        ``file_system`` nor ``default_ephemeral_format`` does
    :param file_system: one of :data:`FILE_SYSTEMS`, or None
    """
    layout.create_private(path, size)
    with fileutils.remove_path_on_error(path):
        disk_api.mkfs(os_type, label, path, run_as_root=False,
                      specified_fs=file_system)
