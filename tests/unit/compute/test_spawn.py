# SPDX-License-Identifier: Apache-2.0
"""Ports that are waited for, and steps that are taken back."""

import contextlib
from unittest import mock

from nova import exception

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import crashdump
from xen44_driver.compute import destroy
from xen44_driver.compute import machine
from xen44_driver.compute import novaversion
from xen44_driver.compute import ports
from xen44_driver.compute import spawn
from xen44_driver.compute import start
from xen44_driver.core import loopdevices
from xen44_driver.core import monitor
from xen44_driver.core import undo
from xen44_driver.network import vif as vif_lib
from xen44_driver.storage import layout
from xen44_driver.xen import errors as xen_errors
from xen44_driver.xen import events


class VirtAPI:
    """Remembers what is waited for, and may let it time out."""

    def __init__(self, *, time_out=False):
        self.events = None
        self._time_out = time_out

    @contextlib.contextmanager
    # What they are called differs between the releases of Nova.
    def wait_for_instance_event(self, instance, events, timeout, /,
                                error_callback):
        self.events = events
        yield
        if self._time_out:
            raise novaversion.EventTimeout()


class WiredTest(base.TestCase):

    def setUp(self):
        super().setUp()
        patcher = mock.patch.object(vif_lib, 'plug')
        self.plug = patcher.start()
        self.addCleanup(patcher.stop)
        self.instance = base.instance()

    def wired(self, virtapi, *vifs, wait=True):
        with ports.wired(virtapi, self.instance, vifs, wait=wait):
            # Plugged already while the rest is made.
            self.assertEqual(len(vifs), self.plug.call_count)
        return virtapi.events

    def test_waits_for_ports_that_are_down(self):
        self.assertEqual(
            [('network-vif-plugged', base.PORT)],
            self.wired(VirtAPI(), base.vif(active=False),
                       base.vif(id='up', active=True)))

    def test_waits_for_none(self):
        self.assertEqual([], self.wired(VirtAPI(), base.vif(), wait=False))
        self.plug.reset_mock()
        self.flags(vif_plugging_timeout=0)
        self.assertEqual([], self.wired(VirtAPI(), base.vif()))

    def test_time_out(self):
        self.assertRaises(
            exception.VirtualInterfaceCreateException, self.wired,
            VirtAPI(time_out=True), base.vif())
        self.plug.reset_mock()
        self.flags(vif_plugging_is_fatal=False)
        self.wired(VirtAPI(time_out=True), base.vif())

    def test_unplugs_all(self):
        vifs = [base.vif(id=name) for name in ('a', 'b', 'c')]
        broken = exception.VirtualInterfaceUnplugException(reason='b')
        with mock.patch.object(vif_lib, 'unplug', side_effect=(
                None, broken, None)) as unplug:
            self.assertRaises(
                exception.VirtualInterfaceUnplugException, ports.unplug,
                self.instance, vifs)
        self.assertEqual(3, unplug.call_count)


class UndoTest(base.TestCase):

    def run_steps(self, error=None):
        taken = []

        def broken():
            raise ValueError('cannot be taken back')

        with undo.Undo(base.instance()) as steps:
            steps.add(taken.append, 1)
            steps.add(broken)
            steps.add(taken.append, 2)
            if error:
                raise error
        return taken

    def test_success(self):
        self.assertEqual([], self.run_steps())

    def test_failure(self):
        taken = []
        with mock.patch.object(undo, 'attempt', side_effect=(
                lambda instance, action, *args: taken.append(args))):
            self.assertRaises(KeyError, self.run_steps, KeyError('first'))
        self.assertEqual([(2,), (), (1,)], taken)

    def test_first_error_is_kept(self):
        self.assertRaises(KeyError, self.run_steps, KeyError('first'))


class SpawnTest(base.TestCase):
    """What was made is unmade, in reverse, wherever it fails."""

    def setUp(self):
        super().setUp()
        self.flags(pvh_loader=__file__, default_guest_type='pvh',
                   group='xen44_x86_64')
        self.flags(default_config_drive=False, group='xen44')
        self.node = base.node()
        self.node.virtapi = VirtAPI()
        self.host = self.node.host
        self.host.record.side_effect = xen_errors.DomainNotFound(base.UUID)
        self.instance = base.instance()
        self.files = self.node.files(self.instance)
        self.steps = mock.Mock()
        for where, name in (
                (spawn.resources, 'check_memory'), (ports, 'unplug'),
                (vif_lib, 'plug'), (spawn.disks, 'fetch'),
                (spawn.tags, 'record'), (spawn.disks, 'create'),
                (start, 'boot'), (destroy, 'remove_domain'),
                (privsep, 'remove_console_log')):
            # With its parameters, so that none can be left out.
            patcher = mock.patch.object(where, name, autospec=True)
            self.steps.attach_mock(patcher.start(), name)
            self.addCleanup(patcher.stop)
        self.steps.fetch.side_effect = lambda *args: args[-1]
        self.steps.remove_console_log.return_value = False
        self.steps.attach_mock(self.host.define, 'define')

    def spawn(self, **values):
        spawn.spawn(
            self.node, 'context', self.instance, base.image(),
            **{'injected_files': (), 'admin_password': None,
               'network_info': [base.vif()], 'block_device_info': None,
               'power_on': True, **values})

    def done(self):
        return [name for name, _args, _kwargs in self.steps.mock_calls]

    def fails(self, step, error=OSError):
        getattr(self.steps, step).side_effect = error
        self.assertRaises(error, self.spawn)
        return self.done()

    def test_success(self):
        self.spawn()
        self.assertEqual(
            ['check_memory', 'fetch', 'plug', 'record', 'create', 'define',
             'remove_console_log', 'boot', 'define().resume'], self.done())
        self.assertTrue(self.steps.boot.call_args.kwargs['paused'])
        self.assertTrue(self.files.exist())
        kept = machine.recall(self.instance)
        self.assertEqual('pvh', kept.guest_type)
        # The config drive has all that Nova gives.
        self.steps.create.assert_called_once_with(
            self.node, 'context', self.instance, kept, mock.ANY,
            network_info=[base.vif()], injected_files=(),
            admin_password=None)

    def wire(self, error=None):
        """Have Neutron wire ports, or not."""
        @contextlib.contextmanager
        def wait(instance, events, timeout, /, error_callback):
            yield
            self.steps.wired()

        self.steps.wired.side_effect = error
        self.node.virtapi.wait_for_instance_event = wait

    def test_runs_only_when_its_ports_are_wired(self):
        self.wire()
        self.spawn()
        self.assertEqual(['boot', 'wired', 'define().resume'],
                         self.done()[-3:])

    def test_never_runs_when_they_are_not(self):
        self.wire(novaversion.EventTimeout)
        self.assertRaises(
            exception.VirtualInterfaceCreateException, self.spawn)
        done = self.done()
        self.assertNotIn('define().resume', done)
        self.assertIn('remove_domain', done[done.index('wired'):])

    def test_what_an_interrupted_operation_left_is_forgotten(self):
        """At a rebuild."""
        old = machine.Machine(guest_type='pv', disks=(
            machine.kinds.DiskRecord(kind='clone', name='/dev/xvda',
                                     target='xvda', file='disk.raw'),))
        for key in (machine.KEY, machine.RESCUE, machine.BEFORE_RESIZE):
            machine.keep(self.instance, old, key)
        self.spawn()
        self.assertEqual('pvh', machine.recall(self.instance).guest_type)
        for key in (machine.RESCUE, machine.BEFORE_RESIZE):
            self.assertIsNone(machine.recall(self.instance, key))

    def test_not_started(self):
        self.spawn(power_on=False)
        self.steps.define.assert_called_once()
        self.steps.boot.assert_not_called()

    def test_refused_before_anything_is_made(self):
        self.assertEqual(['check_memory'], self.fails('check_memory'))
        self.assertFalse(self.files.exist())

    def test_a_port_we_cannot_have_is_refused_before_that(self):
        self.assertRaises(exception.InvalidInput, self.spawn,
                          network_info=[base.vif(type='macvtap')])
        self.assertEqual([], self.done())

    def test_a_domain_that_exists_is_not_taken_over(self):
        self.host.record.side_effect = None
        self.assertRaises(exception.InstanceExists, self.spawn)
        self.assertEqual([], self.done())

    def test_image_fails(self):
        self.assertEqual(['check_memory', 'fetch'], self.fails('fetch'))

    def test_port_fails(self):
        done = self.fails('plug')
        self.assertEqual(['plug', 'unplug'], done[-2:])

    def test_disk_fails(self):
        done = self.fails('create')
        self.assertEqual(['create', 'unplug'], done[-2:])
        self.assertFalse(self.files.exist())

    def test_definition_fails(self):
        done = self.fails('define')
        # The name may be another domain's, and so may the log.
        self.assertEqual(['define', 'remove_domain', 'unplug'], done[-3:])
        self.assertFalse(self.files.exist())

    def test_start_fails(self):
        done = self.fails('boot')
        self.assertEqual(
            ['boot', 'remove_console_log', 'remove_domain', 'unplug'],
            done[-4:])
        self.assertFalse(self.files.exist())

    def test_a_domain_that_cannot_be_removed_keeps_its_files(self):
        self.steps.remove_domain.side_effect = xen_errors.ConnectionFailed(
            'xen:///', 'gone')
        self.assertNotIn('unplug', self.fails('boot'))
        self.assertTrue(self.files.exist())


class CleanupTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.node = base.node()
        self.node.host.foreign.return_value = {}
        self.instance = mock.Mock(uuid=base.UUID)
        self.instance.name = 'instance-1'
        for where, name in ((privsep, 'remove_console_log'),
                            (privsep, 'remove_sockets'),
                            (crashdump, 'forget'),
                            (ports, 'unplug')):
            patcher = mock.patch.object(where, name)
            setattr(self, name, patcher.start())
            self.addCleanup(patcher.stop)

    def cleanup(self, **options):
        destroy.cleanup(self.node, self.instance, [base.vif()], {}, **{
            'destroy_disks': True, 'destroy_vifs': True, **options})

    def test_all_of_it(self):
        self.cleanup()
        guest = self.node.host.guest.return_value
        guest.destroy.assert_called_once_with()
        guest.undefine.assert_called_once_with()
        self.unplug.assert_called_once()
        self.remove_console_log.assert_called_once_with('instance-1')
        self.remove_sockets.assert_called_once_with(base.UUID)
        self.forget.assert_called_once_with(self.instance)
        self.assertIs(True, self.instance.cleaned)

    def test_disks_that_stay(self):
        """A crash dump is removed when the disks are."""
        self.cleanup(destroy_disks=False)
        self.forget.assert_not_called()

    def test_loop_devices_go_before_the_files(self):
        order = []
        with mock.patch.object(
                loopdevices, 'wait_until_removed',
                side_effect=lambda *args: order.append(args)), \
                mock.patch.object(
                    layout.InstanceFiles, 'delete',
                    side_effect=lambda: order.append('files')):
            self.cleanup()
        self.assertEqual(
            [(base.UUID, monitor.CLOSE_TIMEOUT), 'files'], order)

    def test_nothing_is_there(self):
        self.node.host.guest.side_effect = xen_errors.DomainNotFound(
            base.UUID)
        self.cleanup()

    def test_one_failure_does_not_stop_the_rest(self):
        self.unplug.side_effect = exception.VirtualInterfaceUnplugException(
            reason='no OVS')
        self.remove_console_log.side_effect = PermissionError()
        self.cleanup()
        self.assertIs(True, self.instance.cleaned)

    def test_files_of_a_domain_that_stays_are_kept(self):
        self.node.host.guest.return_value.destroy.side_effect = (
            xen_errors.OperationFailed('domainDestroy', base.UUID, 1, 'no'))
        with mock.patch.object(
                layout.InstanceFiles, 'delete') as delete:
            # Of all exceptions, this one lets Nova keep the ports.
            raised = self.assertRaises(
                exception.InstancePowerOffFailure, self.cleanup)
        self.assertIn('domainDestroy', str(raised))
        self.unplug.assert_not_called()
        delete.assert_not_called()

    def test_a_running_domain_of_somebody_else_has_that_uuid(self):
        self.node.host.foreign.return_value = {base.UUID: events.DomainRecord(
            uuid=base.UUID, name='by-hand', ours=False,
            state=events.DomainState.RUNNING)}
        with mock.patch.object(layout.InstanceFiles, 'delete') as delete:
            raised = self.assertRaises(
                exception.InstancePowerOffFailure, self.cleanup)
        self.assertIn('by-hand', str(raised))
        delete.assert_not_called()

    def test_what_is_kept(self):
        with mock.patch.object(
                layout.InstanceFiles, 'delete') as delete:
            self.cleanup(destroy_disks=False, destroy_vifs=False)
        delete.assert_not_called()
        self.unplug.assert_not_called()
