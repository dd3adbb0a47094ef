# SPDX-License-Identifier: Apache-2.0
"""A domain of each guest type, for tests to change."""

from xen44_driver.xen import domain

_UUID = '5d3f1f0a-8a0e-4b39-9df5-6c1b0e2f7a10'
_INSTANCE = f'/var/lib/nova/instances/{_UUID}'
_METADATA = domain.InstanceMetadata(name='web', flavor='m1.tiny')
_INTERFACE = domain.Interface(
    mac='fa:16:3e:0a:0b:0c', bridge='qbr1b2c3d4e-5f', mtu=1450)


def _disk(target: str) -> domain.Disk:
    return domain.Disk(target=target, source=f'{_INSTANCE}/disk.qcow2',
                       format='qcow2')


PV = domain.DomainSpec(
    uuid=_UUID, name='instance-0000002a', arch='x86_64',
    guest_type=domain.GuestType.PV, memory_mib=512, vcpus=2,
    boot=domain.GrubBoot(loader='/usr/lib/grub-xen/grub-x86_64-xen.bin'),
    disks=(_disk('xvda'),), interfaces=(_INTERFACE,), metadata=_METADATA)
PVH = domain.DomainSpec(
    uuid=_UUID, name='instance-0000002a', arch='x86_64',
    guest_type=domain.GuestType.PVH, memory_mib=512, vcpus=2,
    boot=domain.DirectBoot(
        kernel=f'{_INSTANCE}/kernel', ramdisk=f'{_INSTANCE}/ramdisk',
        cmdline='root=/dev/xvda ro console=hvc0'),
    disks=(_disk('xvda'),), interfaces=(_INTERFACE,), metadata=_METADATA)
HVM = domain.DomainSpec(
    uuid=_UUID, name='instance-0000002a', arch='x86_64',
    guest_type=domain.GuestType.HVM, memory_mib=512, vcpus=2,
    boot=domain.FirmwareBoot(), disks=(_disk('hda'),),
    interfaces=(_INTERFACE,),
    screen=domain.Screen(vnc='192.0.2.11', tablet=True),
    serial_log=f'{_INSTANCE}/console.log', metadata=_METADATA)
