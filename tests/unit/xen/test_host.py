# SPDX-License-Identifier: Apache-2.0
import queue
import time
from unittest import mock

import libvirt
from oslotest import base

from tests.unit.xen import fake
from xen44_driver.xen import connection
from xen44_driver.xen import errors
from xen44_driver.xen import guest as guest_lib
from xen44_driver.xen import host as host_lib
from xen44_driver.xen.events import OFF
from xen44_driver.xen.guesttype import GuestType
from xen44_driver.xen.host import DomainState
from xen44_driver.xen.host import EventKind

RUNNING, SHUTDOWN = DomainState.RUNNING, DomainState.SHUTDOWN


class HostTestCase(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.libvirt = fake.Libvirt()
        self._patch(connection, 'libvirt', self.libvirt)
        self._patch(host_lib, '_RETRY_FIRST', 0.01)
        self._patch(host_lib, '_RETRY_LAST', 0.02)
        self._patch(guest_lib, '_LOOK_INTERVAL', 0.01)
        self.told: queue.SimpleQueue[host_lib.DomainEvent] = (
            queue.SimpleQueue())
        self.host = host_lib.Host(fake.URI, event_callback=self.told.put)
        self.addCleanup(self.host.close)

    def _patch(self, where, name, value):
        patcher = mock.patch.object(where, name, value)
        patcher.start()
        self.addCleanup(patcher.stop)

    def next_event(self):
        event = self.told.get(timeout=5)
        return event.uuid, event.kind, event.state

    def settle(self):
        """Wait until every event so far was handled; none may be left."""
        marker = self.libvirt.add(0xffff)
        self.libvirt.emit(marker, libvirt.VIR_DOMAIN_EVENT_STARTED)
        told = []
        while (event := self.told.get(timeout=5)).uuid != marker.uuid:
            told.append((event.uuid, event.kind, event.state))
        del self.libvirt.domains[marker.uuid]
        return told

    def wait_until(self, true):
        end = time.monotonic() + 5
        while not true():
            self.assertLess(time.monotonic(), end, 'in vain')
            time.sleep(0.005)


class ConnectTest(HostTestCase):

    def test_learns_of_every_domain_but_dom0(self):
        on, off = self.libvirt.add(1), self.libvirt.add(2, running=False)
        self.assertFalse(self.host.connected)
        self.host.connect()
        self.assertTrue(self.host.connected)
        self.assertEqual({on.uuid: RUNNING, off.uuid: SHUTDOWN},
                         self.host.states())
        self.assertEqual(on.id, self.host.record(on.uuid).id)
        self.assertIsNone(self.host.record(off.uuid).id)
        self.assertEqual([], self.settle())

    def test_no_libvirtd(self):
        self.libvirt.down = fake.error(
            libvirt.VIR_ERR_SYSTEM_ERROR, "Failed to connect socket to "
            "'/run/libvirt/libvirt-sock': No such file or directory",
            libvirt.VIR_FROM_RPC)
        error = self.assertRaises(errors.ConnectionFailed, self.host.connect)
        self.assertIn(fake.URI, str(error))
        self.assertIn('No such file', str(error))

    def test_no_xen(self):
        self.libvirt.down = fake.error(
            libvirt.VIR_ERR_NO_CONNECT,
            'no connection driver available for xen:///system')
        self.assertRaises(errors.ConnectionFailed, self.host.connect)

    def test_an_uri_that_libvirt_does_not_know(self):
        self.libvirt.down = fake.error(libvirt.VIR_ERR_INVALID_ARG)
        self.assertRaises(errors.ConnectionFailed, self.host.connect)

    def test_a_daemon_that_tells_no_events(self):
        self.libvirt.fail['domainEventRegisterAny'] = fake.error(
            libvirt.VIR_ERR_NO_SUPPORT)
        self.assertRaises(errors.ConnectionFailed, self.host.connect)
        self.assertFalse(self.libvirt.connections[0].open)

    def test_a_domain_that_cannot_tell(self):
        guests = self.libvirt.add(1), self.libvirt.add(2)
        # dom0 is not asked.
        self.libvirt.fail['state'] = fake.error(
            libvirt.VIR_ERR_INTERNAL_ERROR)
        self.host.connect()
        self.assertEqual({guests[0].uuid: DomainState.NOSTATE,
                          guests[1].uuid: RUNNING}, self.host.states())

    def test_closed_for_good(self):
        self.host.connect()
        self.host.close()
        self.assertFalse(self.host.connected)
        self.assertRaises(errors.ConnectionFailed, self.host.hostname)


class FactsTest(HostTestCase):

    def setUp(self):
        super().setUp()
        self.host.connect()

    def test_versions(self):
        self.assertEqual(
            host_lib.HostVersions(libvirt=(11, 3, 0), xen=(4, 20, 0)),
            self.host.versions())
        self.host.check()

    def test_too_old(self):
        for attribute, number, words in (
                ('lib_version', 8009000, ('libvirt 8.9.0', '9.0.0')),
                ('version', 4003000, ('Xen 4.3.0', '4.4.0'))):
            self.host._facts = None
            with mock.patch.object(self.libvirt, attribute, number):
                error = self.assertRaises(errors.HostUnsupported,
                                          self.host.check)
            for word in words:
                self.assertIn(word, str(error))

    def test_another_hypervisor(self):
        self.libvirt.type = 'QEMU'
        error = self.assertRaises(errors.HostUnsupported, self.host.check)
        self.assertIn('QEMU', str(error))

    def test_memory(self):
        wanted = host_lib.HostMemory(
            total_mib=6143, dom0_mib=2560, free_mib=3520)
        self.assertEqual(wanted, self.host.memory())
        self.libvirt.calls.clear()
        self.assertEqual(wanted, self.host.memory())
        self.assertEqual(['getFreeMemory'], self.libvirt.calls)

    def test_memory_of_a_dom0_without_a_limit(self):
        with mock.patch.object(fake.Domain, 'info', return_value=[
                1, 2 ** 54, 2048 * 1024, 2, 0]):
            self.assertEqual(2048, self.host.memory().dom0_mib)

    def test_asked_once(self):
        for _time in range(2):
            self.assertEqual(2, self.host.cpus())
            self.assertEqual('xenhost', self.host.hostname())
            self.assertEqual(tuple(GuestType),
                             self.host.capabilities().guest_types)
        self.assertEqual(1, self.libvirt.calls.count('getInfo'))
        self.assertEqual(1, self.libvirt.calls.count('getCapabilities'))
        self.assertEqual(3, self.libvirt.calls.count('getDomainCapabilities'))


class EventTest(HostTestCase):

    def setUp(self):
        super().setUp()
        self.guest = self.libvirt.add(1)
        self.host.connect()

    def emit(self, event, detail=0):
        self.libvirt.emit(self.guest, event, detail)

    def test_stopped(self):
        self.libvirt.stop(self.guest)
        self.emit(libvirt.VIR_DOMAIN_EVENT_STOPPED)
        self.assertEqual((self.guest.uuid, EventKind.STOPPED, SHUTDOWN),
                         self.next_event())
        self.assertIs(SHUTDOWN, self.host.state(self.guest.uuid))

    def test_crashed(self):
        self.libvirt.stop(self.guest, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED)
        self.emit(libvirt.VIR_DOMAIN_EVENT_STOPPED,
                  libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED)
        self.assertEqual(
            (self.guest.uuid, EventKind.CRASHED, DomainState.CRASHED),
            self.next_event())

    def test_paused_and_resumed(self):
        self.guest.state = libvirt.VIR_DOMAIN_PAUSED
        self.emit(libvirt.VIR_DOMAIN_EVENT_SUSPENDED)
        self.assertEqual(EventKind.PAUSED, self.next_event()[1])
        self.guest.state = libvirt.VIR_DOMAIN_RUNNING
        self.emit(libvirt.VIR_DOMAIN_EVENT_RESUMED)
        self.assertEqual(EventKind.RESUMED, self.next_event()[1])

    def test_reboot_is_started_then_stopped(self):
        # As libxl tells it, after the fact, with a new id.
        self.libvirt.run(self.guest)
        self.emit(libvirt.VIR_DOMAIN_EVENT_STARTED)
        self.emit(libvirt.VIR_DOMAIN_EVENT_STOPPED)
        self.assertEqual([(self.guest.uuid, EventKind.STARTED, RUNNING)],
                         self.settle())
        self.assertIs(RUNNING, self.host.state(self.guest.uuid))
        self.assertEqual(self.guest.id, self.host.record(self.guest.uuid).id)

    def test_stopped_comes_after_the_next_start(self):
        self.libvirt.stop(self.guest)
        self.host.guest(self.guest.uuid).start()
        self.emit(libvirt.VIR_DOMAIN_EVENT_STOPPED)
        self.assertNotIn(EventKind.STOPPED, [e[1] for e in self.settle()])
        self.assertIs(RUNNING, self.host.state(self.guest.uuid))

    def test_off_only_when_libxl_is_done(self):
        self.guest.state = libvirt.VIR_DOMAIN_SHUTOFF  # but it has an id
        guest = self.host.guest(self.guest.uuid)
        self.assertIs(RUNNING, guest.state())
        self.assertFalse(guest.wait_for(OFF, 0.05))
        self.libvirt.stop(self.guest)
        self.assertIs(SHUTDOWN, guest.state())

    def test_defined_and_undefined_by_someone_else(self):
        other = self.libvirt.add(2, running=False)
        self.libvirt.emit(other, libvirt.VIR_DOMAIN_EVENT_DEFINED)
        self.assertEqual((other.uuid, EventKind.DEFINED, SHUTDOWN),
                         self.next_event())
        del self.libvirt.domains[other.uuid]
        self.libvirt.emit(other, libvirt.VIR_DOMAIN_EVENT_UNDEFINED)
        self.assertEqual(
            (other.uuid, EventKind.UNDEFINED, DomainState.NOSTATE),
            self.next_event())
        self.assertRaises(errors.DomainNotFound, self.host.state, other.uuid)

    def test_of_no_interest(self):
        self.emit(libvirt.VIR_DOMAIN_EVENT_SHUTDOWN)
        self.emit(99)
        self.assertEqual([], self.settle())

    def test_a_broken_listener_is_told_the_next(self):
        broken = mock.Mock(side_effect=[ValueError, None])
        with mock.patch.object(self.host, '_callback', broken):
            for _time in range(2):
                self.emit(libvirt.VIR_DOMAIN_EVENT_STARTED)
            self.wait_until(lambda: broken.call_count == 2)

    def test_a_failing_question_is_asked_again(self):
        self.libvirt.stop(self.guest)
        self.libvirt.fail['state'] = fake.error(libvirt.VIR_ERR_INTERNAL_ERROR)
        self.emit(libvirt.VIR_DOMAIN_EVENT_STOPPED)
        self.assertEqual((self.guest.uuid, EventKind.STOPPED, SHUTDOWN),
                         self.next_event())


class ReconnectTest(HostTestCase):

    def setUp(self):
        super().setUp()
        self.guest = self.libvirt.add(1)
        self.gone = self.libvirt.add(2)
        self.host.connect()

    def test_by_itself_and_tells_what_happened(self):
        self.libvirt.down = fake.error(libvirt.VIR_ERR_SYSTEM_ERROR,
                                       domain=libvirt.VIR_FROM_RPC)
        self.libvirt.drop()
        self.wait_until(lambda: self.libvirt.calls.count('open') > 3)
        self.assertFalse(self.host.connected)
        self.libvirt.stop(self.guest)
        del self.libvirt.domains[self.gone.uuid]
        new = self.libvirt.add(3)
        self.libvirt.down = None
        told = {self.next_event() for _time in range(5)}
        self.assertEqual({
            (self.guest.uuid, EventKind.STOPPED, SHUTDOWN),
            (self.gone.uuid, EventKind.STOPPED, DomainState.NOSTATE),
            (self.gone.uuid, EventKind.UNDEFINED, DomainState.NOSTATE),
            (new.uuid, EventKind.DEFINED, RUNNING),
            (new.uuid, EventKind.STARTED, RUNNING)}, told)
        self.assertTrue(self.host.connected)
        self.assertEqual([], self.settle())

    def test_events_go_on_afterwards(self):
        self.libvirt.drop()
        self.wait_until(lambda: self.host.connected)
        self.libvirt.stop(self.guest)
        self.libvirt.emit(self.guest, libvirt.VIR_DOMAIN_EVENT_STOPPED)
        self.assertEqual(EventKind.STOPPED, self.next_event()[1])

    def test_a_call_after_an_unnoticed_drop(self):
        guest = self.host.guest(self.guest.uuid)
        guest.suspend()
        self.libvirt.drop(unnoticed=True)
        guest.resume()
        self.assertEqual(2, self.libvirt.calls.count('open'))

    def test_a_question_during_which_it_breaks(self):
        guest = self.host.guest(self.guest.uuid)
        self.libvirt.during['info'] = self.libvirt.drop
        self.assertEqual(192, guest.info().memory_mib)

    def test_a_change_during_which_it_breaks_is_not_made_twice(self):
        guest = self.host.guest(self.guest.uuid)
        self.libvirt.during['destroy'] = self.libvirt.drop
        self.assertRaises(errors.ConnectionFailed, guest.destroy)
        self.assertEqual(1, self.libvirt.calls.count('destroy'))
        guest.destroy()
        self.assertIs(SHUTDOWN, self.host.state(self.guest.uuid))

    def test_anything_unforeseen_is_not_the_end(self):
        with mock.patch.object(self.host, '_refresh',
                               side_effect=ZeroDivisionError) as refresh:
            self.libvirt.drop()
            self.libvirt.stop(self.guest)
            self.wait_until(lambda: refresh.call_count > 2)
        self.assertEqual((self.guest.uuid, EventKind.STOPPED, SHUTDOWN),
                         self.next_event())

    def test_calls_while_there_is_none(self):
        self.libvirt.down = fake.error(libvirt.VIR_ERR_SYSTEM_ERROR,
                                       'Connection refused',
                                       libvirt.VIR_FROM_RPC)
        self.libvirt.drop()
        guest = self.host.guest(self.guest.uuid)
        error = self.assertRaises(errors.ConnectionFailed, guest.suspend)
        self.assertIn('Connection refused', str(error))
        self.assertIn(fake.URI, str(error))
        # What was known still is.
        self.assertIs(RUNNING, self.host.state(self.guest.uuid))


class GuestTest(HostTestCase):

    def setUp(self):
        super().setUp()
        self.host.connect()
        self.guest = self.host.define(self.xml(1))

    def xml(self, number, name='guest-1'):
        return (f'<domain><uuid>{fake.uuid(number)}</uuid>'
                f'<name>{name}</name></domain>')

    @property
    def state(self):
        return self.host.state(self.guest.uuid)

    def test_known_as_soon_as_it_is_done(self):
        guest = self.guest
        self.assertIs(SHUTDOWN, self.state)
        guest.start(paused=True)
        self.assertIs(DomainState.PAUSED, self.state)
        self.assertIsNotNone(self.host.record(guest.uuid).id)
        guest.resume()
        self.assertIs(RUNNING, self.state)
        guest.suspend()
        self.assertIs(DomainState.PAUSED, self.state)
        guest.destroy()
        self.assertIs(SHUTDOWN, self.state)
        self.assertIsNone(self.host.record(guest.uuid).id)
        guest.start()
        self.assertIs(RUNNING, self.state)
        guest.destroy()
        guest.undefine()
        self.assertEqual({}, self.host.records())

    def test_asking_what_is_known_costs_no_call(self):
        self.settle()
        self.libvirt.calls.clear()
        self.host.states()
        self.host.record(self.guest.uuid)
        self.host.guest(self.guest.uuid)
        self.assertEqual([], self.libvirt.calls)

    def test_a_late_answer_does_not_undo_a_start(self):
        self.settle()  # or the dispatcher would be the one who asks
        answer = fake.Domain.state
        starts = [self.guest.start]

        def late(domain, flags):
            # It was off when asked, and is started before that is learnt.
            answered = answer(domain, flags)
            if starts:
                starts.pop()()
            return answered

        with mock.patch.object(fake.Domain, 'state', late):
            self.assertIs(RUNNING, self.guest.state())
        self.assertIs(RUNNING, self.state)

    def test_destroy_is_fine_twice(self):
        self.guest.destroy()
        self.guest.start()
        self.guest.destroy()
        self.guest.destroy()
        self.assertIs(SHUTDOWN, self.state)

    def test_undefine_is_fine_twice(self):
        self.guest.undefine()
        self.guest.undefine()
        self.assertRaises(errors.DomainNotFound, self.host.guest,
                          self.guest.uuid)
        self.assertRaises(errors.DomainNotFound, self.guest.start)
        self.assertRaises(errors.DomainNotFound, self.guest.state)

    def test_a_start_that_fails(self):
        self.libvirt.fail['create'] = fake.error(
            libvirt.VIR_ERR_INTERNAL_ERROR, 'libxenlight failed to create')
        error = self.assertRaises(errors.OperationFailed, self.guest.start)
        self.assertEqual(
            ('domainCreate', self.guest.uuid,
             libvirt.VIR_ERR_INTERNAL_ERROR), (
                 error.operation, error.domain, error.code))
        self.assertIn('libxenlight', str(error))
        self.assertIs(SHUTDOWN, self.state)

    def test_a_domain_of_that_name_exists(self):
        self.assertRaises(errors.DomainExists, self.host.define, self.xml(2))

    def test_defined_anew_while_it_runs(self):
        self.guest.start()
        self.host.define(self.xml(1))
        self.assertIs(RUNNING, self.state)

    def test_xml_that_is_refused(self):
        self.libvirt.fail['defineXML'] = fake.error(
            libvirt.VIR_ERR_CONFIG_UNSUPPORTED)
        self.assertRaises(errors.NotSupported, self.host.define, self.xml(3))
        self.assertRaises(errors.SpecError, self.host.define, 'no xml')

    def test_asks_only(self):
        self.guest.start()
        self.guest.shutdown()
        self.guest.reboot()
        self.assertIs(RUNNING, self.state)

    def test_info(self):
        self.assertEqual(guest_lib.GuestInfo(
            memory_mib=192, max_memory_mib=256, vcpus=2,
            cpu_time_ns=38 * 10 ** 9), self.guest.info())

    def test_vnc(self):
        state = self.libvirt.domains[self.guest.uuid]
        graphics = ('<domain id="3"><devices><graphics type="vnc" '
                    'port="{}" listen="192.0.2.1"/></devices></domain>')
        state.xml = graphics.format(5901)
        self.assertEqual(guest_lib.VncAddress(host='192.0.2.1', port=5901),
                         self.guest.vnc())
        for xml in (graphics.format(-1),
                    graphics.format(5901).replace(' id="3"', ''),
                    '<domain id="3"><devices/></domain>'):
            state.xml = xml
            self.assertIsNone(self.guest.vnc())

    def test_wait_for(self):
        self.guest.start()
        self.assertTrue(self.guest.wait_for({RUNNING}, 0))
        self.assertFalse(self.guest.wait_for(OFF, 0.02))
        # No event, but asked at the end.
        self.libvirt.stop(self.libvirt.domains[self.guest.uuid])
        self.assertTrue(self.guest.wait_for(OFF, 0.02))

    def test_wait_for_asks_now_and_then(self):
        self._patch(guest_lib, '_ASK_INTERVAL', 0.02)
        self.guest.start()
        self.settle()
        self.libvirt.stop(self.libvirt.domains[self.guest.uuid])
        begin = time.monotonic()
        self.assertTrue(self.guest.wait_for(OFF, 30))
        self.assertLess(time.monotonic() - begin, 5)

    def test_wait_for_one_that_goes(self):
        self.guest.undefine()
        self.assertRaises(errors.DomainNotFound, self.guest.wait_for, OFF, 1)
