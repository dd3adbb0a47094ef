# SPDX-License-Identifier: Apache-2.0
"""Quote the logs of libxl and QEMU to explain a failure."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import time

from oslo_log import log as logging

from xen44_driver import privsep
from xen44_driver.xen import errors
from xen44_driver.xen import logs

LOG = logging.getLogger(__name__)

#: The largest number of characters to quote.
MAX_CHARS = 500

#: Bytes to read from the end of a log.
MAX_BYTES = 64 * 1024

# Part of libvirt's message for any failure of libxl.
_GENERIC = 'libxenlight'


def evidence_of(name: str, since: float) -> str:
    """Return what libxl and QEMU logged about a domain's failure.

    Never raises: it is called to explain another error.

    :param name: the domain's name.
    :param since: when the failed operation began, by ``time.time()``.
    :returns: one line of at most :data:`MAX_CHARS` characters; empty if the
        logs give no reason.
    """
    try:
        # QEMU first: its messages are more specific.
        parts = [*_qemu(name, since), *_libxl(name, since)]
    except Exception as error:
        LOG.warning('Cannot read the logs of libxl and QEMU for %(name)s: '
                    '%(error)s', {'name': name, 'error': error})
        return ''
    text = '; '.join(parts)
    return text if len(text) <= MAX_CHARS else f'{text[:MAX_CHARS - 1]}…'


@contextlib.contextmanager
def explained(name: str) -> Iterator[None]:
    """Add the reasons in libxl's and QEMU's logs to an error of libvirt.

    The error is not changed if it does not come from libxl.

    :param name: the domain that is started, or whose devices change.
    :raises xen44_driver.xen.errors.OperationFailed: the block raised it; the
        reasons are added to its message.
    """
    since = time.time()
    try:
        yield
    except errors.OperationFailed as error:
        evidence = _GENERIC in error.message and evidence_of(name, since)
        if not evidence:
            raise
        raise type(error)(
            error.operation, error.domain, error.code,
            # The reason first: Nova shows 255 characters of a fault.
            f'{evidence} ({error.message})') from error


def _libxl(name: str, since: float) -> tuple[str, ...]:
    # The domain's own log exists only once libxl has created the domain.
    # libxenguest's messages about it are in the driver's log all the same.
    lines = [line for kind in (privsep.LogKind.DOMAIN, privsep.LogKind.DRIVER)
             for line in logs.libxl_lines(_read(kind, name, since), since)]
    return logs.libxl_reasons(sorted(lines, key=lambda line: line.time))


def _qemu(name: str, since: float) -> tuple[str, ...]:
    return tuple(f'QEMU: {line}' for line in logs.qemu_reasons(
        _read(privsep.LogKind.QEMU, name, since)))


def _read(kind: privsep.LogKind, name: str, since: float) -> str:
    """Read the end of a log; return '' if it was not written to since."""
    log = privsep.read_log_end(kind, name, MAX_BYTES, since)
    return (log or b'').decode(errors='replace')
