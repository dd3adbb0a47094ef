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


def of_instance(instance: objects.Instance) -> tuple[str, ...]:
    """Return the addresses of an instance's PCI devices.

    :returns: such as ``0000:04:10.0``, in the order of the addresses.
    """
    return tuple(sorted(device.address for device
                        in instance.get_pci_devices(
                            source=objects.InstancePCIRequest.FLAVOR_ALIAS)))


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
