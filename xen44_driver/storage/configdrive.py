# SPDX-License-Identifier: Apache-2.0
"""The config drive: metadata and user data on a small read-only disk."""

from __future__ import annotations

from collections.abc import Sequence

from nova import objects
from nova.api.metadata import base as metadata
from nova.network import model
from nova.virt import configdrive

from xen44_driver.storage import layout

FORMAT = 'raw'


def create(
    instance: objects.Instance, path: str, *,
    network_info: model.NetworkInfo | None,
    files: Sequence[tuple[str, str]] = (),
    admin_password: str | None = None,
) -> None:
    """Make an instance's config drive.

    :param instance: whose
    :param path: its file
    :param network_info: the instance's interfaces
    :param files: (path, content) the user had injected
    :param admin_password: the password Nova made, or None
    :raises OSError: no tool to make it with
    :raises oslo_concurrency.processutils.ProcessExecutionError: it failed
    """
    contents = metadata.InstanceMetadata(
        instance, content=list(files), network_info=network_info,
        extra_md={'admin_pass': admin_password} if admin_password else {})
    # It may hold the password: nobody else reads it.
    layout.create_private(path)
    with configdrive.ConfigDriveBuilder(instance_md=contents) as builder:
        builder.make_drive(path)
