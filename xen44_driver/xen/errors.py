# SPDX-License-Identifier: Apache-2.0
"""What can go wrong below us, in our own words.

A ``libvirt.libvirtError`` never leaves :mod:`xen44_driver.xen`; it becomes one
of these in :mod:`xen44_driver.xen.calls`.
"""

from collections.abc import Iterable


class XenError(Exception):
    """Base of everything that :mod:`xen44_driver.xen` raises."""


class ConnectionFailed(XenError):
    """libvirt cannot be reached, or the connection broke during a call.

    :param uri: the connection's URI.
    :param reason: the last error, in libvirt's words.
    """

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(f'no connection to libvirt at {uri}: {reason}')
        self.uri = uri
        self.reason = reason


class HostUnsupported(XenError):
    """The host is not one that we can work on.

    :param reason: what was found and what is needed.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class DomainNotFound(XenError):
    """libvirt knows no such domain.

    :param uuid: the UUID (or the name) that was looked for.
    """

    def __init__(self, uuid: str) -> None:
        super().__init__(f'domain {uuid} does not exist')
        self.uuid = uuid


class OperationFailed(XenError):
    """libvirt or Xen could not do what was asked.

    :param operation: the libvirt call, such as ``domainCreate``.
    :param domain: UUID of the domain, None where the host was asked.
    :param code: libvirt's ``VIR_ERR_*`` number, None if it gave none.
    :param message: libvirt's own words.
    """

    def __init__(self, operation: str, domain: str | None, code: int | None,
                 message: str) -> None:
        of = f' of domain {domain}' if domain else ''
        super().__init__(f'{operation}{of} failed: {message}')
        self.operation = operation
        self.domain = domain
        self.code = code
        self.message = message


class DomainExists(OperationFailed):
    """A domain of that name or UUID is there already."""


class OperationTimedOut(OperationFailed):
    """libvirt gave up waiting, mostly for another operation on the domain."""


class NotSupported(OperationFailed):
    """libvirt's libxl driver, or this Xen, cannot do that at all."""


class SpecError(XenError, ValueError):
    """A domain is described by something that cannot be.

    :param field: where, such as ``disks[0].target``.
    :param value: what stands there.
    :param allowed: what may stand there: a sentence, or the values.
    """

    def __init__(self, field: str, value: object,
                 allowed: str | Iterable[str]) -> None:
        if not isinstance(allowed, str):
            allowed = ', '.join(allowed)
        super().__init__(f'{field}: {value!r} cannot be; allowed: {allowed}')
        self.field = field
        self.value = value
        self.allowed = allowed
