# SPDX-License-Identifier: Apache-2.0
"""What this host tells the scheduler it can do, besides amounts.

Traits are for choosing a host: a flavor with
``trait:CUSTOM_XEN44_GUEST_PVH=required`` goes where PVH guests run.
"""

import os_traits

from xen44_driver.compute import plan
from xen44_driver.xen import capabilities
from xen44_driver.xen import host as xen_host
from xen44_driver.xen.guesttype import GuestType

#: All traits of ours that are no standard ones begin so.
PREFIX = 'CUSTOM_XEN44_'

# libvirt's names of CPU features whose traits are called otherwise. Those
# not here are HW_CPU_X86_<NAME>, where os-traits has that.
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

# Features of the host that guests do not get: nested virtualisation.
_NOT_FOR_GUESTS = ('svm', 'vmx')


def wanted(
    caps: capabilities.Capabilities, versions: xen_host.HostVersions,
) -> set[str]:
    """The traits this host has.

    :param caps: what it can do
    :param versions: of Xen and libvirt
    """
    major, minor = versions.xen[:2]
    traits = {
        f'{PREFIX}XEN_{major}_{minor}',
        f'HW_ARCH_{caps.arch.upper()}',
    }
    traits |= {f'{PREFIX}GUEST_{kind.upper()}' for kind in caps.guest_types}
    for kind in caps.guest_types:
        traits |= {f'COMPUTE_NET_VIF_MODEL_{model.upper()}'
                   for model in plan.VIF_MODELS[kind]}
        traits |= {f'COMPUTE_STORAGE_BUS_{bus.upper()}'
                   for bus in plan.DISK_BUSES[kind]}
    if GuestType.HVM in caps.guest_types:
        traits |= {f'COMPUTE_GRAPHICS_MODEL_{model.upper()}'
                   for model in caps.video_models}
    if caps.topology.threads > 1:
        traits.add(os_traits.HW_CPU_HYPERTHREADING)
    traits |= {_cpu_trait(feature) for feature in caps.cpu_features
               if feature not in _NOT_FOR_GUESTS}
    known = set(os_traits.get_traits())
    return {trait for trait in traits
            if trait in known or os_traits.is_custom(trait)}


def _cpu_trait(feature: str) -> str:
    name = _CPU_FEATURES.get(feature, feature)
    return f'HW_CPU_X86_{name.upper().replace("-", "")}'


def managed(trait: str) -> bool:
    """Whether a trait of our resource provider is ours to remove.

    :param trait: its name
    """
    return trait.startswith((
        PREFIX, 'HW_ARCH_', 'HW_CPU_', 'COMPUTE_NET_VIF_MODEL_',
        'COMPUTE_STORAGE_BUS_', 'COMPUTE_GRAPHICS_MODEL_'))
