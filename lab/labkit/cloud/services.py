# SPDX-License-Identifier: Apache-2.0
"""The services: how each is started, and how all of them are stopped."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import concurrent.futures
import dataclasses
import http.client
import os
import pathlib
import shutil
import signal
import time
from typing import Any

from labkit import config
from labkit import util
from labkit.cloud import database
from labkit.cloud import install
from labkit.cloud import rest
from labkit.cloud import settings
from labkit.cloud import switch

#: Seconds a service may take to end when asked.
_GRACE = 3
#: Seconds for the database to write what it holds.
_DATABASE_GRACE = 30

#: Name of the web page's service.
HORIZON = 'horizon'

_WAIT_FOR_QUEUES = config.LAB / 'openstack/wait_for_queues.py'


@dataclasses.dataclass(frozen=True)
class Service:
    """A process of the cloud.

    :ivar name: names its pid file and its log.
    :ivar argv: the command.
    :ivar env: variables it needs beside those of the venv.
    :ivar url: for an API, what answers once it serves.
    :ivar makes_namespaces: it makes network namespaces, which the rest of
        the machine must see: so it shares the machine's mounts.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    url: str = ''
    makes_namespaces: bool = False

    @property
    def pidfile(self) -> pathlib.Path:
        """Where its pid is."""
        return config.RUN / f'{self.name}.pid'

    @property
    def log(self) -> pathlib.Path:
        """Where its output goes."""
        return config.LOGS / f'{self.name}.log'

    def start(self, venv: pathlib.Path) -> None:
        """Start it; it may take seconds until it serves."""
        command = self.argv
        if self.makes_namespaces:
            command = ('nsenter', f'--net=/run/netns/{config.NETNS}',
                       *command)
        util.spawn(command, log=self.log, pidfile=self.pidfile,
                   netns=not self.makes_namespaces,
                   env={**install.environment(venv), **self.env})

    def check(self) -> None:
        """:raises util.LabError: it does not run (any more)."""
        if not util.running(self.pidfile):
            raise util.LabError(f'{self.name} ended', self.log)

    def wait(self) -> None:
        """Wait until an API serves.

        :raises util.LabError: it does not, or it ended.
        """
        def serves() -> bool:
            self.check()
            try:
                return rest.request('GET', self.url, timeout=10)[0] < 500
            except (OSError, http.client.HTTPException):
                return False
        util.wait_for(self.name, serves, 120, self.log, interval=0.2)


def infrastructure() -> list[Service]:
    """What the OpenStack services lean on, beside MariaDB and the switch."""
    home = settings.LIB / 'rabbitmq'
    erlang = {
        'HOME': str(home),
        'ERL_EPMD_ADDRESS': '127.0.0.1',
    }
    return [
        Service('memcached', (
            'memcached', '-u', 'root', '-l', '127.0.0.1', '-m', '64')),
        # RabbitMQ would start one of its own, out of our sight.
        Service('epmd', ('epmd',), erlang),
        Service('rabbitmq', ('/usr/lib/rabbitmq/bin/rabbitmq-server',), {
            **erlang,
            'RABBITMQ_NODENAME': 'xenlab@localhost',
            'RABBITMQ_CONFIG_FILE': str(settings.ETC / 'rabbitmq.conf'),
            'RABBITMQ_ENABLED_PLUGINS_FILE': str(home / 'plugins'),
            'RABBITMQ_MNESIA_BASE': str(home / 'mnesia'),
            'RABBITMQ_LOG_BASE': str(home / 'log'),
            'RABBITMQ_PID_FILE': str(home / 'pid'),
            'RABBITMQ_DIST_PORT': '25672',
            # One core, no spinning while idle, and loopback only.
            'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS':
                '+S 1:1 +sbwt none '
                '-kernel inet_dist_use_interface {127,0,0,1}',
        }),
    ]


def clear_rabbitmq() -> None:
    """Forget queues and users: each start brings its own."""
    home = settings.LIB / 'rabbitmq'
    shutil.rmtree(home, ignore_errors=True)
    settings.private_directory(home)


def _api(venv: pathlib.Path, name: str, module: str, port: int,
         env: Mapping[str, str], threads: int = 4,
         extra: Sequence[str] = ()) -> Service:
    """A WSGI application served by uwsgi in one process."""
    address = f'{config.CONTROLLER_IP}:{port}'
    return Service(name, (
        f'{venv}/bin/uwsgi', '--http-socket', address,
        '--module', f'{module}:application', '--master', '--processes', '1',
        '--enable-threads', '--threads', str(threads), '--thunder-lock',
        '--single-interpreter', '--lazy-apps', '--need-app', '--die-on-term',
        '--hook-master-start', 'unix_signal:15 gracefully_kill_them_all',
        '--buffer-size', '65535', '--http-chunked-input', '--http-raw-body',
        '--http-auto-chunked', '--disable-logging',
        # A dom0 under emulation may be slow to take an image's next part.
        '--socket-timeout', '180',
        # uwsgi ends each connection; a client must know.
        '--add-header', 'Connection: close', *extra), env,
        f'http://{address}/')


def keystone(venv: pathlib.Path) -> Service:
    """The one that all others ask."""
    return _api(venv, 'keystone', 'keystone.wsgi.api', 5000, {
        'OS_KEYSTONE_CONFIG_FILES': f'{settings.ETC}/keystone/keystone.conf'})


def apis(venv: pathlib.Path) -> list[Service]:
    """The other APIs, the slowest to start first."""
    etc = settings.ETC
    nova = {'OS_NOVA_CONFIG_DIR': f'{etc}/nova',
            # The first is the one that describes the application.
            'OS_NOVA_CONFIG_FILES':
                f'{venv}/etc/nova/api-paste.ini;nova.conf'}
    return [
        _api(venv, 'neutron-api', 'neutron.wsgi.api', 9696, {
            'OS_NEUTRON_CONFIG_DIR': f'{etc}/neutron',
            'OS_NEUTRON_CONFIG_FILES': 'neutron.conf;ml2_conf.ini',
        }, extra=('--set', 'start-time=%t')),
        _api(venv, 'nova-api', 'nova.wsgi.osapi_compute', 8774, nova,
             threads=8),
        _api(venv, 'placement-api', 'placement.wsgi.api', 8778, {
            'OS_PLACEMENT_CONFIG_DIR': f'{etc}/placement'}),
        _api(venv, 'glance-api', 'glance.wsgi.api', 9292, {
            'OS_GLANCE_CONFIG_DIR': f'{etc}/glance'}),
        _api(venv, 'cinder-api', 'cinder.wsgi.api', 8776, {}, extra=(
            '--pyargv', f'--config-file {etc}/cinder/cinder.conf')),
        _api(venv, 'nova-metadata', 'nova.wsgi.metadata', 8775, nova,
             threads=2),
    ]


def _neutron(venv: pathlib.Path, name: str, *files: str,
             **options: Any) -> Service:
    """A process of Neutron's that reads these files beside neutron.conf."""
    paths = [f'{settings.ETC}/neutron/{one}'
             for one in ('neutron.conf', *files)]
    return Service(f'neutron-{name}', (
        f'{venv}/bin/neutron-{name}',
        *(word for path in paths for word in ('--config-file', path))),
        **options)


def _nova(venv: pathlib.Path, name: str, *options: str) -> Service:
    return Service(f'nova-{name}', (
        f'{venv}/bin/nova-{name}', '--config-file',
        f'{settings.ETC}/nova/nova.conf', *options))


def spice_proxy(venv: pathlib.Path) -> Service:
    """The proxy of SPICE consoles: a test starts and stops it."""
    return _nova(venv, 'spicehtml5proxy', '--spice-html5proxy_host',
                 config.CONTROLLER_IP, '--web', '')


def horizon(venv: pathlib.Path, static: pathlib.Path,
            directory: pathlib.Path) -> Service:
    """The web page, started on demand only (:mod:`labkit.cloud.dashboard`).

    :param venv: its own.
    :param static: directory of static files.
    :param directory: with the settings, as Python's package ``local``.
    """
    service = _api(venv, HORIZON, 'openstack_dashboard.wsgi', 80, {
        'PYTHONPATH': str(directory),
    }, extra=('--static-map', f'/static={static}'))
    # Not the first page, which is only a redirection to that.
    return dataclasses.replace(service, url=f'{service.url}auth/login/')


def workers(venv: pathlib.Path) -> list[Service]:
    """What works behind the APIs; wants users and endpoints to exist."""
    pages = install.novnc_path()
    return [
        _neutron(venv, 'rpc-server', 'ml2_conf.ini'),
        _nova(venv, 'conductor'),
        _nova(venv, 'scheduler'),
        _nova(venv, 'novncproxy', '--web',
              str(pages) if pages.exists() else ''),
        _nova(venv, 'serialproxy'),
        _neutron(venv, 'periodic-workers', 'ml2_conf.ini'),
        Service('cinder-scheduler', (
            f'{venv}/bin/cinder-scheduler', '--config-file',
            f'{settings.ETC}/cinder/cinder.conf')),
    ]


def agents(venv: pathlib.Path) -> list[Service]:
    """The controller's network agents; want the RPC server to listen."""
    return [
        _neutron(venv, 'openvswitch-agent', 'openvswitch_agent.ini',
                 env=switch.ENVIRONMENT),
        _neutron(venv, 'dhcp-agent', 'dhcp_agent.ini',
                 env=switch.ENVIRONMENT, makes_namespaces=True),
        _neutron(venv, 'metadata-agent', 'metadata_agent.ini'),
    ]


def wait_for_queues(venv: pathlib.Path, listeners: Sequence[Service],
                    *queues: str) -> None:
    """Wait until services listen on their RabbitMQ queues.

    :raises util.LabError: they do not, or one of them ended.
    """
    try:
        util.run([venv / 'bin/python', _WAIT_FOR_QUEUES, '90', *queues],
                 netns=True, env={
                     **install.environment(venv),
                     'TRANSPORT_URL': settings.values(venv)['transport_url']})
    finally:
        for service in listeners:
            service.check()


def openstack(venv: pathlib.Path) -> list[Service]:
    """Every OpenStack service."""
    return [keystone(venv), *apis(venv), *workers(venv), *agents(venv)]


def stop_all(venv: pathlib.Path) -> None:
    """End every process of the cloud, and what the DHCP agent left."""
    _stop([service.pidfile for service in (
        *openstack(venv), spice_proxy(venv), Service(HORIZON, ()))], _GRACE)
    _remove_dhcp_namespaces()
    switch.stop()
    _stop([service.pidfile for service in infrastructure()], _GRACE)
    util.stop(database.PIDFILE, _DATABASE_GRACE)


def _stop(pidfiles: list[pathlib.Path], grace: float) -> None:
    with concurrent.futures.ThreadPoolExecutor(len(pidfiles)) as pool:
        for done in [pool.submit(util.stop, one, grace) for one in pidfiles]:
            done.result()


def _remove_dhcp_namespaces() -> None:
    """Remove the namespaces of this lab's networks, with dnsmasq and haproxy.

    The agent leaves them so that a restart does not interrupt guests.
    """
    directory = settings.LIB / 'neutron/dhcp'
    if not directory.is_dir():
        return
    for network in directory.iterdir():
        namespace = f'qdhcp-{network.name}'
        if not pathlib.Path('/run/netns', namespace).exists():
            continue
        _end_inside(namespace)
        util.run(['ip', 'netns', 'delete', namespace])


def _end_inside(namespace: str) -> None:
    deadline = time.monotonic() + _GRACE
    while pids := util.run(['ip', 'netns', 'pids', namespace],
                           check=False).stdout.split():
        hard = time.monotonic() > deadline
        for pid in pids:
            try:
                os.kill(int(pid), signal.SIGKILL if hard else signal.SIGTERM)
            except ProcessLookupError:
                continue
        time.sleep(0.1)
