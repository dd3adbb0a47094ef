# SPDX-License-Identifier: Apache-2.0
"""Domains as dataclasses, and their XML for libvirt.

These modules have no side effects and ask nothing of the host. Each kind of
device has a module with its values, their checks, and writing and reading of
its XML.
"""

from __future__ import annotations

from xen44_driver.xen.domain.boot import Boot
from xen44_driver.xen.domain.boot import DirectBoot
from xen44_driver.xen.domain.boot import FirmwareBoot
from xen44_driver.xen.domain.boot import GrubBoot
from xen44_driver.xen.domain.clock import Clock
from xen44_driver.xen.domain.cpu import NESTED_FEATURES
from xen44_driver.xen.domain.disk import Disk
from xen44_driver.xen.domain.disk import device_xml as disk_xml
from xen44_driver.xen.domain.domain import DomainSpec
from xen44_driver.xen.domain.domain import from_xml
from xen44_driver.xen.domain.domain import to_xml
from xen44_driver.xen.domain.graphics import Screen
from xen44_driver.xen.domain.hostdev import PciDevice
from xen44_driver.xen.domain.interface import Interface
from xen44_driver.xen.domain.interface import device_xml
from xen44_driver.xen.domain.metadata import InstanceMetadata
from xen44_driver.xen.domain.metadata import Owner
from xen44_driver.xen.domain.metadata import VmMetadata
from xen44_driver.xen.domain.spice import Spice
from xen44_driver.xen.guesttype import GuestType

__all__ = [
    'NESTED_FEATURES', 'Boot', 'Clock', 'DirectBoot', 'Disk', 'DomainSpec',
    'FirmwareBoot', 'GrubBoot', 'GuestType', 'InstanceMetadata', 'Interface',
    'Owner', 'PciDevice', 'Screen', 'Spice', 'VmMetadata', 'device_xml',
    'disk_xml', 'from_xml', 'to_xml',
]
