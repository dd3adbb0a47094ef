# SPDX-License-Identifier: Apache-2.0
"""``xen44-host build-loaders``: loaders of PV and PVH guests."""

from __future__ import annotations

import dataclasses
import json
import os

from nova import conf

from xen44_driver.cmd import report
from xen44_driver.xen import arch as arch_lib
from xen44_driver.xen import grub

CONF = conf.CONF


def run(*, as_json: bool) -> int:
    """Build the loaders of the guest types that boot by grub.

    :param as_json: whether to print JSON.
    :returns: the exit status, 0.
    :raises xen44_driver.cmd.report.CannotWork: this user is not root, or grub
        has no builds for the host's architecture.
    :raises xen44_driver.xen.errors.XenError: they cannot be built.
    :raises OSError: they cannot be written.
    """
    report.require_root()
    # Without libvirt, so that it can be run when a host is set up.
    arch = arch_lib.load(os.uname().machine)
    platforms = [profile.grub for profile in arch.profiles.values()
                 if profile.grub]
    if not platforms:
        raise report.CannotWork(
            f'grub has no builds for Xen guests on {arch.name}')
    # nova-compute has to be able to look for them.
    os.umask(0o022)
    built = grub.build(CONF[f'xen44_{arch.name}'].loader_directory, platforms)
    if as_json:
        print(json.dumps({'loaders': [
            dataclasses.asdict(loader) for loader in built]}, indent=2))
    else:
        # As sha256sum prints and reads it.
        for loader in built:
            print(f'{loader.sha256}  {loader.path}')
    return 0
