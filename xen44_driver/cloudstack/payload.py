# SPDX-License-Identifier: Apache-2.0
"""What CloudStack asks for: its payload, read and checked.

Users of CloudStack set some of the values: names, details of their VMs, and
parameters of actions. Every value that is used is checked here, before
anything is touched. Every key may be missing: versions of CloudStack differ.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import ipaddress
import re
from typing import Any

from oslo_utils import units

from xen44_driver.xen import errors

_UUID = r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}'
_VLAN = 'vlan://'
_TRUE = {'true': True, 'false': False}
#: More than CloudStack can ask for; less than makes a number too long.
_MOST = 2 ** 53


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """A network interface.

    :ivar mac: MAC address, lower case.
    :ivar vlan: the VLAN that it is in; None for none.
    :ivar default: whether it has the default route.
    :ivar rate_mbps: limit of what the guest sends, in Mbit/s, or None.
    :ivar mtu: MTU in bytes, or None.
    :ivar addresses: addresses with the length of their networks' prefixes.
    :ivar gateways: addresses of its routers.
    :ivar name_servers: addresses of its name servers.
    """

    mac: str
    vlan: int | None = None
    default: bool = False
    rate_mbps: int | None = None
    mtu: int | None = None
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    name_servers: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Vm:
    """The VM that an action is about.

    :ivar uuid: its UUID, lower case.
    :ivar name: CloudStack's instance name, such as ``i-4-231-VM``.
    :ivar details: what users and administrators set for it.
    """

    uuid: str
    name: str
    details: Details

    def __str__(self) -> str:
        """Return what begins a line of the log about it."""
        return f'[vm: {self.uuid}] '


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What the VM is to have.

    :ivar arch: its architecture, or None if CloudStack does not tell.
    :ivar memory_mib: memory, in MiB.
    :ivar vcpus: number of vCPUs.
    :ivar nics: its interfaces, in the guest's order.
    """

    arch: str | None
    memory_mib: int
    vcpus: int
    nics: tuple[Nic, ...]


class Details:
    """Strings that somebody set, by name; each is checked when it is read.

    :param values: the strings.
    :param where: what they belong to, for messages.
    """

    def __init__(self, values: object, where: str) -> None:
        self._values = _object(values, where)
        self._where = where

    def text(self, name: str, pattern: str, allowed: str) -> str | None:
        """Return a value, or None if it is not set.

        :param pattern: regular expression of the whole value.
        :param allowed: what is allowed, for the message.
        :raises SpecError: it is something else.
        """
        value = self._values.get(name)
        if value is None or value == '':
            return None
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not re.fullmatch(
                pattern, value, re.ASCII):
            raise errors.SpecError(self._name(name), _short(value), allowed)
        return value

    def one_of(self, name: str, allowed: tuple[str, ...]) -> str | None:
        """Return one of some values, lower case, or None."""
        value = self.text(name, r'[A-Za-z0-9_-]{1,32}', ', '.join(allowed))
        if value is None:
            return None
        if value.lower() not in allowed:
            raise errors.SpecError(self._name(name), value, allowed)
        return value.lower()

    def number(self, name: str, low: int, high: int) -> int | None:
        """Return a whole number, or None."""
        allowed = f'a whole number from {low} to {high}'
        value = self.text(name, r'[0-9]{1,16}', allowed)
        if value is None:
            return None
        if not low <= int(value) <= high:
            raise errors.SpecError(self._name(name), value, allowed)
        return int(value)

    def flag(self, name: str) -> bool | None:
        """Return whether a value is ``true``, or None if it is not set."""
        if isinstance(self._values.get(name), bool):
            return bool(self._values[name])
        value = self.one_of(name, ('true', 'false'))
        return None if value is None else _TRUE[value]

    def file(self, name: str) -> str | None:
        """Return the name of a file in a directory, or None."""
        return self.text(
            name, r'[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,127}',
            'the name of a file, 1 to 128 letters, digits and _.+@-, the '
            'first of them a letter, a digit or _')

    def _name(self, name: str) -> str:
        return f'{self._where}.{name}'


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """A payload.

    :ivar host: details of the host in CloudStack; administrators set them.
    :ivar parameters: parameters of a custom action.
    """

    host: Details
    parameters: Details
    _values: Mapping[str, Any] = dataclasses.field(repr=False)

    def vm(self) -> Vm:
        """Return the VM.

        :raises SpecError: the payload does not name one.
        """
        values = self._vm()
        external = _object(
            self._values.get('externaldetails'), 'externaldetails')
        uuid = self._values.get('virtualmachineid') or values.get('uuid')
        if not isinstance(uuid, str) or not re.fullmatch(
                _UUID, uuid.lower(), re.ASCII):
            raise errors.SpecError('virtualmachineid', _short(uuid), 'a UUID')
        name = self._values.get('virtualmachinename') or values.get('name')
        if not isinstance(name, str) or not re.fullmatch(
                r'[A-Za-z0-9][A-Za-z0-9_-]{0,63}', name, re.ASCII):
            raise errors.SpecError(
                'virtualmachinename', _short(name),
                '1 to 64 letters, digits, _ and -, the first of them a '
                'letter or a digit')
        return Vm(uuid=uuid.lower(), name=name, details=Details(
            external.get('virtualmachine'),
            'externaldetails.virtualmachine'))

    def hardware(self) -> Hardware:
        """Return what the VM is to have.

        :raises SpecError: something of it is missing or not possible.
        """
        values = self._vm()
        where = 'cloudstack.vm.details'
        arch = values.get('arch')
        if arch is not None and not isinstance(arch, str):
            raise errors.SpecError(f'{where}.arch', _short(arch), 'text')
        if str(values.get('bootType') or 'BIOS').upper() != 'BIOS':
            raise errors.SpecError(
                f'{where}.bootType', _short(values['bootType']), 'BIOS')
        memory = _number(
            f'{where}.maxRam', values.get('maxRam', values.get('minRam')),
            units.Mi, _MOST)
        return Hardware(
            arch=arch, memory_mib=memory // units.Mi,
            vcpus=_number(f'{where}.cpus', values.get('cpus'), 1, 4096),
            nics=tuple(self._nics(values.get('nics') or [])))

    def root_disk_gb(self) -> int | None:
        """Return the size of the root disk that a user asked for, in GiB."""
        return (self.vm().details.number('root_disk_gb', 1, 65536)
                or self._stored().number('rootdisksize', 1, 65536))

    def is_new(self) -> bool:
        """Return whether CloudStack has never seen the VM running."""
        stored = _object(self._vm().get('details'), 'details')
        return stored.get('deployvm') == 'true'

    def ssh_keys(self) -> tuple[str, ...]:
        """Return the public keys of the VM's user."""
        text = _object(self._vm().get('details'), 'details').get(
            'SSH.PublicKey')
        if not isinstance(text, str):
            return ()
        return tuple(line.strip() for line in text.splitlines()
                     if line.strip())

    def user_data(self) -> bytes | None:
        """Return the user data, which only some networks pass."""
        items = self._vm().get('vmData')
        for item in items if isinstance(items, list) else ():
            if (isinstance(item, list) and len(item) == 3
                    and item[0] == 'userdata' and isinstance(item[2], str)):
                try:
                    return base64.b64decode(item[2], validate=True)
                except ValueError:
                    return item[2].encode(errors='replace')
        return None

    def _vm(self) -> Mapping[str, Any]:
        return _object(self._values.get('cloudstack.vm.details'),
                       'cloudstack.vm.details')

    def _stored(self) -> Details:
        return Details(self._vm().get('details'),
                       'cloudstack.vm.details.details')

    @staticmethod
    def _nics(values: object) -> Iterator[Nic]:
        if not isinstance(values, list):
            raise errors.SpecError('nics', _short(values), 'a list')
        found = [_object(value, 'nics') for value in values]
        for value in sorted(found, key=lambda nic: _number(
                'nics.deviceId', nic.get('deviceId', 0), 0, _MOST)):
            yield _nic(value)


def parse(values: object) -> Payload:
    """Read a payload.

    :param values: the object in its JSON.
    :raises SpecError: it is not one.
    """
    payload = _object(values, 'payload')
    external = _object(payload.get('externaldetails'), 'externaldetails')
    return Payload(
        host=Details(external.get('host'), 'externaldetails.host'),
        parameters=Details(payload.get('parameters'), 'parameters'),
        _values=payload)


def _nic(values: Mapping[str, Any]) -> Nic:
    where = f'nics[{values.get("deviceId", 0)}]'
    mac = values.get('mac')
    if not isinstance(mac, str) or not re.fullmatch(
            r'[0-9a-f]{2}(:[0-9a-f]{2}){5}', mac.lower(), re.ASCII):
        raise errors.SpecError(f'{where}.mac', _short(mac), 'a MAC address')
    ip, netmask = values.get('ip'), values.get('netmask')
    addresses = []
    if ip:
        # Without a mask, only itself.
        addresses.append(_interface(f'{where}.ip', ip, netmask or '32'))
    if values.get('ip6address'):
        cidr = str(values.get('ip6cidr') or '/64')
        addresses.append(_interface(
            f'{where}.ip6address', values['ip6address'],
            cidr.rpartition('/')[2]))
    return Nic(
        mac=mac.lower(),
        vlan=_vlan(f'{where}.broadcastUri', values.get('broadcastUri')),
        default=values.get('defaultNic') is True,
        rate_mbps=_optional(where, values, 'networkRateMbps', 10 ** 6),
        mtu=_optional(where, values, 'mtu', 65535),
        addresses=tuple(addresses),
        gateways=tuple(_addresses(where, values, 'gateway', 'ip6gateway')),
        name_servers=tuple(_addresses(
            where, values, 'dns1', 'dns2', 'ip6Dns1', 'ip6Dns2')))


def _vlan(where: str, uri: object) -> int | None:
    """Return the VLAN of a URI such as ``vlan://1204``, or None for none."""
    if uri is None or uri == f'{_VLAN}untagged':
        return None
    if isinstance(uri, str) and re.fullmatch(
            _VLAN + r'[0-9]{1,4}', uri, re.ASCII):
        vlan = int(uri.removeprefix(_VLAN))
        if 1 <= vlan <= 4094:
            return vlan
    raise errors.SpecError(
        where, _short(uri), 'vlan://1 to vlan://4094, vlan://untagged')


def _optional(where: str, values: Mapping[str, Any], name: str,
              high: int) -> int | None:
    """Return a positive number; None if it is missing or not positive."""
    value = values.get(name)
    if value is None or (isinstance(value, int) and value <= 0):
        return None
    return _number(f'{where}.{name}', value, 1, high)


def _interface(where: str, ip: object, prefix: object) -> str:
    try:
        return str(ipaddress.ip_interface(f'{ip}/{prefix}'))
    except ValueError:
        raise errors.SpecError(
            where, _short(f'{ip}/{prefix}'), 'an IP address and a mask'
        ) from None


def _addresses(where: str, values: Mapping[str, Any],
               *names: str) -> Iterator[str]:
    for name in names:
        if values.get(name):
            try:
                yield str(ipaddress.ip_address(values[name]))
            except ValueError:
                raise errors.SpecError(f'{where}.{name}', _short(
                    values[name]), 'an IP address') from None


def _number(where: str, value: object, low: int, high: int) -> int:
    """Return a whole number, which may be written as text."""
    if isinstance(value, str) and re.fullmatch(
            r'[0-9]{1,16}', value, re.ASCII):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if (not isinstance(value, int) or isinstance(value, bool)
            or not low <= value <= high):
        raise errors.SpecError(
            where, _short(value), f'a whole number from {low} to {high}')
    return value


def _object(value: object, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        # Not the value, which may hold a secret.
        raise errors.SpecError(where, type(value).__name__, 'a JSON object')
    return value


def _short(value: object) -> object:
    """Return a value for a message."""
    return value[:100] if isinstance(value, str) else (
        value if isinstance(value, (int, float, type(None)))
        else type(value).__name__)
