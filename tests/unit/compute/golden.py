# SPDX-License-Identifier: Apache-2.0
"""The instances whose domains stand in data/golden as XML.

Each is what Nova hands over: an instance with its flavor, its image's
metadata, its block devices and its ports, beside the host's options. The XML
is made of it by the code that spawns instances.

``python -m tests.unit.compute.golden`` writes the files anew. Then read what
git shows: it is what libvirt will be told.
"""

import dataclasses
import pathlib
from typing import Any

from nova import conf as nova_conf

from tests.unit import base
from xen44_driver.compute import machine
from xen44_driver.compute import spec
from xen44_driver.storage import kinds
from xen44_driver.storage import layout
from xen44_driver.xen import arch
from xen44_driver.xen import bootfile
from xen44_driver.xen import domain
from xen44_driver.xen.guesttype import GuestType

DATA = pathlib.Path(__file__).parent / 'data' / 'golden'

INSTANCES = '/var/lib/nova/instances'
_GRUB = '/usr/lib/grub-xen'


def _loader(path: str) -> bootfile.BootFile:
    return bootfile.BootFile(path=path, sha256='5e' * 32)


#: What differs between hosts of each architecture.
HOSTS: dict[str, dict[str, Any]] = {
    'x86_64': {
        'offered': (GuestType.PV, GuestType.PVH, GuestType.HVM),
        'default_guest_type': GuestType.HVM,
        'uefi': _loader('/usr/share/ovmf/OVMF.fd'),
        'loaders': {GuestType.PV: _loader(f'{_GRUB}/grub-x86_64-xen.bin'),
                    GuestType.PVH: _loader(
                        f'{_GRUB}/grub-i386-xen_pvh.bin')},
    },
    'aarch64': {
        'offered': (GuestType.PVH,),
        'default_guest_type': GuestType.PVH,
        'loaders': {GuestType.PVH: _loader('/usr/lib/xen/boot/XEN_EFI.fd')},
    },
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """What Nova hands over for one instance.

    :ivar arch: the host's architecture.
    :ivar extra_specs: the flavor's.
    :ivar flavor: amounts of the flavor, where they are not the usual ones.
    :ivar instance: more of the instance, such as ``kernel_id``.
    :ivar properties: the image's.
    :ivar disk_format: the image's, in Glance's words.
    :ivar block_devices: ``block_device_info``, without the root disk.
    :ivar ports: what differs from the usual port, for each port.
    :ivar options: of the host, where they are not the defaults.
    :ivar cpus: numbers of the host's CPUs that guests run on.
    :ivar serial_console: whether serial consoles are enabled.
    :ivar spice: options of QEMU's SPICE servers.
    """

    arch: str = 'x86_64'
    extra_specs: dict[str, str] = dataclasses.field(default_factory=dict)
    flavor: dict[str, int] = dataclasses.field(default_factory=dict)
    instance: dict[str, Any] = dataclasses.field(default_factory=dict)
    properties: dict[str, Any] = dataclasses.field(default_factory=dict)
    disk_format: str = 'qcow2'
    block_devices: dict[str, Any] | None = None
    ports: tuple[dict[str, Any], ...] = ({},)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    shared_cpus: frozenset[int] | None = None
    serial_console: bool = False
    spice: tuple[str, ...] = ()

    def machine(self) -> machine.Machine:
        """Decide what the instance is, as spawn does."""
        image = base.image(**self.properties)
        image.disk_format = self.disk_format
        decided = machine.decide(
            self._instance(), image, self.block_devices, machine.Options(
                arch=arch.load(self.arch), max_vcpus=dict.fromkeys(
                    GuestType, 128), **{**HOSTS[self.arch], **self.options}))
        return decided.with_base(kinds.Base(
            id=base.IMAGE, format=self.disk_format,
            virtual_size=1024 ** 3, size=21 * 1024 ** 2))

    def spec(self) -> domain.DomainSpec:
        """Describe the instance's domain, as each start does."""
        return spec.build(
            self.machine(), self._instance(),
            [base.vif(**port) for port in self.ports],
            arch=arch.load(self.arch),
            files=layout.InstanceFiles(INSTANCES, base.UUID),
            options=spec.Options(
                shared_cpus=self.shared_cpus,
                dedicated_cpus=frozenset({4, 5}), nested_feature='svm',
                serial_console=self.serial_console, spice=self.spice))

    def xml(self) -> str:
        """Return what libvirt is told."""
        return domain.to_xml(self.spec(), arch.load(self.arch))

    def _instance(self) -> Any:
        instance = base.instance(
            extra_specs=self.extra_specs, **self.instance)
        for name, value in self.flavor.items():
            setattr(instance.flavor, name, value)
        return instance


_PV = {'hw_vm_mode': 'xen'}
_PVH = {'xen44:guest_type': 'pvh'}
_HVM = {'hw_vm_mode': 'hvm'}
_BY_KERNEL = {'xen44:disk_class': 'kernel'}
_KERNEL = {'kernel_id': 'a-kernel', 'ramdisk_id': 'a-ramdisk'}
_UNIKERNEL = {'kernel_id': 'a-kernel'}
_AGENT = {'hw_qemu_guest_agent': True}
_EMPTY = {'os_command_line': ''}
_ALLOWED = {'image_kernels': True}
_BLANK_DISKS = {
    'ephemerals': [
        {'device_name': '/dev/xvdb', 'size': 2, 'guest_format': None},
        {'device_name': '/dev/xvdc', 'size': 3, 'guest_format': 'xfs'}],
    'swap': {'device_name': '/dev/xvde', 'swap_size': 64}}

#: By file name: guest type, architecture, boot kind, and what is special.
CASES = {
    'pv_x86_64_grub': Case(properties=_PV),
    'pv_x86_64_grub_disks': Case(
        properties=_PV, block_devices=_BLANK_DISKS),
    'pv_x86_64_kernel': Case(
        properties=_PV, instance=_KERNEL, options=_ALLOWED),
    'pv_x86_64_unikernel': Case(
        properties={**_PV, **_EMPTY}, instance=_UNIKERNEL,
        flavor={'memory_mb': 32, 'vcpus': 1, 'root_gb': 0},
        options={**_ALLOWED, 'config_drive': False}),

    'pv_x86_64_grub_agent': Case(properties={**_PV, **_AGENT}),
    'pv_x86_64_grub_pci': Case(
        properties=_PV, extra_specs={'pci_passthrough:alias': 'nic:1'},
        options={'passthrough': frozenset({GuestType.PV})},
        instance=base.pci_devices('0000:00:10.0')),
    'pv_x86_64_grub_by_kernel': Case(
        properties=_PV, extra_specs=_BY_KERNEL),

    'pvh_x86_64_grub': Case(extra_specs=_PVH),
    'pvh_x86_64_grub_agent': Case(extra_specs=_PVH, properties=_AGENT),
    'pvh_x86_64_grub_raw': Case(
        extra_specs=_PVH, disk_format='raw', options={'disk_format': 'raw'}),
    'pvh_x86_64_grub_by_kernel': Case(
        extra_specs={**_PVH, **_BY_KERNEL}, block_devices={
            **_BLANK_DISKS, 'block_device_mapping': [{
                'mount_device': '/dev/xvdf',
                'connection_info': base.connection_info(kind='nfs')}]}),
    'pvh_x86_64_grub_limits': Case(
        extra_specs=_PVH, flavor={'vcpus': 3},
        shared_cpus=frozenset({2, 3, 7}),
        options={'max_event_channels': 4096, 'max_grant_frames': 256}),
    'pvh_x86_64_grub_mixed': Case(
        extra_specs={**_PVH, 'hw:cpu_policy': 'mixed',
                     'hw:cpu_dedicated_mask': '0,2'},
        flavor={'vcpus': 3}, shared_cpus=frozenset({2, 3}),
        instance={'numa_topology': base.numa_topology({0: 5, 2: 4}, {1})},
        options={'dedicated_cpus': True}),
    'pvh_x86_64_grub_tables': Case(
        extra_specs={**_PVH, 'xen44:max_event_channels': '2500',
                     'xen44:max_grant_frames': '128'}),
    'pvh_x86_64_grub_outbound': Case(
        extra_specs={**_PVH, 'quota:vif_outbound_average': '2048'}),
    'pvh_x86_64_kernel': Case(
        extra_specs=_PVH, instance=_KERNEL, options=_ALLOWED,
        properties={'os_command_line': 'root=LABEL="a & b" ro quiet'}),
    'pvh_x86_64_unikernel': Case(
        extra_specs=_PVH, properties=_EMPTY, instance=_UNIKERNEL,
        options=_ALLOWED),

    'hvm_x86_64_firmware': Case(),
    'hvm_x86_64_firmware_agent': Case(
        properties=_AGENT, serial_console=True),
    'hvm_x86_64_uefi': Case(properties={
        **_HVM, 'hw_firmware_type': 'uefi', 'hw_firmware_stateless': True}),
    'hvm_x86_64_firmware_mouse': Case(options={'pointer_model': 'ps2mouse'}),
    'hvm_x86_64_firmware_serial': Case(serial_console=True),
    'hvm_x86_64_firmware_spice': Case(
        properties=_AGENT,
        options={'spice': True, 'screen': False}),
    'hvm_x86_64_firmware_spice_and_vnc': Case(
        options={'spice': True, 'spice_agent': False},
        spice=('image-compression=off', 'streaming-video=filter')),
    'hvm_x86_64_firmware_disks': Case(block_devices=_BLANK_DISKS),
    # Too many vCPUs for the defaults of libxl and Xen.
    'hvm_x86_64_firmware_vcpus': Case(flavor={'vcpus': 128}),
    'hvm_x86_64_firmware_ports': Case(
        properties={'hw_vif_model': 'e1000'}, ports=(
            {}, {'id': '1b2c3d4e-5f60-4718-8293-a4b5c6d7e8f9',
                 'address': 'fa:16:3e:00:00:02'})),
    'hvm_x86_64_firmware_netfront': Case(
        properties={**_HVM, 'hw_vif_model': 'netfront'}, ports=({},)),
    'hvm_x86_64_firmware_scsi': Case(
        properties={'hw_disk_bus': 'scsi', 'hw_scsi_model': 'lsilogic'},
        block_devices=_BLANK_DISKS),
    'hvm_x86_64_firmware_vfat': Case(
        options={'config_drive_format': 'vfat'}),
    'hvm_x86_64_firmware_windows': Case(
        properties={'os_type': 'windows', 'hw_vif_model': 'e1000',
                    'hw_pointer_model': 'usbtablet'}),
    'hvm_x86_64_firmware_alone': Case(
        ports=(), options={'screen': False, 'config_drive': False}),
    'hvm_x86_64_kernel': Case(
        properties=_HVM, instance=_KERNEL, options=_ALLOWED),
    'hvm_x86_64_unikernel': Case(
        properties={**_HVM, **_EMPTY}, instance=_UNIKERNEL,
        options=_ALLOWED),
    'hvm_x86_64_firmware_nested': Case(
        extra_specs={'xen44:nested_hvm': 'True'},
        options={'nested_hvm_problem': None}),
    'hvm_x86_64_firmware_pci': Case(
        extra_specs={'pci_passthrough:alias': 'nic:2'},
        options={'passthrough': frozenset({GuestType.HVM})},
        instance=base.pci_devices('0001:0a:1f.7', '0000:00:10.0')),
    'hvm_x86_64_iso': Case(disk_format='iso'),

    'pvh_aarch64_loader': Case(arch='aarch64'),
    'pvh_aarch64_kernel': Case(
        arch='aarch64', instance=_KERNEL, options=_ALLOWED),
    'pvh_aarch64_unikernel': Case(
        arch='aarch64', properties=_EMPTY, instance=_UNIKERNEL,
        options=_ALLOWED),
}


def path(name: str) -> pathlib.Path:
    """Where the XML of one of CASES stands."""
    return DATA / f'{name}.xml'


def main() -> None:
    """Write the files anew; those of no case are removed."""
    nova_conf.CONF([], project='nova', default_config_files=[])
    for old in DATA.glob('*.xml'):
        old.unlink()
    for name, case in CASES.items():
        path(name).write_text(case.xml(), encoding='utf-8')


if __name__ == '__main__':
    main()
