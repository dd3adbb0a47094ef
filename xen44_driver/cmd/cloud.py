# SPDX-License-Identifier: Apache-2.0
"""Nova's API, as the commands use it; openstacksdk takes long to import.

The credentials are those of ``clouds.yaml`` or of the environment (``OS_*``).
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
from typing import Any

from keystoneauth1 import exceptions as keystone
from nova import conf
import openstack
from openstack import exceptions
from openstack.compute.v2 import server as sdk_server
from openstack.compute.v2 import service as sdk_service

from xen44_driver.cmd import report

CONF = conf.CONF

#: Name of nova-compute in Nova's list of services.
BINARY = 'nova-compute'

#: Seconds that Nova has for one answer; a busy one took half a minute.
TIMEOUT = 120


@contextlib.contextmanager
def connected(purpose: str) -> Iterator[Any]:
    """Yield openstacksdk's connection to the cloud.

    :param purpose: what cannot be done without the cloud, for the error.
    :raises xen44_driver.cmd.report.CannotWork: a service does not answer, or
        it refuses, such as for credentials that are not an administrator's.
    """
    try:
        with openstack.connect(api_timeout=TIMEOUT) as connection:
            yield connection
    except (exceptions.SDKException, keystone.ClientException) as error:
        raise report.CannotWork(f'{purpose}: {error}') from error


@contextlib.contextmanager
def compute(purpose: str) -> Iterator[Any]:
    """Yield openstacksdk's proxy of Nova's API.

    :param purpose: see :func:`connected`.
    :raises xen44_driver.cmd.report.CannotWork: see :func:`connected`.
    """
    with connected(purpose) as connection:
        yield connection.compute


def servers(proxy: Any) -> list[sdk_server.Server]:
    """Return Nova's servers on this host, of all projects."""
    return list(proxy.servers(all_projects=True, compute_host=CONF.host))


def services(proxy: Any) -> list[sdk_service.Service]:
    """Return Nova's records of this host's nova-compute: one, or none."""
    return list(proxy.services(host=CONF.host, binary=BINARY))


def service(proxy: Any) -> sdk_service.Service:
    """Return Nova's record of this host's nova-compute.

    :raises xen44_driver.cmd.report.CannotWork: it has none.
    """
    found = services(proxy)
    if len(found) != 1:
        raise report.CannotWork(
            f'Nova has {len(found)} services {BINARY} on host {CONF.host!r}, '
            'not one: compare [DEFAULT] host with "openstack compute service '
            'list"')
    return found[0]
