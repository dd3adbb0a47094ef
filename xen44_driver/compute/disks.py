# SPDX-License-Identifier: Apache-2.0
"""Make the files a plan asks for."""

from __future__ import annotations

from collections.abc import Sequence

from nova import conf
from nova import context as nova_context
from nova import exception

from xen44_driver.compute import node as compute_node
from xen44_driver.compute import plan as plan_lib
from xen44_driver.storage import backend as backend_lib
from xen44_driver.storage import blank
from xen44_driver.storage import configdrive
from xen44_driver.storage import imagecache
from xen44_driver.storage import kernel
from xen44_driver.storage import layout
from xen44_driver.xen.guesttype import GuestType

CONF = conf.CONF


def fetch_image(
    node: compute_node.Node, context: nova_context.RequestContext,
    plan: plan_lib.Plan,
) -> imagecache.CachedImage:
    """Have the root disk's image on this host, and see that it fits.

    :raises nova.exception.FlavorDiskSmallerThanImage: it does not
    :raises nova.exception.ImageUnacceptable: Nova refused it
    """
    image = node.images.fetch_disk(context, plan.instance.image_ref)
    if plan.root_size and image.virtual_size > plan.root_size:
        raise exception.FlavorDiskSmallerThanImage(
            flavor_size=plan.root_size, image_size=image.virtual_size)
    return image


def create(
    node: compute_node.Node, context: nova_context.RequestContext,
    plan: plan_lib.Plan, image: imagecache.CachedImage, *,
    files: Sequence[tuple[str, str]], admin_password: str | None,
) -> str:
    """Make every file of an instance; its directory exists.

    :param node: this node
    :param context: of the request
    :param plan: what is to be made
    :param image: of the root disk, on this host
    :param files: (path, content) for the config drive
    :param admin_password: for the config drive
    :returns: format of the root disk
    """
    backend = backend_lib.load(CONF.xen44.disk_format)
    backend.create(image, plan.files.root(backend.format),
                   plan.root_size or image.virtual_size)
    for index, disk in enumerate(plan.ephemerals):
        blank.create_ephemeral(
            disk.path, disk.size, label=f'ephemeral{index}',
            os_type=plan.instance.os_type, file_system=disk.file_system)
    if plan.swap:
        blank.create_swap(plan.swap.path, plan.swap.size)
    if plan.kernel_id:
        kernel.copy_kernel(
            node.images, context, plan.kernel_id, plan.files.kernel)
    if plan.ramdisk_id:
        kernel.copy_ramdisk(
            node.images, context, plan.ramdisk_id, plan.files.ramdisk)
    if plan.config_drive:
        configdrive.create(
            plan.instance, plan.files.config_drive, network_info=plan.vifs,
            files=files, admin_password=admin_password)
    if plan.guest_type is GuestType.HVM:
        # QEMU would make it as root and readable to all.
        layout.create_private(plan.files.serial_log)
    return backend.format


def root_format(plan: plan_lib.Plan) -> str:
    """Format of the root disk an instance has.

    :raises nova.exception.DiskNotFound: it has none
    """
    found = plan.files.root_format(
        [backend_lib.load(name).format for name in backend_lib.available()])
    if found is None:
        raise exception.DiskNotFound(location=plan.files.directory)
    return found
