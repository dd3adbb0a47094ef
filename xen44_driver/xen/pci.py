# SPDX-License-Identifier: Apache-2.0
"""The PCI devices of this host, as dom0's kernel shows them in sysfs."""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import os

#: A directory for each device, by its address.
DEVICES = '/sys/bus/pci/devices'
#: Is there if the driver is loaded by which dom0 lends devices to guests.
BACKEND = '/sys/bus/pci/drivers/pciback'

# The base class of bridges (PCI Code and ID Assignment, chapter 1): the first
# of the three bytes of a device's class.
_BRIDGE = 0x06


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostDevice:
    """A PCI device.

    :ivar address: such as ``0000:04:10.0``.
    :ivar vendor_id: four hexadecimal digits.
    :ivar product_id: four hexadecimal digits.
    :ivar numa_node: number of the NUMA node that it is on; None if there is
        none.
    :ivar physical_function: address of the device of which this is a virtual
        function (SR-IOV); None if it is not one.
    :ivar has_functions: whether it can have virtual functions.
    """

    address: str
    vendor_id: str
    product_id: str
    numa_node: int | None = None
    physical_function: str | None = None
    has_functions: bool = False


def devices(root: str = DEVICES) -> Iterator[HostDevice]:
    """Yield the devices, in the order of their addresses.

    Bridges are left out: they are the host's.

    :param root: the directory.
    :raises OSError: it cannot be read.
    """
    for address in sorted(os.listdir(root)):
        path = os.path.join(root, address)
        try:
            if int(_read(path, 'class'), 16) >> 16 == _BRIDGE:
                continue
            parent = os.path.join(path, 'physfn')
            yield HostDevice(
                address=address,
                vendor_id=_identifier(path, 'vendor'),
                product_id=_identifier(path, 'device'),
                numa_node=_numa_node(path),
                physical_function=os.path.basename(os.readlink(parent))
                if os.path.islink(parent) else None,
                has_functions=os.path.exists(
                    os.path.join(path, 'sriov_totalvfs')))
        except OSError:
            # It was unplugged meanwhile.
            continue


def _read(path: str, name: str) -> str:
    with open(os.path.join(path, name), encoding='ascii') as file:
        return file.read().strip()


def _identifier(path: str, name: str) -> str:
    return f'{int(_read(path, name), 16):04x}'


def _numa_node(path: str) -> int | None:
    try:
        node = int(_read(path, 'numa_node'))
    except FileNotFoundError:
        return None
    return None if node < 0 else node
