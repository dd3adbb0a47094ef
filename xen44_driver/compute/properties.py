# SPDX-License-Identifier: Apache-2.0
"""What image properties and extra specs of flavors mean for this driver.

A table states for each image property and extra spec that Nova knows whether
it is honoured, harmless or refused. :func:`check` refuses an instance before
anything is made, so that no request is silently ignored. The manual's page
"Image properties and extra specs" is generated from the same table.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import enum
import fnmatch
from typing import Any

from nova import exception
from nova import objects
from oslo_utils import strutils

from xen44_driver.xen import arch as arch_lib
from xen44_driver.xen.domain import interface as interface_lib
from xen44_driver.xen.guesttype import GuestType

#: Namespaces of extra specs that are requests to the compute host. An extra
#: spec in one of them that is not in the table is refused. Extra specs in
#: other namespaces are for the scheduler or for the operator's own use.
NAMESPACES = ('accel', 'hw', 'hw_rng', 'hw_video', 'os', 'pci_passthrough',
              'quota', 'xen44')

#: Prefix of image properties that are requests to the compute host.
IMAGE_PREFIX = 'hw_'

#: The least memory of a guest, in MiB, by guest type and by whether it boots
#: a kernel from Glance. Xen, firmware and boot loader need this much to start
#: an operating system; the system itself needs more.
#:
#: Tried on Xen 4.20 with a Linux kernel of 3 MiB (14 MiB unpacked):
#:
#: * 16 MiB: libxl cannot load the kernel as PVH.
#: * 32 MiB: the kernel starts as PVH. As PV, libxl has no room for the
#:   ramdisk, though it would have with a smaller kernel. grub's Xen builds
#:   start and load most of the kernel. An HVM guest, whose graphics card takes
#:   16 MiB, writes nothing.
#: * 64 MiB: the next round number; tried for PVH and HVM with a kernel, and
#:   for PV and PVH from their disks.
MIN_MEMORY_MIB: Mapping[tuple[GuestType, bool], int] = {
    (GuestType.PV, True): 32,
    (GuestType.PV, False): 64,
    (GuestType.PVH, True): 32,
    (GuestType.PVH, False): 64,
    (GuestType.HVM, True): 64,
    (GuestType.HVM, False): 64,
}

#: The extra spec that limits what a guest sends.
OUTBOUND_LIMIT = 'quota:vif_outbound_average'

# Nova stores 255 characters of a fault and uses about 90 of them itself.
_LONGEST_VALUE = 40


class Verdict(enum.StrEnum):
    """How a property is treated.

    * ``HONOURED``: Nova or the driver acts on it.
    * ``HARMLESS``: it has no effect, and nothing is lost by that.
    * ``REFUSED``: an instance with it is refused.
    """

    HONOURED = 'honoured'
    HARMLESS = 'harmless'
    REFUSED = 'refused'


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """The guest for which allowed values are looked up.

    :ivar guest_type: PV, PVH or HVM.
    :ivar arch: the host's architecture, such as ``x86_64``.
    :ivar profile: what guests of this type can have.
    """

    guest_type: GuestType
    arch: str
    profile: arch_lib.Profile


@dataclasses.dataclass(frozen=True, slots=True)
class Anything:
    """Any value."""

    def of(self, guest: Guest) -> tuple[str, ...] | None:
        """Return None: every value is allowed."""
        return None

    def __str__(self) -> str:
        return 'any'


@dataclasses.dataclass(frozen=True, slots=True)
class Values:
    """Values that are the same for all guests.

    :ivar values: the values; empty if none is allowed.
    """

    values: tuple[str, ...]

    def of(self, guest: Guest) -> tuple[str, ...] | None:
        """Return the allowed values."""
        return self.values

    def __str__(self) -> str:
        return ', '.join(f'``{value}``' for value in self.values) or 'none'


@dataclasses.dataclass(frozen=True, slots=True)
class ByGuestType:
    """Values that depend on the guest type.

    :ivar values: the values by guest type; none for a type that is missing.
    """

    values: Mapping[GuestType, tuple[str, ...]]

    def of(self, guest: Guest) -> tuple[str, ...] | None:
        """Return the allowed values."""
        return self.values.get(guest.guest_type, ())

    def __str__(self) -> str:
        return '; '.join(f'{kind.upper()}: {Values(values)}'
                         for kind, values in self.values.items())


@dataclasses.dataclass(frozen=True, slots=True)
class ByArch:
    """Values that depend on the host's architecture.

    :ivar values: the values by architecture; none for one that is missing.
    """

    values: Mapping[str, Anything | Values | ByGuestType]

    def of(self, guest: Guest) -> tuple[str, ...] | None:
        """Return the allowed values."""
        return self.values.get(guest.arch, _NOTHING).of(guest)

    def __str__(self) -> str:
        return '. '.join(f'On {arch}: {values}'
                         for arch, values in self.values.items())


@dataclasses.dataclass(frozen=True, slots=True)
class ByProfile:
    """Values that the guest type's profile lists.

    :ivar attribute: an attribute of :class:`xen44_driver.xen.arch.Profile`.
    """

    attribute: str

    def of(self, guest: Guest) -> tuple[str, ...] | None:
        """Return the allowed values."""
        return tuple(getattr(guest.profile, self.attribute))

    def __str__(self) -> str:
        return 'what the guest type has, see above'


Allowed = Anything | Values | ByGuestType | ByArch | ByProfile

_ANYTHING = Anything()
_NOTHING = Values(())
_FALSE = Values(('false',))
#: For what needs a QEMU, which Debian's Xen does not have on ARM.
_WITH_QEMU = ByArch({'x86_64': Values(('true', 'false')),
                     'aarch64': Values(('false',))})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """One row of the table: a request that an image or a flavor can make.

    :ivar image: the image property, a field of
        ``nova.objects.ImageMetaProps``; None if there is only an extra spec.
    :ivar flavor: the extra spec, where ``*`` matches anything; None if there
        is only an image property.
    :ivar verdict: how it is treated.
    :ivar allowed: the allowed values; for a refused property, the values that
        are harmless.
    :ivar reason: who honours it, why it is harmless, or why it is refused.
    :ivar boolean: whether its values are booleans, in any spelling.
    """

    image: str | None
    flavor: str | None
    verdict: Verdict
    allowed: Allowed
    reason: str
    boolean: bool = False

    def canonical(self, value: Any) -> str:
        """Return a value in the table's spelling.

        :param value: an image property's value, of any type, or an extra
            spec's text.
        """
        text = str(value)
        if self.boolean:
            try:
                truth = strutils.bool_from_string(text, strict=True)
            except ValueError:
                return text
            return 'true' if truth else 'false'
        return text


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A request that cannot be fulfilled.

    :ivar asker: ``image`` or ``flavor``.
    :ivar name: name of the image property or extra spec.
    :ivar value: the value that is refused.
    :ivar allowed: the values that are allowed.
    :ivar reason: why the value is refused; None if the allowed values are
        enough to tell.
    """

    asker: str
    name: str
    value: str
    allowed: tuple[str, ...]
    reason: str | None


def check(
    image: objects.ImageMeta, flavor: objects.Flavor, *,
    guest_type: GuestType, arch: str, profile: arch_lib.Profile,
) -> None:
    """Refuse image properties and extra specs that cannot be honoured.

    :param image: the instance's image.
    :param flavor: the instance's flavor.
    :param guest_type: the instance's guest type.
    :param arch: the host's architecture, such as ``x86_64``.
    :param profile: what guests of this type can have.
    :raises nova.exception.InvalidInput: a value is refused; the message says
        whether image or flavor asks, and names property, value and what is
        allowed. Nova then aborts the build and tries no other host.
    """
    guest = Guest(guest_type=guest_type, arch=arch, profile=profile)
    refusals = [*_refused_of_image(image, guest),
                *_refused_of_flavor(flavor, guest)]
    if not refusals:
        return
    first, *others = refusals
    text = (f'the {first.asker} asks for {first.name} '
            f'{_shortened(first.value)!r}; allowed for a {guest_type} guest: '
            f'{", ".join(first.allowed) or "nothing"}')
    if first.reason:
        text += f' ({first.reason})'
    if others:
        # At the end and only names: Nova shows 255 characters.
        text += f'; refused too: {", ".join(each.name for each in others)}'
    raise exception.InvalidInput(reason=text)


def check_memory(
    flavor: objects.Flavor, guest_type: GuestType, *, direct_kernel: bool,
) -> None:
    """Refuse a flavor with less memory than the guest type needs to boot.

    :param flavor: the instance's flavor.
    :param guest_type: the instance's guest type.
    :param direct_kernel: whether it boots a kernel from Glance.
    :raises nova.exception.InvalidInput: it has too little memory; the message
        names the flavor's memory and the least that is allowed.
    """
    least = MIN_MEMORY_MIB[guest_type, direct_kernel]
    if flavor.memory_mb < least:
        how = 'from a kernel' if direct_kernel else 'from its disk'
        raise exception.InvalidInput(
            reason=f'the flavor has {flavor.memory_mb} MiB of memory; a '
                   f'{guest_type} guest that boots {how} needs at least '
                   f'{least} MiB')


def check_outbound_limit(
    flavor: objects.Flavor, guest_type: GuestType, *,
    profile: arch_lib.Profile, vif_model: str | None,
) -> None:
    """Refuse a limit of what a guest sends that could not be enforced.

    :param flavor: the instance's flavor.
    :param guest_type: the instance's guest type.
    :param profile: what guests of this type can have.
    :param vif_model: the image's ``hw_vif_model``, or None.
    :raises nova.exception.InvalidInput: the limit is not possible, or the
        guest would also have an emulated card, which has no limit.
    """
    if (outbound_limit(flavor) is not None and profile.emulated_vifs
            and vif_model != 'netfront'):
        raise exception.InvalidInput(
            reason=f'the flavor asks for {OUTBOUND_LIMIT}, which does not '
                   f'limit the emulated network cards of a {guest_type} '
                   'guest; allowed: images with hw_vif_model=netfront')


def outbound_limit(flavor: objects.Flavor) -> int | None:
    """Return how much a guest may send through each network interface.

    :param flavor: the instance's flavor.
    :returns: KiB per second on average; None for no limit.
    :raises nova.exception.InvalidInput: the flavor's value is not possible.
    """
    specs = flavor.extra_specs if 'extra_specs' in flavor else None
    text = (specs or {}).get(OUTBOUND_LIMIT, '0')
    limit = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= limit <= interface_lib.MAX_OUTBOUND_KIB:
        raise exception.InvalidInput(
            reason=f'the flavor asks for {OUTBOUND_LIMIT} '
                   f'{_shortened(text)!r}; allowed: 0 (no limit) to '
                   f'{interface_lib.MAX_OUTBOUND_KIB}, in KiB per second')
    return limit or None


def table() -> tuple[Property, ...]:
    """Return the rows for all image properties and extra specs."""
    return _TABLE


def of_image(name: str) -> Property | None:
    """Return the row of an image property, or None if there is none.

    :param name: a field of ``nova.objects.ImageMetaProps``.
    """
    return _BY_IMAGE.get(name)


def of_flavor(name: str) -> Property | None:
    """Return the row of an extra spec, or None if there is none.

    :param name: its name, such as ``hw:cpu_policy``.
    """
    exact = _BY_FLAVOR.get(name)
    if exact is not None:
        return exact
    for pattern, entry in _BY_FLAVOR.items():
        if '*' in pattern and fnmatch.fnmatchcase(name, pattern):
            return entry
    return None


def _refused_of_image(
    image: objects.ImageMeta, guest: Guest,
) -> Iterator[Refusal]:
    for name in image.properties.fields:
        value = image.properties.get(name)
        if value is None:
            continue
        entry = of_image(name)
        if entry is None and not name.startswith(IMAGE_PREFIX):
            continue
        yield from _refused('image', name, value, entry, guest)


def _refused_of_flavor(
    flavor: objects.Flavor, guest: Guest,
) -> Iterator[Refusal]:
    specs = flavor.extra_specs if 'extra_specs' in flavor else None
    for name, value in sorted((specs or {}).items()):
        entry = of_flavor(name)
        if entry is None:
            namespace, colon, _ = name.partition(':')
            if not colon or namespace not in NAMESPACES:
                continue
        yield from _refused('flavor', name, value, entry, guest)


def _refused(
    asker: str, name: str, value: Any, entry: Property | None, guest: Guest,
) -> Iterator[Refusal]:
    if entry is None:
        yield Refusal(asker=asker, name=name, value=str(value), allowed=(),
                      reason='this driver does not know it')
        return
    allowed = entry.allowed.of(guest)
    text = entry.canonical(value)
    if allowed is not None and text not in allowed:
        # For an honoured property the reason says who acts on it, not why
        # other values are refused.
        refused = entry.verdict is Verdict.REFUSED
        yield Refusal(asker=asker, name=name,
                      value=value if isinstance(value, str) else text,
                      allowed=allowed,
                      reason=entry.reason if refused else None)


def _shortened(value: str) -> str:
    if len(value) <= _LONGEST_VALUE:
        return value
    return f'{value[:_LONGEST_VALUE]}...'


# The table. The reasons appear in the manual and in errors. They are short,
# because Nova cuts errors at 255 characters.

def _honoured(
    image: str | None, flavor: str | None, by: str,
    allowed: Allowed = _ANYTHING, *, boolean: bool = False,
) -> Property:
    return Property(image=image, flavor=flavor, verdict=Verdict.HONOURED,
                    allowed=allowed, reason=by, boolean=boolean)


def _harmless(
    image: str | None, flavor: str | None, why: str,
) -> Property:
    return Property(image=image, flavor=flavor, verdict=Verdict.HARMLESS,
                    allowed=_ANYTHING, reason=why)


def _refuse(
    image: str | None, flavor: str | None, why: str,
    but: Allowed = _NOTHING, *, boolean: bool = False,
) -> Property:
    return Property(image=image, flavor=flavor, verdict=Verdict.REFUSED,
                    allowed=but, reason=why, boolean=boolean)


def _both(name: str) -> tuple[str, str]:
    """Return an image property and the extra spec with the same meaning."""
    return f'hw_{name}', f'hw:{name}'


_TOPOLOGY = 'guests are not told of a CPU topology'
_NUMA = 'guests have no NUMA nodes'
_REALTIME = 'it means nothing without realtime, which is refused'
_XENAPI = 'only the former XenAPI driver read it'
_VMWARE = "only VMware's driver reads it"
_LIMIT = 'limits and shares are not enforced yet'
_AVERAGE = 'Xen limits only the average of what a guest sends'
_SCHEDULER = "Nova's scheduler"
_NOVA = 'Nova itself'
_ENCRYPTED = 'disks are not encrypted'

_IMAGES = (
    _honoured('hw_architecture', None, "Nova's scheduler, and this driver",
              ByArch({
                  'x86_64': ByGuestType({
                      GuestType.HVM: ('x86_64', 'i686'),
                      GuestType.PV: ('x86_64',),
                      GuestType.PVH: ('x86_64',),
                  }),
                  # libxl sees by the kernel which of them it is.
                  'aarch64': Values(('aarch64', 'armv7l')),
              })),
    _honoured('hw_vm_mode', None, 'the choice of the guest type'),
    _honoured('img_hv_type', None, "Nova's scheduler, and this driver",
              Values(('xen',))),
    _honoured('img_hv_requested_version', None, _SCHEDULER),
    _honoured('traits_required', None, _SCHEDULER),
    _honoured('hw_disk_bus', None, 'the disks', ByProfile('disk_buses')),
    _honoured('hw_scsi_model', None, 'the disks, with hw_disk_bus=scsi',
              ByProfile('scsi_models')),
    _honoured('hw_cdrom_bus', None, 'the config drive and ISO images',
              ByGuestType({
                  GuestType.HVM: ('ide',),
                  GuestType.PV: ('xen',),
                  GuestType.PVH: ('xen',),
              })),
    _honoured('hw_vif_model', None, 'the network interfaces',
              ByProfile('vif_models')),
    _honoured('hw_video_model', None, 'the screen',
              ByProfile('video_models')),
    _honoured('hw_pointer_model', None, 'the screen',
              ByProfile('pointer_models')),
    _honoured('hw_firmware_type', None, 'the firmware', ByArch({
        'x86_64': ByGuestType({
            GuestType.HVM: ('bios', 'uefi'),
            GuestType.PV: ('bios',),
            GuestType.PVH: ('bios',),
        }),
        'aarch64': Values(('uefi',)),
    })),
    _honoured('hw_firmware_stateless', None,
              "UEFI, whose variables are never kept; it needs "
              'hw_firmware_type=uefi', ByGuestType({
                  GuestType.HVM: ('true', 'false'),
                  GuestType.PV: ('false',),
                  GuestType.PVH: ('false',),
              }), boolean=True),
    _honoured('hw_qemu_guest_agent', None, 'the channel to the guest agent',
              _WITH_QEMU, boolean=True),
    _honoured('os_admin_user', None, 'setting the password'),
    _honoured('os_require_quiesce', None, 'Nova, with hw_qemu_guest_agent',
              _WITH_QEMU, boolean=True),
    _honoured('os_type', None, 'the clock, which Windows wants in local time',
              ByGuestType({
                  GuestType.HVM: ('linux', 'windows'),
                  GuestType.PV: ('linux',),
                  GuestType.PVH: ('linux',),
              })),
    _honoured('os_command_line', None,
              'the kernel of an image with kernel_id; a kernel on the disk '
              'has its own'),
    _honoured('img_config_drive', None, 'the config drive'),
    _honoured('img_block_device_mapping', None, _NOVA),
    _honoured('img_bdm_v2', None, _NOVA),
    _honoured('img_mappings', None, _NOVA),
    _honoured('img_signature', None, "Nova's download from Glance, where "
              '[glance] verify_glance_signatures is on'),
    _honoured('img_signature_hash_method', None, 'as img_signature'),
    _honoured('img_signature_certificate_uuid', None, 'as img_signature'),
    _honoured('img_signature_key_type', None, 'as img_signature'),

    _harmless('hw_auto_disk_config', None,
              "the guest's cloud-init grows its file system"),
    _harmless('hw_disk_type', None, _VMWARE),
    _harmless('hw_floppy_bus', None, 'guests have no floppy drive'),
    _harmless('hw_rescue_bus', None, 'it is read at a rescue only'),
    _harmless('hw_rescue_device', None, 'it is read at a rescue only'),
    _harmless('hw_rng_model', None,
              "Nova's other drivers no longer read it; Linux fills its pool "
              'from the CPU'),
    _harmless('img_bittorrent', None, _XENAPI),
    _harmless('img_cache_in_nova', None, 'every image is kept'),
    _harmless('img_compression_level', None, _XENAPI),
    _harmless('img_linked_clone', None, _VMWARE),
    _harmless('img_owner_id', None, 'it is a note'),
    _harmless('img_root_device_name', None,
              'the root disk is /dev/xvda in every guest'),
    _harmless('img_version', None, _VMWARE),
    _harmless('os_distro', None, 'it is a note'),
    _harmless('os_skip_agent_inject_files_at_boot', None, _XENAPI),
    _harmless('os_skip_agent_inject_ssh', None, _XENAPI),

    _refuse('hw_device_id', None,
            'the Xen platform device has the id 1', Values(('1',))),
    _refuse('hw_emulation_architecture', None,
            'no other architecture is emulated'),
    _refuse('hw_ephemeral_encryption_secret_uuid', None, _ENCRYPTED),
    _refuse('hw_input_bus', None,
            'for a USB tablet set hw_pointer_model=usbtablet'),
    _refuse('hw_ipxe_boot', None, 'guests boot from their disks', _FALSE,
            boolean=True),
    _refuse('hw_machine_type', None,
            'Xen has one machine for each guest type', ByGuestType({
                GuestType.HVM: ('xenfv', 'pc'),
                GuestType.PV: ('xenpv',),
                GuestType.PVH: ('xenpvh',),
            })),
    _refuse('hw_time_hpet', None,
            'HVM guests always have an HPET, other guests never',
            ByGuestType({
                GuestType.HVM: ('true',),
                GuestType.PV: ('false',),
                GuestType.PVH: ('false',),
            }), boolean=True),
    _refuse('hw_video_ram', None,
            'the graphics card has the memory that libxl gives it'),
    _refuse('img_use_agent', None,
            'guests are not configured through an agent of XenServer',
            _FALSE, boolean=True),
)

_IMAGES_AND_FLAVORS = (
    _honoured(*_both('cpu_policy'),
              'the choice of CPUs: other than shared, hosts with [compute] '
              'cpu_dedicated_set only',
              Values(('shared', 'dedicated', 'mixed'))),
    _honoured(*_both('cpu_thread_policy'), 'Nova, with dedicated CPUs',
              Values(('prefer', 'isolate', 'require'))),
    _honoured(*_both('pci_numa_affinity_policy'),
              'Nova. dom0 does not see on which NUMA node a PCI device is',
              Values(('legacy', 'preferred'))),

    _harmless(*_both('cpu_realtime_mask'), _REALTIME),
    _harmless(*_both('ephemeral_encryption_format'),
              'it means nothing without encryption, which is refused'),
    _harmless(*_both('locked_memory'), "Xen never swaps guests' memory out"),
    _harmless(*_both('mem_encryption_model'),
              'it means nothing without encryption, which is refused'),
    _harmless(*_both('vif_multiqueue_enabled'),
              'PV network interfaces have a queue for each vCPU without '
              'being asked, as far as dom0 has CPUs'),
    _harmless(*_both('virtio_packed_ring'),
              'it permits something to virtio devices, of which guests have '
              'none'),

    _refuse(*_both('boot_menu'), 'no boot menu is shown', _FALSE,
            boolean=True),
    _refuse(*_both('cpu_sockets'), _TOPOLOGY),
    _refuse(*_both('cpu_cores'), _TOPOLOGY),
    _refuse(*_both('cpu_threads'), _TOPOLOGY),
    _refuse(*_both('cpu_max_sockets'), _TOPOLOGY),
    _refuse(*_both('cpu_max_cores'), _TOPOLOGY),
    _refuse(*_both('cpu_max_threads'), _TOPOLOGY),
    _refuse(*_both('ephemeral_encryption'), _ENCRYPTED, _FALSE,
            boolean=True),
    _refuse('img_hide_hypervisor_id', 'hw:hide_hypervisor_id',
            'guests always see that they run on Xen', _FALSE, boolean=True),
    _refuse(*_both('maxphysaddr_bits'),
            'guests have the address bits of the host'),
    _refuse(*_both('maxphysaddr_mode'),
            'guests have the address bits of the host'),
    _refuse(*_both('mem_encryption'), "guests' memory is not encrypted",
            _FALSE, boolean=True),
    _refuse(*_both('mem_page_size'),
            "Xen itself chooses the pages of a guest's memory",
            Values(('any', 'small'))),
    _refuse('hw_numa_cpus', 'hw:numa_cpus.*', _NUMA),
    _refuse('hw_numa_mem', 'hw:numa_mem.*', _NUMA),
    _refuse(*_both('numa_nodes'), _NUMA),
    _refuse(*_both('pmu'),
            'performance counters are for all guests of a host or for none',
            _FALSE, boolean=True),
    _refuse(*_both('redirected_usb_ports'), 'USB is not redirected',
            Values(('0',))),
    _refuse('os_secure_boot', 'os:secure_boot',
            "libvirt's driver for Xen has no Secure Boot",
            Values(('disabled', 'optional'))),
    _refuse(*_both('serial_port_count'), 'a guest has one console',
            Values(('0', '1'))),
    _refuse(*_both('sound_model'), 'guests have no sound device'),
    _refuse(*_both('tpm_model'), 'guests have no TPM'),
    _refuse(*_both('tpm_version'), 'guests have no TPM'),
    _refuse(*_both('usb_model'), 'guests have no USB controller of choice'),
    _refuse(*_both('viommu_model'), 'guests have no IOMMU'),
    _refuse(*_both('watchdog_action'), 'guests have no watchdog',
            Values(('disabled',))),
)

_FLAVORS = (
    _honoured(None, 'xen44:guest_type', 'the choice of the guest type'),
    _honoured(None, 'xen44:disk_class', "what serves the guest's disks",
              ByProfile('disk_classes')),
    _honoured(None, 'xen44:nested_hvm',
              'libxl, on hosts with the trait CUSTOM_XEN44_NESTED_HVM',
              ByGuestType({
                  GuestType.HVM: ('true', 'false'),
                  GuestType.PV: ('false',),
                  GuestType.PVH: ('false',),
              }), boolean=True),
    _honoured(None, 'xen44:max_event_channels',
              'libxl, when the guest starts'),
    _honoured(None, 'xen44:max_grant_frames',
              'libxl, when the guest starts'),
    _honoured(None, 'aggregate_instance_extra_specs:*', _SCHEDULER),
    _honoured(None, 'capabilities:*', _SCHEDULER),
    _honoured(None, 'group_policy', _SCHEDULER),
    _honoured(None, 'hw:cpu_dedicated_mask',
              'which vCPUs have CPUs of their own, with hw:cpu_policy=mixed'),
    _honoured(None, 'pci_passthrough:alias',
              'libxl, for PV and HVM guests, on hosts with an IOMMU and [pci] '
              'device_spec'),
    _honoured(None, 'quota:cpu_period', 'as quota:cpu_quota'),
    _honoured(None, 'quota:cpu_quota',
              "Xen's scheduler, as a cap on all vCPUs together"),
    _honoured(None, 'quota:cpu_shares', "Xen's scheduler, as a weight"),
    _honoured(None, 'quota:disk_*_sec',
              "the guest's QEMU, for each disk. A total excludes limits for "
              'reads and writes. Refused with xen44:disk_class=kernel'),
    _honoured(None, 'resources*:*', _SCHEDULER),
    _honoured(None, 'trait*:*', _SCHEDULER),
    _honoured(None, OUTBOUND_LIMIT,
              'the network interfaces, each: KiB per second that the guest '
              'may send. HVM guests need hw_vif_model=netfront, as an '
              'emulated card has no limit'),

    _harmless(None, 'hw:tpm_secret_security',
              'it means nothing without a TPM, which is refused'),
    _harmless(None, 'hw_rng:allowed',
              'it permits a device that guests do not have'),
    _harmless(None, 'hw_rng:rate_bytes',
              'it limits a device that guests do not have'),
    _harmless(None, 'hw_rng:rate_period',
              'it limits a device that guests do not have'),
    _harmless(None, 'hw_video:ram_max_mb',
              'it limits hw_video_ram, which is refused'),
    _harmless(None, 'quota:*_shares_share',
              'it means nothing without a shares_level of custom, which is '
              'refused'),
    _harmless(None, 'vmware:*', _VMWARE),

    _refuse(None, 'accel:device_profile', 'accelerators are not attached'),
    _refuse(None, 'hide_hypervisor_id',
            'guests always see that they run on Xen', _FALSE, boolean=True),
    _refuse(None, 'hw:cpu_realtime', 'guests are not scheduled in real time',
            _FALSE, boolean=True),
    _refuse(None, 'hw:emulator_threads_policy',
            "device models run on dom0's CPUs", Values(('share',))),
    _refuse(None, 'hw:pmem', 'guests have no persistent memory'),
    _refuse(None, 'quota:*_limit', _LIMIT, Values(('0',))),
    _refuse(None, 'quota:*_reservation', _LIMIT, Values(('0',))),
    _refuse(None, 'quota:*_shares_level', _LIMIT, Values(('normal',))),
    _refuse(None, 'quota:vif_inbound_*', _AVERAGE, Values(('0',))),
    _refuse(None, 'quota:vif_outbound_burst', _AVERAGE, Values(('0',))),
    _refuse(None, 'quota:vif_outbound_peak', _AVERAGE, Values(('0',))),
)

_TABLE = (*_IMAGES, *_IMAGES_AND_FLAVORS, *_FLAVORS)
_BY_IMAGE = {entry.image: entry for entry in _TABLE if entry.image}
_BY_FLAVOR = {entry.flavor: entry for entry in _TABLE if entry.flavor}
