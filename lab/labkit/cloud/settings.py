# SPDX-License-Identifier: Apache-2.0
"""What the services must agree on: paths, addresses, secrets, templates."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import hashlib
import json
import os
import pathlib
import secrets
import string

from labkit import config
from labkit import dom0venv
from labkit import release

ETC = config.STATE / 'etc'
#: What the services keep: databases, images, their own state.
LIB = config.STATE / 'lib'
OVS_RUNDIR = config.RUN / 'openvswitch'
TEMPEST = config.STATE / 'tempest'

REGION = 'RegionOne'
#: The services with an API: the type in the catalogue, and its base URL.
ENDPOINTS: Mapping[str, str] = {
    'identity': f'http://{config.CONTROLLER_IP}:5000/v3',
    'placement': f'http://{config.CONTROLLER_IP}:8778',
    'image': f'http://{config.CONTROLLER_IP}:9292',
    'network': f'http://{config.CONTROLLER_IP}:9696',
    'compute': f'http://{config.CONTROLLER_IP}:8774/v2.1',
    'block-storage': f'http://{config.CONTROLLER_IP}:8776/v3',
}
#: The services' names, which are also their users' names.
NAMES: Mapping[str, str] = {
    'identity': 'keystone', 'placement': 'placement', 'image': 'glance',
    'network': 'neutron', 'compute': 'nova', 'block-storage': 'cinder',
}
DATABASES = ('keystone', 'placement', 'glance', 'neutron', 'nova_api',
             'nova', 'nova_cell0', 'cinder')
#: The one that dom0 may use as well, as the user of that name.
DOM0_DATABASE = 'cinder'
_SECRETS = ('admin', 'placement', 'glance', 'neutron', 'nova', 'cinder',
            'database', 'rabbitmq', 'metadata', 'volumes')


def write_private(path: pathlib.Path, text: str) -> None:
    """Write a file that only root may read, in directories only root enters.

    :param path: the file; replaced as a whole if it exists.
    """
    private_directory(path.parent)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
                         0o600)
    with open(descriptor, 'w', encoding='utf-8') as out:
        out.write(text)
    temporary.replace(path)


def private_directory(path: pathlib.Path) -> pathlib.Path:
    """Make a directory, and those above it, for root alone; return it."""
    missing = [one for one in (path, *path.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
    return path


def load_secrets() -> dict[str, str]:
    """This lab's passwords by the name of their user; made at first use."""
    known: dict[str, str] = {}
    if config.SECRETS.exists():
        known = json.loads(config.SECRETS.read_text())
    missing = [name for name in _SECRETS if name not in known]
    if missing:
        known.update({name: secrets.token_urlsafe(24) for name in missing})
        write_private(config.SECRETS, json.dumps(known, indent=2) + '\n')
    return known


@dataclasses.dataclass(frozen=True)
class Foreign:
    """A cloud that is not the lab's own and uses its Xen host.

    :ivar address: its controller's, as dom0 is to reach it.
    :ivar auth_url: Keystone.
    :ivar region: the region of its services.
    :ivar image_url: Glance.
    :ivar transport_url: the message queue of nova-compute.
    :ivar network_transport_url: the message queue of Neutron's agents.
    :ivar password: of its service users nova, neutron and placement.
    :ivar guest_type: of servers whose image and flavor ask for none.
    """

    address: str
    auth_url: str
    region: str
    image_url: str
    transport_url: str
    network_transport_url: str
    password: str
    guest_type: str


def _credentials(auth_url: str, region: str) -> str:
    return (
        'auth_type = password\n'
        f'auth_url = {auth_url}\n'
        f'region_name = {region}\n'
        'project_name = service\n'
        'project_domain_name = Default\n'
        'user_domain_name = Default')


def values(venv: pathlib.Path) -> dict[str, str]:
    """What the controller's templates may name.

    :param venv: the services' virtual environment.
    """
    known = load_secrets()
    credentials = _credentials(ENDPOINTS['identity'], REGION)
    return {
        'ip': config.CONTROLLER_IP,
        'auth_url': ENDPOINTS['identity'],
        'region': REGION,
        'physnet': config.PHYSNET,
        'data_bridge': config.DATA_BRIDGE,
        'etc': str(ETC),
        'lib': str(LIB),
        'log': str(config.LOGS),
        'venv': str(venv),
        'ovs_rundir': str(OVS_RUNDIR),
        'datadir': str(LIB / 'mysql'),
        'database_socket': str(config.RUN / 'mariadb.sock'),
        'database_url': f'mysql+pymysql://xenlab:{known["database"]}'
                        '@127.0.0.1:3306',
        'database_query': '?charset=utf8mb4',
        'transport_url': f'rabbit://xenlab:{known["rabbitmq"]}'
                         f'@{config.CONTROLLER_IP}:5672/',
        'metadata_secret': known['metadata'],
        'credentials': credentials,
        'authtoken': f'{credentials}\n'
                     f'www_authenticate_uri = {ENDPOINTS["identity"]}\n'
                     'memcached_servers = 127.0.0.1:11211\n'
                     'service_token_roles = service\n'
                     'service_token_roles_required = true',
        'privsep_neutron': f'{venv}/bin/privsep-helper '
                           f'--config-file {ETC}/neutron/neutron.conf',
        # Of all encrypted volumes: 256 bits.
        'volume_key': hashlib.sha256(known['volumes'].encode()).hexdigest(),
        **{f'{name}_password': known[name] for name in _SECRETS
           if name not in ('database', 'metadata', 'volumes')},
    }


def compute_values(number: int) -> dict[str, str]:
    """What the templates of Xen host ``number`` may name."""
    known = values(pathlib.Path(dom0venv.VENV))
    return {
        **known,
        **_dom0_values(number),
        'image_url': ENDPOINTS['image'],
        'network_transport_url': known['transport_url'],
        # The lab's networks are flat.
        'tunnel_types': '',
        'guest_type': 'pv',
        'key_manager': '[key_manager]\n'
                       'backend = nova.keymgr.conf_key_mgr.ConfKeyManager\n'
                       f'fixed_key = {known["volume_key"]}',
        'volume_database_url':
            f'mysql+pymysql://{DOM0_DATABASE}:{known["cinder_password"]}'
            f'@{config.CONTROLLER_IP}:3306/{DOM0_DATABASE}'
            f'{known["database_query"]}',
    }


def foreign_values(number: int, cloud: Foreign) -> dict[str, str]:
    """The same for a Xen host of a cloud that is not the lab's own."""
    return {
        **_dom0_values(number),
        'ip': cloud.address,
        'credentials': _credentials(cloud.auth_url, cloud.region),
        **{f'{user}_password': cloud.password
           for user in ('nova', 'neutron', 'placement')},
        'image_url': cloud.image_url,
        'transport_url': cloud.transport_url,
        'network_transport_url': cloud.network_transport_url,
        'tunnel_types': 'vxlan',
        'guest_type': cloud.guest_type,
        'key_manager': '',
    }


def _dom0_values(number: int) -> dict[str, str]:
    helper = f'{dom0venv.VENV}/bin/privsep-helper --config-file /etc'
    return {
        'host': config.host_name(number),
        'host_ip': config.host_ip(number),
        'physnet': config.PHYSNET,
        'data_bridge': config.DATA_BRIDGE,
        'privsep_nova': f'{helper}/nova/nova.conf',
        'privsep_neutron': f'{helper}/neutron/neutron.conf',
        'privsep_cinder': f'{helper}/cinder/cinder.conf',
    }


def render(tree: str, known: Mapping[str, str]) -> dict[str, str]:
    """Fill in every template under a directory of the templates.

    :param tree: the directory's name.
    :param known: value of each name the templates use.
    :returns: content by path relative to that directory.
    :raises KeyError: a template names something unknown.
    """
    root = release.CURRENT.templates / tree
    return {
        str(path.relative_to(root)): render_one(path, known)
        for path in sorted(root.rglob('*')) if path.is_file()
    }


def render_one(path: pathlib.Path, known: Mapping[str, str]) -> str:
    """Fill in one template; raises KeyError for an unknown name."""
    return string.Template(path.read_text()).substitute(known)
