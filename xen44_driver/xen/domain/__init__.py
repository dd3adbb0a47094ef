# SPDX-License-Identifier: Apache-2.0
"""A domain as plain values, and as libvirt's XML.

Pure: nothing here asks or changes anything. A file per kind of device.
"""

from xen44_driver.xen.domain.builder import from_xml
from xen44_driver.xen.domain.builder import to_xml
from xen44_driver.xen.domain.spec import Boot
from xen44_driver.xen.domain.spec import DirectBoot
from xen44_driver.xen.domain.spec import Disk
from xen44_driver.xen.domain.spec import DomainSpec
from xen44_driver.xen.domain.spec import FirmwareBoot
from xen44_driver.xen.domain.spec import GrubBoot
from xen44_driver.xen.domain.spec import GuestType
from xen44_driver.xen.domain.spec import InstanceMetadata
from xen44_driver.xen.domain.spec import Interface
from xen44_driver.xen.domain.spec import Vnc

__all__ = [
    'Boot', 'DirectBoot', 'Disk', 'DomainSpec', 'FirmwareBoot', 'GrubBoot',
    'GuestType', 'InstanceMetadata', 'Interface', 'Vnc', 'from_xml', 'to_xml',
]
