# SPDX-License-Identifier: Apache-2.0
"""What a new cloud needs before a first server: made once in each lab."""

from __future__ import annotations

import base64
from collections.abc import Mapping
import os
import pathlib
import secrets

from labkit import config
from labkit import util
from labkit.cloud import install
from labkit.cloud import rest
from labkit.cloud import settings

#: Name: (id, memory in MiB, vCPUs, disk in GiB, extra specs). The first
#: two have the ids that devstack made customary.
FLAVORS: dict[str, tuple[str, int, int, int, dict[str, str]]] = {
    'm1.nano': ('42', 128, 1, 1, {}),
    'm1.micro': ('84', 192, 1, 1, {}),
    'm1.tiny': ('1', 256, 1, 1, {}),
    'm1.small': ('2', 512, 1, 5, {}),
    'm1.medium': ('3', 1024, 2, 10, {}),
    'xen.pv': ('xen.pv', 192, 1, 1, {'xen44:guest_type': 'pv'}),
    'xen.pvh': ('xen.pvh', 192, 1, 1, {'xen44:guest_type': 'pvh'}),
    'xen.hvm': ('xen.hvm', 192, 1, 1, {'xen44:guest_type': 'hvm'}),
}
KEYPAIR = 'xenlab'
#: cinder-volume's backends, each a volume type too.
VOLUME_TYPES = ('lvm', 'nfs', 'nfs2')


def write_keystone_keys() -> None:
    """Make keystone's token and credential keys, for a new lab.

    A repository holds files named by rising numbers: 0 is the key to come,
    the highest the one in use.
    """
    for name in ('fernet', 'credential'):
        directory = settings.private_directory(
            settings.LIB / 'keystone' / name)
        for number in ('0', '1'):
            key = base64.urlsafe_b64encode(secrets.token_bytes(32))
            settings.write_private(directory / number, key.decode())


def bootstrap(venv: pathlib.Path) -> None:
    """Make keystone's first user, roles and region; needs its database."""
    endpoint = settings.ENDPOINTS['identity']
    util.run(
        [venv / 'bin/keystone-manage', '--config-file',
         settings.ETC / 'keystone/keystone.conf', 'bootstrap',
         '--bootstrap-region-id', settings.REGION,
         '--bootstrap-public-url', endpoint,
         '--bootstrap-internal-url', endpoint],
        env={**install.environment(venv),
             'OS_BOOTSTRAP_PASSWORD': settings.load_secrets()['admin']},
        netns=True, log=config.LOGS / 'keystone-bootstrap.log')


def create_identity(client: rest.Client) -> None:
    """Make the services' users and their entries in the catalogue."""
    def identity(method: str, path: str, **body: object) -> dict:
        return client.call(method, 'identity', path, body or None)

    passwords = settings.load_secrets()
    project = identity('POST', '/projects', project={
        'name': 'service', 'domain_id': 'default'})['project']['id']
    roles = {role['name']: role['id']
             for role in identity('GET', '/roles')['roles']}
    for kind, url in settings.ENDPOINTS.items():
        if kind == 'identity':
            continue
        name = settings.NAMES[kind]
        user = identity('POST', '/users', user={
            'name': name, 'domain_id': 'default',
            'password': passwords[name]})['user']['id']
        for role in ('admin', 'service'):
            identity('PUT', f'/projects/{project}/users/{user}'
                            f'/roles/{roles[role]}')
        service = identity('POST', '/services', service={
            'name': name, 'type': kind})['service']['id']
        for interface in ('public', 'internal'):
            identity('POST', '/endpoints', endpoint={
                'service_id': service, 'interface': interface, 'url': url,
                'region_id': settings.REGION})


def create_network(client: rest.Client) -> str:
    """Make lab-net, and let ssh and ping into the admin's servers.

    :returns: the network's id.
    """
    network = client.call('POST', 'network', '/v2.0/networks', {'network': {
        'name': config.LAB_NET, 'shared': True,
        'provider:network_type': 'flat',
        'provider:physical_network': config.PHYSNET}})['network']['id']
    client.call('POST', 'network', '/v2.0/subnets', {'subnet': {
        'name': config.LAB_NET, 'network_id': network, 'ip_version': 4,
        'cidr': config.LAB_NET_CIDR,
        'gateway_ip': config.LAB_NET_GATEWAY}})
    group = client.call(
        'GET', 'network', '/v2.0/security-groups?name=default&project_id='
        + client.project)['security_groups'][0]['id']
    for rule in ({'protocol': 'icmp'},
                 {'protocol': 'tcp', 'port_range_min': 22,
                  'port_range_max': 22}):
        client.call('POST', 'network', '/v2.0/security-group-rules', {
            'security_group_rule': {
                'security_group_id': group, 'direction': 'ingress',
                'ethertype': 'IPv4', **rule}})
    return network


def serve_dhcp(client: rest.Client, network: str) -> None:
    """Have the DHCP agent serve a network before its first server."""
    agents = client.call('GET', 'network', '/v2.0/agents?binary='
                                           'neutron-dhcp-agent')['agents']
    client.call('POST', 'network',
                f'/v2.0/agents/{agents[0]["id"]}/dhcp-networks',
                {'network_id': network})

    def active() -> bool:
        ports = client.call(
            'GET', 'network', f'/v2.0/ports?network_id={network}'
            '&device_owner=network:dhcp')['ports']
        return any(port['status'] == 'ACTIVE' for port in ports)
    util.wait_for('DHCP on the network', active, 60,
                  config.LOGS / 'neutron-dhcp-agent.log')


def create_flavor(client: rest.Client, name: str, ram: int, disk: int,
                  specs: Mapping[str, str], *, ident: str = 'auto',
                  vcpus: int = 1) -> str:
    """Make a flavor; returns its id.

    :param ram: MiB.
    :param disk: GiB.
    :param ident: its id, if Nova is not to choose one.
    """
    made: str = client.call('POST', 'compute', '/flavors', {'flavor': {
        'name': name, 'id': ident, 'ram': ram, 'vcpus': vcpus,
        'disk': disk}})['flavor']['id']
    if specs:
        client.call('POST', 'compute', f'/flavors/{made}/os-extra_specs',
                    {'extra_specs': specs})
    return made


def create_flavors(client: rest.Client) -> None:
    """Make the flavors."""
    for name, (ident, ram, vcpus, disk, specs) in FLAVORS.items():
        create_flavor(client, name, ram, disk, specs, ident=ident,
                      vcpus=vcpus)


def create_volume_types(client: rest.Client) -> None:
    """Make a volume type for each backend."""
    for name in VOLUME_TYPES:
        client.call('POST', 'block-storage', '/types', {'volume_type': {
            'name': name, 'extra_specs': {'volume_backend_name': name}}})


def create_keypair(client: rest.Client, public_key: str) -> None:
    """Give the admin a key pair, whose private half stays outside."""
    client.call('POST', 'compute', '/os-keypairs', {'keypair': {
        'name': KEYPAIR, 'type': 'ssh', 'public_key': public_key}})


def upload_image(client: rest.Client, name: str, path: os.PathLike[str],
                 disk_format: str, properties: dict[str, str]) -> str:
    """Make a public image of a file, in place of one of that name.

    :returns: its id.
    """
    images = client.call('GET', 'image', f'/v2/images?name={name}')['images']
    for image in images:
        client.call('DELETE', 'image', f'/v2/images/{image["id"]}')
    image = client.call('POST', 'image', '/v2/images', {
        'name': name, 'disk_format': disk_format, 'container_format': 'bare',
        'visibility': 'public', **properties})
    with open(path, 'rb') as source:
        size = os.fstat(source.fileno()).st_size
        client.upload(f'/v2/images/{image["id"]}/file', source, size, 300)
    return image['id']
