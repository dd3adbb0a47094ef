# SPDX-License-Identifier: Apache-2.0
"""The config drive of a VM: a seed for cloud-init's data source NoCloud."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import json
import os
import tempfile
from typing import Any

from oslo_concurrency import processutils

from xen44_driver.cloudstack import payload as payload_lib

#: The label by which cloud-init finds it.
LABEL = 'cidata'

_NO_USER_DATA = b'#cloud-config\n{}\n'


def contents(
    vm: payload_lib.Vm, nics: Iterable[payload_lib.Nic],
    keys: Iterable[str], user_data: bytes | None,
) -> Mapping[str, bytes]:
    """Return the files of a seed, by name; JSON is YAML.

    :param vm: the VM.
    :param nics: its interfaces.
    :param keys: public keys of its user.
    :param user_data: its user data, or None.
    """
    return {
        'meta-data': _json({
            'instance-id': vm.uuid,
            'local-hostname': vm.name.lower().replace('_', '-'),
            'public-keys': list(keys)}),
        'network-config': _json({
            'version': 2, 'ethernets': {
                name: _ethernet(name, nic) for name, nic in (
                    (f'eth{index}', nic)
                    for index, nic in enumerate(nics))}}),
        'user-data': _NO_USER_DATA if user_data is None else user_data,
    }


def _ethernet(name: str, nic: payload_lib.Nic) -> dict[str, Any]:
    """Describe an interface as netplan does.

    With its address, it needs no DHCP server, which not every network has. It
    gets the name: where cloud-init writes files of ifupdown, NetworkManager or
    systemd-networkd, they are about interfaces with the names that are here.
    """
    found: dict[str, Any] = {
        'match': {'macaddress': nic.mac}, 'set-name': name}
    if nic.mtu is not None:
        found['mtu'] = nic.mtu
    if not nic.addresses:
        # Another network must not delay the boot.
        return {**found, 'dhcp4': True, 'optional': not nic.default}
    found['addresses'] = list(nic.addresses)
    if nic.name_servers:
        found['nameservers'] = {'addresses': list(nic.name_servers)}
    if nic.default and nic.gateways:
        found['routes'] = [{'to': '::/0' if ':' in gateway else '0.0.0.0/0',
                            'via': gateway} for gateway in nic.gateways]
    return found


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, indent=1).encode() + b'\n'


def write(path: str, files: Mapping[str, bytes], program: str) -> None:
    """Write a seed to a file.

    :param path: an existing file, which is overwritten.
    :param files: its files, by name.
    :param program: name of the program that writes ISO 9660 images.
    :raises FileNotFoundError: there is no such program.
    :raises oslo_concurrency.processutils.ProcessExecutionError: it failed.
    """
    # Beside the disk: nobody else can read it there.
    with tempfile.TemporaryDirectory(
            dir=os.path.dirname(path), prefix='seed-') as directory:
        for name, content in files.items():
            with open(os.path.join(directory, name), 'wb') as file:
                file.write(content)
        processutils.execute(
            program, '-quiet', '-o', path, '-V', LABEL, '-J', '-r',
            directory)
