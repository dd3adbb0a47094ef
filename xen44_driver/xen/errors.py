# SPDX-License-Identifier: Apache-2.0
"""The exceptions of this package.

:mod:`xen44_driver.xen.calls` translates each ``libvirt.libvirtError`` into one
of them, so callers of :mod:`xen44_driver.xen` never see a libvirt exception.
"""

from __future__ import annotations

from collections.abc import Iterable


class XenError(Exception):
    """Base of all exceptions that :mod:`xen44_driver.xen` raises."""


class ConnectionFailed(XenError):
    """libvirt cannot be reached, or the connection broke during a call.

    :param uri: the connection's URI.
    :param reason: libvirt's message of the last error.
    """

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(f'no connection to libvirt at {uri}: {reason}')
        self.uri = uri
        self.reason = reason


class HostUnsupported(XenError):
    """The host is not supported; the text says what it needs."""


class DomainNotFound(XenError):
    """libvirt does not know the domain.

    :param uuid: the UUID or the name that was looked for.
    """

    def __init__(self, uuid: str) -> None:
        super().__init__(f'domain {uuid} does not exist')
        self.uuid = uuid


class OperationFailed(XenError):
    """An operation of libvirt or Xen failed.

    :param operation: the libvirt call, such as ``domainCreate``.
    :param domain: UUID of the domain; None for a call about the host.
    :param code: libvirt's ``VIR_ERR_*`` number, or None.
    :param message: libvirt's message.
    :ivar details: further reasons, such as lines of libxl's log. Empty until a
        caller sets it; part of the exception's text if set.
    """

    def __init__(self, operation: str, domain: str | None, code: int | None,
                 message: str) -> None:
        of = f' of domain {domain}' if domain else ''
        super().__init__(f'{operation}{of} failed: {message}')
        self.operation = operation
        self.domain = domain
        self.code = code
        self.message = message
        self.details = ''

    def __str__(self) -> str:
        text = super().__str__()
        return f'{text} ({self.details})' if self.details else text


class DomainExists(OperationFailed):
    """A domain with this name or UUID already exists."""


class NotSupported(OperationFailed):
    """libvirt's libxl driver or this Xen does not support the operation."""


class AgentFailed(XenError):
    """The guest agent in a guest did not do what it was asked."""


class AgentSilent(AgentFailed):
    """No guest agent answers, or not in time."""


class AgentRefused(AgentFailed):
    """The guest agent answered with an error, or with nonsense."""


class SpecError(XenError, ValueError):
    """A value in the description of a domain is not possible.

    :param field: the field, such as ``disks[0].target``.
    :param value: its value.
    :param allowed: what is allowed: a description, or the values.
    """

    def __init__(self, field: str, value: object,
                 allowed: str | Iterable[str]) -> None:
        if not isinstance(allowed, str):
            allowed = ', '.join(allowed)
        super().__init__(f'{field}: {value!r} cannot be; allowed: {allowed}')
        self.field = field
        self.value = value
        self.allowed = allowed
