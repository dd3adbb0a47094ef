# SPDX-License-Identifier: Apache-2.0
"""Ports that are waited for, and steps that are taken back."""

import contextlib
from unittest import mock

from nova import exception

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import destroy
from xen44_driver.compute import network
from xen44_driver.compute import undo
from xen44_driver.network import vif as vif_lib
from xen44_driver.xen import errors as xen_errors


class VirtAPI:
    """Remembers what is waited for, and may let it time out."""

    def __init__(self, *, time_out=False):
        self.events = None
        self._time_out = time_out

    @contextlib.contextmanager
    def wait_for_instance_event(self, instance, events, timeout,
                                error_callback):
        self.events = events
        yield
        if self._time_out:
            raise exception.InstanceEventTimeout()


class WiredTest(base.TestCase):

    def setUp(self):
        super().setUp()
        patcher = mock.patch.object(vif_lib, 'plug')
        self.plug = patcher.start()
        self.addCleanup(patcher.stop)
        self.instance = base.instance()

    def wired(self, virtapi, *vifs, wait=True):
        with network.wired(virtapi, self.instance, vifs, wait=wait):
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
        ports = [base.vif(id=name) for name in ('a', 'b', 'c')]
        broken = exception.VirtualInterfaceUnplugException(reason='b')
        with mock.patch.object(vif_lib, 'unplug', side_effect=(
                None, broken, None)) as unplug:
            self.assertRaises(
                exception.VirtualInterfaceUnplugException, network.unplug,
                self.instance, ports)
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


class CleanupTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.node = base.node()
        self.instance = mock.Mock(uuid=base.UUID)
        self.instance.name = 'instance-1'
        for where, name in ((privsep, 'remove_console_log'),
                            (network, 'unplug')):
            patcher = mock.patch.object(where, name)
            setattr(self, name, patcher.start())
            self.addCleanup(patcher.stop)

    def cleanup(self, **options):
        destroy.cleanup(self.node, self.instance, [base.vif()], **{
            'destroy_disks': True, 'destroy_vifs': True, **options})

    def test_all_of_it(self):
        self.cleanup()
        guest = self.node.host.guest.return_value
        guest.destroy.assert_called_once_with()
        guest.undefine.assert_called_once_with()
        self.unplug.assert_called_once()
        self.remove_console_log.assert_called_once_with('instance-1')
        self.assertIs(True, self.instance.cleaned)

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
                destroy.layout.InstanceFiles, 'delete') as delete:
            self.assertRaises(exception.NovaException, self.cleanup)
        delete.assert_not_called()

    def test_what_is_kept(self):
        with mock.patch.object(
                destroy.layout.InstanceFiles, 'delete') as delete:
            self.cleanup(destroy_disks=False, destroy_vifs=False)
        delete.assert_not_called()
        self.unplug.assert_not_called()
