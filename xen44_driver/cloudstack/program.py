# SPDX-License-Identifier: Apache-2.0
"""The command ``xen44-cloudstack``, which runs in dom0.

Whatever happens, it prints one JSON object at most, and its exit status tells
whether the action was carried out. CloudStack merges standard error into that,
so nothing is written there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import json
import os
import signal
import sys
from typing import Any

from oslo_concurrency import lockutils
from oslo_concurrency import processutils
from oslo_config import cfg
from oslo_log import log as logging

from xen44_driver import conf
from xen44_driver import privsep
from xen44_driver.cloudstack import actions
from xen44_driver.cloudstack import bundle
from xen44_driver.cloudstack import dom0host
from xen44_driver.cloudstack import entrypoint
from xen44_driver.cloudstack import payload as payload_lib
from xen44_driver.cloudstack import screens
from xen44_driver.cloudstack import vmlock
from xen44_driver.cloudstack import vmrecord
from xen44_driver.cloudstack import vms
from xen44_driver.storage import images
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen import host as xen_host

CONF = cfg.CONF
LOG = logging.getLogger(__name__)

#: Bytes of the longest request and of the longest answer. CloudStack reads
#: nothing of an answer of 64 KiB or more, and waits until its time is over.
MAX_REQUEST = 4 * 1024 ** 2
MAX_ANSWER = 60_000

#: Seconds of an action, at most: a day.
MAX_SECONDS = 86400

#: Seconds that an action may go on when CloudStack has given it up: what it
#: began is better finished than left.
GRACE = 300

# What tells an operator what is wrong, without a traceback.
_EXPECTED = (
    errors.XenError, images.ImageRefused, images.ImageMissing, OSError,
    processutils.ProcessExecutionError, vmlock.VmBusy, vms.Refused,
    vmrecord.RecordUnreadable, cfg.Error, lockutils.AcquireLockFailedException)


_SBIN = '/usr/local/sbin:/usr/sbin:/sbin'

#: Action, payload and seconds, as they came.
_Request = tuple[object, object, object]


class BadRequest(Exception):
    """What was asked for cannot be understood."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog='xen44-cloudstack', description='Make guests for Apache '
        'CloudStack on this host: the dom0 of a Xen host. Run it as root.')
    top.add_argument(
        '--config-file', action='append', metavar='PATH',
        help='a configuration file; can be given more than once (default: '
             '/etc/xen44/xen44.conf if it exists)')
    commands = top.add_subparsers(
        dest='command', metavar='COMMAND', required=True)
    serve = commands.add_parser(
        'serve', help='carry out one action for a management server',
        description='Carry out one action for a management server. The '
        'request comes on standard input. This is the only command that the '
        'key of the management servers may run.')
    serve.set_defaults(run=_serve)
    run = commands.add_parser(
        'run', help='carry out one action, as CloudStack asks for it',
        description='Carry out one action, as CloudStack asks for it. The '
        'answer goes to standard output, and the exit status is 0 if it was '
        'carried out, 1 if not.')
    run.set_defaults(run=_run)
    run.add_argument('action', metavar='ACTION',
                     help='name of the action, such as status')
    run.add_argument('payload', metavar='PAYLOAD',
                     help='file with the payload, in JSON; - for standard '
                          'input')
    run.add_argument('seconds', metavar='SECONDS', type=int, nargs='?',
                     default=1800,
                     help='seconds that it has (default: %(default)s)')
    # No help: it is for the service that getconsole starts.
    screen = commands.add_parser('screen')
    screen.set_defaults(run=_screen)
    screen.add_argument('uuid')
    make = commands.add_parser(
        'bundle', help='make the folder for the management servers',
        description='Make the folder for the management servers, or add '
        'this host to one that another host has made. It holds the entry '
        'point, its private key and the keys of the hosts.')
    make.set_defaults(run=_bundle)
    make.add_argument('directory', metavar='DIRECTORY',
                      help='the folder; its name is the name of the '
                           'extension in CloudStack')
    make.add_argument(
        '--address', action='append', required=True, metavar='ADDRESS',
        help='an address or name of this host that the management servers '
             'use for it; can be given more than once')
    make.add_argument(
        '--port', type=int, default=22, metavar='PORT',
        help='port of this host\'s SSH server (default: %(default)s)')
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``xen44-cloudstack``.

    :param argv: the arguments; None for this process's.
    :returns: the exit status.
    """
    arguments = parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.run
    return command(arguments)


def _serve(arguments: argparse.Namespace) -> int:
    def read() -> _Request:
        request = _json(sys.stdin.buffer.read(MAX_REQUEST + 1))
        if not isinstance(request, dict):
            raise BadRequest('the request is not a JSON object')
        if request.get('protocol') != entrypoint.PROTOCOL:
            raise BadRequest(
                f'the entry point on the management server speaks protocol '
                f'{request.get("protocol")!r}, and this host '
                f'{entrypoint.PROTOCOL}: copy the folder that '
                '"xen44-cloudstack bundle" makes to the management servers '
                'again')
        return (request.get('action'), request.get('payload'),
                request.get('seconds'))

    return _answer(arguments, read)


def _run(arguments: argparse.Namespace) -> int:
    def read() -> _Request:
        if arguments.payload == '-':
            text = sys.stdin.buffer.read(MAX_REQUEST + 1)
        else:
            with open(arguments.payload, 'rb') as file:
                text = file.read(MAX_REQUEST + 1)
        return arguments.action, _json(text), arguments.seconds

    return _answer(arguments, read)


def _json(text: bytes) -> object:
    if len(text) > MAX_REQUEST:
        raise BadRequest(f'the request has more than {MAX_REQUEST} bytes')
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        # The message quotes nothing of the text, which has secrets.
        raise BadRequest(f'the payload is not JSON ({error})') from None
    return found


def _answer(
    arguments: argparse.Namespace,
    read: Callable[[], _Request],
) -> int:
    """Carry out an action, and print its answer.

    :param read: returns action, payload and seconds.
    :returns: the exit status.
    """
    # Nothing of libraries may get into the answer. Programs that are started
    # get none of the request either.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 2)
    os.umask(0o077)
    # sshd may give a short one.
    os.environ['PATH'] = f'{os.environ.get("PATH", os.defpath)}:{_SBIN}'
    answer: Mapping[str, Any] | None
    try:
        _configure(arguments)
        action, payload, seconds = read()
        os.dup2(null, 0)
        answer, status = _act(action, payload, seconds), 0
    except (BadRequest, *_EXPECTED) as error:
        answer, status = _error(_words(error)), 1
    except Exception as error:
        LOG.exception('Failed')
        answer, status = _error(
            f'{type(error).__name__}; see the log of xen44-cloudstack in '
            'dom0'), 1
    text = '' if answer is None else json.dumps(answer)
    if len(text) > MAX_ANSWER:
        text, status = json.dumps(_error(
            f'the answer has {len(text)} bytes; {MAX_ANSWER} are '
            'possible')), 1
    # Nobody may listen any more.
    with contextlib.suppress(BrokenPipeError):
        print(text, flush=True)
    return status


def _act(action: object, payload: object, seconds: object) -> actions.Answer:
    if not isinstance(action, str):
        raise BadRequest('the action has no name')
    function = actions.ACTIONS.get(action.lower())
    if function is None:
        raise BadRequest(
            f'there is no action {action[:100]!r}; there are: '
            f'{", ".join(sorted(actions.ACTIONS))}')
    if (not isinstance(seconds, int) or isinstance(seconds, bool)
            or not 0 < seconds <= MAX_SECONDS):
        raise BadRequest(f'seconds is {str(seconds)[:20]!r}; allowed: 1 to '
                         f'{MAX_SECONDS}')
    # Whatever it hangs in, such as a file system that does not answer, it ends
    # then, and others can work on the VM. It can be killed at any moment.
    signal.alarm(seconds + GRACE)
    found = payload_lib.parse(payload)
    with _connected() as host:
        host.check()
        LOG.info('Action %s', action.lower())
        return function(dom0host.Dom0Host(host, seconds), found)


@contextlib.contextmanager
def _connected() -> Iterator[xen_host.Host]:
    """Connect to this host during a block."""
    host = xen_host.Host(CONF.xen44.connection_uri,
                         owner=domain.Owner.CLOUDSTACK)
    host.connect()
    try:
        yield host
    finally:
        host.close()


def _screen(arguments: argparse.Namespace) -> int:
    """Relay a VM's screen, as a service."""
    os.umask(0o077)
    _configure(arguments)
    try:
        with _connected() as host:
            screens.serve(host, arguments.uuid)
    except _EXPECTED as error:
        _words(error)
        return 1
    return 0


def _error(words: str) -> dict[str, str]:
    return {'status': 'error', 'error': words[:4000]}


def _words(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, processutils.ProcessExecutionError):
        text = f'{error.cmd}: {(error.stderr or text).strip()}'
    LOG.warning('%s', text)
    return text


def _configure(arguments: argparse.Namespace) -> None:
    """Read the configuration, and become able to do what root can.

    :raises oslo_config.cfg.Error: it cannot be read.
    """
    conf.register_opts(CONF)
    logging.register_options(CONF)
    # Where nothing else is configured: nobody reads standard error.
    CONF.set_default('use_syslog', True)
    CONF.set_default('use_stderr', False)
    CONF([f'--config-file={os.path.abspath(path)}'
          for path in arguments.config_file or ()], project='xen44')
    logging.setup(CONF, 'xen44-cloudstack')
    # oslo.log also writes to standard output where syslog is all that is
    # configured. That is where the answer goes, and nothing else.
    root = logging.getLogger(None).logger
    for handler in list(root.handlers):
        if getattr(handler, 'stream', None) is sys.stdout:
            root.removeHandler(handler)
    if os.geteuid() == 0:
        # No daemon is needed.
        privsep.sys_admin_pctxt.set_client_mode(False)


def _bundle(arguments: argparse.Namespace) -> int:
    try:
        print(bundle.make(
            arguments.directory, arguments.address, arguments.port,
            config_files=arguments.config_file or ()), end='')
    except (OSError, ValueError, processutils.ProcessExecutionError) as error:
        print(f'xen44-cloudstack: {error}', file=sys.stderr)
        return 1
    return 0
