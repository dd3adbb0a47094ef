# SPDX-License-Identifier: Apache-2.0
"""Give each instance a device of its own for a volume that several share.

Xen refuses a block device that another guest of this host may write to. It
compares numbers of devices. So a volume that may be attached to several
instances has a device of dm-linear for each of them, which is the whole volume
under another number. Root's programs run in os-brick's privsep daemon, which
may configure devices.
"""

from __future__ import annotations

import os

from os_brick.privileged import rootwrap

from xen44_driver.xen import volumelinks

_MAPPER = '/dev/mapper'


def make(instance: str, volume: str, device: str) -> str:
    """Make an instance's device of a volume, or let it be of another device.

    :param instance: the instance's UUID.
    :param volume: Cinder's id of the volume.
    :param device: path of the volume's own device.
    :returns: path of the instance's device.
    :raises oslo_concurrency.processutils.ProcessExecutionError: dmsetup
        failed.
    """
    remove(instance, volume)
    name = _name(instance, volume)
    _execute('dmsetup', 'create', name, '--table', _table(device))
    return os.path.join(_MAPPER, name)


def remove(instance: str, volume: str) -> None:
    """Remove an instance's device of a volume; safe to repeat.

    :param instance: the instance's UUID.
    :param volume: Cinder's id of the volume.
    :raises oslo_concurrency.processutils.ProcessExecutionError: dmsetup
        failed.
    """
    name = _name(instance, volume)
    if os.path.lexists(os.path.join(_MAPPER, name)):
        _execute('dmsetup', 'remove', '--retry', name)


def extend(instance: str, volume: str, device: str) -> None:
    """Make an instance's device as large as the volume, while it is in use.

    :param instance: the instance's UUID.
    :param volume: Cinder's id of the volume.
    :param device: path of the volume's own device.
    :raises oslo_concurrency.processutils.ProcessExecutionError: dmsetup
        failed.
    """
    name = _name(instance, volume)
    _execute('dmsetup', 'load', name, '--table', _table(device))
    # With a flush, so nothing is lost.
    _execute('dmsetup', 'resume', name)


def _name(instance: str, volume: str) -> str:
    # Both are UUIDs, or this raises.
    volumelinks.path(instance, volume)
    return f'xen44-{instance}-{volume}'


def _table(device: str) -> str:
    sectors = int(_execute('blockdev', '--getsz', device))
    return f'0 {sectors} linear {device} 0'


def _execute(*command: str) -> str:
    out, _ = rootwrap.execute_root(*command)
    return str(out).strip()
