# SPDX-License-Identifier: Apache-2.0
"""The config drive: metadata and user data on a small disk."""

from __future__ import annotations

from typing import ClassVar

from oslo_utils import fileutils

from xen44_driver.storage import layout
from xen44_driver.storage.kinds import kind


class ConfigDrive(kind.Kind):
    """A CD-ROM if the guest type has a drive, otherwise a writable disk.

    The disk is not read-only because QEMU's xen-disk refuses such a disk
    ("Block node is read-only"). A guest can only damage its own copy.
    """

    name: ClassVar[str] = 'config'

    def prepare(self, tools: kind.Tools) -> None:
        """See :meth:`Kind.prepare`."""
        # Private, as it may contain the administrator's password.
        layout.create_private(self.path)
        with fileutils.remove_path_on_error(self.path):
            tools.write_config_drive(self.path)
