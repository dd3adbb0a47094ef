# SPDX-License-Identifier: Apache-2.0
"""Interfaces are attached and detached, whatever goes wrong."""

import dataclasses
import time

from nova import exception
import os_vif

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import interfaces
from xen44_driver.compute import tags
from xen44_driver.core import evidence
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen import xenstore
from xen44_driver.xen.domain import interface as interface_lib
from xen44_driver.xen.domain import xml
from xen44_driver.xen.events import DomainState

MAC = 'fa:16:3e:00:00:01'
BRIDGE = f'qbr{base.PORT}'[:14]
MINE = domain.Interface(mac=MAC, bridge=BRIDGE, mtu=1450)
FIRST = domain.Interface(mac='fa:16:3e:00:00:99', bridge='qbrfirst')
STATES = xenstore.BackendState


class Guest:
    """A domain: what libvirt lists, and what the guest really has.

    :ivar seen: its backends by MAC address, as xenstore shows them.
    :ivar fail: errors by what is attempted, such as ``('attach', True)``.
    :ivar new: what xenstore shows of the next new interface.
    :ivar holds: whether it keeps what is detached.
    """

    name = 'instance-1'

    def __init__(self):
        self.id = 7
        self.power = DomainState.RUNNING
        self.defined = [FIRST]
        self.live = [FIRST]
        self.seen = {}
        self.fail = {}
        self.new = {'state': STATES.CONNECTED, 'hotplug': 'connected'}
        self.holds = False
        self.calls = []
        self.show(FIRST.mac)

    def show(self, mac, **values):
        """xenstore shows an interface."""
        self.seen[mac] = xenstore.Vif(
            devid=len(self.seen), mac=mac, **{**self.new, **values})

    def off(self):
        self.id, self.power = None, DomainState.SHUTDOWN
        self.live, self.seen = [], {}

    def state(self):
        return self.power

    def interfaces(self, *, live):
        return tuple(self.live if live else self.defined)

    def attach_device(self, device, *, live):
        self._called('attach', live)
        made = interface_lib.from_xml(xml.parse(device))
        (self.live if live else self.defined).append(made)
        if live:
            self.show(made.mac)

    def detach_device(self, device, *, live):
        self._called('detach', live)
        mac = interface_lib.from_xml(xml.parse(device)).mac
        listed = self.live if live else self.defined
        listed[:] = [other for other in listed if other.mac != mac]
        if live and not self.holds:
            self.seen.pop(mac, None)

    def _called(self, name, live):
        self.calls.append((name, live))
        error = self.fail.get((name, live))
        if callable(error):
            error()
        elif error:
            raise errors.OperationFailed(name, base.UUID, 1, error)


class InterfacesCase(base.TestCase):

    def setUp(self):
        super().setUp()
        self.guest = Guest()
        self.node = base.node()
        self.node.host.guest.return_value = self.guest
        self.instance = base.instance(device_metadata=None)
        self.patch(privsep, 'read_backends')
        self.patch(evidence, 'evidence_of', return_value='')
        self.patch(xenstore, 'vifs',
                   side_effect=lambda text: tuple(self.guest.seen.values()))
        self.xl = self.patch(privsep, 'detach_interface',
                             side_effect=self.xl_detach)
        self.patch(tags, 'record_interfaces')
        self.plug = self.patch(os_vif, 'plug')
        self.unplug = self.patch(os_vif, 'unplug')
        self.fake_time(1000.0)

    def xl_detach(self, domid, devid):
        self.guest.seen = {mac: vif for mac, vif in self.guest.seen.items()
                           if vif.devid != devid}


class AttachTest(InterfacesCase):

    def attach(self, **values):
        interfaces.attach(
            self.node, 'context', self.instance, base.vif(**values))

    def fails(self, kind=exception.NovaException, **values):
        """It fails, and all is as before."""
        raised = self.assertRaises(kind, self.attach, **values)
        self.assertEqual([FIRST], self.guest.defined)
        self.assertNotIn(MAC, self.guest.seen)
        self.assertEqual(self.plug.called, self.unplug.called)
        return str(raised)

    def test_running(self):
        self.attach()
        self.assertEqual([FIRST, MINE], self.guest.defined)
        self.assertEqual(dataclasses.replace(MINE, model='netfront'),
                         self.guest.live[1])
        self.plug.assert_called_once()
        self.unplug.assert_not_called()
        self.assertEqual(1000, self.now)

    def test_model_of_an_instance_without_a_record(self):
        self.instance.system_metadata = {'image_hw_vif_model': 'e1000'}
        self.attach()
        self.assertEqual('e1000', self.guest.defined[1].model)
        self.assertEqual('netfront', self.guest.live[1].model)

    def test_off(self):
        self.guest.off()
        self.attach()
        self.assertEqual([('attach', False)], self.guest.calls)
        self.plug.assert_called_once()

    def test_not_used_yet(self):
        self.guest.new['state'] = STATES.INIT_WAIT
        self.attach()
        self.assertEqual(1010, self.now)
        self.assertEqual(2, len(self.guest.live))

    def test_paused(self):
        self.guest.power = DomainState.PAUSED
        self.guest.new['state'] = STATES.INIT_WAIT
        self.attach()
        self.assertEqual(1000, self.now)

    def test_repeated(self):
        self.guest.defined.append(MINE)
        self.attach()
        self.assertEqual([('attach', True)], self.guest.calls)

    def test_libxl_fails(self):
        self.guest.fail['attach', True] = 'libxenlight failed'
        self.assertIn('libxenlight', self.fails(errors.OperationFailed))
        self.xl.assert_not_called()

    def test_libxl_fails_and_leaves_something(self):
        def leave():
            self.guest.show(MAC, hotplug='error')
            raise errors.OperationFailed('attach', base.UUID, 1, 'libxl')

        self.guest.fail['attach', True] = leave
        self.fails(errors.OperationFailed)
        self.xl.assert_called_once_with(7, 1)

    def test_backend_fails(self):
        self.guest.new = {'state': STATES.CLOSING}
        self.assertIn('CLOSING', self.fails(exception.InterfaceAttachFailed))
        self.guest.new = {'state': STATES.INIT_WAIT, 'error': 'no bridge'}
        self.assertIn('no bridge', self.fails())

    def test_no_backend(self):
        self.patch(self.guest, 'show')
        self.assertIn('no backend', self.fails())
        self.assertEqual(1010, self.now)

    def test_definition_fails(self):
        self.guest.fail['attach', False] = 'no room'
        self.fails(errors.OperationFailed)
        self.assertEqual([('attach', False)], self.guest.calls)

    def test_unsupported_port(self):
        self.assertIn('macvtap', self.fails(type='macvtap'))
        self.plug.assert_not_called()

    def test_address_of_another_interface(self):
        self.assertIn(FIRST.mac, self.fails(
            exception.InterfaceAttachFailed, address=FIRST.mac))
        self.plug.assert_not_called()

    def test_guest_reboots_meanwhile(self):
        def reboot():
            self.guest.live = list(self.guest.defined)
            self.guest.show(MAC, state=STATES.INIT_WAIT)
            raise errors.OperationFailed('attach', base.UUID, 1, 'exists')

        self.guest.fail['attach', True] = reboot
        self.attach()
        self.assertIn(MINE, self.guest.defined)
        self.unplug.assert_not_called()

    def test_guest_ends_meanwhile(self):
        def end():
            self.guest.off()
            raise errors.OperationFailed('attach', base.UUID, 55, 'off')

        self.guest.fail['attach', True] = end
        self.attach()
        self.assertIn(MINE, self.guest.defined)

    def test_guest_ends_before_it_uses_it(self):
        self.guest.new['state'] = STATES.INIT_WAIT
        time.sleep.side_effect = lambda seconds: self.guest.off()
        self.attach()
        self.assertIn(MINE, self.guest.defined)
        self.unplug.assert_not_called()


class DetachTest(InterfacesCase):

    def setUp(self):
        super().setUp()
        self.guest.defined.append(MINE)
        self.guest.live.append(MINE)
        self.guest.show(MAC)

    def detach(self, **values):
        interfaces.detach(self.node, self.instance, base.vif(**values))

    def gone(self):
        self.assertEqual([FIRST], self.guest.defined)
        self.assertNotIn(MAC, self.guest.seen)
        self.unplug.assert_called_once()

    def test_running(self):
        self.detach()
        self.gone()
        # A guest that reboots meanwhile must not have it again.
        self.assertEqual([('detach', False), ('detach', True)],
                         self.guest.calls)
        self.xl.assert_not_called()

    def test_unbound_port(self):
        self.detach(type='unbound', details={})
        self.assertEqual([FIRST], self.guest.defined)
        self.assertNotIn(MAC, self.guest.seen)

    def test_off(self):
        self.guest.off()
        self.detach()
        self.assertEqual([('detach', False)], self.guest.calls)
        self.gone()

    def test_not_there(self):
        self.guest.defined.remove(MINE)
        self.guest.live.remove(MINE)
        del self.guest.seen[MAC]
        self.detach()
        self.assertEqual([], self.guest.calls)
        self.gone()

    def test_only_libvirt_lists_it(self):
        # libvirt would fail, as libxl does not know it.
        del self.guest.seen[MAC]
        self.detach()
        self.assertEqual([('detach', False)], self.guest.calls)
        self.gone()

    def test_no_domain(self):
        self.node.host.guest.side_effect = errors.DomainNotFound(base.UUID)
        self.detach()
        self.unplug.assert_called_once()

    def test_libvirt_fails(self):
        self.guest.fail['detach', True] = 'libxenlight failed'
        self.detach()
        self.gone()
        self.xl.assert_called_once_with(7, 1)

    def test_libvirt_does_not_list_it(self):
        self.guest.live.remove(MINE)
        self.detach()
        self.gone()
        self.xl.assert_called_once_with(7, 1)

    def kept(self, *says):
        raised = self.assertRaises(
            exception.InterfaceDetachFailed, self.detach)
        for text in (MAC, *says):
            self.assertIn(text, str(raised))
        self.assertEqual([FIRST, MINE], self.guest.defined)
        self.unplug.assert_not_called()

    def test_guest_does_not_let_go(self):
        self.guest.holds = True
        self.kept('10 s later')
        self.assertEqual(1010, self.now)

    def test_nothing_helps(self):
        self.guest.fail['detach', True] = 'libxenlight failed'
        self.xl.side_effect = OSError('xl: no')
        self.kept('xl: no')

    def test_two_with_one_address(self):
        other = dataclasses.replace(MINE, bridge='qbrother')
        self.guest.defined.append(other)
        raised = self.assertRaises(
            exception.InterfaceDetachFailed, self.detach)
        self.assertIn('2 interfaces', str(raised))
        self.assertEqual([], self.guest.calls)

    def test_another_ports(self):
        self.guest.defined[1] = dataclasses.replace(MINE, bridge='qbrother')
        self.detach()
        self.assertEqual([], self.guest.calls)
        self.unplug.assert_called_once()
