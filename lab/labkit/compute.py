# SPDX-License-Identifier: Apache-2.0
"""dom0's side of OpenStack: this checkout's driver, configuration, services.

nova-compute and Neutron's OVS agent run in dom0, as they do at operators'.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import datetime
import ipaddress
import math
import pathlib
import shutil
import tempfile
import time

from labkit import config
from labkit import dom0venv
from labkit import util
from labkit.arch import AGENT
from labkit.arch import CINDER_VOLUME
from labkit.arch import NOVA_COMPUTE
from labkit.cloud import Cloud
from labkit.cloud import settings
from labkit.dom0venv import DATA
from labkit.dom0venv import VENV
from labkit.host import SERVICES
from labkit.host import XenHost

NOVA_CONF = '/etc/nova/nova.conf'
NEUTRON_CONF = '/etc/neutron/neutron.conf'
#: Where configuration goes, and the group that may read it there. Copied in
#: this order: nova-compute waits for its nova.conf, the last.
READERS = {'/etc/cinder': 'root', '/etc/neutron': 'root',
           '/var/lib/nova': 'nova', '/etc/nova': 'nova'}
NOVA_COMPUTE_LOG = '/var/log/nova/nova-compute.log'
_LOGS = {NOVA_COMPUTE: NOVA_COMPUTE_LOG,
         AGENT: '/var/log/neutron/openvswitch-agent.log',
         CINDER_VOLUME: '/var/log/cinder/cinder-volume.log'}

#: Guests have 256. dom0 works for all of them, and libxl gives a device model
#: ten seconds, which dom0 does not meet if the guests take the emulated CPUs.
DOM0_WEIGHT = 5120

#: Seconds: under emulation Python needs most of a minute for its imports.
START_TIMEOUT = 900
#: Seconds after which Neutron's agent may hang; both services take 80 on
#: a quiet machine.
AGENT_LATE = 270


def build_driver(venv: pathlib.Path, target: pathlib.Path,
                 commit: str | None = None) -> None:
    """Unpack a wheel of this checkout into ``target``.

    :param venv: virtual environment whose pip builds it.
    :param commit: take this commit instead of what is checked out.
    :raises LabError: it does not build.
    """
    log = config.LOGS / 'driver-wheel.log'
    with tempfile.TemporaryDirectory() as directory:
        source = pathlib.Path(directory, 'source')
        copy_checkout(source, commit)
        util.run([venv / 'bin/pip', 'install', '--quiet', '--no-deps',
                  '--no-compile', '--target', target, source],
                 log=log, timeout=300)
    if (target / 'bin').is_dir():
        dom0venv.adopt_scripts(target / 'bin')


def copy_checkout(target: pathlib.Path, commit: str | None = None) -> None:
    """Copy this checkout: a build leaves traces in the tree it builds.

    :param target: where to; it is made.
    :param commit: as of :func:`build_driver`.
    """
    util.run(['git', 'clone', '--quiet', '--no-hardlinks',
              config.CHECKOUT, target])
    if commit:
        util.run(['git', 'checkout', '--quiet', '--detach', commit],
                 cwd=target)
    for name in [] if commit else _changed_files():
        changed = config.CHECKOUT / name
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if changed.is_file():
            shutil.copy2(changed, target / name)
        else:
            (target / name).unlink(missing_ok=True)


def _changed_files() -> list[str]:
    """What differs from the last commit, so that it is tried as it is."""
    shown = util.run(['git', 'ls-files', '-z', '--modified', '--deleted',
                      '--others', '--exclude-standard'],
                     cwd=config.CHECKOUT).stdout
    return [name for name in shown.split('\0') if name]


def install_driver(host: XenHost, venv: pathlib.Path,
                   commit: str | None = None) -> None:
    """Put this checkout's driver in place of the one in dom0.

    :param commit: put that of this commit there; what else it brings stays
        this checkout's, as far as the commit does not have it.
    """
    with tempfile.TemporaryDirectory() as directory:
        target = pathlib.Path(directory)
        build_driver(venv, target, commit)
        packages = host.arch.site_packages
        host.ssh(['sh', '-c', f'rm -rf {packages}/xen44_driver*'])
        # User nova reads it; the temporary directory is root's alone.
        options = ('--no-times', '--chmod=u=rwX,go=rX')
        host.copy_to(f'{target}/', f'{packages}/', *options,
                     *(f'--exclude=/{name}' for name in DATA))
        for name in DATA:
            # The first drivers had no commands.
            (target / name).mkdir(exist_ok=True)
            host.copy_to(f'{target}/{name}/', f'{VENV}/{name}/', *options)
        # As pip does: user nova may not write what is compiled there.
        host.ssh([f'{VENV}/bin/python', '-m', 'compileall', '-q',
                  f'{packages}/xen44_driver'])


def configure(host: XenHost, files: Mapping[str, str]) -> None:
    """Write configuration of OpenStack's services into dom0.

    :param files: content by absolute path in dom0.
    """
    with tempfile.TemporaryDirectory() as directory:
        for name, text in files.items():
            if not name.startswith(tuple(READERS)):
                raise ValueError(f'{name} goes to none of {list(READERS)}')
            path = pathlib.Path(directory, name.lstrip('/'))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o600)
        # Existing directories of dom0 keep their modes.
        for tree, group in READERS.items():
            source = pathlib.Path(directory, tree.lstrip('/'))
            if source.is_dir():
                host.copy_to(f'{source}/', f'{tree}/', '--omit-dir-times',
                             '--no-perms', '--chmod=F640', '--group',
                             f'--chown=:{group}')


def start(host: XenHost, cloud: Cloud) -> None:
    """Install, configure and start all of it; wait until Nova can use it.

    Where nova-compute is not the lab's, that is Neutron's agent alone.

    :raises LabError: a service ended, or Nova does not see it in time.
    """
    if NOVA_COMPUTE not in host.arch.services:
        _start_agent(host, cloud)
        return
    configured = _configured(host)
    begin = datetime.datetime.now(datetime.UTC)
    with util.step(f'{host.name}: driver and configuration'):
        cloud.attach_host(host.number)
        _prepare(host, cloud.venv, cloud.render_compute_config(host.number))
    with util.step(f'{host.name}: nova-compute and agent'):
        if configured:
            restart(host, cloud, SERVICES)
        else:
            _wait(host, cloud, begin)


def _start_agent(host: XenHost, cloud: Cloud) -> None:
    """Configure and start Neutron's agent; wait until Neutron sees it."""
    configured = _configured(host, NEUTRON_CONF)
    begin = datetime.datetime.now(datetime.UTC)
    with util.step(f'{host.name}: agent'):
        cloud.attach_host(host.number)
        files = cloud.render_compute_config(host.number)
        configure(host, {name: text for name, text in files.items()
                         if name.startswith('/etc/neutron/')})
        weigh(host)
        if configured:
            restart(host, cloud, (AGENT,))
        else:
            _wait(host, cloud, begin)


def join(host: XenHost, venv: pathlib.Path,
         cloud: settings.Foreign) -> None:
    """Make a running host a compute node of a cloud of this machine.

    That cloud sees by itself when the host reports. The machine must have
    its address in the lab's network (``network.add_node``).

    :param venv: virtual environment whose pip builds the driver.
    """
    configured = _configured(host)
    rendered = settings.render(
        'compute', settings.foreign_values(host.number, cloud))
    with util.step(f'{host.name}: driver and configuration'):
        if not _is_in_the_labs_network(cloud.address):
            host.ssh(['ip', 'route', 'replace', cloud.address,
                      'via', config.NODE_IP])
        _prepare(host, venv,
                 {f'/{path}': text for path, text in rendered.items()})
    if configured:
        with util.step(f'{host.name}: nova-compute and agent'):
            host.ssh(['systemctl', 'restart', *SERVICES],
                     timeout=START_TIMEOUT)


def _configured(host: XenHost, name: str = NOVA_CONF) -> bool:
    """Whether the services have a configuration, the file of that name.

    On a host fresh from its snapshot both wait for theirs.
    """
    return host.ssh(['test', '-e', name], check=False).returncode == 0


def _is_in_the_labs_network(address: str) -> bool:
    network = ipaddress.ip_interface(
        f'{config.NODE_IP}/{config.PREFIX}').network
    return ipaddress.ip_address(address) in network


def _prepare(host: XenHost, venv: pathlib.Path,
             files: Mapping[str, str]) -> None:
    install_driver(host, venv)
    configure(host, files)
    weigh(host)


def weigh(host: XenHost) -> None:
    """Give dom0 its weight, which it has until the host reboots."""
    host.ssh(['xl', 'sched-credit2', '-d', '0', '-w', str(DOM0_WEIGHT)])


def restart(host: XenHost, cloud: Cloud,
            services: Sequence[str] = (NOVA_COMPUTE,)) -> None:
    """Restart services of dom0 and wait until Nova sees the host again."""
    host.ssh(['systemctl', 'stop', *services])
    # Only now: what ends reports once more.
    begin = datetime.datetime.now(datetime.UTC)
    host.ssh(['systemctl', 'start', *services], timeout=START_TIMEOUT)
    _wait(host, cloud, begin)


def _wait(host: XenHost, cloud: Cloud, begin: datetime.datetime) -> None:
    """Wait until Nova, or else Neutron, has heard of it later than ``begin``.

    Neutron's agent (29.0) now and then hangs as it starts, as its OpenFlow
    library never answers it. When it is late it is restarted, once.
    """
    end = time.monotonic() + AGENT_LATE
    ours = NOVA_COMPUTE in host.arch.services

    def look() -> None:
        nonlocal end
        check(host, SERVICES if ours else (AGENT,))
        if time.monotonic() > end:
            end = math.inf
            util.say(f"  {host.name}: is late, Neutron's agent is restarted")
            host.ssh(['systemctl', 'restart', AGENT], timeout=START_TIMEOUT)

    wait = cloud.wait_compute if ours else cloud.wait_agent
    wait(host.name, START_TIMEOUT, begin, hopeless=look)


def reinstall(host: XenHost, cloud: Cloud) -> None:
    """Put this checkout's driver into a running dom0: the inner loop.

    :raises LabError: nova-compute is not the lab's there.
    """
    if NOVA_COMPUTE not in host.arch.services:
        raise util.LabError(f'{host.name}: its nova-compute is not the lab\'s')
    with util.step(f'{host.name}: driver'):
        install_driver(host, cloud.venv)
    with util.step(f'{host.name}: nova-compute'):
        restart(host, cloud)


def check(host: XenHost, services: Sequence[str] = SERVICES) -> None:
    """:raises LabError: the host crashed, or one of the services ended."""
    host.check()
    state = host.ssh(['systemctl', 'is-failed', *services],
                     check=False).stdout.split()
    # 'activating' is systemd waiting to start a service that ended again.
    if 'failed' in state or 'activating' in state:
        collect_logs(host)
        raise util.LabError(f'{host.name}: a service of dom0 ended',
                            _log(host, services[-1]))
    time.sleep(1)


def collect_logs(host: XenHost) -> None:
    """Copy the logs of dom0's services beside the lab's own."""
    for service in host.arch.services:
        host.copy_from(_LOGS[service], _log(host, service))


def _log(host: XenHost, service: str) -> pathlib.Path:
    return config.LOGS / f'{host.name}-{service}.log'
