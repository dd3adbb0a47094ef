# SPDX-License-Identifier: Apache-2.0
"""Our exceptions below, Nova's exceptions above."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib

from nova import exception
from nova import objects
from oslo_concurrency import processutils

from xen44_driver.xen import errors


class OperationFailed(exception.NovaException):
    """This host could not do what Nova asked.

    Nova shows the message as the instance's fault.
    """

    msg_fmt = 'Failed to %(operation)s the instance: %(reason)s'


@contextlib.contextmanager
def of_host() -> Iterator[None]:
    """Turn what goes wrong with the host into what Nova understands.

    :raises nova.exception.HypervisorUnavailable: no libvirt
    :raises nova.exception.InternalError: anything else
    """
    try:
        yield
    except errors.ConnectionFailed as error:
        raise exception.HypervisorUnavailable(str(error)) from error
    except errors.XenError as error:
        raise exception.InternalError(str(error)) from error


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
    :raises OperationFailed: any other failure of Xen, libvirt, a program
        or the file system; says what
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
    except processutils.ProcessExecutionError as error:
        raise OperationFailed(
            operation=operation,
            reason=f'{error.cmd}: {(error.stderr or str(error)).strip()}'
        ) from error
    except (errors.XenError, OSError) as error:
        raise OperationFailed(
            operation=operation, reason=str(error)) from error
