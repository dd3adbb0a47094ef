# SPDX-License-Identifier: Apache-2.0
"""Count the libvirt calls of operations and periodic tasks.

This is done on the doubles of the functional tests, with any number of
domains. The double sends the events of libvirt's libxl driver in their odd
order, so the questions that follow from it are counted too.
"""

import collections
import contextlib
import functools
import threading
import time
import uuid

import fixtures
from nova import context as nova_context
from nova import objects
from nova.network import model
from oslo_utils import timeutils

from tests.functional import base
from tests.functional import fakelibvirt
from tests.functional import test_servers
from xen44_driver.xen import calls

# Seconds without a call after which what an operation led to is taken to be
# done: threads handle its events.
_QUIET = 0.3


class CallCounter(fixtures.Fixture):
    """Count the libvirt calls of all threads."""

    def _setUp(self):
        self._calls: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()
        self._call = calls.call
        self.useFixture(fixtures.MonkeyPatch(
            'xen44_driver.xen.calls.call', self._counted))

    def _counted(self, operation, *args, **kwargs):
        with self._lock:
            self._calls[operation] += 1
        return self._call(operation, *args, **kwargs)

    @contextlib.contextmanager
    def during(self):
        """Count the calls of a block and of what it leads to.

        :returns: the number of calls by libvirt's name of the function;
            filled when the block has ended.
        """
        before = self._so_far()
        found: collections.Counter[str] = collections.Counter()
        yield found
        found.update(self._when_quiet() - before)

    def _so_far(self):
        with self._lock:
            return self._calls.copy()

    def _when_quiet(self):
        """Return all calls so far, when no more come."""
        found, since = self._so_far(), time.monotonic()
        while time.monotonic() - since < _QUIET:
            time.sleep(_QUIET / 10)
            if (later := self._so_far()) != found:
                found, since = later, time.monotonic()
        return found


class CallsBase(test_servers.ServersBase):
    """A host with as many domains as a test wants.

    :ivar counter: the :class:`CallCounter`
    """

    def setUp(self):
        self.counter = self.useFixture(CallCounter())
        super().setUp()
        self.context = nova_context.get_admin_context()
        self.flags(allow_resize_to_same_host=True)
        self.flags(cores=-1, instances=-1, ram=-1, group='quota')

    def crowd(self, server, number):
        """Fill the host with copies of a server; restart nova-compute.

        :param server: a running server
        :param number: how many domains, and instances, there are then
        :returns: the calls of the start of nova-compute
        """
        instance = objects.Instance.get_by_uuid(
            self.context, server['id'], expected_attrs=[
                'flavor', 'metadata', 'system_metadata'])
        with self.counter.during():
            # The events of their starts are not those of nova-compute's.
            while len(self.below.host.domains) < number:
                self._copy(instance)
        with self.counter.during() as found:
            self.compute = self.restart_compute_service(self.compute)
        self.driver = self.compute.manager.driver
        return found

    def _copy(self, instance):
        """Make an instance like another one, and its running domain."""
        copy = objects.Instance(
            self.context, uuid=str(uuid.uuid4()),
            launched_at=timeutils.utcnow(),
            info_cache=objects.InstanceInfoCache(
                network_info=model.NetworkInfo()),
            **{name: getattr(instance, name) for name in (
                'availability_zone', 'compute_id', 'flavor', 'host',
                'image_ref', 'launched_on', 'memory_mb', 'metadata', 'node',
                'power_state', 'project_id', 'root_gb', 'system_metadata',
                'user_id', 'vcpus', 'vm_state')})
        copy.create()
        domain = fakelibvirt.Domain(
            self.below.host, self.below.host.domains[instance.uuid].xml
            .replace(instance.uuid, copy.uuid)
            .replace(instance.name, copy.name))
        self.below.host.domains[copy.uuid] = domain
        domain.on()

    def restart_libvirtd(self):
        """Restart libvirtd; return the calls that follow."""
        with self.counter.during() as found:
            self.below.host.restart_libvirtd()
            # Otherwise the driver connects again a second later.
            self.driver.get_available_resource('xen1.test')
        return found

    def periodic_tasks(self):
        """Return every periodic task of Nova and of the driver, by name.

        With them come the driver's other answers from its cache.
        """
        manager, driver = self.compute.manager, self.driver
        instances = objects.InstanceList.get_by_host(self.context, 'xen1')
        return {
            **{name.removeprefix('ComputeManager.').lstrip('_'):
               functools.partial(task, manager, self.context)
               for name, task in manager._periodic_tasks},
            'sync_power_states': self._sync_power_states,
            'shorten console logs': driver._console_logs.look,
            'get_available_nodes': driver.get_available_nodes,
            'get_host_uptime': driver.get_host_uptime,
            'get_info of each': lambda: [
                driver.get_info(one) for one in instances],
            'get_num_instances': driver.get_num_instances,
            'instance_exists of each': lambda: [
                driver.instance_exists(one) for one in instances],
            'list_instance_uuids': driver.list_instance_uuids,
            'list_instances': driver.list_instances,
        }

    def _sync_power_states(self):
        """Run Nova's task of this name, with the threads that it starts."""
        manager = self.compute.manager
        manager._sync_power_states(self.context)
        for _ in range(600):
            with manager.syncs_in_progress() as syncs:
                if not syncs:
                    return
            time.sleep(0.1)
        self.fail('the power states are not in sync in time')

    def act(self, server, action, state, body=None):
        """Do an action, and wait for the state that it leads to."""
        self.api.post_server_action(server['id'], {action: body})
        return self._wait_for_server_parameter(
            server, {'status': state, 'OS-EXT-STS:task_state': None})

    def operations(self):
        """Do each operation once, with a server of its own.

        :returns: the calls of each operation, by its name
        """
        counts = {}

        @contextlib.contextmanager
        def counted(name):
            with self.counter.during() as counts[name]:
                yield

        larger = self.flavor(memory_mb=512, disk=2)
        rescue = base.create_image(self.glance, base.raw_image(b'rescue'))
        with counted('create'):
            server = self.boot()
        for name, action, state, body in (
                ('stop', 'os-stop', 'SHUTOFF', None),
                ('start', 'os-start', 'ACTIVE', None),
                ('reboot, soft', 'reboot', 'ACTIVE', {'type': 'SOFT'}),
                ('reboot, hard', 'reboot', 'ACTIVE', {'type': 'HARD'}),
                ('pause', 'pause', 'PAUSED', None),
                ('unpause', 'unpause', 'ACTIVE', None),
                ('suspend', 'suspend', 'SUSPENDED', None),
                ('resume', 'resume', 'ACTIVE', None),
                ('snapshot', 'createImage', 'ACTIVE', {'name': 'image'}),
                ('rescue', 'rescue', 'RESCUE', {'rescue_image_ref': rescue}),
                ('unrescue', 'unrescue', 'ACTIVE', None),
                ('rebuild', 'rebuild', 'ACTIVE', {'imageRef': self.image}),
                ('resize', 'resize', 'VERIFY_RESIZE', {'flavorRef': larger}),
                ('resize, confirm', 'confirmResize', 'ACTIVE', None)):
            with counted(name):
                server = self.act(server, action, state, body)
        port = self.neutron.create_port({'port': {
            'network_id': self.neutron.network_1['id']}})['port']
        with counted('attach interface'):
            self.api.attach_interface(
                server['id'],
                {'interfaceAttachment': {'port_id': port['id']}})
        with counted('detach interface'):
            self.notifier.reset()
            self.api.detach_interface(server['id'], port['id'])
            self.notifier.wait_for_versioned_notifications(
                'instance.interface_detach.end')
        with counted('diagnostics'):
            self.api.get_server_diagnostics(server['id'])
        with counted('console output'):
            self.api.post_server_action(
                server['id'], {'os-getConsoleOutput': {}})
        with counted('delete'):
            self._delete_server(server)
        return counts
