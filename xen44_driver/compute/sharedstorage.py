# SPDX-License-Identifier: Apache-2.0
"""Find out if another host has the same directory of an instance.

One host makes a file in it, and the other looks for that file. A revert of a
resize on one host finds its own file, so Nova leaves the files to the driver.
"""

from __future__ import annotations

from nova import conf
from nova import objects
from oslo_utils import fileutils
from oslo_utils import uuidutils

from xen44_driver.compute import node as compute_node
from xen44_driver.storage import layout

CONF = conf.CONF


def offer(
    node: compute_node.Node, instance: objects.Instance,
) -> dict[str, str] | None:
    """Make a file in an instance's directory.

    :returns: what :func:`seen` and :func:`withdraw` need; None if there is no
        directory.
    """
    files = node.files(instance)
    if not files.exist():
        return None
    data = {'instance': instance.uuid, 'mark': uuidutils.generate_uuid()}
    layout.create_private(_path(data))
    return data


def seen(data: dict[str, str]) -> bool:
    """Return whether this host sees the file that another host made.

    :param data: what :func:`offer` returned there.
    """
    return data['mark'] in layout.InstanceFiles(
        CONF.instances_path, data['instance']).names()


def withdraw(data: dict[str, str]) -> None:
    """Remove the file; safe to repeat.

    :param data: what :func:`offer` returned on this host.
    """
    fileutils.delete_if_exists(_path(data))


def _path(data: dict[str, str]) -> str:
    return layout.InstanceFiles(
        CONF.instances_path, data['instance']).path(data['mark'])
