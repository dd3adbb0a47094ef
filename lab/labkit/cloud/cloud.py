# SPDX-License-Identifier: Apache-2.0
"""The lab's OpenStack as a whole."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import datetime
import functools
import os
import pathlib
import re
import shutil
import subprocess
from typing import Any

from labkit import config
from labkit import features
from labkit import network
from labkit import release
from labkit import util
from labkit.cloud import content
from labkit.cloud import database
from labkit.cloud import install
from labkit.cloud import rest
from labkit.cloud import services
from labkit.cloud import settings
from labkit.cloud import switch

#: Written when a new lab's cloud has all its content.
_COMPLETE = settings.LIB / 'complete'
_CLOUDS = config.STATE / 'clouds.yaml'
#: In dom0: the UUID by which Nova knows the host.
_NODE_IDENTITY = '/var/lib/nova/compute_id'
#: Key pair of the guests.
GUEST_KEY = config.STATE / 'guest_key'


@dataclasses.dataclass(frozen=True)
class Row:
    """State of one process.

    :ivar memory: MiB of it and its children, shared memory in parts.
    """

    name: str
    pid: int | None
    state: str
    memory: int
    log: pathlib.Path


class Cloud:
    """A small real OpenStack, controller side, in the lab's namespace.

    Each method can be called by a process of its own: all state is in files.
    """

    def __init__(self) -> None:
        self.venv = install.venv_path()

    # Life

    def install(self) -> None:
        """Install Debian packages and the services' venv, where missing.

        :raises util.LabError: apt or pip failed.
        """
        util.need_root()
        install.install()

    def start(self) -> None:
        """Start the cloud and wait until all of it serves.

        A new lab gets empty databases, users, endpoints, flavors and its
        network; otherwise the lab's data is used as it was left. Nothing is
        done if all of it runs; if only some does, that is stopped first.

        :raises util.LabError: a service did not come up; it names the log.
        """
        self.install()
        network.up()
        if all(row.pid for row in self.status()) and _COMPLETE.exists():
            return
        services.stop_all(self.venv)
        new = not _COMPLETE.exists()
        with util.step('openstack: databases and queues'):
            self._prepare(new)
            self._start_infrastructure(new)
        with util.step('openstack: services'):
            self._start_services(new)
        with util.step('openstack: network agents'):
            self._start_agents(new)
        _COMPLETE.touch()

    def _prepare(self, new: bool) -> None:
        """Write configuration and, for a new lab, lay the data anew."""
        if new:
            shutil.rmtree(settings.LIB, ignore_errors=True)
            settings.private_directory(settings.LIB)
            content.write_keystone_keys()
        for directory in ('cinder', 'glance/images', 'glance/staging',
                          'glance/tasks', 'neutron', 'nova'):
            settings.private_directory(settings.LIB / directory)
        services.clear_rabbitmq()
        known = settings.values(self.venv)
        for name, text in settings.render('controller', known).items():
            settings.write_private(settings.ETC / name, text)
        self._write_credentials()
        if not GUEST_KEY.exists():
            util.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '',
                      '-C', 'xenlab', '-f', GUEST_KEY])

    def _start_infrastructure(self, new: bool) -> None:
        for service in services.infrastructure():
            service.start(self.venv)
        if new:
            database.restore(self.venv)
        database.start()
        switch.start()
        database.wait()
        if new:
            database.create_users(settings.load_secrets())

    def _start_services(self, new: bool) -> None:
        """Start all, in the order that keeps two cores busy."""
        keystone = services.keystone(self.venv)
        keystone.start(self.venv)
        apis = services.apis(self.venv)
        client = rest.Client()
        if new:
            content.bootstrap(self.venv)
        for service in apis:
            service.start(self.venv)
        keystone.wait()
        if new:
            content.create_identity(client)
        self._wait_rabbitmq()
        workers = services.workers(self.venv)
        for service in workers:
            service.start(self.venv)
        for service in apis:
            service.wait()
        services.wait_for_queues(
            self.venv, workers, 'conductor', 'scheduler', 'q-plugin',
            'q-reports-plugin', 'cinder-scheduler')
        util.wait_for('console proxy', functools.partial(
            rest.listening, config.CONTROLLER_IP, 6080), 60, config.LOGS)

    def _start_agents(self, new: bool) -> None:
        """Start the network agents and, for a new lab, give them work."""
        client = rest.Client()
        begin = datetime.datetime.now(datetime.UTC)
        for service in services.agents(self.venv):
            service.start(self.venv)
        if new:
            content.create_flavors(client)
            content.create_volume_types(client)
            content.create_keypair(
                client, GUEST_KEY.with_suffix('.pub').read_text())
            network = content.create_network(client)
        self._wait_agents(begin)
        if new:
            content.serve_dhcp(client, network)

    def _wait_rabbitmq(self) -> None:
        rabbitmq = services.infrastructure()[-1]

        def serves() -> bool:
            rabbitmq.check()
            return rest.listening(config.CONTROLLER_IP, 5672)
        util.wait_for('RabbitMQ', serves, 90, rabbitmq.log, interval=0.2)

    def _wait_agents(self, since: datetime.datetime) -> None:
        """Wait until the network agents have reported since then."""
        client = rest.Client()
        agents = {one.name: one for one in services.agents(self.venv)}

        def alive() -> bool:
            for service in agents.values():
                service.check()
            seen = client.call('GET', 'network', '/v2.0/agents'
                                                 '?host=controller')
            return set(agents) == {
                one['binary'] for one in seen['agents']
                if _reported(one['heartbeat_timestamp'], since)}
        util.wait_for('network agents', alive, 120,
                      agents['neutron-openvswitch-agent'].log)

    def stop(self) -> None:
        """Stop the cloud; its data stays for the next start."""
        services.stop_all(self.venv)

    def status(self) -> list[Row]:
        """One row for each process the cloud should have."""
        processes = [
            ('mariadb', database.PIDFILE, database.LOG),
            *((pidfile.stem, pidfile, log)
              for pidfile, log in switch.processes()),
            *((one.name, one.pidfile, one.log)
              for one in (*services.infrastructure(),
                          *services.openstack(self.venv))),
        ]
        memory = _memory_of_sessions()
        rows = []
        for name, pidfile, log in processes:
            pid = util.running(pidfile)
            rows.append(Row(name, pid, 'up' if pid else 'down',
                            memory.get(pid, 0) if pid else 0, log))
        return rows

    # Use

    def openstack(self, argv: Sequence[str]) -> int:
        """Run the openstack client as the lab's admin on our own terminal.

        :returns: its exit status.
        """
        return self.execute([f'{self.venv}/bin/openstack', *argv])

    def execute(self, argv: Sequence[str],
                cwd: os.PathLike[str] | None = None) -> int:
        """Run a command in the lab's namespace with the admin's credentials.

        The venv's programs come first in its PATH.

        :returns: its exit status.
        """
        return subprocess.run(util.in_netns(argv), check=False, cwd=cwd, env={
            **os.environ, **install.environment(self.venv),
            **self.client_environment()}).returncode

    def client_environment(self) -> dict[str, str]:
        """Variables by which OpenStack's clients find the lab."""
        return {'OS_CLIENT_CONFIG_FILE': str(_CLOUDS), 'OS_CLOUD': 'xenlab'}

    def client(self) -> rest.Client:
        """The APIs for code of the lab itself."""
        return rest.Client()

    def _write_credentials(self) -> None:
        known = {
            'auth_url': settings.ENDPOINTS['identity'],
            'username': 'admin', 'project_name': 'admin',
            'user_domain_name': 'Default', 'project_domain_name': 'Default',
            'password': settings.load_secrets()['admin'],
        }
        auth = ''.join(f'      {key}: "{value}"\n'
                       for key, value in known.items())
        settings.write_private(
            _CLOUDS, f'clouds:\n  xenlab:\n    region_name: '
                     f'{settings.REGION}\n    auth:\n{auth}')
        lines = [f"export OS_{key.upper()}='{value}'"
                 for key, value in known.items()]
        settings.write_private(config.STATE / 'openrc', '\n'.join([
            *lines, f"export OS_REGION_NAME='{settings.REGION}'",
            "export OS_IDENTITY_API_VERSION='3'\n"]))

    def upload_image(self, name: str, path: os.PathLike[str],
                     disk_format: str, **properties: str) -> str:
        """Make a public image of a file, in place of one of that name.

        :param disk_format: 'qcow2', 'raw', ...
        :param properties: further properties of the image.
        :returns: its id.
        """
        return content.upload_image(self.client(), name, path, disk_format,
                                    properties)

    # Xen hosts

    def attach_host(self, number: int) -> None:
        """Plug a Xen host's data tap, which exists, into the network.

        Taps that exist when the cloud starts are plugged anyway.
        """
        switch.attach_host(number)

    def render_compute_config(self, number: int) -> dict[str, str]:
        """The configuration that dom0 of a Xen host needs.

        A host that Nova has met gets its identity back: it comes up as
        freshly booted, and nova-compute refuses to start as somebody else.

        :returns: content by absolute path in dom0. It holds secrets.
        """
        rendered = settings.render('compute', settings.compute_values(number))
        files = {f'/{path}': text for path, text in rendered.items()}
        for known in self._hypervisors(config.host_name(number)):
            files[_NODE_IDENTITY] = known['id']
        return files

    def _hypervisors(self, host: str) -> list[Any]:
        """Nova's records of a host: one, or none yet."""
        # Not the details: for those Nova asks the host its uptime.
        return [
            one for one in self.client().call(
                'GET', 'compute', '/os-hypervisors')['hypervisors']
            if one['hypervisor_hostname'].partition('.')[0] == host]

    def wait_compute(self, host: str, timeout: float = 300,
                     since: datetime.datetime | None = None,
                     hopeless: Callable[[], None] | None = None) -> None:
        """Wait until servers can be made on a host.

        That is: its nova-compute and its OVS agent are up, and it is a
        hypervisor the scheduler may choose.

        :param host: its name, for example 'xen1'.
        :param timeout: seconds.
        :param since: count only reports after this time, for a host that
            was up before and starts again.
        :param hopeless: called now and then; raises LabError when the wait
            makes no sense any more.
        """
        client = self.client()

        def ready() -> bool:
            if hopeless:
                hopeless()
            computes = client.call(
                'GET', 'compute', '/os-services?binary=nova-compute'
                                  f'&host={host}')['services']
            if not (computes and computes[0]['state'] == 'up'
                    and _reported(computes[0]['updated_at'], since)
                    and _agent_is_up(client, host, since)):
                return False
            return bool(self._hypervisors(host))
        util.wait_for(f'{host} as a hypervisor', ready, timeout,
                      config.LOGS / 'nova-conductor.log', interval=1)

    def wait_agent(self, host: str, timeout: float = 300,
                   since: datetime.datetime | None = None,
                   hopeless: Callable[[], None] | None = None) -> None:
        """Wait until the OVS agent of a host is up.

        Parameters as for :meth:`wait_compute`.
        """
        client = self.client()

        def ready() -> bool:
            if hopeless:
                hopeless()
            return _agent_is_up(client, host, since)
        util.wait_for(f'the agent of {host}', ready, timeout,
                      config.LOGS / 'neutron-rpc-server.log', interval=1)

    def render_volume_config(self, number: int) -> dict[str, str]:
        """The configuration of cinder-volume in dom0 of a Xen host.

        :returns: as of :meth:`render_compute_config`.
        """
        rendered = settings.render('volume', settings.compute_values(number))
        return {f'/{path}': text for path, text in rendered.items()}

    def wait_volumes(self, host: str, timeout: float = 300,
                     since: datetime.datetime | None = None,
                     hopeless: Callable[[], None] | None = None,
                     more: Sequence[str] = ()) -> None:
        """Wait until volumes of each type can be made on a host.

        Others as for :meth:`wait_compute`.

        :param more: backends that it has beside the usual ones.
        """
        client = self.client()
        backends = {f'{host}@{name}#{name}'
                    for name in (*content.VOLUME_TYPES, *more)}

        def ready() -> bool:
            if hopeless:
                hopeless()
            pools = client.call('GET', 'block-storage',
                                '/scheduler-stats/get_pools?detail=true')
            return backends <= {
                pool['name'] for pool in pools['pools']
                if _reported(pool['capabilities']['timestamp'], since)}
        util.wait_for(f'volumes of {host}', ready, timeout,
                      config.LOGS / f'{host}-cinder-volume.log', interval=1)

    # Tempest

    def write_tempest(self, image: str, image_alt: str | None = None,
                      flavor: str = 'm1.micro', flavor_alt: str = 'm1.tiny',
                      ssh_user: str = 'root', hosts: int = 1) -> pathlib.Path:
        """Write Tempest's configuration for this cloud.

        :param image: id of the image its servers boot.
        :param image_alt: id of another image; the same by default.
        :param flavor: name of its servers' flavor.
        :param flavor_alt: name of a larger one.
        :param ssh_user: whom the image lets in by key.
        :param hosts: Xen hosts in the cloud.
        :returns: the workspace to run it in.
        """
        known = {
            **settings.values(self.venv),
            'workspace': str(settings.TEMPEST),
            'image': image,
            'image_alt': image_alt or image,
            'flavor': content.FLAVORS[flavor][0],
            'flavor_alt': content.FLAVORS[flavor_alt][0],
            'network': config.LAB_NET,
            'ssh_user': ssh_user,
            'hosts': str(hosts),
            'compute_features': '\n'.join(
                f'{name} = {value}' for name, value in
                features.options(features.load()).items()),
        }
        settings.write_private(
            settings.TEMPEST / 'etc/tempest.conf', settings.render_one(
                release.CURRENT.templates / 'tempest.conf', known))
        return settings.TEMPEST

    def tempest(self, argv: Sequence[str]) -> int:
        """Run ``tempest run`` with these arguments; returns its status."""
        return self.execute(
            [f'{self.venv}/bin/tempest', 'run', '--config-file',
             str(settings.TEMPEST / 'etc/tempest.conf'), *argv],
            cwd=settings.TEMPEST)


def _agent_is_up(client: rest.Client, host: str,
                 since: datetime.datetime | None) -> bool:
    """Whether a host's OVS agent is up, and has reported since then."""
    agents = client.call(
        'GET', 'network', '/v2.0/agents?binary='
        f'neutron-openvswitch-agent&host={host}')['agents']
    return bool(agents and agents[0]['alive']
                and _reported(agents[0]['heartbeat_timestamp'], since))


def _reported(stamp: str | None, since: datetime.datetime | None) -> bool:
    """Whether a service's time stamp (UTC) is there, and not older."""
    if not stamp or not since:
        return bool(stamp)
    return datetime.datetime.fromisoformat(stamp).replace(
        tzinfo=datetime.UTC) >= since


def _memory_of_sessions() -> dict[int, int]:
    """MiB of each session's processes, by the leader's pid.

    Memory that processes share is divided among them ("Pss" of proc(5)).
    """
    shown = util.run(['ps', '-e', '-o', 'sid=,pid=']).stdout
    sums: dict[int, int] = {}
    for line in shown.splitlines():
        session, pid = (int(field) for field in line.split())
        sums[session] = sums.get(session, 0) + _proportional_kib(pid)
    return {session: kib // 1024 for session, kib in sums.items()}


def _proportional_kib(pid: int) -> int:
    try:
        rollup = pathlib.Path(f'/proc/{pid}/smaps_rollup').read_text()
    except (OSError, ValueError):
        return 0  # ended meanwhile, or a thread of the kernel
    found = re.search(r'^Pss:\s+(\d+)', rollup, re.MULTILINE)
    return int(found[1]) if found else 0
