# SPDX-License-Identifier: Apache-2.0
"""nova-compute is killed at each named point of an operation.

What the doubles below the driver have stays, and nothing is undone, as when
the process ends. Then nova-compute starts anew, and the user goes on.
"""

import operator
import os
import queue
import shutil
import sys
import time
from unittest import mock

import fixtures
from nova import objects
from nova.compute import manager
from nova.compute import utils as compute_utils
from nova.tests.functional.api import client as api_client
from nova.virt import block_device

from tests.functional import base
from tests.functional import test_interfaces
from tests.functional import test_resize
from tests.functional import test_volumes
from xen44_driver.compute import resize
from xen44_driver.core import undo
from xen44_driver.storage import usage


class Killed(BaseException):
    """Ends a thread where the process would end."""


def unless_killed(function):
    """Return a function that does nothing in a thread that was killed."""
    def wrapped(*args, **kwargs):
        if Killed in args or isinstance(sys.exc_info()[1], Killed):
            return None
        return function(*args, **kwargs)

    return wrapped


class KilledCase(test_resize.ResizeCase):
    """Kills nova-compute, and starts it again."""

    def setUp(self):
        super().setUp()
        self.point = None
        # What runs when an exception passes, but not when a process ends.
        for module, names in (
                (undo, ('Undo.__exit__', 'attempt')),
                (block_device, ('DriverVolumeBlockDevice.save',)),
                (compute_utils, ('EventReporter.__exit__',)),
                (manager, ('ComputeManager._delete_stashed_flavor_info',
                           'ComputeManager._delete_allocation_after_move'))):
            for name in names:
                self.useFixture(fixtures.MonkeyPatch(
                    f'{module.__name__}.{name}',
                    unless_killed(operator.attrgetter(name)(module))))
        self.useFixture(fixtures.MonkeyPatch(
            'xen44_driver.faultpoints._action', self.at))

    def at(self, point):
        if point == self.point:
            self.point = None
            raise Killed(point)

    def kill(self, server, point, ask, *args, expected):
        """Ask for something, and be killed at a point of it.

        :param ask: what asks; it may fail.
        :param expected: the server's state when nova-compute is back.
        """
        self.point = point
        # The API waits for an answer that does not come.
        self.flags(rpc_response_timeout=2)
        try:
            ask(*args)
        except api_client.OpenStackApiException:
            # The answer is awaited by some, and does not come.
            pass
        self.restart()
        try:
            return self._wait_for_server_parameter(server, {
                'status': expected, 'OS-EXT-STS:task_state': None})
        except AssertionError as error:
            raise AssertionError(f'killed at {point}: {error}') from None

    def restart(self):
        """Start nova-compute anew when it has been killed."""
        end = time.monotonic() + 60
        while self.point:
            self.assertLess(time.monotonic(), end, self.point)
            time.sleep(0.02)
        # Its thread ends, too.
        time.sleep(0.5)
        self.flags(rpc_response_timeout=60)
        self.compute = self.restart_compute_service(self.compute)
        self.driver = self.compute.manager.driver

    def ask(self, server, name, body=None):
        self.api.post_server_action(server['id'], {name: body})

    def assert_runs(self, server):
        self.assertTrue(self.domain(server).isActive())


class SuspendTest(KilledCase):

    @base.slow
    def test_suspend(self):
        server = self.boot()
        for point, after in (('suspend: checked', 'ACTIVE'),
                             ('suspend: memory saved', 'SUSPENDED')):
            self.kill(server, point, self.ask, server, 'suspend',
                      expected=after)
            self.assertEqual(after == 'ACTIVE',
                             self.domain(server).isActive())
        self._delete_server(server)
        self.below.assert_nothing_left()

    @base.slow
    def test_resume(self):
        server = self.boot()
        for point, after in (
                ('resume: ports plugged', 'SUSPENDED'),
                ('boot: domain started', 'ACTIVE'),
                ('resume: memory restored', 'ACTIVE'),
                ('resume: saved memory removed', 'ACTIVE'),
                ('resume: domain resumed', 'ACTIVE')):
            if server['status'] == 'ACTIVE':
                self.ask(server, 'suspend')
                self._wait_for_state_change(server, 'SUSPENDED')
            server = self.kill(server, point, self.ask, server, 'resume',
                               expected=after)
            self.assertEqual(after == 'ACTIVE',
                             self.domain(server).isActive())
            self.assertEqual(after == 'SUSPENDED',
                             server['id'] in self.below.host.saved)
        self._delete_server(server)
        self.below.assert_nothing_left()


class SnapshotTest(KilledCase):

    @base.slow
    def test_snapshot(self):
        server = self.boot(image=base.create_image(
            self.glance, base.raw_image(b'guest'), hw_vm_mode='xen'))
        for point in ('snapshot: file made', 'snapshot: target open',
                      'snapshot: copy begun', 'snapshot: disk copied',
                      'snapshot: uploaded'):
            self.kill(server, point, self.ask, server, 'createImage',
                      {'name': 'snapshot'}, expected='ACTIVE')
            self.assertTrue(self.below.qemu.clean(), point)
            self.assertEqual([], self.copies(), point)
            self.assert_runs(server)
        self._stop_server(server)
        self.kill(server, 'snapshot: disk converted', self.ask, server,
                  'createImage', {'name': 'snapshot'}, expected='SHUTOFF')
        self.assertEqual([], self.copies())
        self._delete_server(server)
        self.below.assert_nothing_left()

    @base.slow
    def test_snapshot_by_kernel(self):
        server = self.boot(flavor=self.flavor(
            xen44_guest_type='pvh', xen44_disk_class='kernel'))
        files = self.below.files()
        self.useFixture(fixtures.MockPatchObject(
            usage, 'shares_blocks', return_value=True))
        self.useFixture(fixtures.MockPatchObject(
            usage, 'clone', shutil.copy))
        for point in ('snapshot: file cloned', 'snapshot: disk converted'):
            self.kill(server, point, self.ask, server, 'createImage',
                      {'name': 'snapshot'}, expected='ACTIVE')
            self.assertEqual([], self.copies(), point)
            self.assertEqual(files, self.below.files(), point)
            self.assert_runs(server)

    def copies(self):
        return [name for directory, _, names in os.walk(os.path.join(
            self.below.instances, 'snapshots')) for name in names]


class RescueTest(KilledCase):

    def setUp(self):
        super().setUp()
        self.image = base.create_image(self.glance, base.raw_image(b'own'))
        self.other = base.create_image(
            self.glance, base.raw_image(b'rescue'))

    def test_rescue(self):
        server = self.boot()
        before = self.domain(server).xml
        for point, after in (('rescue: image fetched', 'SHUTOFF'),
                             ('rescue: disks made', 'SHUTOFF'),
                             ('rescue: record kept', 'SHUTOFF'),
                             ('power on: domain defined', 'SHUTOFF'),
                             ('rescue: guest booted', 'RESCUE')):
            server = self.kill(
                server, point, self.ask, server, 'rescue',
                {'rescue_image_ref': self.other}, expected=after)
            if after == 'SHUTOFF':
                self.assertEqual(before, self.domain(server).xml)
                self.assert_no_rescue()
                self._start_server(server)
        self.assert_runs(server)
        self.ask(server, 'unrescue')
        self._wait_for_state_change(server, 'ACTIVE')
        self.assertEqual(before, self.domain(server).xml)
        self.assert_no_rescue()

    @base.slow
    def test_unrescue(self):
        server = self.boot()
        before = self.domain(server).xml
        for point, after in (('power on: old domain stopped', 'RESCUE'),
                             ('power on: domain defined', 'RESCUE'),
                             ('unrescue: guest booted', 'ACTIVE')):
            if server['status'] == 'ACTIVE':
                self.ask(server, 'rescue', {'rescue_image_ref': self.other})
                self._wait_for_state_change(server, 'RESCUE')
            server = self.kill(server, point, self.ask, server, 'unrescue',
                               expected=after)
        self.assert_runs(server)
        self.assertEqual(before, self.domain(server).xml)
        self.assert_no_rescue()

    def assert_no_rescue(self):
        self.assertEqual([], [name for name in self.below.files()
                              if 'rescue' in name])


class ResizeTest(KilledCase):

    @base.slow
    def test_resize(self):
        server = self.boot()
        memory, large = self.memory(server), self.larger()
        for point, after in (('resize: domain stopped', 'ACTIVE'),
                             ('resize: disks set aside', 'ACTIVE'),
                             ('resize: disks made', 'VERIFY_RESIZE'),
                             ('resize: record kept', 'VERIFY_RESIZE'),
                             ('resize: disks complete', 'VERIFY_RESIZE'),
                             ('resize: domain defined', 'VERIFY_RESIZE')):
            server = self.kill(
                server, point, self.ask, server, 'resize',
                {'flavorRef': large}, expected=after)
            self.assert_runs(server)
            if after != 'ACTIVE':
                self.assertNotEqual(memory, self.memory(server), point)
                server = self.act(server, 'revertResize')
            self.assertEqual(memory, self.memory(server), point)
            self.assert_clean(server)
        self._delete_server(server)
        self.below.assert_nothing_left()
        self.assert_no_allocation()

    def assert_no_allocation(self):
        """Nothing is allocated, neither by servers nor by migrations."""
        self.assertEqual({}, self._get_allocations_by_provider_uuid(
            self._get_provider_uuid_by_host('xen1')))

    @base.slow
    def test_resize_that_cannot_be_completed(self):
        server = self.boot()
        memory, real = self.memory(server), resize.finish
        with mock.patch.object(resize, 'finish', side_effect=[
                mock.DEFAULT, OSError('no room')], wraps=real):
            server = self.kill(
                server, 'resize: disks made', self.ask, server, 'resize',
                {'flavorRef': self.larger()}, expected='ERROR')
        self.assertIn('no room', server['fault']['message'])
        self._reboot_server(server, hard=True)
        self.assertEqual(memory, self.memory(server))
        self.assert_clean(server)
        self._delete_server(server)
        self.below.assert_nothing_left()
        self.assert_no_allocation()

    @base.slow
    def test_resize_of_one_that_is_off(self):
        server = self._stop_server(self.boot())
        self.kill(server, 'resize: disks made', self.ask, server, 'resize',
                  {'flavorRef': self.larger()}, expected='VERIFY_RESIZE')
        self.assertFalse(self.domain(server).isActive())
        self.act(server, 'revertResize', 'SHUTOFF')
        self.assert_clean(server)

    @base.slow
    def test_revert(self):
        server = self.boot()
        memory = self.memory(server)
        for point in ('revert: disks restored', 'power on: domain defined',
                      'boot: domain started'):
            self.resize(server, self.larger())
            server = self.kill(server, point, self.ask, server,
                               'revertResize', expected='ACTIVE')
            self.assertEqual(memory, self.memory(server), point)
            self.assert_runs(server)
            self.assert_clean(server)
        self._delete_server(server)
        self.below.assert_nothing_left()
        self.assert_no_allocation()

    @base.slow
    def test_confirm(self):
        server = self.boot()
        self.resize(server, self.larger())
        server = self.kill(
            server, 'confirm: old disks removed', self.ask, server,
            'confirmResize', expected='VERIFY_RESIZE')
        server = self.act(server, 'confirmResize')
        self.assertEqual('512', self.memory(server))
        self.assert_clean(server)


class InterfacesTest(KilledCase, test_interfaces.InterfacesBase):

    @base.slow
    def test_attach(self):
        server = self.boot()
        for point in ('attach: port plugged', 'attach: interface defined',
                      'attach: interface attached'):
            port = self.port()
            self.kill(server, point, self.attach, server, port,
                      expected='ACTIVE')
            # Nova knows of the port: a hard reboot brings it, or the user
            # takes it away.
            self._reboot_server(server, hard=True)
            self.assertEqual(2, len(self.macs(server)), point)
            self.detach(server, port)
            self.assertEqual(1, len(self.macs(server)), point)
            self.assertEqual(1, len(self.below.plugged), point)

    @base.slow
    def test_detach(self):
        server = self.boot()
        for point in ('detach: interface undefined',
                      'detach: interface detached',
                      'detach: port unplugged'):
            port = self.port()
            self.attach(server, port)
            self.kill(server, point, self.api.detach_interface, server['id'],
                      port['id'], expected='ACTIVE')
            self.detach(server, port)
            self.assertEqual(1, len(self.macs(server)), point)
            self.assertEqual(1, len(self.definition(server)), point)
            self.assertEqual(1, len(self.below.plugged), point)


class QueuedTest(KilledCase):
    """What nova-compute has not begun is not interrupted."""

    def test_suspend_waits_in_the_queue(self):
        server = self.boot()
        asked = queue.SimpleQueue()
        with mock.patch.object(
                self.compute.manager, 'suspend_instance',
                side_effect=lambda *args, **kwargs: asked.put(args)):
            self.ask(server, 'suspend')
            # Nova's API notes the task before it asks.
            context, *_ = asked.get(timeout=60)
        self.compute = self.restart_compute_service(self.compute)
        self.assertEqual('suspending', self.api.get_server(
            server['id'])['OS-EXT-STS:task_state'])
        # Here it comes.
        self.compute.manager.suspend_instance(
            context, objects.Instance.get_by_uuid(context, server['id']))
        self._wait_for_state_change(server, 'SUSPENDED')
        self.assertIn(server['id'], self.below.host.saved)


class VolumesTest(KilledCase, test_volumes.VolumesBase):

    def setUp(self):
        super().setUp()
        update = self.cinder.fake_attachment_update

        def connect(*args, **kwargs):
            self.at('Cinder: asked')
            return update(*args, **kwargs)

        self.useFixture(fixtures.MonkeyPatch(
            'nova.volume.cinder.API.attachment_update',
            lambda _api, *args, **kwargs: connect(*args, **kwargs)))

    def ask_to_attach(self, server, volume):
        self.api.post_server_volume(
            server['id'], {'volumeAttachment': {'volumeId': volume}})

    @base.slow
    def test_attach(self):
        server = self.boot(flavor=self.flavor(xen44_guest_type='pvh'))
        before = self.definition(server), self.running(server)
        for point, soft in (('Cinder: asked', True),
                            ('volume: connected', False),
                            ('attach volume: recorded', True),
                            ('attach volume: defined', True),
                            ('attach volume: attached', True)):
            volume = self.volume()
            self.kill(server, point, self.ask_to_attach, server, volume,
                      expected='ACTIVE')
            # Nova knows of the volume: a reboot brings it, if this host had
            # been told of it, and the user can take it away.
            self._reboot_server(server, hard=not soft)
            expected = [] if point == 'Cinder: asked' else [
                ('xvdb', 'block', volume)]
            self.assertEqual(expected, self.running(server)[1:], point)
            self.assertIsNone(self.detach(server, volume), point)
            self.assert_free(server, volume)
            self.assertEqual(
                before, (self.definition(server), self.running(server)))
        self._delete_server(server)
        self.below.assert_nothing_left()

    @base.slow
    def test_detach(self):
        server = self.boot(flavor=self.flavor(xen44_guest_type='pvh'))
        before = self.definition(server), self.running(server)
        for point in ('detach volume: undefined', 'detach volume: detached',
                      'detach volume: forgotten', 'volume: link removed'):
            volume = self.volume()
            self.attach(server, volume)
            self.kill(server, point, self.api.delete_server_volume,
                      server['id'], volume, expected='ACTIVE')
            self.assertIsNone(self.detach(server, volume), point)
            self.assert_free(server, volume)
            self.assertEqual(
                before, (self.definition(server), self.running(server)))
        self._delete_server(server)
        self.below.assert_nothing_left()

    @base.slow
    def test_delete(self):
        for point in ('destroy: domain removed', 'destroy: ports unplugged',
                      'volume: link removed', 'destroy: volumes disconnected'):
            volume = self.volume()
            server = self.boot_volume(volume)
            self.point = point
            self.api.delete_server(server['id'])
            self.restart()
            self._wait_until_deleted(server)
            self.assert_free(server, volume)
            self.below.assert_nothing_left()
