# SPDX-License-Identifier: Apache-2.0
"""A cloud in a moment: what xen44-import asks for, through openstacksdk."""

from openstack import exceptions
from openstack.block_storage.v3 import volume as sdk_volume
from openstack.compute.v2 import flavor as sdk_flavor
from openstack.compute.v2 import server as sdk_server
from openstack.image.v2 import image as sdk_image
from openstack.network.v2 import network as sdk_network
from openstack.network.v2 import port as sdk_port

from tests.unit.xen import fake

PROJECT = 'a-project'


class Cloud:
    """All of openstacksdk's proxies at once, and the connection.

    :ivar calls: what was asked for, in order: the kind, and what tells it.
    :ivar images: id -> values, with what was uploaded in ``content``; so are
        ``ports``, ``volumes`` and ``all_servers``.
    :ivar fail: raised, once, by the call of that name.
    :ivar at_upload: called before the content is read.
    :ivar status: what a new server becomes.
    """

    current_project_id = PROJECT

    def __init__(self):
        self.calls = []
        self.flavor = {'id': 'f1', 'name': 'small', 'vcpus': 2, 'ram': 512,
                       'disk': 1, 'extra_specs': {}}
        self.images, self.ports_, self.volumes, self.all_servers = (
            {}, {}, {}, {})
        self.fail = {}
        self.at_upload = lambda: None
        self.status = 'ACTIVE'
        self.volume_status = 'available'
        self._next = 100

    @property
    def compute(self):
        return self

    network = compute

    @property
    def image(self):
        return _Proxy(self, images='images_')

    @property
    def block_storage(self):
        return _Proxy(self, volumes='volumes_')

    def _called(self, name, what, *, count=True):
        if count:
            self.calls.append((name, what))
        if name in self.fail:
            raise self.fail.pop(name)

    def _id(self):
        self._next += 1
        return fake.uuid(self._next)

    # Nova

    def find_flavor(self, name, *, ignore_missing, get_extra_specs):
        assert not ignore_missing
        assert get_extra_specs
        if name != self.flavor['name']:
            raise exceptions.NotFoundException(f'no flavor {name}')
        return sdk_flavor.Flavor(**self.flavor)

    def servers(self, **query):
        self._called('servers', query, count=False)
        assert query in ({}, {'all_projects': True, 'compute_host': 'xen1'})
        return iter([sdk_server.Server(**server)
                     for server in self.all_servers.values()])

    def create_server(self, **values):
        self._called('create_server', values)
        server = self._id()
        self.all_servers[server] = {
            'id': server, 'status': self.status, **values,
            'fault': {'message': 'No valid host'}}
        return sdk_server.Server(id=server)

    def get_server(self, server):
        self._called('get_server', server, count=False)
        if server not in self.all_servers:
            raise exceptions.NotFoundException('no such server')
        return sdk_server.Server(**self.all_servers[server])

    def delete_server(self, server):
        self._called('delete_server', server)
        del self.all_servers[server]

    # Glance

    def images_(self, *, owner, tag):
        assert owner == PROJECT
        return iter([sdk_image.Image(**{
            key: value for key, value in image.items() if key != 'content'})
            for image in self.images.values()
            if tag in image.get('tags', ())])

    def create_image(self, name, *, data, **values):
        content = b''
        self.at_upload()
        while block := data.read(1 << 16):
            content += block
        assert len(content) == len(data)
        self._called('create_image', name)
        image = self._id()
        self.images[image] = {'id': image, 'name': name, 'status': 'active',
                              'content': content, **values}
        return sdk_image.Image(id=image)

    def get_image(self, image):
        if image not in self.images:
            raise exceptions.NotFoundException('no such image')
        return sdk_image.Image(**self.images[image])

    def delete_image(self, image):
        self._called('delete_image', image)
        del self.images[image]

    # Neutron

    def find_network(self, name, *, ignore_missing):
        assert not ignore_missing
        return sdk_network.Network(id=f'id-of-{name}')

    def ports(self, **query):
        return iter([sdk_port.Port(**port) for port in self.ports_.values()
                     if query.items() <= port.items()])

    def create_port(self, **values):
        self._called('create_port', values['mac_address'])
        port = self._id()
        self.ports_[port] = {'id': port, 'project_id': PROJECT, **values}
        return sdk_port.Port(id=port)

    def delete_port(self, port):
        self._called('delete_port', port)
        del self.ports_[port]

    # Cinder

    def volumes_(self):
        return iter([sdk_volume.Volume(id=volume, metadata=values['metadata'])
                     for volume, values in self.volumes.items()])

    def create_volume(self, **values):
        self._called('create_volume', values['name'])
        assert values['image_id'] in self.images
        volume = self._id()
        self.volumes[volume] = values
        return sdk_volume.Volume(id=volume)

    def get_volume(self, volume):
        return sdk_volume.Volume(id=volume, status=self.volume_status)

    def delete_volume(self, volume):
        self._called('delete_volume', volume)
        del self.volumes[volume]


class _Proxy:
    """A proxy with calls that are named as what the cloud has."""

    def __init__(self, cloud, **names):
        self._cloud = cloud
        self._names = names

    def __getattr__(self, name):
        return getattr(self._cloud, self._names.get(name, name))
