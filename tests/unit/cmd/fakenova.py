# SPDX-License-Identifier: Apache-2.0
"""Nova's API in a moment: what the commands ask it, through openstacksdk."""

from nova.compute import power_state
from openstack import exceptions
from openstack.compute.v2 import hypervisor as sdk_hypervisor
from openstack.compute.v2 import migration as sdk_migration
from openstack.compute.v2 import server as sdk_server
from openstack.compute.v2 import service as sdk_service
from openstack.placement.v1 import resource_provider

from tests.unit.xen import fake


def refusal(text='Cannot \'stop\' instance while it is in vm_state paused',
            status=409):
    """An answer that is an error."""
    kind = {404: exceptions.NotFoundException,
            409: exceptions.ConflictException}.get(
                status, exceptions.HttpException)
    return kind(text, http_status=status)


class Nova:
    """openstacksdk's proxy of a Nova with one host.

    What it is asked for it has done at the look after the next one.

    :ivar fail: raised, once, by the call of that name, and as an answer for
        the server of that UUID always.
    :ivar stuck: UUIDs of servers with which it does nothing.
    :ivar calls: what was asked for, in order.
    :ivar node: UUID of the compute node and of its provider.
    :ivar providers: those that Placement has.
    :ivar all_migrations: the host's migrations.
    """

    def __init__(self):
        self.service = {
            'id': fake.uuid(77), 'binary': 'nova-compute', 'host': 'xen1',
            'status': 'enabled', 'disabled_reason': None, 'state': 'up'}
        self.all = {}
        self.fail = {}
        self.stuck = set()
        self.calls = []
        self.node = fake.uuid(88)
        self.nodes = {self.node}
        self.providers = {self.node}
        self.all_migrations = []
        self._work = {}

    def add(self, number, *, name=None, vm_state='active',
            power=power_state.RUNNING, task_state=None):
        """A server that is there already."""
        uuid = fake.uuid(number)
        self.all[uuid] = {
            'id': uuid, 'name': name or f'web {number}', 'vm_state': vm_state,
            'power_state': power, 'task_state': task_state}
        return uuid

    # openstacksdk's names

    def services(self, **query):
        self._called('services')
        return iter([sdk_service.Service(**self.service)] if self.service
                    and all(
                        self.service[key] == value
                        for key, value in query.items()) else [])

    def delete_service(self, service):
        self._called('delete_service')
        assert service == self.service['id']
        self.calls.append('delete_service')
        self.service = None
        self.nodes.clear()
        if 'provider' not in self.stuck:
            self.providers.clear()

    def hypervisors(self, *, details):
        assert details
        return iter([
            sdk_hypervisor.Hypervisor(id=fake.uuid(99), name='xen2.test',
                                      service={'host': 'xen2'}),
            *(sdk_hypervisor.Hypervisor(id=node, name='xen1.test',
                                        service={'host': 'xen1'})
              for node in self.nodes)])

    def migrations(self, **query):
        assert query == {'host': 'xen1'}
        return iter([sdk_migration.Migration(**migration)
                     for migration in self.all_migrations])

    # Placement, as openstacksdk's other proxy

    def resource_providers(self, *, id):
        self._called('resource_providers')
        return iter([resource_provider.ResourceProvider(
            id=id, name='xen1.test')] if id in self.providers else [])

    def update_service(self, service, **values):
        self._called('update_service')
        assert service == self.service['id']
        self.calls.append(values)
        self.service.update({'disabled_reason': None, **values})
        return sdk_service.Service(**self.service)

    def servers(self, **query):
        self._called('servers')
        with_all = query.pop('is_soft_deleted', False)
        assert query == {'all_projects': True, 'compute_host': 'xen1'}
        found = [sdk_server.Server(**server) for server in self.all.values()
                 if with_all or server['vm_state'] != 'soft-delete']
        for uuid, values in list(self._work.items()):
            if uuid not in self.stuck and uuid in self.all:
                self.all[uuid].update(values, task_state=None)
                del self._work[uuid]
        return iter(found)

    def stop_server(self, uuid):
        self._ask('stop', uuid, 'powering-off', vm_state='stopped',
                  power_state=power_state.SHUTDOWN)

    def start_server(self, uuid):
        self._ask('start', uuid, 'powering-on', vm_state='active',
                  power_state=power_state.RUNNING)

    def _ask(self, verb, uuid, task, **then):
        self.calls.append((verb, uuid))
        self._called(f'{verb}_server')
        if uuid in self.fail:
            raise self.fail[uuid]
        self.all[uuid]['task_state'] = task
        self._work[uuid] = then

    def _called(self, name):
        if name in self.fail:
            raise self.fail.pop(name)
