# SPDX-License-Identifier: Apache-2.0
"""The commands ``xen44-host``, ``xen44-import`` and ``xen44-status``.

They look at the host on which they run, or change it, with nova-compute's
configuration. What they do is imported when they do it, as Nova's code takes
seconds to import.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Sequence
import logging
import os
import sys
import traceback
from typing import Any

from nova import conf
from oslo_config import cfg

from xen44_driver import conf as our_conf
from xen44_driver.cmd import report
from xen44_driver.xen import errors

CONF = conf.CONF

#: Exit status if nothing could be found out.
FAILED = 2

# What commands that ask Nova need.
_RIGHTS = ('an administrator\'s credentials (OS_CLOUD and clouds.yaml, or '
           'other variables OS_*)')
_VERBS = {'reboot': 'reboot', 'shutdown': 'shut down'}
# Seconds.
_LONGEST = 86400


def host_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line of ``xen44-host``."""
    top = argparse.ArgumentParser(
        prog='xen44-host', description='Look after this host: the dom0 of a '
        'Xen host that is a compute node of Nova. Run it as root.')
    _add_configuration(top)
    commands = top.add_subparsers(
        dest='command', metavar='COMMAND', required=True)
    _add(commands, 'check', _check,
         'check whether the host is fit to be a compute node with the xen44 '
         'driver')
    status = _add(commands, 'status', _status,
                  'list the domains of the host, and what is used of it')
    status.add_argument(
        '--compare', action='store_true',
        help=f'compare with Nova\'s servers on this host; needs {_RIGHTS}')
    _add_maintenance(commands)
    toolstack = _add(
        commands, 'restart-toolstack', _restart_toolstack,
        'restart libvirtd while the guests run on',
        'Then wait until it lists the same running guests as Xen. Operations '
        'that Nova is carrying out on this host fail. xenstored is not '
        'restarted: that is not possible while guests run, as it would '
        'forget their devices. Only a reboot of the host restarts it.')
    _add_timeout(toolstack, 'the restart may take, and libvirt then has to '
                            'list the guests', 300)
    _add(commands, 'build-loaders', _build_loaders,
         'build the loaders that boot PV and PVH guests from their own disks',
         'They are made of the modules of grub that are installed (Debian: '
         'package grub-xen-bin) and put into the directory of the option '
         '[xen44_x86_64] loader_directory, where nova-compute finds them. Run '
         'it again after an update of grub or of the driver.')
    probe = _add(
        commands, 'probe-nested', _probe_nested,
        'try whether guests of this host can run guests of their own',
        'A small HVM guest of dom0\'s kernel and Python is started, and '
        'starts a guest with KVM. If that runs to its end, nova-compute '
        'offers nested virtualization, if [xen44_x86_64] nested_hvm allows '
        'it. Run it again after an update of Xen. Xen calls this '
        'experimental: it may crash the host, so run it while no guest is '
        'needed.')
    _add_yes(probe)
    _add_timeout(probe, 'the guest has', 300)
    probe = _add(
        commands, 'probe-uefi', _probe_uefi,
        'try whether the UEFI firmware starts on this host',
        'An HVM guest without a disk is started with the firmware of '
        '[xen44_x86_64] uefi_firmware. Until it was seen to start, check and '
        'nova-compute warn. Run it again after an update of Xen or of the '
        'firmware.')
    _add_timeout(probe, 'the firmware has', 300)
    removal = _add(
        commands, 'remove', _remove,
        'stop nova-compute and take the host out of Nova for good',
        'Nova then has no compute service, no compute node and no placement '
        'provider of it. This is refused, with the names of what is in the '
        'way, while the compute service is enabled (see maintenance), while '
        'the host has instances, also stopped ones, and while migrations have '
        f'not ended. It needs {_RIGHTS}. After a failure, run it again; once '
        'the host is gone, that changes nothing.')
    _add_yes(removal)
    _add_timeout(removal, 'Nova has to see that nova-compute has ended, and '
                          'again to remove all', 180)
    for name in ('reboot', 'shutdown'):
        power = _add(
            commands, name, _power, f'{_VERBS[name]} the host',
            'This is refused while guests run, and while the compute '
            'service is enabled (see maintenance). To see whether it is, the '
            f'command needs {_RIGHTS}.')
        power.add_argument(
            '--force', action='store_true',
            help='do it nevertheless, without asking Nova; guests that run '
                 'are killed')
        _add_yes(power)
    return top


def import_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line of ``xen44-import``."""
    parser = argparse.ArgumentParser(
        prog='xen44-import', description='Take over domains of this host that '
        'Nova did not make, such as those of xl or virsh. Without --yes, it '
        'only prints which can be imported, and why others cannot. Run it as '
        f'root in dom0. It needs {_RIGHTS}; their project gets what is made.',
        epilog='Nova cannot adopt a domain, least of all one that runs: shut '
        'it down first. Its disks are copied into an image, and into volumes '
        'from the second disk on, and a new server is made of them, with '
        'ports of the same MAC addresses. What Nova\'s libvirt driver has '
        'left (virt_type=xen), and Nova still has, is taken over in place, '
        'without a copy. Then the old domain is undefined; its definition is '
        'kept in a file, and its disks stay.')
    parser.set_defaults(run=_import)
    _add_configuration(parser)
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.add_argument(
        'domains', nargs='*', metavar='DOMAIN',
        help='name or UUID of a domain (default: all that are not Nova\'s)')
    parser.add_argument(
        '--flavor', metavar='FLAVOR',
        help='flavor of the new servers, by name or id; for a PVH domain it '
             'has to have xen44:guest_type=pvh')
    parser.add_argument(
        '--network', action='append', default=[], metavar='NETWORK',
        help='network of the new servers, by name or id; give it once for '
             'each interface if they differ. An interface whose MAC address '
             'an unused port has gets that port, with its addresses')
    parser.add_argument(
        '--yes', action='store_true', help='import the domains that are named')
    _add_timeout(parser, 'a new server has to start, and each volume of it '
                         'has to be made', 3600)
    return parser


def _add_configuration(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--config-file', action='append', metavar='PATH',
        help='a configuration file of nova-compute; can be given more than '
             'once (default: nova.conf where Nova looks for it)')
    parser.add_argument(
        '--config-dir', action='append', metavar='DIR',
        help='a directory with further configuration files')


def _add(commands: Any, name: str, run: Callable[[argparse.Namespace], int],
         text: str, more: str = '') -> argparse.ArgumentParser:
    """Add a command.

    :param commands: what argparse has for them.
    :param run: returns the exit status.
    :param text: what the command does, without a full stop.
    :param more: further sentences about it.
    """
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text,
        description=f'{text[0].upper()}{text[1:]}. {more}'.strip())
    command.set_defaults(run=run)
    command.add_argument('--json', action='store_true', help='print JSON')
    return command


def _add_maintenance(commands: Any) -> None:
    text = 'take the host out of use, and back'
    maintenance = commands.add_parser(
        'maintenance', help=text,
        description=f'T{text[1:]}, through Nova\'s API. It needs {_RIGHTS}.')
    states = maintenance.add_subparsers(
        dest='state', metavar='STATE', required=True)
    on = _add(states, 'on', _maintenance_on,
              'disable the host\'s compute service, so that no new instances '
              'come, and list the instances that run',
              'After a failure, run it again.')
    on.add_argument('--reason', required=True, metavar='TEXT',
                    help='why; Nova shows it with the service')
    on.add_argument('--stop', action='store_true',
                    help='stop the instances, and remember which')
    _add_yes(on)
    _add_timeout(on, 'the instances have to stop, all together', 600)
    off = _add(states, 'off', _maintenance_off,
               'enable the host\'s compute service again',
               'libvirt has to answer. After a failure, run it again.')
    off.add_argument(
        '--start', action='store_true',
        help='start the instances that "on --stop" stopped')
    _add_timeout(off, 'the instances have to start, all together', 600)


def _add_yes(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        '--yes', action='store_true',
        help='do not ask; needed where there is no terminal')


def _add_timeout(command: argparse.ArgumentParser, what: str,
                 default: int) -> None:
    command.add_argument(
        '--timeout', type=_seconds, default=default, metavar='SECONDS',
        help=f'seconds that {what} (default: %(default)s)')


def _seconds(text: str) -> int:
    """Return a number of seconds.

    :raises argparse.ArgumentTypeError: it is not one.
    """
    if text.isascii() and text.isdigit() and len(text) < 9:
        seconds = int(text)
        if 0 < seconds <= _LONGEST:
            return seconds
    raise argparse.ArgumentTypeError(
        f'{text!r} is not a number of seconds from 1 to {_LONGEST}')


def _check(arguments: argparse.Namespace) -> int:
    from xen44_driver.cmd import hostcheck  # noqa: PLC0415 (see above)

    return hostcheck.run(as_json=arguments.json)


def _status(arguments: argparse.Namespace) -> int:
    from xen44_driver.cmd import hoststatus  # noqa: PLC0415 (see above)

    return hoststatus.run(as_json=arguments.json, compare=arguments.compare)


def _maintenance_on(arguments: argparse.Namespace) -> int:
    from xen44_driver.cmd import maintenance  # noqa: PLC0415 (see above)

    return maintenance.enter(
        reason=arguments.reason, stop=arguments.stop, yes=arguments.yes,
        timeout=arguments.timeout, as_json=arguments.json)


def _maintenance_off(arguments: argparse.Namespace) -> int:
    from xen44_driver.cmd import maintenance  # noqa: PLC0415 (see above)

    return maintenance.leave(
        start=arguments.start, timeout=arguments.timeout,
        as_json=arguments.json)


def _restart_toolstack(arguments: argparse.Namespace) -> int:
    from xen44_driver.cmd import toolstack  # noqa: PLC0415 (see above)

    return toolstack.run(as_json=arguments.json, timeout=arguments.timeout)


def _remove(arguments: argparse.Namespace) -> int:
    from xen44_driver.cmd import hostremoval  # noqa: PLC0415 (see above)

    return hostremoval.run(
        yes=arguments.yes, timeout=arguments.timeout, as_json=arguments.json)


def _build_loaders(arguments: argparse.Namespace) -> int:
    from xen44_driver.cmd import grubloaders  # noqa: PLC0415 (see above)

    return grubloaders.run(as_json=arguments.json)


def _probe_nested(arguments: argparse.Namespace) -> int:
    from xen44_driver.cmd import nestedprobe  # noqa: PLC0415 (see above)

    return nestedprobe.run(
        as_json=arguments.json, yes=arguments.yes, timeout=arguments.timeout)


def _probe_uefi(arguments: argparse.Namespace) -> int:
    from xen44_driver.cmd import uefiprobe  # noqa: PLC0415 (see above)

    return uefiprobe.run(as_json=arguments.json, timeout=arguments.timeout)


def _power(arguments: argparse.Namespace) -> int:
    from xen44_driver.cmd import hostpower  # noqa: PLC0415 (see above)

    return hostpower.run(
        hostpower.Action[arguments.command.upper()], as_json=arguments.json,
        force=arguments.force, yes=arguments.yes)


def _import(arguments: argparse.Namespace) -> int:
    from xen44_driver.cmd import importing  # noqa: PLC0415 (see above)
    from xen44_driver.cmd import newservers  # noqa: PLC0415 (see above)

    return importing.run(
        arguments.domains, newservers.Wanted(
            flavor=arguments.flavor, networks=arguments.network,
            timeout=arguments.timeout),
        yes=arguments.yes, as_json=arguments.json)


def _be_quiet() -> None:
    """Keep logs of the driver and warnings of libraries from the terminal."""
    logging.basicConfig(level=logging.ERROR)
    logging.captureWarnings(True)


def status_main(argv: Sequence[str] | None = None) -> int:
    """Run ``xen44-status``.

    :param argv: the arguments; None for this process's.
    :returns: the exit status.
    """
    _be_quiet()
    from xen44_driver.cmd import upgrade  # noqa: PLC0415 (see above)

    return upgrade.main(argv)


def host_main(argv: Sequence[str] | None = None) -> int:
    """Run ``xen44-host``.

    :param argv: the arguments; None for this process's.
    :returns: the exit status.
    """
    return _main(host_parser(), argv)


def import_main(argv: Sequence[str] | None = None) -> int:
    """Run ``xen44-import``.

    :param argv: the arguments; None for this process's.
    :returns: the exit status.
    """
    return _main(import_parser(), argv)


def _main(parser: argparse.ArgumentParser,
          argv: Sequence[str] | None) -> int:
    arguments = parser.parse_args(argv)
    _be_quiet()
    try:
        _configure(arguments)
        status: int = arguments.run(arguments)
    except (report.CannotWork, cfg.Error, errors.XenError, OSError) as error:
        print(f'{parser.prog}: {error}', file=sys.stderr)
        return FAILED
    except Exception:
        traceback.print_exc()
        return FAILED
    return status


def _configure(arguments: argparse.Namespace) -> None:
    """Read the configuration.

    :raises oslo_config.cfg.Error: it cannot be read.
    """
    our_conf.register_opts(CONF)
    # Absolute, for the privsep daemons, which read them too.
    CONF([f'--{kind}={os.path.abspath(path)}' for kind, paths in (
        ('config-file', arguments.config_file),
        ('config-dir', arguments.config_dir)) for path in paths or ()],
        project='nova')
