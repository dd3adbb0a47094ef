# SPDX-License-Identifier: Apache-2.0
"""Start the privsep daemons before an operation needs them.

A daemon is a separate Python process, started through sudo and nova-rootwrap.
By default each daemon starts when it is first called, so the first spawn waits
for all of them in turn. Here the daemons that the driver needs start together,
each in a thread, while nova-compute starts.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from concurrent import futures
import configparser
import dataclasses
import shlex
from typing import Any

from nova import exception
from oslo_log import log as logging
from oslo_privsep import daemon
from oslo_privsep import priv_context
from oslo_rootwrap import wrapper
from vif_plug_ovs import linux_net
from vif_plug_ovs import privsep as vif_plug_ovs

from xen44_driver import privsep
from xen44_driver.xen import threads

LOG = logging.getLogger(__name__)

#: Seconds that a daemon may take to start, on a slow and busy host.
TIMEOUT = 300

# No network device can have this name: it is too long.
_NO_DEVICE = 'xen44-there-is-no-such-device'


@dataclasses.dataclass(frozen=True)
class Privilege:
    """A privsep daemon that the driver needs.

    :ivar context: the daemon's privsep context.
    :ivar probe: a function to call in the daemon. It changes nothing, and
        makes the daemon import its code.
    :ivar use: what fails without the daemon, for messages.
    """

    context: priv_context.PrivContext
    probe: Callable[[], Any]
    use: str


def _see_console_logs() -> bool:
    readable: bool = privsep.console_log_dir_readable()
    return readable


def _delete_nothing() -> None:
    linux_net.delete_net_dev(_NO_DEVICE)


#: The driver's own daemon.
XEN = Privilege(
    privsep.sys_admin_pctxt, _see_console_logs, 'what only root can do')

#: os-vif's daemon. The driver does not use Nova's own.
PORTS = Privilege(vif_plug_ovs.vif_plug, _delete_nothing, 'plugging ports')


def start(privilege: Privilege) -> futures.Future[Any]:
    """Start a daemon in the background.

    A call that needs the daemon meanwhile waits until it has started.

    :returns: a future with the result of the probe.
    """
    future: futures.Future[Any] = futures.Future()

    def run() -> None:
        try:
            future.set_result(privilege.probe())
        except Exception as error:
            future.set_exception(error)

    threads.start(run, f'start-{privilege.context.cfg_section}')
    return future


def result(privilege: Privilege, future: futures.Future[Any]) -> Any:
    """Wait until a daemon has started.

    :param future: the result of :func:`start`.
    :returns: the result of the daemon's probe.
    :raises nova.exception.InvalidConfiguration: the daemon did not start; the
        message says why.
    """
    section = privilege.context.cfg_section
    try:
        return future.result(TIMEOUT)
    except futures.TimeoutError:
        reason = f'it has not started within {TIMEOUT} s'
    except (OSError, daemon.FailedToDropPrivileges) as error:
        reason = _rootwrap_problem(privilege.context) or str(error)
    raise exception.InvalidConfiguration(
        f'privsep cannot become root for {privilege.use}: {reason}. '
        f'[{section}] helper_command says how it does that (sudo '
        f'nova-rootwrap is the default; sudo must not ask for a password)')


def refusals(
    privilege: Privilege, future: futures.Future[Any],
) -> Iterator[str]:
    """Wait for a daemon; yield a warning if it does not start.

    :param future: the result of :func:`start`.
    """
    try:
        result(privilege, future)
    except Exception as error:
        yield f'{privilege.use.capitalize()} will fail: {error}'


def warn_if_refused(
    privilege: Privilege, future: futures.Future[Any],
) -> None:
    """Log a warning if a daemon does not start; do not wait for it.

    :param future: the result of :func:`start`.
    """
    def done(future: futures.Future[Any]) -> None:
        for warning in refusals(privilege, future):
            LOG.warning('%s', warning)

    future.add_done_callback(done)


def _rootwrap_problem(context: priv_context.PrivContext) -> str | None:
    """Find out why nova-rootwrap would refuse to start a daemon.

    :returns: the reason, or None if it would start the daemon or is not used.
    """
    match context.helper_command('/tmp/nowhere/privsep.sock'):  # noqa: S108
        case ['sudo', 'nova-rootwrap', path, *command]:
            pass
        case _:
            return None
    parser = configparser.RawConfigParser()
    try:
        with open(path) as file:
            parser.read_file(file)
        config = wrapper.RootwrapConfig(parser)
        wrapper.match_filter(wrapper.load_filters(config.filters_path),
                             command, exec_dirs=config.exec_dirs)
    except wrapper.NoFilterMatched:
        return (f'no filter in {", ".join(config.filters_path)} lets '
                f'nova-rootwrap start "{shlex.join(command)}" '
                '(xen44.filters, which the driver\'s package brings, '
                'belongs there)')
    except wrapper.FilterMatchNotExecutable:
        return (f'{path} has no directory in exec_dirs with the program '
                f'{command[0]}')
    except (OSError, ValueError, configparser.Error) as error:
        return f'nova-rootwrap needs {path}: {error}'
    return None
