# SPDX-License-Identifier: Apache-2.0
"""``<hostdev>``: PCI devices of the host that belong to the guest."""

from __future__ import annotations

import dataclasses

from lxml import etree

from xen44_driver.xen import errors
from xen44_driver.xen.arch import Profile
from xen44_driver.xen.domain import check
from xen44_driver.xen.domain import xml
from xen44_driver.xen.guesttype import GuestType


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PciDevice:
    """A PCI device of the host.

    :ivar address: such as ``0000:04:10.0``.
    :ivar managed: whether libvirt takes it from dom0's driver before the guest
        starts, and gives it back when the guest has ended. Otherwise
        ``pciback`` must have it already, and keeps it.
    """

    address: str
    managed: bool = True

    def __post_init__(self) -> None:
        check.match('pci_device.address', self.address,
                    r'[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]',
                    'such as 0000:04:10.0')


def check_profile(pci_devices: tuple[PciDevice, ...], guest_type: GuestType,
                  profile: Profile) -> None:
    """Check that a guest type can have PCI devices.

    :param profile: that of the guest type.
    :raises SpecError: there are some, and it cannot.
    """
    if pci_devices and not profile.pci:
        raise errors.SpecError(
            'pci_devices', ', '.join(device.address for device in pci_devices),
            f'none, for {guest_type}')


def features_to_xml(domain: etree._Element,
                    pci_devices: tuple[PciDevice, ...],
                    guest_type: GuestType) -> None:
    """Write what a PV guest with PCI devices needs besides them.

    Its memory map then has the holes of the host's, in which the devices have
    their registers. xl sets it too (``e820_host`` in xl.cfg(5)). HVM guests
    have a memory map of their own.
    """
    if pci_devices and guest_type is GuestType.PV:
        features = xml.add(domain, 'features')
        xml.add(xml.add(features, 'xen'), 'e820_host', state='on')


def to_xml(devices: etree._Element,
           pci_devices: tuple[PciDevice, ...]) -> None:
    """Write the devices."""
    for device in pci_devices:
        segment, bus, rest = device.address.split(':')
        slot, function = rest.split('.')
        element = xml.add(devices, 'hostdev', mode='subsystem', type='pci',
                          managed='yes' if device.managed else 'no')
        xml.add(element, 'driver', name='xen')
        xml.add(xml.add(element, 'source'), 'address', domain=f'0x{segment}',
                bus=f'0x{bus}', slot=f'0x{slot}', function=f'0x{function}')


def from_xml(devices: etree._Element) -> tuple[PciDevice, ...]:
    """Read the devices."""
    return tuple(
        PciDevice(
            address='{:04x}:{:02x}:{:02x}.{:x}'.format(*(
                int(xml.get(element, 'source/address', part) or '0', 16)
                for part in ('domain', 'bus', 'slot', 'function'))),
            managed=element.get('managed') == 'yes')
        for element in devices.iterfind(
            "hostdev[@mode='subsystem'][@type='pci']"))
