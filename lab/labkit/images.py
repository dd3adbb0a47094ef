# SPDX-License-Identifier: Apache-2.0
"""The guests' images in Glance, as the demo, the gate and the bench use them.

========== ==========================================================
guest      qcow2; boots from its own disk
direct     qcow2 with a kernel and a ramdisk of its own (``kernel_id``)
direct-raw the same, with a raw disk
agent      as guest, with a channel to a guest agent
kernel     what these two boot
ramdisk    its initrd
========== ==========================================================
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import pathlib
from typing import Any

from labkit import guest
from labkit import image
from labkit import qemu
from labkit import util
from labkit.cloud import Cloud
from labkit.cloud import rest

DISK = 'guest'
DIRECT = 'direct'
DIRECT_RAW = 'direct-raw'
AGENT = 'agent'
KERNEL = 'kernel'
RAMDISK = 'ramdisk'

#: Property that tells which build of the guest an image was made of.
_BUILD = 'xenlab_build'


def _existing(client: rest.Client, name: str) -> dict[str, Any] | None:
    found = client.call('GET', 'image', f'/v2/images?name={name}')['images']
    return found[0] if found else None


def ensure(cloud: Cloud) -> dict[str, str]:
    """Have the guest's images in Glance; build and upload what is missing.

    :returns: their ids by name.
    :raises util.LabError: no image could be built or uploaded.
    """
    files = guest.small_guest()
    build = files.disk_qcow2.parent.name
    client = cloud.client()
    ids: dict[str, str] = {}

    def have(name: str, path: pathlib.Path, disk_format: str,
             **properties: str) -> None:
        properties[_BUILD] = build
        found = _existing(client, name)
        if found and found['status'] == 'active' and all(
                found.get(key) == value
                for key, value in properties.items()):
            ids[name] = found['id']
            return
        with util.step(f'glance: image {name}'):
            ids[name] = cloud.upload_image(name, path, disk_format,
                                           **properties)

    # The small guest finds the metadata service without being told of it, and
    # is to be seen doing so.
    small = {'img_config_drive': 'optional'}
    have(DISK, files.disk_qcow2, 'qcow2', **small)
    have(KERNEL, files.kernel, 'aki', container_format='aki')
    have(RAMDISK, files.ramdisk, 'ari', container_format='ari')
    given = {'kernel_id': ids[KERNEL], 'ramdisk_id': ids[RAMDISK],
             'os_command_line': guest.CMDLINE, **small}
    have(DIRECT, files.disk_qcow2, 'qcow2', **given)
    have(AGENT, files.disk_qcow2, 'qcow2', hw_qemu_guest_agent='yes',
         os_require_quiesce='yes', **small)
    have(DIRECT_RAW, files.disk_raw, 'raw', **given)
    return ids


def build(args: argparse.Namespace) -> int:
    """Build what a first start would build, and start nothing."""
    def guests() -> None:
        guest.small_guest()
        if args.all:
            guest.debian_guest()

    util.need_root()
    with util.step('xenlab build'):
        # Each waits for downloads for a good part of its time.
        util.together(image.get, qemu.command, Cloud().install, guests)
    return 0


def add_parsers(
    add: Callable[[str, Callable[..., int]], argparse.ArgumentParser],
) -> None:
    """Give the command line ``build``.

    :param add: makes a command of a name and what it calls.
    """
    add('build', build).add_argument(
        '--all', action='store_true',
        help="also Debian's image, which only the slow tests need")
