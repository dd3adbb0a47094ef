# SPDX-License-Identifier: Apache-2.0
"""Make the files of an instance's disks."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
from typing import Any

from nova import context as nova_context
from nova import exception
from nova import objects
from nova.api.metadata import base as metadata
from nova.compute import utils as compute_utils
from nova.network import model
from nova.privsep import fs
from nova.virt import configdrive
from nova.virt.disk import api as disk_api
from oslo_log import log as logging

from xen44_driver import faultpoints
from xen44_driver.compute import glance
from xen44_driver.compute import machine as machine_lib
from xen44_driver.compute import node as compute_node
from xen44_driver.core import consolelog
from xen44_driver.core import undo as undo_lib
from xen44_driver.storage import images
from xen44_driver.storage import kernel
from xen44_driver.storage import kinds
from xen44_driver.storage import layout
from xen44_driver.storage.kinds import blank

LOG = logging.getLogger(__name__)


def fetch(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, machine: machine_lib.Machine,
) -> machine_lib.Machine:
    """Fetch the instance's image and check that its disk fits the flavor.

    An instance that boots from a volume needs none.

    :returns: the machine with the image filled in.
    :raises nova.exception.FlavorDiskSmallerThanImage: the disk is too large.
    :raises nova.exception.ImageUnacceptable: the image is refused.
    """
    if not any(disk.kind in machine_lib.OF_IMAGE for disk in machine.disks):
        return machine
    return machine.with_base(fetch_image(
        node, context, instance, instance.image_ref,
        limit=machine.root.size or None))


def fetch_image(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, image_id: str, *, limit: int | None,
) -> kinds.Base:
    """Fetch an image to make a disk of.

    :param image_id: Glance's id of the image.
    :param limit: the most bytes of the disk in it; None for any.
    :raises nova.exception.FlavorDiskSmallerThanImage: the disk is too large.
    :raises nova.exception.ImageUnacceptable: the image is refused.
    """
    with glance.translated():
        found = node.images.store.disk(
            glance.GlanceSource(context, image_id,
                                trusted_certs=instance.trusted_certs),
            limit=limit)
    return kinds.Base(
        id=found.id, format=found.format, virtual_size=found.virtual_size,
        size=found.size)


def recognise(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, machine: machine_lib.Machine,
) -> machine_lib.Machine:
    """Find out on what image an adopted instance's root disk lies.

    The image is fetched if it is missing. One that cannot be had or that is
    refused today stops nothing: the guest may run on what is there.

    :returns: the machine with the image filled in, if it was found.
    """
    if machine.root.kind != 'overlay':
        # Whole by itself.
        return machine
    try:
        # Whatever its size: the disk exists.
        base = fetch(node, context, instance, _with_root(
            machine, size=0)).root.base
    except (exception.NovaException, OSError) as error:
        LOG.warning('The image that the root disk lies on is not looked '
                    'after: %s', error, instance=instance)
        return machine
    return _with_root(machine, base=base)


def _with_root(
    machine: machine_lib.Machine, **values: Any,
) -> machine_lib.Machine:
    """Return the same machine with another root disk."""
    root, *others = machine.disks
    return dataclasses.replace(machine, disks=(
        dataclasses.replace(root, **values), *others))


def ensure_bases(
    node: compute_node.Node, context: nova_context.RequestContext,
    machine: machine_lib.Machine,
) -> None:
    """Check the images on which an instance's disks depend.

    An image that is missing or damaged is fetched again.

    :raises nova.exception.ImageNotFound: Glance no longer has that image, or
        has a different one; the message names the image and the file.
    """
    for disk in machine.disks:
        if disk.kind == 'overlay' and disk.base:
            base = disk.base
            with glance.translated():
                node.images.store.ensure(
                    glance.GlanceSource(context, base.id),
                    images.Image(
                        id=base.id, path=node.images.store.path(base.id),
                        format=base.format, size=base.size,
                        virtual_size=base.virtual_size))


def create(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, machine: machine_lib.Machine,
    undo: undo_lib.Undo, *, network_info: model.NetworkInfo | None,
    injected_files: Sequence[tuple[str, str]], admin_password: str | None,
) -> None:
    """Make every file of an instance, whose directory exists.

    For a rescue, the disks that are not of the rescue exist already.

    :param undo: takes the undo step of each file.
    :param network_info: the ports, for the config drive.
    :param injected_files: (path, content) pairs, for the config drive.
    :param admin_password: the password, for the config drive.
    """
    files = node.files(instance)
    its_tools = tools(node, instance, network_info, injected_files,
                      admin_password)
    for record in machine.disks:
        if machine.rescue and layout.RESCUE not in record.file:
            continue
        disk = kinds.load(record, files.directory)
        undo.add(disk.remove)
        disk.prepare(its_tools)
        faultpoints.reached('disks: one made')
    kernel_file, ramdisk_file = (
        (files.rescue_kernel, files.rescue_ramdisk) if machine.rescue
        else (files.kernel, files.ramdisk))
    if machine.kernel_id:
        with glance.translated():
            kernel.copy_kernel(
                node.images.store,
                glance.GlanceSource(context, machine.kernel_id), kernel_file)
    if machine.ramdisk_id:
        with glance.translated():
            kernel.copy_ramdisk(
                node.images.store,
                glance.GlanceSource(context, machine.ramdisk_id),
                ramdisk_file)
    if node.arch.profile(machine.guest_type).serial_port:
        consolelog.prepare(files.serial_log)


def tools(
    node: compute_node.Node, instance: objects.Instance,
    network_info: model.NetworkInfo | None,
    injected_files: Sequence[tuple[str, str]] = (),
    admin_password: str | None = None,
) -> kinds.Tools:
    """Return the functions that make an instance's disks.

    :param network_info: the ports, for the config drive.
    :param injected_files: (path, content) pairs, for the config drive.
    :param admin_password: the password, for the config drive.
    """
    return kinds.Tools(
        image_path=node.images.store.path,
        copying=compute_utils.disk_ops_semaphore,
        make_file_system=_file_system_maker(instance),
        write_config_drive=_config_drive_writer(
            instance, network_info, injected_files, admin_password))


def _file_system_maker(
    instance: objects.Instance,
) -> Callable[[str, str, str | None], None]:
    def make(path: str, file_system: str, label: str | None) -> None:
        if file_system == blank.SWAP:
            # Not with virt_mkfs, which an operator sets for ephemeral disks.
            fs.unprivileged_mkfs(file_system, path)
            return
        disk_api.mkfs(
            instance.os_type, label, path, run_as_root=False,
            specified_fs=None if file_system == blank.DEFAULT
            else file_system)

    return make


def _config_drive_writer(
    instance: objects.Instance, network_info: model.NetworkInfo | None,
    injected_files: Sequence[tuple[str, str]], admin_password: str | None,
) -> Callable[[str], None]:
    def write(path: str) -> None:
        contents = metadata.InstanceMetadata(
            instance, content=list(injected_files), network_info=network_info,
            extra_md={'admin_pass': admin_password} if admin_password else {})
        with configdrive.ConfigDriveBuilder(instance_md=contents) as builder:
            builder.make_drive(path)
        faultpoints.reached('config drive: written')

    return write
