# SPDX-License-Identifier: Apache-2.0
"""The controller alone: ``python3 -m labkit.cloud start|stop|status|...``."""

from __future__ import annotations

import argparse
import sys

from labkit import util
from labkit.cloud import Cloud


def main() -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog='labkit.cloud')
    parser.add_argument('command', choices=(
        'install', 'start', 'stop', 'status', 'openstack'))
    parser.add_argument('argument', nargs=argparse.REMAINDER,
                        help='arguments for the openstack client')
    args = parser.parse_args()
    cloud = Cloud()
    if args.command == 'openstack':
        return cloud.openstack(args.argument)
    if args.command == 'status':
        rows = cloud.status()
        for row in rows:
            util.say(f'{row.name:<26} {row.state:<5} {row.pid or "-":>7} '
                     f'{row.memory:>5} MiB  {row.log}')
        util.say(f'{sum(row.memory for row in rows)} MiB in all')
        return 0
    with util.Lock(), util.step(f'openstack: {args.command}'):
        getattr(cloud, args.command)()
    return 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except util.LabError as error:
        sys.exit(f'xenlab: {error}')
