# SPDX-License-Identifier: Apache-2.0
"""What differs between Xen hosts of different architectures."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses

from labkit import config
from labkit import dom0venv
from labkit import image
from labkit import image_aarch64
from labkit import qemu

#: OpenStack's services in dom0.
AGENT = 'neutron-openvswitch-agent'
NOVA_COMPUTE = 'nova-compute'
CINDER_VOLUME = 'cinder-volume'

CPUS = 2

_DOM0_OPTIONS = (
    'root=/dev/vda rw console=hvc0 net.ifnames=0 quiet mitigations=off '
    'nowatchdog systemd.show_status=yes')


def _multiboot(built: image.Image, dom0_options: str) -> list[str]:
    """Xen by QEMU's multiboot, dom0 as its module."""
    return ['-kernel', str(built.xen),
            '-initrd', f'{built.kernel} {dom0_options},{built.initrd}']


#: Where QEMU puts dom0's kernel and initrd, behind Xen and the device tree.
_KERNEL_ADDRESS = 0x4900_0000
_INITRD_ADDRESS = 0x5000_0000


def _device_tree(built: image.Image, dom0_options: str) -> list[str]:
    """Xen as the kernel; the device tree tells it where dom0 lies."""
    return ['-kernel', str(built.xen),
            '-device', f'guest-loader,addr={_KERNEL_ADDRESS:#x},'
            f'kernel={built.kernel},bootargs={dom0_options}',
            '-device', f'guest-loader,addr={_INITRD_ADDRESS:#x},'
            f'initrd={built.initrd}']


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """What a Xen host of x86 has that others have not.

    :ivar machine: of QEMU's option of that name.
    :ivar cpu: what is added to the CPU.
    :ivar devices: what is added to the machine, before all others.
    :ivar guest_log: what Xen logs of its guests.
    :ivar xen_options: what is added to Xen's command line.
    :ivar dom0_options: what is added to that of dom0's kernel.
    :ivar saved: whether QEMU can make a snapshot of it.
    :ivar dom0_image: builds, or finds, the disk of dom0.
    :ivar site_packages: where dom0's environment has its Python code.
    :ivar services: of OpenStack that the lab runs in dom0.
    """

    machine: str = 'pc'
    cpu: str = ''
    devices: tuple[str, ...] = ()
    guest_log: str = 'all'
    xen_options: str = ''
    dom0_options: str = ''
    saved: bool = True
    dom0_image: Callable[[], image.Image] = image.get
    site_packages: str = dom0venv.SITE_PACKAGES
    services: tuple[str, ...] = (AGENT, NOVA_COMPUTE, CINDER_VOLUME)


#: MAC address of the network card that such a host gives to guests.
PCI_MAC = '52:54:00:44:00:99'

#: By what XENLAB_KIND says. Each has tests of its own, which are the only ones
#: there.
KINDS = {
    '': Kind(),
    # Its guests can run guests. What Xen asks of the CPU before that QEMU does
    # not have, and Xen does well without: only what it says about it would
    # fill the log of its console, a line for each exit of a guest.
    'nested': Kind(cpu='+lbrv,+nrip-save,+flushbyasid,+decodeassists',
                   guest_log='error'),
    # It has an IOMMU, and a network card to give to guests. It is not in slot
    # 2: there Xen's QEMU takes a device of Intel's for a graphics card.
    'pci': Kind(
        machine='q35,kernel-irqchip=off',
        devices=('amd-iommu', f'e1000e,addr=0x10,romfile=,mac={PCI_MAC}'),
        xen_options='iommu=verbose', saved=False),
    # Its dom0 has event channels of the older ABI, 4095 of them.
    'two-level': Kind(dom0_options='xen.fifo_events=0'),
    # Its dom0 is the oldest Debian that has what the driver needs.
    'debian12': Kind(
        dom0_image=image.get_debian12,
        site_packages=f'{dom0venv.VENV}/lib/python3.11/site-packages'),
    # Its dom0 has nothing of the driver: that is installed as the manual says.
    'fresh': Kind(dom0_image=image.get_fresh, services=(AGENT,)),
}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """An architecture that Xen hosts of the lab may have.

    :ivar name: as :data:`labkit.config.HOST_NAMES` has it.
    :ivar program: what emulates it.
    :ivar dom0_image: builds, or finds, the disk of dom0.
    :ivar boot: QEMU's options that boot an image, with dom0's options.
    :ivar machine: of QEMU's option of that name.
    :ivar cpu: likewise.
    :ivar memory: MiB of the machine; dom0 has a fixed part of it, guests the
        rest, less about 100 MiB for Xen.
    :ivar xen_options: Xen's command line.
    :ivar disk: the virtio device for dom0's disk.
    :ivar random: the one for random numbers.
    :ivar nics: those for the management and the data network.
    :ivar services: those of OpenStack that the lab runs in dom0; they load
        their code before the snapshot.
    :ivar dom0_options: the command line of dom0's kernel.
    :ivar devices: what else the machine has, before all other devices.
    :ivar saved: whether QEMU can make a snapshot of it.
    :ivar site_packages: where dom0's environment has its Python code.
    """

    name: str
    program: qemu.Program
    dom0_image: Callable[[], image.Image]
    boot: Callable[[image.Image, str], list[str]]
    machine: str
    cpu: str
    memory: int
    xen_options: str
    disk: str
    random: str
    nics: tuple[str, str]
    services: tuple[str, ...]
    dom0_options: str = _DOM0_OPTIONS
    devices: tuple[str, ...] = ()
    saved: bool = True
    site_packages: str = dom0venv.SITE_PACKAGES

    @property
    def numbers(self) -> range:
        """Numbers of all the hosts it may have."""
        return config.host_numbers(self.name)


_X86_DOM0_MEMORY = 1792


def x86_64(kind: Kind) -> Architecture:
    """Return x86 with hosts of one kind."""
    more = f',{kind.cpu}' if kind.cpu else ''
    return Architecture(
        name='x86_64', program=qemu.X86_64, dom0_image=kind.dom0_image,
        boot=_multiboot, machine=kind.machine,
        # Without vme libvirt knows no such CPU and its xen driver refuses to
        # start; svm and npt give Xen its HVM and PVH guests. Without invtsc
        # Xen emulates their RDTSC, which Linux uses at every system call: a
        # third or more of their time.
        cpu=f'qemu64,+svm,+npt,+vme,+invtsc{more},x-force-features=on',
        memory=4608,
        xen_options=' '.join(filter(None, (
            f'dom0_mem={_X86_DOM0_MEMORY}M,max:{_X86_DOM0_MEMORY}M '
            f'dom0_max_vcpus={CPUS} '
            'console=com1 com1=115200,8n1 loglvl=info '
            f'guest_loglvl={kind.guest_log} noreboot spec-ctrl=no',
            kind.xen_options))),
        dom0_options=' '.join(filter(None, (
            _DOM0_OPTIONS, kind.dom0_options))),
        disk='virtio-blk-pci,drive=disk',
        random='virtio-rng-pci,rng=random',
        nics=('virtio-net-pci,netdev=m,romfile=',
              'virtio-net-pci,netdev=d,romfile='),
        services=kind.services,
        devices=kind.devices, saved=kind.saved,
        site_packages=kind.site_packages)


def _kind() -> Kind:
    if config.KIND not in KINDS:
        raise SystemExit(f'XENLAB_KIND is {config.KIND!r}; there is '
                         f'{", ".join(filter(None, KINDS))}')
    return KINDS[config.KIND]


X86_64 = x86_64(_kind())

#: Newer CPUs than this one have features that cost much to emulate, such as
#: the authentication of pointers.
AARCH64 = Architecture(
    name='aarch64', program=qemu.AARCH64, dom0_image=image_aarch64.get,
    boot=_device_tree,
    machine='virt,virtualization=on,gic-version=3', cpu='cortex-a57',
    memory=4096,
    xen_options=f'dom0_mem=2048M dom0_max_vcpus={CPUS} console=dtuart '
                'loglvl=info guest_loglvl=all noreboot bootscrub=0',
    disk='virtio-blk-device,drive=disk,bus=virtio-mmio-bus.0',
    random='virtio-rng-device,rng=random,bus=virtio-mmio-bus.1',
    # Linux numbers them as the buses are numbered.
    nics=('virtio-net-device,netdev=m,bus=virtio-mmio-bus.2',
          'virtio-net-device,netdev=d,bus=virtio-mmio-bus.3'),
    services=(AGENT, NOVA_COMPUTE),
    # On a busy machine what takes a second may take a minute, and is not
    # dead.
    dom0_options=f'{_DOM0_OPTIONS} init_on_alloc=0 cryptomgr.notests '
                 'systemd.service_watchdogs=no '
                 'systemd.default_timeout_start_sec=900')

ALL = (X86_64, AARCH64)


def get(name: str) -> Architecture:
    """The architecture of that name."""
    return next(one for one in ALL if one.name == name)


def of_host(number: int) -> Architecture:
    """The architecture of Xen host ``number``."""
    return next(one for one in ALL if number in one.numbers)
