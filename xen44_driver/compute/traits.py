# SPDX-License-Identifier: Apache-2.0
"""The traits of this host in Placement.

If a flavor or an image requires a trait, only hosts with this trait are
chosen: ``trait:CUSTOM_XEN44_GUEST_PVH=required`` selects hosts that run PVH
guests. A trait is reported only for what guests on this host can really have.
"""

from __future__ import annotations

import os_traits

from xen44_driver.xen import arch as arch_lib
from xen44_driver.xen import capabilities
from xen44_driver.xen import host as xen_host

#: Prefix of the custom traits that this driver sets and removes.
PREFIX = 'CUSTOM_XEN44_'

#: The trait of a dom0 that can have 131071 event channels, not 4095.
FIFO_EVENT_CHANNELS = f'{PREFIX}FIFO_EVENT_CHANNELS'

#: The trait of a host whose HVM guests were seen to run guests of their own,
#: if their flavor asks for that.
NESTED_HVM = f'{PREFIX}NESTED_HVM'

# CPU features whose traits have other names than in libvirt. The trait of any
# other feature is HW_CPU_X86_<NAME>, if os-traits has it.
_CPU_FEATURES = {
    'aes': 'AESNI',
    'bmi1': 'BMI',
    'fma': 'FMA3',
    'gfni': 'AVX512GFNI',
    'pclmuldq': 'CLMUL',
    'pni': 'SSE3',
    'sha-ni': 'SHA',
    'sse4.1': 'SSE41',
    'sse4.2': 'SSE42',
    'vaes': 'AVX512VAES',
    'vpclmulqdq': 'AVX512VPCLMULQDQ',
}

# Features that guests get only if their flavor asks (NESTED_HVM): these traits
# alone would promise them to every guest.
_NOT_FOR_GUESTS = ('svm', 'vmx')


def wanted(
    caps: capabilities.Capabilities, versions: xen_host.HostVersions,
    arch: arch_lib.Architecture,
) -> set[str]:
    """Return the traits of this host.

    :param caps: what the host can do.
    :param versions: versions of Xen and libvirt.
    :param arch: the host's architecture, with the profiles of guest types.
    """
    major, minor = versions.xen[:2]
    traits = {
        f'{PREFIX}XEN_{major}_{minor}',
        f'HW_ARCH_{caps.arch.upper()}',
    }
    for kind in caps.guest_types:
        traits.add(f'{PREFIX}GUEST_{kind.upper()}')
        profile = arch.profile(kind)
        traits |= _device_traits(caps, profile)
        traits |= {f'{PREFIX}DISK_CLASS_{one.upper()}'
                   for one in profile.disk_classes}
    if caps.topology.threads > 1:
        traits.add(os_traits.HW_CPU_HYPERTHREADING)
    traits |= {_cpu_trait(feature) for feature in caps.cpu_features
               if feature not in _NOT_FOR_GUESTS}
    known = set(os_traits.get_traits())
    return {trait for trait in traits
            if trait in known or os_traits.is_custom(trait)}


def _device_traits(
    caps: capabilities.Capabilities, profile: arch_lib.Profile,
) -> set[str]:
    """Return a trait for each device that driver and libvirt both support."""
    buses = caps.disk_buses.intersection(profile.disk_buses)
    screens = caps.video_models.intersection(profile.video_models)
    return {
        *(f'COMPUTE_STORAGE_BUS_{bus.upper()}' for bus in buses),
        *(f'COMPUTE_NET_VIF_MODEL_{model.upper()}'
          for model in profile.vif_models),
        *(f'COMPUTE_GRAPHICS_MODEL_{model.upper()}' for model in screens),
        *({os_traits.COMPUTE_FIRMWARE_BIOS} if profile.firmware else ()),
    }


def _cpu_trait(feature: str) -> str:
    name = _CPU_FEATURES.get(feature, feature)
    return f'HW_CPU_X86_{name.upper().replace("-", "")}'


def managed(trait: str) -> bool:
    """Return whether this driver sets and removes a trait.

    :param trait: the trait's name.
    """
    return trait.startswith((
        PREFIX, 'HW_ARCH_', 'HW_CPU_', 'COMPUTE_NET_VIF_MODEL_',
        'COMPUTE_STORAGE_BUS_', 'COMPUTE_GRAPHICS_MODEL_',
        'COMPUTE_FIRMWARE_'))
