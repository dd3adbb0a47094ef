# SPDX-License-Identifier: Apache-2.0
"""Call libvirt; every call goes through this module."""

from __future__ import annotations

from collections.abc import Callable
import time
from typing import Any
from typing import TypeVar

import libvirt
from oslo_log import log as logging

from xen44_driver.xen import errors
from xen44_driver.xen import threads

LOG = logging.getLogger(__name__)
T = TypeVar('T')

_NOT_SUPPORTED = frozenset({
    libvirt.VIR_ERR_NO_SUPPORT,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
})
_NO_CONNECTION = frozenset({
    libvirt.VIR_ERR_NO_CONNECT,
    libvirt.VIR_ERR_INVALID_CONN,
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_AUTH_FAILED,
    libvirt.VIR_ERR_AUTH_CANCELLED,
    libvirt.VIR_ERR_AUTH_UNAVAILABLE,
})
# libvirt's transport reports a closed socket with one of these.
_MAYBE_NO_CONNECTION = frozenset({
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_ERR_INTERNAL_ERROR,
})
_TRANSPORT = frozenset({libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE})


def call(operation: str, function: Callable[..., T], *args: Any, uri: str,
         domain: str | None = None) -> T:
    """Call libvirt, and log the call and its duration.

    This sets no time limit. libvirt's own limits apply: 30 s for a busy
    domain, the connection's keep-alive for a dead daemon.

    :param operation: libvirt's name of the function without ``vir``, such as
        ``domainCreate``.
    :param function: a function that calls libvirt once.
    :param uri: the connection's URI, for errors.
    :param domain: UUID of the domain, for errors.
    :returns: the function's result.
    :raises XenError: a subclass, see :func:`translate`.
    """
    begin = time.monotonic()
    try:
        return threads.run(function, *args)
    except libvirt.libvirtError as error:
        raise translate(error, operation, domain, uri) from error
    finally:
        LOG.debug('libvirt call: %s %.3f s', operation,
                  time.monotonic() - begin)


def translate(error: libvirt.libvirtError, operation: str,
              domain: str | None, uri: str) -> errors.XenError:
    """Translate a libvirt error into an exception of this package."""
    code = error.get_error_code()
    message = error.get_error_message() or str(error)
    if code in _NO_CONNECTION or (
            code in _MAYBE_NO_CONNECTION
            and error.get_error_domain() in _TRANSPORT):
        return errors.ConnectionFailed(uri, message)
    if code == libvirt.VIR_ERR_NO_DOMAIN:
        return errors.DomainNotFound(domain or message)
    kind = errors.OperationFailed
    if code in _NOT_SUPPORTED:
        kind = errors.NotSupported
    elif code == libvirt.VIR_ERR_DOM_EXIST:
        kind = errors.DomainExists
    return kind(operation, domain, code, message)
