# SPDX-License-Identifier: Apache-2.0
"""``xen44-import`` with Nova's real API, and the driver that starts it."""

import contextlib
import os
import types
import uuid

import fixtures
from lxml import etree
from nova import context as nova_context
from nova import objects

from tests.functional import base
from tests.functional import test_host_commands
from tests.functional import test_volumes
from xen44_driver import privsep
from xen44_driver.cmd import importing
from xen44_driver.cmd import newservers
from xen44_driver.compute import machine as machine_lib

UUID = '11111111-2222-4333-8444-555555555555'
MAC = '52:54:00:44:44:44'

#: A domain as virsh defines it.
FOREIGN = '''
<domain type="xen">
  <name>web server</name><uuid>{uuid}</uuid>
  <memory unit="KiB">262144</memory><vcpu>1</vcpu>
  <os><type arch="x86_64" machine="xenpv">linux</type></os>
  <devices>
    {disks}
    <interface type="bridge"><mac address="{mac}"/>
      <source bridge="xenbr0"/></interface>
  </devices>
</domain>
'''

DISK = '''<disk type="file" device="disk"><driver name="qemu" type="raw"/>
  <source file="{file}"/><target dev="{target}" bus="xen"/></disk>'''

#: What Nova's libvirt driver puts into a domain.
OF_NOVA = ('<metadata><nova:instance xmlns:nova='
           '"http://openstack.org/xmlns/libvirt/nova/1.1"/></metadata>')


class Glance:
    """openstacksdk's proxy, on nova's double of Glance."""

    def __init__(self, glance):
        self._glance = glance

    def images(self, **query):
        return iter(())

    def create_image(self, name, *, data, disk_format, container_format,
                     allow_duplicates, tags, min_disk=0, **properties):
        return types.SimpleNamespace(id=base.create_image(
            self._glance, data.readall(), disk_format=disk_format,
            container_format=container_format, **properties))

    def delete_image(self, image):
        self._glance.delete(None, image)

    def get_image(self, image):
        properties = self._glance.show(None, image)['properties']
        return types.SimpleNamespace(properties=properties, vm_mode=None)


class Neutron:
    """openstacksdk's proxy, on nova's double of Neutron."""

    def __init__(self, neutron):
        self._neutron = neutron

    def find_network(self, name, *, ignore_missing):
        return types.SimpleNamespace(id=self._neutron.network_1['id'])

    def ports(self, **query):
        found = self._neutron.list_ports(True, **query)['ports']
        return iter([types.SimpleNamespace(
            id=port['id'], device_id=port.get('device_id'),
            project_id=port['tenant_id']) for port in found])

    def create_port(self, **values):
        made = self._neutron.create_port({'port': values})['port']
        # The double gives a port an address of its own.
        self._neutron._ports[made['id']]['mac_address'] = values[
            'mac_address']
        return types.SimpleNamespace(id=made['id'])

    def delete_port(self, port):
        self._neutron.delete_port(port)


class Cinder:
    """openstacksdk's proxy; nova's double takes each id for a volume's."""

    def volumes(self):
        return iter(())

    def create_volume(self, *, name, size, image_id, metadata):
        return types.SimpleNamespace(id=str(uuid.uuid4()))

    def get_volume(self, volume):
        return types.SimpleNamespace(status='available')

    def delete_volume(self, volume):
        raise AssertionError('nothing fails')


class ImportBase(test_host_commands.CommandsBase):

    def setUp(self):
        super().setUp()
        self.patch(privsep, 'running_domains', lambda: {})
        self.patch(newservers, 'INTERVAL', 0.1)

    @contextlib.contextmanager
    def connect(self, *, api_timeout):
        with super().connect(api_timeout=api_timeout) as connection:
            connection.image = Glance(self.glance)
            connection.network = Neutron(self.neutron)
            connection.block_storage = Cinder()
            connection.current_project_id = self.admin_api.project_id
            yield connection

    def import_(self, *names, flavor=None, yes=True, status=0):
        """Run the command; returns what it tells of the only domain."""
        def run(*, timeout, as_json):
            return importing.run(names, newservers.Wanted(
                flavor=flavor, networks=['private'], timeout=timeout),
                yes=yes, as_json=as_json)

        [row] = self.call(run, status=status)['domains']
        return row

    def server(self, uuid):
        return self.api.get_server(uuid)


class NewServerBase(ImportBase):

    #: The guest's names of the domain's disks.
    targets = ('xvda',)

    def setUp(self):
        super().setUp()
        self.root = os.path.join(
            self.useFixture(fixtures.TempDir()).path, 'root.raw')
        with open(self.root, 'wb') as file:
            file.write(base.raw_image(b'content'))
        self.below.host.defineXML(FOREIGN.format(
            uuid=UUID, mac=MAC, disks=''.join(
                DISK.format(file=self.root, target=target)
                for target in self.targets)))


class NewServerTest(NewServerBase):

    def test_there_and_back(self):
        flavor = self.flavor(xen44_guest_type='pv')
        found = self.import_('web server', flavor=flavor, yes=False)
        self.assertEqual((True, [], []), tuple(
            found[key] for key in ('possible', 'problems', 'needs')))
        self.assertEqual([], self.api.get_servers())

        found = self.import_('web server', flavor=flavor)
        server = self.server(found['server'])
        self.assertEqual(('ACTIVE', 'web server'),
                         (server['status'], server['name']))
        domain = self.domain(server)
        self.assertTrue(domain.isActive())
        self.assertIn('machine="xenpv"', domain.xml.replace("'", '"'))
        self.assertIn(MAC, domain.xml)
        self.assertEqual([server['id']], [*self.below.host.domains])
        # It lies on a copy of the old disk, which stays.
        with open(self.root, 'rb') as old, open(
                self.driver._node.images.store.path(
                    server['image']['id']), 'rb') as copy:
            self.assertEqual(old.read(), copy.read())
        self._delete_server(server)

        # The way back, if one has to.
        kept, = (name for name in os.listdir(importing.CONF.state_path)
                 if name.endswith('.xml'))
        with open(os.path.join(importing.CONF.state_path, kept)) as file:
            self.below.host.defineXML(file.read())
        self.assertTrue(self.import_(UUID, yes=False, status=1)['possible'])

    def test_host_is_full(self):
        """Nova's fault is told, and all is removed."""
        self.flags(ram=-1, group='quota')
        ports = {port['id'] for port in self.neutron.list_ports(True)['ports']}
        images = {image['id'] for image in self.glance.detail(None)}
        flavor = self.flavor(memory_mb=10 ** 7, xen44_guest_type='pv')
        found = self.import_('web server', flavor=flavor, status=1)
        self.assertIn('No valid host', found['problems'][0])
        self.assertEqual([], self.api.get_servers())
        self.assertEqual(ports, {
            port['id'] for port in self.neutron.list_ports(True)['ports']})
        self.assertEqual(images, {
            image['id'] for image in self.glance.detail(None)})
        self.assertEqual([UUID], [*self.below.host.domains])


class VolumesTest(NewServerBase, test_volumes.VolumesBase):

    targets = ('xvda', 'xvdb')

    def test_second_disk(self):
        images = {image['id'] for image in self.glance.detail(None)}
        found = self.import_(
            'web server', flavor=self.flavor(xen44_guest_type='pv'))
        server = self.server(found['server'])
        self.assertEqual('ACTIVE', server['status'])
        [volume] = server['os-extended-volumes:volumes_attached']
        self.assertEqual(
            [('xvda', 'file', None), ('xvdb', 'block', volume['id'])],
            self.definition(server))
        # The second disk's image was a means only.
        self.assertEqual({server['image']['id']}, images ^ {
            image['id'] for image in self.glance.detail(None)})


class InPlaceTest(ImportBase):

    def leave(self, server):
        """Make of a server what Nova's libvirt driver would have left."""
        self._stop_server(server)
        domain = self.domain(server)
        tree = etree.fromstring(domain.xml)
        tree.replace(tree.find('metadata'), etree.fromstring(OF_NOVA))
        disk = tree.find('devices/disk/source')
        old = os.path.join(os.path.dirname(disk.get('file')), 'disk')
        os.rename(disk.get('file'), old)
        disk.set('file', old)
        domain.undefine()
        self.below.host.defineXML(etree.tostring(tree, encoding='unicode'))
        instance = objects.Instance.get_by_uuid(
            nova_context.get_admin_context(), server['id'])
        self.assertTrue(machine_lib.forget(instance, machine_lib.KEY))
        instance.save()

    def test_taken(self):
        server = self.boot(flavor=self.flavor(xen44_guest_type='pv'))
        self.leave(server)
        found = self.import_(server['id'], yes=False)
        self.assertEqual(('in place', []), (found['way'], found['problems']))
        self.import_(server['id'])
        self.assertEqual({}, self.below.host.domains)

        self._start_server(server)
        domain = self.domain(server)
        self.assertTrue(domain.isActive())
        self.assertIn('xenpv', domain.xml)
        self.assertIn('urn:xen44-driver:instance:1', domain.xml)
        self.assertIn(f'{server["id"]}/disk.qcow2', self.below.files())
        self._delete_server(server)
        self.below.assert_nothing_left()
