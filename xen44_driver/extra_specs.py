# SPDX-License-Identifier: Apache-2.0
"""Validators of the extra specs ``xen44:...``, for Nova's API.

Nova loads them by the entry point group ``nova.api.extra_spec_validators``.
With microversion 2.86 and later, its API then refuses a misspelt name and a
value that cannot be.

nova-api may run where there is neither libvirt nor Xen, so that nothing that
needs them is imported here.
"""

from __future__ import annotations

from nova.api.validation.extra_specs import base

from xen44_driver.compute import disk_class
from xen44_driver.compute import guest_type
from xen44_driver.compute import nestedhvm
from xen44_driver.compute import xentables
from xen44_driver.xen import eventchannels
from xen44_driver.xen.diskclass import DiskClass
from xen44_driver.xen.guesttype import GuestType


def register() -> list[base.ExtraSpecValidator]:
    """Return the validators; Nova calls it once."""
    return [
        base.ExtraSpecValidator(
            name=guest_type.EXTRA_SPEC,
            description='How Xen virtualises the guest.',
            value={'type': str, 'enum': [str(kind) for kind in GuestType]}),
        base.ExtraSpecValidator(
            name=disk_class.EXTRA_SPEC,
            description="What serves the guest's disks in dom0.",
            value={'type': str, 'enum': [str(one) for one in DiskClass]}),
        base.ExtraSpecValidator(
            name=nestedhvm.EXTRA_SPEC,
            description='Whether an HVM guest can run guests of its own. Xen '
                        'calls this experimental.',
            value={'type': bool}),
        base.ExtraSpecValidator(
            name=xentables.EVENT_CHANNELS,
            description='The most event channels that the guest can use.',
            value={'type': int,
                   'min': eventchannels.DEFAULT_EVENT_CHANNELS,
                   'max': eventchannels.MAX_FIFO}),
        base.ExtraSpecValidator(
            name=xentables.GRANT_FRAMES,
            description='The most frames that its grant table can have, of '
                        '4 KiB each.',
            value={'type': int,
                   'min': eventchannels.DEFAULT_GRANT_FRAMES,
                   'max': eventchannels.MAX_GRANT_FRAMES}),
    ]
