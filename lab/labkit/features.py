# SPDX-License-Identifier: Apache-2.0
"""What Tempest is told of the driver, derived from the support matrix.

Tempest has one set of ``[compute-feature-enabled]`` for all servers, and the
matrix a column for each guest type: Tempest's servers are of one type.

``python3 -m labkit.features [COLUMN]`` prints the options that follow the
driver, for another cloud than the lab's.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import configparser
import dataclasses
import pathlib

from labkit import config

MATRIX = config.CHECKOUT / 'doc' / 'source' / 'support-matrix.ini'

#: The column of Tempest's servers: Xen's default, where no flavor or image
#: asks for another guest type.
COLUMN = 'x86-pv'

#: A cell that lets Tempest try.
PARTIAL = ('complete', 'partial')
COMPLETE = ('complete',)


@dataclasses.dataclass(frozen=True)
class Rows:
    """An option that is true if all these rows are there.

    :ivar names: the rows' sections in the matrix.
    :ivar enough: what their cells may be.
    :ivar columns: guest types that can have it at all; empty for all.
    :ivar why: why it follows these rows, or why others cannot have it, where
        the names do not tell.
    """

    names: tuple[str, ...]
    enough: tuple[str, ...] = PARTIAL
    columns: tuple[str, ...] = ()
    why: str = ''


@dataclasses.dataclass(frozen=True)
class Fixed:
    """An option of the cloud, not of the driver.

    :ivar value: as Tempest reads it.
    :ivar why: the reason, as a sentence.
    """

    value: str
    why: str


def _rows(*names: str, why: str = '') -> Rows:
    return Rows(names, why=why)


def _whole(*names: str, why: str = '', columns: tuple[str, ...] = ()) -> Rows:
    return Rows(names, COMPLETE, columns, why)


#: Every option of the group in Tempest 47.
OPTIONS: Mapping[str, Rows | Fixed] = {
    'attach_encrypted_volume': _rows('operation.encrypted-volume'),
    'block_migration_for_live_migration': _whole(
        'operation.live-migrate',
        why='Complete live migration includes the copy of local disks.'),
    'can_migrate_between_any_hosts': Fixed(
        'true', "The lab's hosts are alike."),
    'change_password': Fixed(
        'false', "The images of Tempest's servers have no guest agent."),
    'cold_migration': _whole(
        'operation.resize',
        why='Complete resize includes the move to another host.'),
    'config_drive': _rows('guest.setup.configdrive'),
    'console_output': _rows('console.serial.log'),
    'dhcp_domain': Fixed('.novalocal', "Nova's default."),
    'disk_config': Fixed(
        'true', 'An attribute of the API that Nova itself keeps.'),
    'enable_instance_password': Fixed('true', "Nova's default."),
    'hostname_fqdn_sanitization': Fixed(
        'false', 'It tests names in Nova itself, and boots a server.'),
    'ide_bus': _whole(
        'operation.rescue', columns=('x86-hvm',),
        why='Only HVM guests have IDE disks.'),
    'interface_attach': _rows(
        'operation.attach-interface', 'operation.detach-interface'),
    'live_migrate_back_and_forth': Fixed(
        'false', 'The cloud has one version of nova-compute.'),
    'live_migration': _rows('operation.live-migrate'),
    'metadata_service': Fixed('true', "Neutron's agent serves it."),
    'nova_policy_roles': Fixed('admin,member,reader', "Nova's defaults."),
    'pause': _rows('operation.pause', 'operation.unpause'),
    'personality': _rows('guest.setup.inject.file'),
    'rescue': _rows('operation.rescue'),
    'resize': _rows('operation.resize'),
    'scheduler_enabled_filters': Fixed(
        'ComputeFilter,ComputeCapabilitiesFilter,ImagePropertiesFilter,'
        'ServerGroupAntiAffinityFilter,ServerGroupAffinityFilter',
        "Nova's defaults."),
    'serial_console': _rows('console.serial.interactive'),
    'shelve': _rows(
        'operation.snapshot',
        why='Nova makes it of a snapshot, a delete and a launch.'),
    'shelve_migrate': _whole(
        'operation.snapshot', 'operation.resize',
        why='An unshelved server moves to another host.'),
    'snapshot': _rows('operation.snapshot'),
    'spice_console': _rows('console.spice'),
    'stable_rescue': _whole(
        'operation.rescue',
        why='Complete rescue includes disks that keep their places.'),
    'suspend': _rows('operation.suspend', 'operation.resume'),
    'swap_volume': _whole(
        'operation.swap-volume',
        why='Tempest swaps volumes that Cinder does not move.'),
    'unified_limits': Fixed(
        'false', "Nova keeps quotas in its own database, as by default."),
    'vnc_console': _rows('console.vnc'),
    'volume_backed_live_migration': _rows(
        'operation.live-migrate', 'operation.attach-volume'),
    'volume_multiattach': _rows('operation.multiattach-volume'),
    'vtpm_live_migration': _rows(
        'operation.live-migrate', 'operation.boot-emulated-tpm'),
}


def load(path: pathlib.Path = MATRIX) -> configparser.ConfigParser:
    """Read a support matrix.

    :param path: the file.
    """
    matrix = configparser.ConfigParser(interpolation=None)
    with open(path, encoding='utf-8') as file:
        matrix.read_file(file)
    return matrix


def options(
    matrix: configparser.ConfigParser, column: str = COLUMN,
) -> dict[str, str]:
    """Return Tempest's ``[compute-feature-enabled]``.

    :param matrix: from :func:`load`.
    :param column: the guest type of Tempest's servers.
    :returns: the value of every option.
    :raises KeyError: the matrix lacks a row or the column.
    """
    return {
        name: rule.value if isinstance(rule, Fixed)
        else str(not any(_lacking(rule, matrix, column))).lower()
        for name, rule in OPTIONS.items()}


def skipped(
    matrix: configparser.ConfigParser, column: str = COLUMN,
) -> dict[str, str]:
    """Return why Tempest skips what :func:`options` switches off.

    :param matrix: from :func:`load`.
    :param column: the guest type of Tempest's servers.
    :returns: sentences, by the option's name.
    """
    why = {}
    for name, rule in OPTIONS.items():
        if isinstance(rule, Rows):
            if lacking := list(_lacking(rule, matrix, column)):
                why[name] = ' '.join(
                    [*lacking, *([rule.why] if rule.why else [])])
        elif rule.value == 'false':
            why[name] = rule.why
    return why


def _lacking(
    rule: Rows, matrix: configparser.ConfigParser, column: str,
) -> Iterator[str]:
    """What an option lacks, as sentences."""
    guests = f'{matrix[f"driver.{column}"]["title"]} guests'
    if rule.columns and column not in rule.columns:
        yield f'Not for {guests}.'
    for name in rule.names:
        cell = matrix[name][f'driver.{column}']
        if cell not in rule.enough:
            yield f'"{matrix[name]["title"]}" is {cell} for {guests}.'


def main(argv: Sequence[str] | None = None) -> None:
    """Print the options that follow the driver, ``option=value`` on a line."""
    matrix = load()
    columns = [name.removeprefix('driver.') for name in matrix
               if name.startswith('driver.')]
    parser = argparse.ArgumentParser(
        prog='python3 -m labkit.features',
        description="Tempest's options that follow the driver.")
    parser.add_argument('column', nargs='?', default=COLUMN, choices=columns)
    column = parser.parse_args(argv).column
    for name, value in options(matrix, column).items():
        if isinstance(OPTIONS[name], Rows):
            print(f'{name}={value}')


if __name__ == '__main__':
    main()
