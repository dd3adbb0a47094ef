# SPDX-License-Identifier: Apache-2.0
"""``xen44-status upgrade check``: may this host be upgraded?

Run it with the new version of the driver, before nova-compute is started with
that.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import glob
import os
import sys

from nova import conf
from nova import version
from oslo_config import cfg
from oslo_upgradecheck import upgradecheck

from xen44_driver import conf as our_conf
from xen44_driver.compute import machine
from xen44_driver.xen import errors
from xen44_driver.xen import host as xen_host

CONF = conf.CONF

#: What Nova's ``compute_driver`` has to be.
DRIVER = 'xen44.Xen44Driver'

#: Releases of Nova that the driver was tested with: major versions, oldest
#: first.
RELEASES = (31, 32, 33, 34)

# The section of the driver's privsep daemon, whose options are oslo.privsep's.
_PRIVSEP = 'xen44_privileged'

# The most UUIDs in a message.
_MOST = 10


class Checks(upgradecheck.UpgradeCommands):
    """The checks of ``xen44-status upgrade check``."""

    display_title = 'Upgrade Check Results'

    def machine_records(self) -> upgradecheck.Result:
        """Check that the driver can read the record of each instance."""
        host = xen_host.Host(CONF.xen44.connection_uri)
        try:
            host.connect()
            unread = dict(_unread(host))
        except errors.XenError as error:
            return _failure(f'The domains of this host cannot be looked at: '
                            f'{error}')
        finally:
            host.close()
        if not unread:
            return upgradecheck.Result(upgradecheck.Code.SUCCESS)
        shown = '; '.join(f'{uuid}: {reason}' for uuid, reason
                          in list(unread.items())[:_MOST])
        more = len(unread) - _MOST
        return _failure(
            f'{shown}{f"; and {more} more" if more > 0 else ""}. '
            'Go back to the version of the driver that made these records, '
            'or delete these servers')

    def settings(self) -> upgradecheck.Result:
        """Check that nothing of another driver for Xen is configured."""
        found = _read_files()
        if CONF.compute_driver != DRIVER:
            return _failure(
                f'[DEFAULT] compute_driver is {CONF.compute_driver}: set it '
                f'to {DRIVER}')
        left = []
        if 'xen' in found.get('libvirt', {}).get('virt_type', ()):
            left.append('[libvirt] virt_type = xen, of Nova\'s libvirt driver')
        if 'xenserver' in found:
            left.append('the section [xenserver], of Nova\'s XenAPI driver')
        return _warning(left, 'Remove what this driver does not read: ')

    def release(self) -> upgradecheck.Result:
        """Check the release of Nova."""
        is_ = version.version_string()
        major = int(is_.split('.', maxsplit=1)[0])
        if major < RELEASES[0]:
            return _failure(f'Nova is {is_}: the driver needs '
                            f'{RELEASES[0]}.0.0 or newer')
        return _warning(
            [is_] if major > RELEASES[-1] else [],
            f'The driver was tested with Nova {RELEASES[-1]} and older, not '
            'with ')

    def options(self) -> upgradecheck.Result:
        """Check that the driver has every option that is set for it."""
        known = {
            group.name: {name for option in options
                         for name in (option.name, option.dest)}
            for group, options in our_conf.list_opts()}
        ours = {name: values for name, values in _read_files().items()
                if name.startswith('xen44') and name != _PRIVSEP}
        return _warning(
            [f'[{section}] {option}' for section, values in ours.items()
             for option in values if option not in known.get(section, ())],
            'The driver has no such options (see its release notes): ')

    _upgrade_checks = (
        ('Records of instances', machine_records),
        ('Settings of other drivers', settings),
        ('Release of Nova', release),
        ('Options of the driver', options))


def _failure(text: str) -> upgradecheck.Result:
    return upgradecheck.Result(upgradecheck.Code.FAILURE, text)


def _warning(found: Sequence[str], text: str) -> upgradecheck.Result:
    """Return a warning that ends with what was found, or success."""
    if not found:
        return upgradecheck.Result(upgradecheck.Code.SUCCESS)
    return upgradecheck.Result(upgradecheck.Code.WARNING,
                               text + ', '.join(found))


def _unread(host: xen_host.Host) -> Iterator[tuple[str, str]]:
    """Yield UUIDs of instances whose record cannot be read, and why."""
    for summary in host.inventory():
        # Those of older versions get their record at their next start.
        if summary.metadata is None or summary.metadata.machine is None:
            continue
        try:
            machine.Machine.from_json(summary.metadata.machine)
        except machine.MachineUnreadable as error:
            yield summary.record.uuid, str(error)


def _read_files() -> Mapping[str, Mapping[str, Sequence[str]]]:
    """Read the configuration files: values by section and option.

    oslo.config tells nothing of options that no code registers.
    """
    found: dict[str, dict[str, list[str]]] = {}
    paths = [*CONF.config_file]
    for directory in CONF.config_dir or ():
        paths += sorted(glob.glob(os.path.join(directory, '*.conf')))
    for path in paths:
        cfg.ConfigParser(path, found).parse()
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    :param argv: the arguments; None for this process's.
    :returns: the exit status: 0 for success, 1 for warnings, 2 for failures,
        255 if the checks could not be made.
    """
    our_conf.register_opts(CONF)
    return int(upgradecheck.main(
        CONF, 'nova', Checks(),
        argv=list(sys.argv[1:] if argv is None else argv)))
