# SPDX-License-Identifier: Apache-2.0
"""Translate the driver's exceptions into Nova's."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import functools
import inspect
from typing import Any
from typing import TypeVar

from nova import exception
from nova import objects
from os_brick import exception as brick_exception
from oslo_concurrency import processutils

from xen44_driver.xen import errors

T = TypeVar('T', bound=type)


class OperationFailed(exception.NovaException):
    """This host could not do what Nova asked.

    Nova shows the message as the instance's fault.
    """

    msg_fmt = 'Failed to %(operation)s: %(reason)s'


@contextlib.contextmanager
def translated(
    operation: str, instance: objects.Instance | None = None,
) -> Iterator[None]:
    """Translate the exceptions of a block into Nova's.

    :param operation: name of the operation for messages, such as ``spawn``.
    :param instance: the instance; None for an operation on the host.
    :raises nova.exception.InstanceNotFound: there is no such domain, and the
        operation is not ``spawn``.
    :raises nova.exception.InvalidInput: the domain cannot be described.
    :raises nova.exception.HypervisorUnavailable: libvirt cannot be reached.
    :raises OperationFailed: Xen, libvirt, os-brick, a program or the file
        system failed otherwise; the message says how.
    """
    try:
        yield
    except errors.DomainNotFound as error:
        if operation == 'spawn':
            # Nova would take it for an instance that was deleted meanwhile,
            # and leave it building for ever.
            raise OperationFailed(
                operation=operation, reason=str(error)) from error
        raise exception.InstanceNotFound(
            instance_id=instance.uuid if instance else error.uuid) from error
    except errors.SpecError as error:
        raise exception.InvalidInput(reason=str(error)) from error
    except errors.ConnectionFailed as error:
        raise exception.HypervisorUnavailable(str(error)) from error
    except processutils.ProcessExecutionError as error:
        raise OperationFailed(
            operation=operation,
            reason=f'{error.cmd}: {(error.stderr or str(error)).strip()}'
        ) from error
    except errors.OperationFailed as error:
        # Nova knows of which domain.
        raise OperationFailed(
            operation=operation, reason=error.message) from error
    except (errors.XenError, brick_exception.BrickException,
            OSError) as error:
        raise OperationFailed(
            operation=operation, reason=str(error)) from error


@contextlib.contextmanager
def state_kept(
    operation: str, instance: objects.Instance,
) -> Iterator[None]:
    """Let Nova leave an instance's state as it is if a block fails.

    For a block that touches nothing, or undoes what it did.

    :param operation: see :func:`translated`.
    :raises nova.exception.InstanceFaultRollback: the block failed; it holds
        the reason.
    """
    try:
        with translated(operation, instance):
            yield
    except exception.NovaException as error:
        raise exception.InstanceFaultRollback(
            inner_exception=error) from error


def facade(driver: T) -> T:
    """Translate the errors of every public method of a driver (decorator).

    :param driver: a class whose methods have a parameter ``instance`` if they
        work on an instance, as in Nova's ComputeDriver.
    """
    for name, method in vars(driver).items():
        if inspect.isfunction(method) and not name.startswith('_'):
            setattr(driver, name, _translating(method))
    return driver


def _translating(method: Callable[..., Any]) -> Callable[..., Any]:
    names = list(inspect.signature(method).parameters)
    index = names.index('instance') if 'instance' in names else None
    operation = method.__name__.replace('_', ' ')

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        instance = kwargs.get('instance')
        if index is not None and index < len(args):
            instance = args[index]
        with translated(operation, instance):
            return method(*args, **kwargs)

    return call
