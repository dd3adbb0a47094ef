# SPDX-License-Identifier: Apache-2.0
"""The command line of the lab: ``lab/xenlab``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Sequence
import contextlib
import functools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

from labkit import arch
from labkit import bench
from labkit import compute
from labkit import config
from labkit import demo
from labkit import gate
from labkit import guest
from labkit import images
from labkit import network
from labkit import util
from labkit import volumes
from labkit.cloud import Cloud
from labkit.cloud import Row
from labkit.cloud import dashboard
from labkit.cloud import settings
from labkit.host import Status
from labkit.host import XenHost
from labkit.host import all_hosts
from labkit.host import hosts

#: Commands that take all the rest of the line, options too.
_WHOLE_LINE = ('ssh', 'exec', 'openstack')
_HOST_NAME = rf'(?:{"|".join(config.HOST_NAMES.values())})\d+'


def _host(name: str) -> XenHost:
    for host in all_hosts():
        if host.name == name:
            return host
    raise util.LabError(f'no such host: {name}')


# Up and down

def _start_host(host: XenHost) -> None:
    if host.running:
        host.check()
        util.say(f'{host.name}: runs already')
    else:
        host.start()


def _start_cloud(cloud: Cloud) -> None:
    if all(row.state == 'up' for row in cloud.status()):
        util.say('openstack: runs already')
    else:
        cloud.start()


def _start_hosts(architecture: str) -> None:
    for host in hosts(architecture):
        _start_host(host)


def up(args: argparse.Namespace) -> int:
    """Start what is not running: Xen host, OpenStack, nova-compute."""
    network.refuse_beside_another()
    with util.Lock(), util.step('xenlab up'):
        if args.host_only:
            _start_hosts(args.arch)
            return 0
        cloud = Cloud()
        # The controller's switch takes the taps that it finds.
        network.up()
        for host in hosts(args.arch):
            network.add_taps(host.number)
        # QEMU for the hosts, fetched beside their image.
        util.together(functools.partial(_start_hosts, args.arch),
                      functools.partial(_start_cloud, cloud),
                      functools.partial(guest.small_guest, args.arch),
                      arch.get(args.arch).program.command)
        util.together(
            functools.partial(images.ensure, cloud, args.arch),
            *(functools.partial(compute.start, host, cloud)
              for host in hosts(args.arch)))
    return 0


def check(args: argparse.Namespace) -> int:
    """See that no other lab runs on this machine. Exit 1 if one does."""
    network.refuse_beside_another()
    return 0


def _stop(title: str, action: Callable[[], object]) -> None:
    with util.step(title):
        action()


def _stop_all(*, host_only: bool = False) -> None:
    """Stop everything; what fails does not keep the rest running.

    :param host_only: keep the network, and the cloud if one runs.
    """
    with contextlib.ExitStack() as stack:
        if not host_only:
            stack.callback(network.down)
        for host in all_hosts():
            if host.running:
                stack.callback(_stop, f'{host.name}: stop', host.stop)
        if not host_only:
            stack.callback(_stop, 'openstack: stop', Cloud().stop)


def down(args: argparse.Namespace) -> int:
    """Stop the lab. A Xen host comes back as freshly booted."""
    with util.Lock():
        _stop_all(host_only=args.host_only)
    return 0


def reset(args: argparse.Namespace) -> int:
    """Stop the lab and throw all its state away, but not the cache."""
    with util.Lock() as lock:
        _stop_all()
        for path in config.STATE.iterdir():
            if path == lock.path:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        util.say(f'{config.STATE}: empty')
    return 0


def _running() -> list[XenHost]:
    """The hosts that run; those that would be started, where none does."""
    return [host for host in all_hosts() if host.running] or hosts()


def reinstall(args: argparse.Namespace) -> int:
    """Put this checkout's driver into dom0 and restart nova-compute."""
    with util.Lock(), util.step('reinstall'):
        for host in _running():
            compute.reinstall(host, Cloud())
    return 0


def start_volumes(args: argparse.Namespace) -> int:
    """Start cinder-volume in dom0, which a lab begins without."""
    with util.Lock():
        for host in hosts():
            host.check()
            volumes.start(host, Cloud())
    return 0


def web_page(args: argparse.Namespace) -> int:
    """Start Horizon, the web page, which a lab begins without."""
    with util.Lock():
        if args.stop:
            dashboard.stop()
            return 0
        if not network.exists():
            raise util.LabError('the lab is down')
        with util.step('openstack: Horizon'):
            dashboard.start()
    util.say(f'{dashboard.URL}, in the lab\'s network')
    return 0


# For a cloud of this machine that is not the lab's

def node(args: argparse.Namespace) -> int:
    """Give this machine an address in the lab's network."""
    with util.Lock():
        network.add_node()
    util.say(f'{config.NODE_LINK}: {config.NODE_IP}')
    return 0


def join(args: argparse.Namespace) -> int:
    """Make the running Xen host a compute node of another cloud."""
    try:
        cloud = settings.Foreign(**dict(
            line.rstrip('\n').split('=', 1) for line in sys.stdin))
    except (ValueError, TypeError) as error:
        raise util.LabError(f'join: standard input: {error}') from None
    with util.Lock(), util.step('xenlab join'):
        for host in hosts():
            host.check()
            compute.join(host, args.venv, cloud)
    return 0


# Looking

def status(args: argparse.Namespace) -> int:
    """Show what runs. Exit 0 if all of it does, 3 if not."""
    # Those that were ever started in this lab.
    there = [host for host in all_hosts() if host.directory.exists()]
    rows: list[Status | Row] = [
        host.status() for host in there or hosts()]
    rows += Cloud().status()
    table = [('name', 'state', 'pid', 'MiB', 'log')]
    table += [(row.name, row.state, str(row.pid or '-'), str(row.memory),
               str(row.log)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for name, state, pid, memory, log in table:
        print(f'{name:<{widths[0]}}  {state:<{widths[1]}}  '
              f'{pid:>{widths[2]}}  {memory:>{widths[3]}}  {log}')
    return 0 if all(row.state == 'up' for row in rows) else 3


def _age(path: pathlib.Path) -> str:
    minutes = int(time.time() - path.stat().st_mtime) // 60
    return f'{minutes // 60}:{minutes % 60:02} h ago'


def logs(args: argparse.Namespace) -> int:
    """List the logs, or show the end of one."""
    found = sorted(config.LOGS.glob('*.log'))
    if not args.name:
        for path in found:
            size = path.stat().st_size // 1024
            print(f'{path.stem:<28} {size:>8} KiB  {_age(path):>12}  {path}')
        return 0
    chosen = [path for path in found if path.stem == args.name]
    if not chosen:
        raise util.LabError(f'no such log: {args.name} (there are: '
                            + ' '.join(path.stem for path in found) + ')')
    follow = ['-F'] if args.follow else []
    return subprocess.run(['tail', '-n', str(args.lines), *follow,
                           chosen[0]], check=False).returncode


# Working inside

def _exec_in_netns(argv: Sequence[str]) -> int:
    """Run ``argv`` on our own terminal, inside the lab's namespace."""
    if not network.exists():
        raise util.LabError('the lab is down')
    if not shutil.which(argv[0]):
        raise util.LabError(f'no such command: {argv[0]}')
    return subprocess.run(util.in_netns(argv), check=False).returncode


def ssh(words: list[str]) -> int:
    """Run a command in dom0 as root, or a shell."""
    host = _running()[0]
    if words and re.fullmatch(_HOST_NAME, words[0]):
        host = _host(words.pop(0))
    if words[:1] == ['--']:
        words.pop(0)
    # A single word is a line for dom0's shell; several are a command.
    return _exec_in_netns(host.ssh_command(
        words[0] if len(words) == 1 else words,
        tty=not words and sys.stdin.isatty()))


def execute(words: list[str]) -> int:
    """Run a command in the lab's network namespace."""
    if words[:1] == ['--']:
        words.pop(0)
    if not words:
        raise util.LabError('exec: which command?')
    return _exec_in_netns(words)


def openstack(words: list[str]) -> int:
    """Run the openstack client as the lab's admin."""
    return Cloud().openstack(words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='xenlab', description='A real Xen host in QEMU and a small '
        'real OpenStack beside it, on this machine.')
    commands = parser.add_subparsers(dest='command', required=True,
                                     metavar='COMMAND')

    def add(name: str, action: Callable[..., int]) -> argparse.ArgumentParser:
        help = (action.__doc__ or '').strip()
        command = commands.add_parser(name, help=help, description=help)
        command.set_defaults(action=action)
        return command

    command = add('up', up)
    command.add_argument(
        '--host-only', action='store_true',
        help='only the Xen host, without OpenStack')
    images.add_architecture(command)
    command = add('down', down)
    command.add_argument(
        '--host-only', action='store_true',
        help='only the Xen host: not OpenStack, and not the network')
    add('check', check)
    add('status', status)
    add('ssh', ssh).usage = 'xenlab ssh [HOST] [COMMAND...]'
    command = add('logs', logs)
    command.add_argument('name', nargs='?', help='the log to show')
    command.add_argument('-n', '--lines', type=int, default=40)
    command.add_argument('-f', '--follow', action='store_true',
                         help='go on as it grows')
    add('openstack', openstack).usage = 'xenlab openstack ARGUMENT...'
    add('exec', execute).usage = 'xenlab exec COMMAND...'
    add('reset', reset)
    add('reinstall', reinstall)
    add('volumes', start_volumes)
    add('horizon', web_page).add_argument(
        '--stop', action='store_true', help='stop it')
    add('node', node)
    command = add('join', join)
    command.epilog = (
        'Standard input describes the cloud, with passwords: NAME=VALUE on '
        'a line for each field of labkit.cloud.settings.Foreign. The lab '
        'was started by "up --host-only", and "node" was called.')
    command.add_argument('--venv', type=pathlib.Path, required=True,
                         help='virtual environment whose pip builds the '
                         'driver')
    for module in (images, gate, bench, demo):
        module.add_parsers(add)
    return parser


def _check_environment() -> None:
    """:raises LabError: a variable has a value that means nothing."""
    if config.ARCHITECTURE not in config.HOST_NAMES:
        raise util.LabError(
            f'XENLAB_ARCH={config.ARCHITECTURE}: no such architecture '
            f'(there are: {" ".join(config.HOST_NAMES)})')


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    :returns: the exit status: 0 well, 1 failed (the reason was printed),
        130 interrupted or terminated; of ``ssh``, ``exec`` and
        ``openstack`` the command's own.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # It is how we were found, and not for what we start.
    os.environ.pop('PYTHONPATH', None)
    # Whoever ends us wants what we started to end as well.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _check_environment()
        if words and words[0] in _WHOLE_LINE and words[1:2] != ['-h']:
            # Not for argparse: options in it are the command's own.
            action = {'ssh': ssh, 'exec': execute,
                      'openstack': openstack}[words[0]]
            util.need_root()
            return action(words[1:])
        args = _parser().parse_args(words)
        util.need_root()
        result: int = args.action(args)
        return result
    except util.LabError as error:
        print(f'xenlab: {error}', file=sys.stderr)
        for line in error.last_lines():
            print(f'  | {line}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('xenlab: interrupted', file=sys.stderr)
        return 130
