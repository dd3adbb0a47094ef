# SPDX-License-Identifier: Apache-2.0
"""Our exceptions below, Nova's exceptions above."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib

from nova import exception
from nova import objects

from xen44_driver.xen import errors


class XenOperationFailed(exception.NovaException):
    """Xen or libvirt could not do what Nova asked.

    Nova shows the message as the instance's fault.
    """

    msg_fmt = 'Xen failed to %(operation)s the instance: %(reason)s'


@contextlib.contextmanager
def translated(
    operation: str, instance: objects.Instance,
) -> Iterator[None]:
    """Turn what goes wrong below into what Nova understands.

    :param operation: what is being done, for people: ``start``
    :param instance: to which
    :raises nova.exception.InstanceNotFound: no such domain
    :raises nova.exception.InvalidInput: the domain cannot be described
    :raises nova.exception.HypervisorUnavailable: no libvirt
    :raises XenOperationFailed: anything else
    """
    try:
        yield
    except errors.DomainNotFound as error:
        raise exception.InstanceNotFound(
            instance_id=instance.uuid) from error
    except errors.SpecError as error:
        raise exception.InvalidInput(reason=str(error)) from error
    except errors.ConnectionFailed as error:
        raise exception.HypervisorUnavailable(str(error)) from error
    except errors.XenError as error:
        raise XenOperationFailed(
            operation=operation, reason=str(error)) from error
