# SPDX-License-Identifier: Apache-2.0
"""Parse the xenstore entries of a domain's disks and network interfaces.

Each device of a guest has a directory that belongs to its backend in dom0,
``/local/domain/0/backend/<kind>/<domid>/<number>``. libxl creates it with
``state`` 1 and starts the guest. The backend of a disk adds ``sectors`` when
it has opened the file or the device. For a network interface, the hotplug
script sets ``hotplug-status`` when the interface is on its bridge, and the
backend sets ``state`` 4 when the guest uses it. The guest can read these
entries but not write them.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import enum
import re

#: Bytes of the sectors that xenstore counts, whatever the disk's own are.
SECTOR_BYTES = 512


class BackendKind(enum.StrEnum):
    """A kind of backend, by the name of its directory in xenstore.

    ``QDISK`` is a QEMU process in dom0, ``VBD`` is dom0's kernel; both serve
    disks. ``VIF`` is dom0's kernel, for network interfaces.
    """

    QDISK = 'qdisk'
    VBD = 'vbd'
    VIF = 'vif'


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """The backend of one disk of a guest.

    :ivar device: the guest's name of the disk, such as ``xvda``.
    :ivar number: Xen's number of the disk, such as 51712; the logs of libxl
        and QEMU use it.
    :ivar kind: the kind of backend.
    :ivar sectors: the disk's size in sectors; None until the backend has
        opened it.
    :ivar error: error message of the backend or the hotplug script, or None.
    """

    device: str
    number: int
    kind: BackendKind
    sectors: int | None = None
    error: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether the backend has opened its file or device."""
        return self.sectors is not None and self.error is None


class BackendState(enum.IntEnum):
    """A state of a backend (XenbusState in Xen's xenbus.h)."""

    UNKNOWN = 0
    INITIALISING = 1
    INIT_WAIT = 2
    INITIALISED = 3
    CONNECTED = 4
    CLOSING = 5
    CLOSED = 6


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Vif:
    """The backend of one network interface of a guest.

    :ivar devid: Xen's number of the interface; libxl assigns it.
    :ivar mac: the guest's MAC address, in lower case.
    :ivar state: what the backend is doing.
    :ivar hotplug: what the hotplug script has reported: ``connected``,
        ``error``, or nothing yet (empty).
    :ivar error: error message of the backend or the hotplug script, or None.
    """

    devid: int
    mac: str
    state: BackendState
    hotplug: str = ''
    error: str | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the guest uses the interface."""
        return self.state is BackendState.CONNECTED

    @property
    def is_plugged(self) -> bool:
        """Whether the interface is on its bridge, for the guest to use."""
        # Some kernels remove hotplug-status once the guest is connected.
        return not self.has_failed and (
            self.is_connected or self.hotplug == 'connected')

    @property
    def has_failed(self) -> bool:
        """Whether the interface will not work."""
        return (self.hotplug == 'error' or self.error is not None
                or self.state in (BackendState.CLOSING, BackendState.CLOSED))


def disk_number(target: str) -> int:
    """Return Xen's number of a disk, see xen-vbd-interface(7).

    :param target: the guest's name of a whole disk, such as ``xvda``, ``hda``
        or ``sda``.
    :raises ValueError: it is not the name of a disk.
    """
    match = _TARGET.fullmatch(target)
    if match is None:
        raise ValueError(f'{target!r} is not a disk: allowed are xvda to '
                         'xvdzz, hda to hdd and sda to sdp')
    index = 0
    for letter in match['letters']:
        index = index * 26 + ord(letter) - ord('a') + 1
    index -= 1
    match match['prefix']:
        case 'hd':
            return (3, 22)[index // 2] << 8 | index % 2 << 6
        case 'sd':
            return 8 << 8 | index << 4
    return 202 << 8 | index << 4 if index < 16 else 1 << 28 | index << 8


def backends_path(domid: int, kind: BackendKind) -> str:
    """Return the xenstore path of a domain's backends of one kind."""
    return f'/local/domain/0/backend/{kind}/{domid}'


_TARGET = re.compile(
    r'(?:(?P<prefix>hd(?=[a-d]$)|sd(?=[a-p]$))|xvd)(?P<letters>[a-z]{1,2})')

_LINE = re.compile(
    r'/local/domain/\d+/backend/(?P<kind>[a-z]+)/\d+/(?P<number>\d+)'
    r'/(?P<key>[^/ ]+) = "(?P<value>.*)"')
_ESCAPE = re.compile(rb'\\(?:x([0-9a-f]{2})|([0-7]{3})|([tnr\\]))')
_ESCAPED = {b't': b'\t', b'n': b'\n', b'r': b'\r', b'\\': b'\\'}


def backends(text: str) -> tuple[Backend, ...]:
    """Parse the output of ``xenstore-ls -f`` for a directory of backends.

    Other lines are ignored.

    :param text: the output; may be empty.
    :returns: the backends in the order of the output, without those that libxl
        has not finished writing (no ``dev``).
    """
    kinds = (BackendKind.QDISK, BackendKind.VBD)
    return tuple(_backend(BackendKind(kind), number, values)
                 for (kind, number), values in _entries(text).items()
                 if kind in kinds and 'dev' in values)


def vifs(text: str) -> tuple[Vif, ...]:
    """Parse the output of ``xenstore-ls -f`` for a domain's vif backends.

    Other lines are ignored.

    :param text: the output; may be empty.
    :returns: the backends in the order of the output, without those that libxl
        has not finished writing (no ``mac``).
    """
    return tuple(
        Vif(devid=number, mac=values['mac'].lower(),
            state=_state(values.get('state')),
            hotplug=values.get('hotplug-status', ''),
            error=_error(values))
        for (kind, number), values in _entries(text).items()
        if kind == BackendKind.VIF and 'mac' in values)


def _entries(text: str) -> dict[tuple[str, int], dict[str, str]]:
    """Return the entries of each backend, by its kind and number."""
    found: dict[tuple[str, int], dict[str, str]] = {}
    for line in text.split('\n'):
        match = _LINE.fullmatch(line)
        if match:
            entry = match['kind'], int(match['number'])
            found.setdefault(entry, {})[match['key']] = _unescape(
                match['value'])
    return found


def _backend(
    kind: BackendKind, number: int, values: Mapping[str, str],
) -> Backend:
    return Backend(
        device=values['dev'], number=number, kind=kind,
        sectors=_number(values.get('sectors')),
        error=_error(values))


def _error(values: Mapping[str, str]) -> str | None:
    return values.get('hotplug-error') or values.get('error') or None


def _state(text: str | None) -> BackendState:
    number = _number(text) or 0
    return (BackendState(number) if number in list(BackendState)
            else BackendState.UNKNOWN)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() else None


def _unescape(value: str) -> str:
    """Decode the escapes that xenstore-ls writes for non-ASCII bytes."""
    def byte(match: re.Match[bytes]) -> bytes:
        code, octal, letter = match.groups()
        if letter:
            return _ESCAPED[letter]
        return bytes([int(code, 16) if code else int(octal, 8) & 0xff])

    return _ESCAPE.sub(byte, value.encode()).decode(
        errors='backslashreplace')
