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

For ARM hosts there are ``direct-raw``, ``kernel`` and ``ramdisk``, with
``-aarch64`` behind their names in Glance.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import pathlib
from typing import Any

from labkit import arch
from labkit import config
from labkit import guest
from labkit import util
from labkit.cloud import Cloud
from labkit.cloud import dashboard
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


def name(kind: str, architecture: str | None = None) -> str:
    """Name of an image in Glance.

    :param kind: one of the names above.
    :param architecture: of the hosts that it is for; ``config.ARCHITECTURE``
        by default.
    """
    architecture = architecture or config.ARCHITECTURE
    return kind if architecture == 'x86_64' else f'{kind}-{architecture}'


def ensure(cloud: Cloud,
           architecture: str | None = None) -> dict[str, str]:
    """Have the guest's images in Glance; build and upload what is missing.

    :param architecture: as of :func:`name`.
    :returns: their ids by kind.
    :raises util.LabError: no image could be built or uploaded.
    """
    architecture = architecture or config.ARCHITECTURE
    files = guest.small_guest(architecture)
    build = files.disk_qcow2.parent.name
    client = cloud.client()
    ids: dict[str, str] = {}

    def have(kind: str, path: pathlib.Path, disk_format: str,
             **properties: str) -> None:
        properties[_BUILD] = build
        title = name(kind, architecture)
        found = _existing(client, title)
        if found and found['status'] == 'active' and all(
                found.get(key) == value
                for key, value in properties.items()):
            ids[kind] = found['id']
            return
        with util.step(f'glance: image {title}'):
            ids[kind] = cloud.upload_image(title, path, disk_format,
                                           **properties)

    have(KERNEL, files.kernel, 'aki', container_format='aki')
    have(RAMDISK, files.ramdisk, 'ari', container_format='ari')
    # The small guest finds the metadata service without being told of it, and
    # is to be seen doing so.
    small = {'img_config_drive': 'optional'}
    given = {'kernel_id': ids[KERNEL], 'ramdisk_id': ids[RAMDISK],
             'os_command_line': guest.CMDLINE, **small}
    if architecture == 'x86_64':
        have(DISK, files.disk_qcow2, 'qcow2', **small)
        have(DIRECT, files.disk_qcow2, 'qcow2', **given)
        have(AGENT, files.disk_qcow2, 'qcow2', hw_qemu_guest_agent='yes',
             os_require_quiesce='yes', **small)
    else:
        given['hw_architecture'] = architecture
    have(DIRECT_RAW, files.disk_raw, 'raw', **given)
    return ids


def build(args: argparse.Namespace) -> int:
    """Build what a first start would build, and start nothing."""
    def guests() -> None:
        guest.small_guest(args.arch)
        if args.all:
            if args.arch == 'x86_64':
                guest.debian_guest()
                dashboard.install()
            else:
                guest.small_guest('armv7l')

    wanted = arch.get(args.arch)
    util.need_root()
    with util.step('xenlab build'):
        # Each waits for downloads for a good part of its time.
        util.together(wanted.dom0_image, wanted.program.command,
                      Cloud().install, guests)
    return 0


def add_architecture(parser: argparse.ArgumentParser) -> None:
    """Let a command be about hosts of one architecture, its ``--arch``."""
    parser.add_argument(
        '--arch', choices=tuple(config.HOST_NAMES),
        default=config.ARCHITECTURE, help='of the Xen host (%(default)s)')


def add_parsers(
    add: Callable[[str, Callable[..., int]], argparse.ArgumentParser],
) -> None:
    """Give the command line ``build``.

    :param add: makes a command of a name and what it calls.
    """
    command = add('build', build)
    command.add_argument(
        '--all', action='store_true',
        help="also what only the slow tests need: Debian's image and "
             'Horizon, on ARM the small guest with a 32-bit kernel')
    add_architecture(command)
