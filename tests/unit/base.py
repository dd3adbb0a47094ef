# SPDX-License-Identifier: Apache-2.0
"""Nova's objects without Nova, for tests of what is above xen/."""

import time
import types
from unittest import mock

import fixtures
from nova import conf as nova_conf
from nova import objects
from nova.network import model
import os_vif
from oslo_config import fixture as config_fixture
from oslotest import base

from xen44_driver import conf
from xen44_driver import privsep
from xen44_driver.compute import node as compute_node
from xen44_driver.xen import capabilities
from xen44_driver.xen.guesttype import GuestType

UUID = 'c0a8f5c1-0b3e-4f1e-9f4e-6f1f3c5b7a11'
PORT = '51a9642b-1414-4bd6-9a92-1320ddc55a63'
IMAGE = '0dd9d7a3-70a8-4e4b-9a54-3d2f6a5a2b1c'
VOLUME = '9f1c3b7e-4a5d-4c2e-8b6f-7e0d1a2b3c4d'
REQUEST = '8d2f6c10-3b7e-4a95-9c41-e05d7a9b3f62'

objects.register_all()
os_vif.objects.register_all()
conf.register_opts(nova_conf.CONF)


class TestCase(base.BaseTestCase):
    """A test with Nova's configuration, and an empty instances_path.

    No domain's QEMU has a monitor, and no instance a volume.
    """

    def setUp(self):
        super().setUp()
        fixture = self.useFixture(
            config_fixture.Config(nova_conf.CONF))
        nova_conf.CONF([], project='nova', default_config_files=[])
        self.flags = fixture.config
        self.instances = self.useFixture(fixtures.TempDir()).path
        self.flags(instances_path=self.instances)
        for name in ('make_socket_dir', 'remove_monitor'):
            self.patch(privsep, name)
        for name, answer in (('monitor_is_there', False),
                             ('linked_volumes', [])):
            self.patch(privsep, name, return_value=answer)

    def patch(self, *args, **kwargs):
        """Have ``mock.patch.object`` until the test ends; return the mock."""
        return self.useFixture(fixtures.MockPatchObject(*args, **kwargs)).mock

    def fake_time(self, now=0):
        """Have time pass while code sleeps, and only then.

        ``self.now`` tells it. ``self.at_sleep`` is called after each sleep.

        :returns: the mock of ``time.sleep``.
        """
        self.now = now
        self.at_sleep = lambda: None
        self.patch(time, 'monotonic', lambda: self.now)
        return self.patch(time, 'sleep', side_effect=self._pass_time)

    def _pass_time(self, seconds):
        self.now += seconds
        self.at_sleep()


def instance(*, root_gb=1, extra_specs=None, **values):
    """An instance of Nova's."""
    flavor = objects.Flavor(
        name='small', flavorid='1', memory_mb=256, vcpus=2,
        root_gb=root_gb, ephemeral_gb=0, swap=0,
        extra_specs=extra_specs or {})
    defaults = {
        'uuid': UUID, 'id': 1, 'display_name': 'Käse <&>', 'flavor': flavor,
        'image_ref': IMAGE, 'kernel_id': None, 'ramdisk_id': None,
        'os_type': None, 'project_id': 'project', 'user_id': 'user',
        'config_drive': '', 'launched_at': None, 'system_metadata': {},
        'vm_state': 'active', 'task_state': None,
        'root_device_name': None, 'key_name': None, 'trusted_certs': None,
        'pci_devices': None, 'pci_requests': None,
        'numa_topology': None}
    return objects.Instance(None, **{**defaults, **values})


def image(**properties):
    """An image's metadata."""
    return objects.ImageMeta.from_dict({
        'id': IMAGE, 'name': 'image', 'disk_format': 'qcow2',
        'container_format': 'bare', 'properties': properties})


def numa_topology(pinned, shared=(), policy=None):
    """Where Nova has placed an instance's vCPUs."""
    policy = policy or ('mixed' if shared else 'dedicated')
    cell = objects.InstanceNUMACell(
        id=0, cpuset=set(shared), pcpuset=set(pinned), memory=256,
        cpu_policy=policy)
    cell.cpu_pinning = pinned
    return objects.InstanceNUMATopology(cells=[cell])


def pci_devices(*addresses, port=False):
    """PCI devices that Nova has chosen for an instance, and the request.

    :param port: whether a port asked for them, and not the flavor.
    """
    request = objects.InstancePCIRequest(
        count=len(addresses), request_id=REQUEST, spec=[{}],
        **{'requester_id': PORT} if port else {'alias_name': 'nic'})
    return {
        'pci_requests': objects.InstancePCIRequests(requests=[request]),
        'pci_devices': objects.PciDeviceList(objects=[
            objects.PciDevice(address=address, request_id=REQUEST,
                              extra_info={})
            for address in addresses])}


def vif(**values):
    """A port of Neutron's, as Nova knows it."""
    network = model.Network(
        id='4587c867-a2e6-4356-8c5b-bc077dcb8620', bridge='br-int',
        label='net', subnets=[], mtu=1450)
    return model.VIF(**{
        'id': PORT, 'address': 'FA:16:3E:00:00:01', 'network': network,
        'type': 'ovs', 'details': {}, 'active': False, **values})


def connection_info(volume=VOLUME, kind='iscsi', **data):
    """What Cinder says of the connection of a volume."""
    return {'driver_volume_type': kind, 'serial': volume,
            'data': {'volume_id': volume, **data}}


def host_capabilities(*guest_types):
    """What a host can do."""
    kinds = guest_types or tuple(GuestType)
    return capabilities.Capabilities(
        guest_arches=frozenset({'x86_64', 'i686'}),
        arch='x86_64', guest_types=kinds, cpu_model='EPYC',
        cpu_features=frozenset({'pni', 'aes', 'svm', 'avx512-bf16'}),
        topology=capabilities.Topology(sockets=1, cores=4, threads=2),
        cells=tuple(capabilities.Cell(
            id=number, memory_mib=4096, socket=number,
            cpus=frozenset(range(4 * number, 4 * number + 4)),
            siblings=tuple(frozenset({first, first + 1}) for first in
                           (4 * number, 4 * number + 2)))
            for number in range(2)),
        max_vcpus=dict.fromkeys(kinds, 128),
        disk_buses=frozenset({'xen', 'ide'}),
        video_models=frozenset({'vga', 'cirrus', 'xen'}))


def node(*guest_types):
    """This compute node, with a mock for a host."""
    host = mock.Mock()
    host.capabilities.return_value = host_capabilities(*guest_types)
    host.versions.return_value = versions(4, 20, 0)
    return compute_node.Node(host, mock.MagicMock())


def versions(*xen):
    """Versions of a host."""
    return types.SimpleNamespace(xen=xen, libvirt=(11, 3, 0))
