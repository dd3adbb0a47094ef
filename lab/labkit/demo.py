# SPDX-License-Identifier: Apache-2.0
"""``lab/demo``: see it work, from nothing to a guest's login prompt.

Brings the lab up, launches one instance of each guest type with the real
client, shows what came of it, deletes them and shows that nothing is left.
``--cloudstack`` does that with a guest of CloudStack's instead: a double of a
management server runs the extension, with the payloads that CloudStack has.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import re
import shlex
import subprocess
import time

from labkit import cloudstack
from labkit import config
from labkit import guest
from labkit import images
from labkit import util
from labkit import vnc
from labkit.cloud import GUEST_KEY
from labkit.cloud import Cloud
from labkit.cloud import dashboard
from labkit.cloud import rest
from labkit.cloud.content import KEYPAIR
from labkit.host import XenHost
from labkit.host import hosts
from labkit.servers import Servers

PREFIX = 'demo-'
#: By architecture: guest type: image. HVM is given its kernel: reading it
#: through the emulated BIOS would take minutes.
GUESTS = {
    'x86_64': {'hvm': images.DIRECT, 'pv': images.DISK, 'pvh': images.DISK},
    'aarch64': {'pvh': images.DIRECT_RAW},
}
SCREEN = config.STATE / 'demo' / 'demo-hvm.png'

LOGIN_TIMEOUT = 420
_LOGIN = re.compile(r'^\S+ login:', re.MULTILINE)
#: Lines of a console to show: the guest's report and its prompt.
_CONSOLE_LINES = 18
#: What a terminal would act on: colours, cleared screens. Nova's API has
#: dropped the escape character before.
_CONTROL = re.compile(r'\x1b?\[[0-9;?]*[HJKm]|\r')
_WIDTH = 100


def _title(text: str) -> None:
    util.say(f'\n=== {text}')


def _openstack(cloud: Cloud, *argv: str) -> None:
    """Run the real client as a person would, and show it."""
    util.say(f'$ openstack {shlex.join(argv)}')
    if status := cloud.openstack(argv):
        raise util.LabError(f'openstack {argv[0]} {argv[1]}: exit {status}')


def _dom0(host: XenHost, *argv: str) -> None:
    """Run a command in dom0 and show it."""
    util.say(f'{host.name}# {shlex.join(argv)}')
    util.say(host.ssh(argv).stdout.rstrip() or '(nothing)')


def _launch(cloud: Cloud, servers: Servers,
            architecture: str) -> dict[str, str]:
    """Launch all guests; returns the servers' ids by guest type.

    One is built at a time: with two, dom0 is so busy that libxl may give up a
    device model, and both take longer than in turn.
    """
    begin = time.monotonic()
    ids: dict[str, str] = {}
    for kind, image in GUESTS[architecture].items():
        name = f'{PREFIX}{kind}'
        _openstack(cloud, 'server', 'create', '--image',
                   images.name(image, architecture),
                   '--flavor', f'xen.{kind}', '--network', config.LAB_NET,
                   '--key-name', KEYPAIR, '--column', 'name',
                   '--column', 'status', '--column', 'image', name)
        ids[kind] = servers.named(name)[name]['id']
        servers.wait(ids[kind])
        util.say(f'{name}: ACTIVE after', time.monotonic() - begin)
    waiting = dict(ids)

    def all_prompt() -> bool:
        for kind, ident in list(waiting.items()):
            if _LOGIN.search(servers.console(ident)):
                util.say(f'{PREFIX}{kind}: login prompt after',
                         time.monotonic() - begin)
                del waiting[kind]
        return not waiting

    # Each look is work for dom0, which the guests need as well.
    util.wait_for("the guests' login prompts", all_prompt, LOGIN_TIMEOUT,
                  interval=5)
    return ids


def _show(cloud: Cloud, host: XenHost, servers: Servers,
          ids: dict[str, str]) -> None:
    """Show what runs, from both sides."""
    _openstack(cloud, 'server', 'list')
    _dom0(host, 'xl', 'list')
    for kind, ident in ids.items():
        _show_console(f'{PREFIX}{kind}', servers.console(ident))
    if 'hvm' not in ids:
        return
    _title(f'{PREFIX}hvm: its VNC console, through nova-novncproxy')
    url = servers.screen(ids['hvm'])
    with rest.lab_namespace():
        picture = vnc.save(url, SCREEN)
    util.say(f'{picture.width}x{picture.height}, {picture.colours()} '
             f'colours: {SCREEN}')


def _show_console(name: str, text: str) -> None:
    """Show the end of a guest's console."""
    lines = _CONTROL.sub('', text).splitlines()
    kept = [line.rstrip() for line in lines if line.strip()]
    _title(f'{name}: the end of its console')
    for line in kept[-_CONSOLE_LINES:]:
        util.say(f'  | {line[:_WIDTH]}')


def _remove(cloud: Cloud, host: XenHost, servers: Servers) -> None:
    """Delete the guests and show that nothing is left of them."""
    names = list(servers.named(PREFIX))
    _openstack(cloud, 'server', 'delete', '--wait', *names)
    _openstack(cloud, 'server', 'list')
    _openstack(cloud, 'port', 'list', '--device-owner', 'compute:nova')
    _dom0(host, 'xl', 'list')
    _dom0(host, 'find', '/var/lib/nova/instances', '-mindepth', '1',
          '-maxdepth', '1', '-name', '*-*-*-*-*')
    left = [*servers.named(PREFIX),
            *host.ssh(['virsh', '-q', 'list', '--all', '--name']
                      ).stdout.replace('Domain-0', '').split()]
    if left:
        raise util.LabError('left behind: ' + ' '.join(left))


def _how_to_use(servers: Servers, web: bool) -> None:
    """Say how to use what was left running.

    :param web: with the web page.
    """
    lab = config.LAB / 'xenlab'
    rows = [('the web page', dashboard.URL),
            ('its user', dashboard.USER),
            ('the password', f'OS_PASSWORD in {config.STATE}/openrc'),
            ('to stop the page', f'{lab} horizon --stop')] if web else []
    rows += [('the guests', f'{lab} openstack server list'),
            ('the Xen host', f'{lab} ssh'),
            ('its guests', f'{lab} ssh xl list'),
            ("nova-compute's log",
             f'{lab} ssh tail -f /var/log/nova/nova-compute.log')]
    for name, server in sorted(servers.named(PREFIX).items()):
        address = server['addresses'][config.LAB_NET][0]['addr']
        rows.append((f'into {name}',
                     f'{lab} exec ssh -i {GUEST_KEY} root@{address}'))
        if name == f'{PREFIX}hvm':
            rows.append(('a browser console',
                         f'{lab} openstack console url show {name}'))
    rows += [('your changed driver', f'{lab} reinstall'),
             ('the logs', f'{lab} logs'),
             ('the end', f'{lab} down')]
    _title('It runs on. How to use it:')
    for what, command in rows:
        util.say(f'  {what:<20} {command}')


@contextlib.contextmanager
def _timed(steps: list[tuple[str, float]], title: str) -> Iterator[None]:
    """Run a step, say its title first, and note its seconds."""
    _title(title)
    begin = time.monotonic()
    yield
    steps.append((title, time.monotonic() - begin))


def _xenlab(*argv: str) -> None:
    """Run a command of the lab, as a person would."""
    status = subprocess.run([config.LAB / 'xenlab', *argv],
                            check=False).returncode
    if status:
        raise util.LabError(f'xenlab {shlex.join(argv)}: exit {status}')


def _play(architecture: str, keep: bool, web: bool,
          steps: list[tuple[str, float]]) -> None:
    with _timed(steps, 'The lab: a Xen host and an OpenStack'):
        _xenlab('up', '--arch', architecture)
    cloud, host = Cloud(), hosts(architecture)[0]
    servers = Servers(cloud.client())
    with _timed(steps, 'Images of the guest, in Glance'):
        images.ensure(cloud, architecture)
        if old := servers.named(PREFIX):
            util.say(f'of an earlier demo, deleted: {" ".join(old)}')
            servers.delete(*(one['id'] for one in old.values()))
    with _timed(steps, 'Launch an instance of each guest type'):
        ids = _launch(cloud, servers, architecture)
    with _timed(steps, 'Look at them'):
        _show(cloud, host, servers, ids)
    if web:
        with _timed(steps, 'Horizon, the web page'):
            _xenlab('horizon')
            # Its address is in the lab's network, and so are its consoles.
            _xenlab('node')
    if keep:
        _how_to_use(servers, web)
        return
    with _timed(steps, 'Delete them: nothing is left'):
        _remove(cloud, host, servers)


def _ask(vm: cloudstack.Vm, action: str) -> None:
    """Run an action as CloudStack's management server does, and show it."""
    util.say(f'cloud$ xen44.py {action} PAYLOAD.json {cloudstack.TIMEOUT}')
    util.say(vm.do(action).text or '(nothing)')


def _play_cloudstack(architecture: str,
                     steps: list[tuple[str, float]]) -> None:
    with _timed(steps, 'The lab: a Xen host'):
        _xenlab('up', '--arch', architecture)
    # Where there are downloads.
    guest.small_guest(architecture)
    host = hosts(architecture)[0]
    with rest.lab_namespace(), contextlib.ExitStack() as stack:
        with _timed(steps, 'CloudStack\'s extension: dom0, and its folder'):
            vm = cloudstack.Vm(stack.enter_context(
                cloudstack.management_server(host)), 'pvh',
                arch=architecture)
        # If a step fails.
        stack.callback(vm.act, 'delete')
        with _timed(steps, f'{vm.name}: made by CloudStack\'s payloads'):
            for action in ('prepare', 'create', 'status', 'statuses'):
                _ask(vm, action)
            _dom0(host, 'xl', 'list')
            util.wait_for(f'the login prompt of {vm.name}', lambda: (
                _LOGIN.search(vm.console())), LOGIN_TIMEOUT, interval=5)
            _show_console(vm.name, vm.console())
        with _timed(steps, 'Delete it: nothing is left'):
            for action in ('stop', 'delete', 'statuses'):
                _ask(vm, action)
            _dom0(host, 'xl', 'list')
            _dom0(host, 'find', cloudstack.VMS, '-name', f'{vm.uuid}*')
            left = host.ssh(
                f'virsh -q list --all --name | grep -x {vm.name}; '
                f'find {cloudstack.VMS} -name "{vm.uuid}*"',
                check=False).stdout.split()
            if left:
                raise util.LabError('left behind: ' + ' '.join(left))


def demo(args: argparse.Namespace) -> int:
    """See it work: boot the lab, launch a guest of each type, and clean up."""
    steps: list[tuple[str, float]] = []
    with contextlib.ExitStack() as stack:
        keep = args.keep or args.web
        if not keep:
            stack.callback(_xenlab, 'down')
            stack.callback(_title, 'Stop the lab')
        if args.cloudstack:
            _play_cloudstack(args.arch, steps)
        else:
            _play(args.arch, keep, args.web, steps)
    _title('Seconds')
    for title, seconds in steps:
        util.say(title, seconds)
    util.say('in all', sum(seconds for _, seconds in steps))
    if not args.cloudstack and 'hvm' in GUESTS[args.arch]:
        util.say(f'screen of {PREFIX}hvm: {SCREEN}')
    return 0


def add_parsers(
    add: Callable[[str, Callable[..., int]], argparse.ArgumentParser],
) -> None:
    """Give the command line ``demo``.

    :param add: makes a command of a name and what it calls.
    """
    command = add('demo', demo)
    images.add_architecture(command)
    what = command.add_mutually_exclusive_group()
    what.add_argument(
        '--keep', action='store_true',
        help='leave it running, and say how to use it')
    what.add_argument(
        '--web', action='store_true',
        help='the same, with a web page (Horizon)')
    what.add_argument(
        '--cloudstack', action='store_true',
        help='a guest of CloudStack\'s instead of Nova\'s: a double of a '
             'management server runs the extension')
