# SPDX-License-Identifier: Apache-2.0
"""``<hostdev>``: PCI devices of the host that belong to the guest."""

from __future__ import annotations

from lxml import etree

from xen44_driver.xen import errors
from xen44_driver.xen.arch import Profile
from xen44_driver.xen.domain import check
from xen44_driver.xen.domain import xml
from xen44_driver.xen.guesttype import GuestType


def check_device(address: str) -> None:
    """Require an address such as ``0000:04:10.0``.

    :raises SpecError: it is not one.
    """
    check.match('pci_devices', address,
                r'[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]',
                'such as 0000:04:10.0')


def check_profile(addresses: tuple[str, ...], guest_type: GuestType,
                  profile: Profile) -> None:
    """Check that a guest type can have PCI devices.

    :param profile: that of the guest type.
    :raises SpecError: there are some, and it cannot.
    """
    if addresses and not profile.pci:
        raise errors.SpecError('pci_devices', ', '.join(addresses),
                               f'none, for {guest_type}')


def features_to_xml(domain: etree._Element, addresses: tuple[str, ...],
                    guest_type: GuestType) -> None:
    """Write what a PV guest with PCI devices needs besides them.

    Its memory map then has the holes of the host's, in which the devices have
    their registers. xl sets it too (``e820_host`` in xl.cfg(5)). HVM guests
    have a memory map of their own.
    """
    if addresses and guest_type is GuestType.PV:
        features = xml.add(domain, 'features')
        xml.add(xml.add(features, 'xen'), 'e820_host', state='on')


def to_xml(devices: etree._Element, addresses: tuple[str, ...]) -> None:
    """Write the devices.

    libvirt takes each from dom0's driver before the guest starts, and gives it
    back when the guest has ended (``managed``).
    """
    for address in addresses:
        segment, bus, rest = address.split(':')
        slot, function = rest.split('.')
        element = xml.add(devices, 'hostdev', mode='subsystem', type='pci',
                          managed='yes')
        xml.add(element, 'driver', name='xen')
        xml.add(xml.add(element, 'source'), 'address', domain=f'0x{segment}',
                bus=f'0x{bus}', slot=f'0x{slot}', function=f'0x{function}')


def from_xml(devices: etree._Element) -> tuple[str, ...]:
    """Read the devices' addresses."""
    return tuple(
        '{:04x}:{:02x}:{:02x}.{:x}'.format(*(
            int(address.get(part, '0'), 16)
            for part in ('domain', 'bus', 'slot', 'function')))
        for address in devices.iterfind(
            "hostdev[@mode='subsystem'][@type='pci']/source/address"))
