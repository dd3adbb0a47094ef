# SPDX-License-Identifier: Apache-2.0
"""PCI devices of the host that belong to an instance (passthrough).

Nova chooses them: the flavor asks with ``pci_passthrough:alias`` for devices
that ``[pci] device_spec`` allows. Here stands which devices a host reports,
and which an instance has.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from nova import exception
from nova import objects
from nova.objects import fields
from oslo_serialization import jsonutils
from oslo_utils import strutils

from xen44_driver.xen import domain
from xen44_driver.xen import pci
from xen44_driver.xen.guesttype import GuestType

EXTRA_SPEC = 'pci_passthrough:alias'


def report() -> str:
    """Return all PCI devices of this host for Nova's resource tracker.

    :returns: JSON, see ``nova.pci.manager.PciDevTracker``, which picks those
        that ``[pci] device_spec`` allows.
    :raises OSError: dom0's kernel does not show them.
    """
    return jsonutils.dumps([_described(device) for device in pci.devices()])


def _described(device: pci.HostDevice) -> dict[str, Any]:
    described = {
        'dev_id': 'pci_' + device.address.translate(
            str.maketrans(':.', '__')),
        'address': device.address,
        'vendor_id': device.vendor_id,
        'product_id': device.product_id,
        'numa_node': device.numa_node,
        'label': f'label_{device.vendor_id}_{device.product_id}',
        'dev_type': fields.PciDeviceType.STANDARD,
    }
    if device.physical_function is not None:
        described |= {'dev_type': fields.PciDeviceType.SRIOV_VF,
                      'parent_addr': device.physical_function}
    elif device.has_functions:
        described['dev_type'] = fields.PciDeviceType.SRIOV_PF
    return described


def of_instance(instance: objects.Instance) -> tuple[domain.PciDevice, ...]:
    """Return the PCI devices that an instance's flavor asked for.

    While its resize is not confirmed, or was interrupted, the instance has
    devices of both flavors, and the requests of one: that one counts.

    :returns: in the order of their addresses.
    """
    if not instance.pci_devices:
        return ()
    asked = {request.request_id for request in instance.pci_requests.requests
             if request.source == objects.InstancePCIRequest.FLAVOR_ALIAS}
    return tuple(
        domain.PciDevice(
            address=device.address,
            # Of [pci] device_spec; Nova has checked it.
            managed=strutils.bool_from_string(
                device.extra_info.get('managed', 'true')))
        for device in sorted(instance.pci_devices.objects,
                             key=lambda device: device.address)
        if device.request_id in asked)


def check_start(
    devices: Collection[domain.PciDevice], guest_type: GuestType, *,
    able: Collection[GuestType],
) -> None:
    """Refuse to start a guest with devices that Xen cannot keep in bounds.

    Such as after the IOMMU was switched off in the firmware.

    :param devices: those of the instance.
    :param guest_type: the guest's type.
    :param able: the guest types that can have some on this host now.
    :raises nova.exception.InvalidInput: the message names the devices.
    """
    if devices and guest_type not in able:
        raise exception.InvalidInput(
            reason=f'the instance has PCI devices ({listed(devices)}), which '
                   f'{guest_type} guests of this host cannot have any more; '
                   f'guest types that can: {", ".join(sorted(able)) or "none"}'
                   '. Does Xen use the IOMMU? (xl info: virt_caps)')


def listed(devices: Collection[domain.PciDevice]) -> str:
    """Return the addresses of devices in words."""
    return ', '.join(device.address for device in devices)


def check(
    flavor: objects.Flavor, guest_type: GuestType, *,
    offered: Collection[GuestType],
) -> None:
    """Refuse a flavor that asks for PCI devices if the guest cannot have any.

    :param guest_type: the guest's type.
    :param offered: the guest types of this host that can have some.
    :raises nova.exception.InvalidInput: the message names what was asked, and
        the guest types that can.
    """
    asked = flavor.extra_specs.get(EXTRA_SPEC)
    if asked and guest_type not in offered:
        raise exception.InvalidInput(
            reason=f'the flavor asks for PCI devices ({EXTRA_SPEC} '
                   f'{asked[:40]!r}), which {guest_type} guests of this host '
                   'cannot have; guest types that can: '
                   f'{", ".join(sorted(offered)) or "none"}')
