# SPDX-License-Identifier: Apache-2.0
"""The domains whose XML stands in data/golden, one of each kind.

``python -m tests.unit.xen.golden`` writes the files anew. Then read what git
shows: it is what libvirt will be told.
"""

import pathlib

from xen44_driver.xen import arch
from xen44_driver.xen import domain

DATA = pathlib.Path(__file__).parent / 'data'

_UUID = '5d3f1f0a-8a0e-4b39-9df5-6c1b0e2f7a10'
_INSTANCES = f'/var/lib/nova/instances/{_UUID}'
_METADATA = domain.InstanceMetadata(
    name='web & <db>', flavor='m1.tiny',
    image='0b7ad8f1-4c6e-4f0e-9a55-0d2f5a3f1b11',
    project='2f9d0a2f6ac34d4d8f6f2f2b7d5f3c55',
    user='a0b3f5d6c7e84f4f9d0c1b2a39485766')
_DIRECT = domain.DirectBoot(
    kernel=f'{_INSTANCES}/kernel', ramdisk=f'{_INSTANCES}/ramdisk',
    cmdline='root=/dev/xvda ro console=hvc0')


def _root(target: str) -> domain.Disk:
    return domain.Disk(target=target, source=f'{_INSTANCES}/disk',
                       format='qcow2')


def _interface(**extra: str | int) -> domain.Interface:
    values: dict[str, object] = {
        'mac': 'fa:16:3e:0a:0b:0c', 'bridge': 'br-int',
        'script': '/etc/xen/scripts/vif-xen44'}
    return domain.Interface(**(values | extra))  # type: ignore[arg-type]


def _spec(guest_type: str, **extra: object) -> domain.DomainSpec:
    values: dict[str, object] = {
        'uuid': _UUID, 'name': 'instance-0000002a', 'arch': 'x86_64',
        'guest_type': domain.GuestType(guest_type), 'memory_mib': 512,
        'vcpus': 2, 'metadata': _METADATA}
    return domain.DomainSpec(**(values | extra))  # type: ignore[arg-type]


#: By file name.
SPECS = {
    'pv_x86_64_direct': _spec(
        'pv', boot=_DIRECT, disks=(_root('xvda'),),
        interfaces=(_interface(),)),
    'pv_x86_64_grub': _spec(
        'pv',
        boot=domain.GrubBoot(
            loader='/usr/lib/grub-xen/grub-x86_64-xen.bin'),
        disks=(
            _root('xvda'),
            domain.Disk(target='xvdb', source='/dev/vg0/volume-1',
                        type='block'),
            domain.Disk(target='xvdd', source=f'{_INSTANCES}/disk.config')),
        interfaces=(_interface(mtu=1450), _interface(
            mac='fa:16:3e:0a:0b:0d', target='tap1b2c3d4e-5f')),
        max_event_channels=4096, max_grant_frames=64,
        title='web', description='two lines\nof text'),
    'pvh_x86_64_direct': _spec(
        'pvh', boot=_DIRECT, disks=(_root('xvda'),),
        interfaces=(_interface(),)),
    'pvh_x86_64_grub': _spec(
        'pvh',
        boot=domain.GrubBoot(
            loader='/usr/lib/grub-xen/grub-i386-xen_pvh.bin'),
        disks=(_root('xvda'),), interfaces=(_interface(),)),
    'hvm_x86_64': _spec(
        'hvm', boot=domain.FirmwareBoot(),
        disks=(
            _root('hda'),
            domain.Disk(target='hdd', source=f'{_INSTANCES}/disk.config',
                        device='cdrom'),
            domain.Disk(target='xvde', source=f'{_INSTANCES}/disk.eph0',
                        format='qcow2')),
        interfaces=(_interface(),),
        vnc=domain.Vnc(listen='192.0.2.11', keymap='de', tablet=True),
        serial_log='/var/log/xen/console/serial-instance-0000002a.log'),
    'hvm_x86_64_direct': _spec(
        'hvm', boot=_DIRECT, disks=(_root('hda'),),
        interfaces=(_interface(model='netfront', target='tap1b2c3d4e-5f'),)),
    'hvm_x86_64_scsi': _spec(
        'hvm', boot=domain.FirmwareBoot(), disks=(_root('sda'),),
        interfaces=(_interface(),)),
    'hvm_x86_64_ovmf': _spec(
        'hvm',
        boot=domain.FirmwareBoot(firmware='/usr/lib/xen/boot/ovmf.bin'),
        disks=(_root('hda'),), interfaces=(_interface(model='e1000'),),
        vnc=domain.Vnc(listen='::1', port=5907)),
    'pvh_aarch64_direct': _spec(
        'pvh', arch='aarch64', boot=_DIRECT, disks=(_root('xvda'),),
        interfaces=(_interface(),)),
}


def path(name: str) -> pathlib.Path:
    """Where the XML of one of SPECS stands."""
    return DATA / 'golden' / f'{name}.xml'


def main() -> None:
    """Write the files anew."""
    for name, spec in SPECS.items():
        path(name).write_text(domain.to_xml(spec, arch.load(spec.arch)))


if __name__ == '__main__':
    main()
