# SPDX-License-Identifier: Apache-2.0
"""Describe, define and start the domain of an instance on this host."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
import functools

from nova import objects
from nova.network import model

from xen44_driver.compute import cpulimits
from xen44_driver.compute import disklimits
from xen44_driver.compute import machine as machine_lib
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import pcidevices
from xen44_driver.compute import spec
from xen44_driver.core import backends
from xen44_driver.xen import domain
from xen44_driver.xen import guest as xen_guest


def describe(
    node: compute_node.Node, instance: objects.Instance,
    machine: machine_lib.Machine, vifs: Iterable[model.VIF],
) -> domain.DomainSpec:
    """Describe an instance's domain on this host; change nothing.

    :raises xen44_driver.xen.errors.SpecError: a value is not possible.
    :raises nova.exception.InvalidInput: this host cannot have such a guest.
    """
    described = spec.build(
        machine, instance, vifs, arch=node.arch, files=node.files(instance),
        options=node.spec_options())
    if described.pci_devices:
        pcidevices.check_start(
            described.pci_devices, machine.guest_type, able=node.able_to_pass)
    return described


def define(
    node: compute_node.Node, described: domain.DomainSpec,
) -> xen_guest.Guest:
    """Define a domain in libvirt, replacing an existing definition."""
    return node.host.define(domain.to_xml(described, node.arch))


def boot(
    node: compute_node.Node, guest: xen_guest.Guest,
    disks: Collection[domain.Disk], machine: machine_lib.Machine, *,
    saved: bool = False, paused: bool = False,
) -> None:
    """Start a guest with its limits; see :func:`backends.boot`.

    :param guest: a guest that is off.
    :param disks: the disks that it was defined with.
    :param machine: the record that it is started from.
    :param saved: restore its saved memory and leave it paused, instead of
        starting it from its disk. The saved memory is kept.
    :param paused: leave it paused, even if it is started from its disk.
    """
    backends.boot(
        node.host, guest, disks,
        start=functools.partial(
            node.start, guest, saved=saved, paused=paused),
        started=lambda: cpulimits.apply(guest, machine.cpu_limits),
        opened=lambda: disklimits.apply(
            guest.uuid, disks, machine.disk_limits, machine.volume_limits))
