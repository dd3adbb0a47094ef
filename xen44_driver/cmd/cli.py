# SPDX-License-Identifier: Apache-2.0
"""The commands ``xen44-host`` and ``xen44-status``.

They look at the host on which they run, with nova-compute's configuration.
What they do is imported when they do it, as Nova's code takes seconds to
import.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import logging
import os
import sys
import traceback

from nova import conf
from oslo_config import cfg

from xen44_driver import conf as our_conf
from xen44_driver.cmd import report
from xen44_driver.xen import errors

CONF = conf.CONF

#: Exit status if nothing could be found out.
FAILED = 2


def host_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line of ``xen44-host``."""
    top = argparse.ArgumentParser(
        prog='xen44-host', description='Look at this host: the dom0 of a Xen '
        'host that is a compute node of Nova. Run it as root.')
    top.add_argument(
        '--config-file', action='append', metavar='PATH',
        help='a configuration file of nova-compute; can be given more than '
             'once (default: nova.conf where Nova looks for it)')
    top.add_argument(
        '--config-dir', action='append', metavar='DIR',
        help='a directory with further configuration files')
    commands = top.add_subparsers(
        dest='command', metavar='COMMAND', required=True)
    for name, run, text in (
            ('check', _check, 'check whether the host is fit to be a compute '
             'node with the xen44 driver'),
            ('status', _status, 'list the domains of the host, and what is '
             'used of it')):
        command = commands.add_parser(
            name, help=text, description=f'{text[0].upper()}{text[1:]}.')
        command.set_defaults(run=run)
        command.add_argument(
            '--json', action='store_true', help='print JSON')
        if name == 'status':
            command.add_argument(
                '--compare', action='store_true',
                help='compare with Nova\'s servers on this host; needs an '
                     'administrator\'s credentials (OS_CLOUD and '
                     'clouds.yaml, or other variables OS_*)')
    return top


def _check(arguments: argparse.Namespace) -> int:
    from xen44_driver.cmd import hostcheck  # noqa: PLC0415 (see above)

    return hostcheck.run(as_json=arguments.json)


def _status(arguments: argparse.Namespace) -> int:
    from xen44_driver.cmd import hoststatus  # noqa: PLC0415 (see above)

    return hoststatus.run(as_json=arguments.json, compare=arguments.compare)


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
    arguments = host_parser().parse_args(argv)
    _be_quiet()
    try:
        _configure(arguments)
        status: int = arguments.run(arguments)
    except (report.CannotWork, cfg.Error, errors.XenError, OSError) as error:
        print(f'xen44-host: {error}', file=sys.stderr)
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
