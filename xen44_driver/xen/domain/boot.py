# SPDX-License-Identifier: Apache-2.0
"""``<os>``: the guest type, and where it boots from."""

from lxml import etree

from xen44_driver.xen import errors
from xen44_driver.xen.arch import Architecture
from xen44_driver.xen.domain import xml
from xen44_driver.xen.domain.spec import Boot
from xen44_driver.xen.domain.spec import DirectBoot
from xen44_driver.xen.domain.spec import FirmwareBoot
from xen44_driver.xen.domain.spec import GrubBoot
from xen44_driver.xen.guesttype import GuestType


def to_xml(domain: etree._Element, guest_type: GuestType, boot: Boot,
           arch: Architecture) -> None:
    """Write ``<os>``.

    A PV guest without a kernel here would make libvirt run pygrub, which
    parses the guest's disk as root in dom0 (XSA-443). No Boot allows that.
    """
    ours = arch.os_type(guest_type)
    os = xml.add(domain, 'os')
    xml.add(os, 'type', ours.type, arch=ours.arch, machine=ours.machine)
    match boot:
        case DirectBoot():
            xml.add(os, 'kernel', boot.kernel)
            if boot.ramdisk is not None:
                xml.add(os, 'initrd', boot.ramdisk)
            xml.add(os, 'cmdline', boot.cmdline)
        case GrubBoot():
            xml.add(os, 'kernel', boot.loader)
        case FirmwareBoot():
            # libxl knows hvmloader by itself; a flash image is OVMF to it.
            if boot.firmware is not None:
                xml.add(os, 'loader', boot.firmware, readonly='yes',
                        type='pflash')
            xml.add(os, 'boot', dev='hd')


def from_xml(os: etree._Element, guest_type: GuestType) -> Boot:
    """Read ``<os>``.

    :raises SpecError: it boots in a way that is none of ours.
    """
    kernel = xml.text(os, 'kernel')
    cmdline = xml.text(os, 'cmdline')
    if kernel is not None and cmdline:
        return DirectBoot(kernel=kernel, ramdisk=xml.text(os, 'initrd'),
                          cmdline=cmdline)
    if kernel is not None:
        return GrubBoot(loader=kernel)
    if guest_type is not GuestType.HVM:
        raise errors.SpecError('boot', None, f'a kernel, for {guest_type}')
    loader = os.find('loader')
    if loader is not None and loader.get('type') == 'pflash':
        return FirmwareBoot(firmware=loader.text)
    return FirmwareBoot()
