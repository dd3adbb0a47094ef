# SPDX-License-Identifier: Apache-2.0
import dataclasses
import logging
import pathlib
import queue
import threading
import time
from unittest import mock

import fixtures
import libvirt
from oslotest import base

from tests.unit.xen import fake
from tests.unit.xen import specs
from xen44_driver.xen import connection
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen import facts as facts_lib
from xen44_driver.xen import guest as guest_lib
from xen44_driver.xen import host as host_lib
from xen44_driver.xen import statistics
from xen44_driver.xen import watch as watch_lib
from xen44_driver.xen.arch import x86_64
from xen44_driver.xen.domain import interface
from xen44_driver.xen.domain import metadata
from xen44_driver.xen.events import OFF
from xen44_driver.xen.guesttype import GuestType
from xen44_driver.xen.host import DomainState
from xen44_driver.xen.host import EventKind

DEVICES = ('<domain id="3"><devices>'
           '<interface><mac address="00:16:3e:00:00:01"/>'
           '<target dev="vif3.0"/></interface>'
           '<disk><target dev="xvda"/></disk>'
           '<disk><target dev="xvdd"/></disk></devices></domain>')
RUNNING, SHUTDOWN = DomainState.RUNNING, DomainState.SHUTDOWN
SCREEN = ('<domain id="3"><devices><graphics type="vnc" port="5901"/>'
          '</devices></domain>')


class HostTestCase(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.libvirt = fake.Libvirt()
        self._patch(connection, 'libvirt', self.libvirt)
        self._patch(watch_lib, '_RETRY_FIRST', 0.01)
        self._patch(watch_lib, '_RETRY_LAST', 0.02)
        self._patch(watch_lib, '_AGAIN_INTERVAL', 0.02)
        self._patch(facts_lib, '_names', {})
        self._patch(guest_lib, '_LOOK_INTERVAL', 0.01)
        self.told: queue.SimpleQueue[host_lib.DomainEvent] = (
            queue.SimpleQueue())
        self.markers = set()
        self.connections: queue.SimpleQueue[tuple[bool, str]] = (
            queue.SimpleQueue())
        self.host = host_lib.Host(
            fake.URI, event_callback=self.told.put,
            connection_callback=lambda *news: self.connections.put(news))
        self.addCleanup(self.host.close)

    def _patch(self, where, name, value):
        patcher = mock.patch.object(where, name, value)
        patcher.start()
        self.addCleanup(patcher.stop)

    def next_event(self):
        event = self.told.get(timeout=60)
        return event.uuid, event.kind, event.state

    def settle(self):
        """Wait until every event so far was handled; none may be left."""
        # Another one each time: a reconnection may tell of it twice.
        marker = self.libvirt.add(0xff00 + len(self.markers))
        self.markers.add(marker.uuid)
        self.libvirt.emit(marker, libvirt.VIR_DOMAIN_EVENT_STARTED)
        told = []
        while (event := self.told.get(timeout=60)).uuid != marker.uuid:
            if event.uuid not in self.markers:
                told.append((event.uuid, event.kind, event.state))
        del self.libvirt.domains[marker.uuid]
        return told

    @property
    def connected(self):
        return self.host._watch.connection.connected

    def states(self):
        return {uuid: record.state
                for uuid, record in self.host.records().items()}

    def wait_until(self, true):
        end = time.monotonic() + 60
        while not true():
            self.assertLess(time.monotonic(), end, 'in vain')
            time.sleep(0.005)


class ConnectTest(HostTestCase):

    def test_learns_of_every_domain_but_dom0(self):
        on, off = self.libvirt.add(1), self.libvirt.add(2, running=False)
        self.assertFalse(self.connected)
        self.host.connect()
        self.assertTrue(self.connected)
        self.assertEqual({on.uuid: RUNNING, off.uuid: SHUTDOWN},
                         self.states())
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
        error = self.assertRaises(errors.ConnectionFailed, self.host.connect)
        self.assertIn('connectDomainEventRegisterAny', error.reason)
        self.assertFalse(self.libvirt.connections[0].open)

    def test_a_domain_that_cannot_tell(self):
        guests = self.libvirt.add(1), self.libvirt.add(2)
        # dom0 is not asked.
        self.libvirt.fail['state'] = fake.error(
            libvirt.VIR_ERR_INTERNAL_ERROR)
        self.host.connect()
        self.assertEqual({guests[0].uuid: DomainState.NOSTATE,
                          guests[1].uuid: RUNNING}, self.states())

    def test_a_domain_of_which_the_daemon_says_nothing(self):
        # libvirtd answers a call that failed without a word with an error of
        # its transport, which works.
        guests = self.libvirt.add(1), self.libvirt.add(2)
        self.libvirt.fail['state'] = fake.error(
            libvirt.VIR_ERR_INTERNAL_ERROR, 'Library function returned error '
            'but did not set virError', libvirt.VIR_FROM_RPC)
        self.host.connect()
        self.assertTrue(self.connected)
        self.assertEqual({guests[0].uuid: DomainState.NOSTATE,
                          guests[1].uuid: RUNNING}, self.states())

    def test_closed_for_good(self):
        self.host.connect()
        self.host.close()
        self.assertFalse(self.connected)
        self.assertRaises(errors.ConnectionFailed, self.host.hostname)


class ClosedTest(HostTestCase):
    """What is not known is not said to be empty."""

    def assert_unknown(self):
        for ask in (self.host.records, lambda: self.host.record('x'),
                    lambda: self.host.guest('x')):
            self.assertRaises(errors.ConnectionFailed, ask)

    def test_before_it_is_opened(self):
        self.assert_unknown()

    def test_after_it_was_closed(self):
        self.libvirt.add(1)
        self.host.connect()
        self.host.close()
        self.assert_unknown()

    def test_libvirt_hangs(self):
        self._patch(watch_lib, '_CLOSE_TIMEOUT', 0.1)
        self.host.connect()
        hangs = threading.Event()
        self.addCleanup(hangs.set)
        self._patch(self.host._watch.connection, 'close', hangs.wait)
        begin = time.monotonic()
        self.host.close()
        self.assertLess(time.monotonic() - begin, 5)
        self.assert_unknown()


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
            self.host._facts._answers = None
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

    def test_memory_of_a_dom0_that_may_have_all(self):
        for most, found in ((6143, 6143), (6144, 2048)):
            self.host._facts._answers = None
            with mock.patch.object(fake.Domain, 'info', return_value=[
                    1, most * 1024, 2048 * 1024, 2, 0]):
                self.assertEqual(found, self.host.memory().dom0_mib)

    def test_memory_of_a_dom0_that_cannot_have_more(self):
        caps = mock.Mock(arch='aarch64')
        with mock.patch.object(facts_lib.Facts, 'capabilities',
                               return_value=caps), mock.patch.object(
                fake.Domain, 'info', return_value=[
                    1, 4096 * 1024, 2048 * 1024, 2, 0]):
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


    def test_the_first_name_holds(self):
        log = self.useFixture(fixtures.FakeLogger(level=logging.ERROR))
        self.assertEqual('xenhost', self.host.hostname())
        self.libvirt.hostname = 'localhost'
        self.libvirt.drop()
        self.wait_until(lambda: self.connected)
        for _time in range(2):
            self.assertEqual('xenhost', self.host.hostname())
        self.assertEqual(1, log.output.count('calls this host localhost'))
        # Another Host of this process: nova-compute reloads its driver.
        other = host_lib.Host(fake.URI)
        self.addCleanup(other.close)
        other.connect()
        self.assertEqual('xenhost', other.hostname())
        self.libvirt.down = fake.error(libvirt.VIR_ERR_NO_CONNECT)
        self.libvirt.drop()
        self.assertEqual('xenhost', other.hostname())

    def test_cpu_features_that_the_model_implies(self):
        self.libvirt.baseline = (
            "<cpu mode='custom'><model>Skylake-Client</model>"
            "<feature policy='require' name='avx2'/>"
            "<feature policy='disable' name='mpx'/></cpu>")
        features = self.host.capabilities().cpu_features
        self.assertLessEqual({'avx2', 'svm', 'sse2'}, features)
        self.assertNotIn('mpx', features)

    def test_cpu_features_that_libvirt_does_not_tell(self):
        log = self.useFixture(fixtures.FakeLogger(level=logging.WARNING))
        for _session in range(2):
            self.libvirt.fail['baselineCPU'] = fake.error(
                libvirt.VIR_ERR_NO_SUPPORT)
            self.assertIn('svm', self.host.capabilities().cpu_features)
            self.libvirt.drop()
            self.wait_until(lambda: self.connected)
        self.assertEqual(1, log.output.count('CPU features'))


class ForeignTest(HostTestCase):
    """Domains of somebody else."""

    def setUp(self):
        super().setUp()
        self.ours = self.libvirt.add(1)
        self.foreign = self.libvirt.add(2, ours=False)
        self.host.connect()

    def test_not_listed(self):
        self.assertEqual([self.ours.uuid], [*self.host.records()])
        self.assertEqual([self.foreign.uuid], [*self.host.foreign()])
        for ask in self.host.guest, self.host.record:
            self.assertRaises(errors.DomainNotFound, ask, self.foreign.uuid)

    def test_owner(self):
        """Each front door asks for its own metadata."""
        self.assertEqual({metadata.NAMESPACE}, self.libvirt.namespaces)
        other = host_lib.Host(fake.URI, owner=domain.Owner.CLOUDSTACK)
        self.addCleanup(other.close)
        self.libvirt.namespaces.clear()
        other.connect()
        self.assertEqual({'urn:xen44-driver:cloudstack:1'},
                         self.libvirt.namespaces)

    def test_asked_once(self):
        self.assertEqual(2, self.libvirt.calls.count('metadata'))
        self.libvirt.drop()
        self.wait_until(lambda: self.connected)
        self.settle()
        # Of the domain by which settle() knows the end.
        self.assertEqual(3, self.libvirt.calls.count('metadata'))

    def test_defined_behind_our_back(self):
        other = self.libvirt.add(3, running=False, ours=False)
        self.libvirt.emit(other, libvirt.VIR_DOMAIN_EVENT_DEFINED)
        self.assertEqual([], self.settle())
        self.assertNotIn(other.uuid, self.host.records())
        other.ours = True
        self.libvirt.emit(other, libvirt.VIR_DOMAIN_EVENT_DEFINED)
        self.settle()
        self.assertIn(other.uuid, self.host.records())

    def test_its_events_are_not_told(self):
        self.libvirt.stop(self.foreign)
        self.libvirt.emit(self.foreign, libvirt.VIR_DOMAIN_EVENT_STOPPED)
        self.assertEqual([], self.settle())
        self.assertIs(SHUTDOWN,
                      self.host._watch.all()[self.foreign.uuid].state)

    def test_never_defined_anew(self):
        self.assertRaises(
            errors.DomainExists, self.host.define,
            f'<domain><uuid>{self.foreign.uuid}</uuid><name>x</name></domain>')
        self.assertNotIn('defineXML', self.libvirt.calls)

    def test_taken_over(self):
        for uuid in (self.ours.uuid, fake.uuid(7)):
            self.assertRaises(errors.DomainNotFound,
                              self.host.foreign_guest, uuid)
        self.libvirt.stop(self.foreign)
        guest = self.host.foreign_guest(self.foreign.uuid)
        self.assertIs(SHUTDOWN, guest.state())
        with mock.patch.object(fake.Domain, 'XMLDesc', autospec=True,
                               return_value='<domain/>') as asked:
            self.assertEqual('<domain/>', guest.kept_xml())
        # As it was defined, and with passwords.
        self.assertEqual(
            libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE,
            asked.call_args.args[1])
        guest.undefine()
        self.assertNotIn(self.foreign.uuid, self.libvirt.domains)
        self.assertNotIn(self.foreign.uuid, self.host.foreign())

    def test_one_that_cannot_tell_whose_it_is(self):
        other = self.libvirt.add(3, running=False)
        self.libvirt.fail['metadata'] = fake.error(
            libvirt.VIR_ERR_INTERNAL_ERROR)
        self.assertEqual(other.uuid, self.host.guest(other.uuid).uuid)


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
        self.assertIs(SHUTDOWN, self.host.record(self.guest.uuid).state)

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
        self.assertIs(RUNNING, self.host.record(self.guest.uuid).state)
        self.assertEqual(self.guest.id, self.host.record(self.guest.uuid).id)

    def test_stopped_comes_after_the_next_start(self):
        self.libvirt.stop(self.guest)
        self.host.guest(self.guest.uuid).start()
        self.emit(libvirt.VIR_DOMAIN_EVENT_STOPPED)
        self.assertNotIn(EventKind.STOPPED, [e[1] for e in self.settle()])
        self.assertIs(RUNNING, self.host.record(self.guest.uuid).state)

    def test_off_only_when_libxl_is_done(self):
        self.guest.state = libvirt.VIR_DOMAIN_SHUTOFF  # but it has an id
        guest = self.host.guest(self.guest.uuid)
        self.assertIs(RUNNING, guest.state())
        self.assertFalse(guest.wait_for(OFF, 0.05))
        self.libvirt.stop(self.guest)
        self.assertIs(SHUTDOWN, guest.state())

    def reboot(self):
        """As libxl does it; see the events of a real one.

        :returns: to call when the guest is created anew.
        """
        self.libvirt.stop(self.guest)
        self.guest.job = True

        def done():
            self.guest.job = False
            self.libvirt.run(self.guest)
            self.emit(libvirt.VIR_DOMAIN_EVENT_STARTED)
            self.emit(libvirt.VIR_DOMAIN_EVENT_STOPPED)
        return done

    def test_not_off_in_the_middle_of_a_reboot(self):
        done = self.reboot()
        guest = self.host.guest(self.guest.uuid)
        self.assertIs(RUNNING, guest.state())
        self.assertFalse(guest.wait_for(OFF, 0.05))
        self.libvirt.drop()
        self.wait_until(lambda: self.connected)
        self.assertEqual([], self.settle())
        self.assertIs(RUNNING, self.host.record(self.guest.uuid).state)
        done()
        # It ran before and runs now: whoever asks first may know already.
        self.assertIn(self.settle(), (
            [], [(self.guest.uuid, EventKind.STARTED, RUNNING)]))
        self.assertEqual(self.guest.id, self.host.record(self.guest.uuid).id)

    def test_not_off_when_first_seen_in_a_reboot(self):
        self.reboot()
        other = host_lib.Host(fake.URI)
        self.addCleanup(other.close)
        other.connect()
        self.assertIs(RUNNING, other.record(self.guest.uuid).state)

    def test_a_reboot_that_fails(self):
        self.reboot()
        self.assertIs(RUNNING, self.host.guest(self.guest.uuid).state())
        # The event may be lost, or come while the next job runs.
        self.emit(libvirt.VIR_DOMAIN_EVENT_STOPPED)
        self.assertEqual([], self.settle())
        self.guest.job = False
        self.assertEqual((self.guest.uuid, EventKind.STOPPED, SHUTDOWN),
                         self.next_event())
        self.settle()
        self.libvirt.calls.clear()
        time.sleep(0.1)
        self.assertEqual([], self.libvirt.calls)

    def test_between_off_and_on_for_too_long(self):
        self._patch(watch_lib, '_AGAIN_LAST', 0.05)
        self.reboot()
        self.assertIs(RUNNING, self.host.guest(self.guest.uuid).state())
        self.assertEqual((self.guest.uuid, EventKind.STOPPED, SHUTDOWN),
                         self.next_event())

    def test_a_slow_listener_freezes_nobody(self):
        # Nova's listener waits for the conductor.
        busy, go_on = threading.Event(), threading.Event()
        self.addCleanup(go_on.set)
        told = []

        def listen(event):
            busy.set()
            go_on.wait(10)
            told.append(event.kind)

        self.host._watch._teller._on_event = listen
        other = self.libvirt.add(2)
        self.emit(libvirt.VIR_DOMAIN_EVENT_STARTED)
        self.assertTrue(busy.wait(60))
        self.libvirt.stop(self.guest)
        self.emit(libvirt.VIR_DOMAIN_EVENT_STOPPED)
        self.libvirt.emit(other, libvirt.VIR_DOMAIN_EVENT_DEFINED)
        self.wait_until(
            lambda: other.uuid in self.host.records()
            and self.host.record(self.guest.uuid).state is SHUTDOWN)
        self.assertEqual([], told)
        go_on.set()
        self.wait_until(lambda: len(told) == 3)
        self.assertEqual([EventKind.STARTED, EventKind.STOPPED,
                          EventKind.DEFINED], told)

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
        self.assertRaises(errors.DomainNotFound, self.host.record, other.uuid)

    def test_of_no_interest(self):
        self.emit(libvirt.VIR_DOMAIN_EVENT_SHUTDOWN)
        self.emit(99)
        self.assertEqual([], self.settle())

    def test_a_broken_listener_is_told_the_next(self):
        broken = mock.Mock(side_effect=[ValueError, None])
        self.host._watch._teller._on_event = broken
        for count in range(1, 3):
            self.emit(libvirt.VIR_DOMAIN_EVENT_STARTED)
            self.wait_until(lambda count=count: broken.call_count == count)

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
        self.assertFalse(self.connected)
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
        self.assertTrue(self.connected)
        self.assertEqual([], self.settle())

    def test_events_go_on_afterwards(self):
        self.libvirt.drop()
        self.wait_until(lambda: self.connected)
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
        self.guest.xml = SCREEN
        self.libvirt.during['XMLDesc'] = self.libvirt.drop
        self.assertEqual(('127.0.0.1', 5901), guest.vnc_address())

    def test_a_change_during_which_it_breaks_is_not_made_twice(self):
        guest = self.host.guest(self.guest.uuid)
        self.libvirt.during['destroy'] = self.libvirt.drop
        self.assertRaises(errors.ConnectionFailed, guest.destroy)
        self.assertEqual(1, self.libvirt.calls.count('destroy'))
        guest.destroy()
        self.assertIs(SHUTDOWN, self.host.record(self.guest.uuid).state)

    def test_anything_unforeseen_is_not_the_end(self):
        with mock.patch.object(self.host._watch, '_refresh',
                               side_effect=ZeroDivisionError) as refresh:
            self.libvirt.drop()
            self.libvirt.stop(self.guest)
            self.wait_until(lambda: refresh.call_count > 2)
        self.assertEqual((self.guest.uuid, EventKind.STOPPED, SHUTDOWN),
                         self.next_event())

    def test_told_of_the_connection(self):
        log = self.useFixture(fixtures.FakeLogger(level=logging.INFO))
        self.libvirt.down = fake.error(libvirt.VIR_ERR_SYSTEM_ERROR,
                                       domain=libvirt.VIR_FROM_RPC)
        self.libvirt.drop()
        connected, reason = self.connections.get(timeout=60)
        self.assertFalse(connected)
        self.assertIn('closed it', reason)
        self.wait_until(lambda: self.libvirt.calls.count('open') > 5)
        self.libvirt.down = None
        self.assertEqual((True, ''), self.connections.get(timeout=60))
        self.settle()
        self.assertTrue(self.connections.empty())
        self.assertEqual(2, len(log.output.splitlines()), log.output)

    def test_a_daemon_that_hangs(self):
        self._patch(connection, '_OPEN_TIMEOUT', 0.05)
        go_on = threading.Event()
        self.addCleanup(go_on.set)
        self.libvirt.during['open'] = lambda: go_on.wait(10)
        self.libvirt.drop()
        guest = self.host.guest(self.guest.uuid)
        begin = time.monotonic()
        for _time in range(20):
            error = self.assertRaises(
                errors.ConnectionFailed, guest.vnc_address)
        self.assertIn('does not answer', str(error))
        self.assertLess(time.monotonic() - begin, 1)
        # Only one attempt hangs, and it is the one that succeeds.
        self.assertEqual(2, self.libvirt.calls.count('open'))
        go_on.set()
        self.wait_until(lambda: self.connected)
        self.guest.xml = SCREEN
        self.assertEqual(('127.0.0.1', 5901), guest.vnc_address())

    def test_away_questions_fail_at_once(self):
        self._patch(watch_lib, '_RETRY_FIRST', 30)
        self._patch(watch_lib, '_RETRY_LAST', 30)
        self.libvirt.down = fake.error(libvirt.VIR_ERR_SYSTEM_ERROR,
                                       'Connection refused',
                                       libvirt.VIR_FROM_RPC)
        self.libvirt.drop()
        for _time in range(3):
            self.assertRaises(errors.ConnectionFailed, self.host.memory)
        # The first question tries, the others leave that to the watch.
        self.assertEqual(2, self.libvirt.calls.count('open'))

    def test_closing_while_the_daemon_hangs(self):
        self._patch(connection, '_CLOSE_TIMEOUT', 0.05)
        go_on = threading.Event()
        self.addCleanup(go_on.set)
        with mock.patch.object(fake.Connection, 'close',
                               lambda raw: go_on.wait(10)):
            begin = time.monotonic()
            self.host.close()
            self.assertLess(time.monotonic() - begin, 1)

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
        self.assertIs(RUNNING, self.host.record(self.guest.uuid).state)


class GuestTest(HostTestCase):

    def setUp(self):
        super().setUp()
        self.host.connect()
        self.guest = self.host.define(self.xml(1))

    def xml(self, number, name='guest-1'):
        return (f'<domain><uuid>{fake.uuid(number)}</uuid>'
                f'<name>{name}</name><metadata><x:instance '
                f'xmlns:x="{metadata.NAMESPACE}"/></metadata></domain>')

    @property
    def state(self):
        return self.host.record(self.guest.uuid).state

    def test_known_as_soon_as_it_is_done(self):
        guest = self.guest
        self.assertIs(SHUTDOWN, self.state)
        guest.start()
        self.assertIs(RUNNING, self.state)
        self.assertIsNotNone(self.host.record(guest.uuid).id)
        guest.suspend()
        self.assertIs(DomainState.PAUSED, self.state)
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
        guest.start(paused=True)
        self.assertIs(DomainState.PAUSED, self.state)
        self.assertIsNotNone(self.host.record(guest.uuid).id)
        guest.resume()
        self.assertIs(RUNNING, self.state)
        guest.destroy()
        guest.undefine()
        self.assertEqual({}, self.host.records())

    def test_asking_what_is_known_costs_no_call(self):
        self.settle()
        self.libvirt.calls.clear()
        self.host.records()
        self.host.record(self.guest.uuid)
        self.host.guest(self.guest.uuid)
        self.assertEqual([], self.libvirt.calls)

    def test_looked_up_once(self):
        session = self.host._watch.connection.twice(lambda session: session)
        session.forget(self.guest.uuid)
        self.settle()
        self.libvirt.calls.clear()
        self.guest.is_busy()
        self.guest.is_busy()
        self.assertEqual(1, self.libvirt.calls.count('lookupByUUIDString'))

    def test_a_spawn_costs_few_calls(self):
        self.settle()
        self.libvirt.calls.clear()
        self.host.define(self.xml(7, 'new')).start()
        self.settle()
        # The last three are settle()'s.
        self.assertEqual(
            ['defineXML', 'managedSaveRemove', 'create',
             'lookupByUUIDString', 'state', 'metadata'], self.libvirt.calls)

    def test_devices(self):
        devices = self.libvirt.domains[self.guest.uuid].devices
        for live, flag in ((True, libvirt.VIR_DOMAIN_AFFECT_LIVE),
                           (False, libvirt.VIR_DOMAIN_AFFECT_CONFIG)):
            self.guest.attach_device('<device/>', live=live)
            self.assertEqual([('<device/>', flag)], devices)
            self.guest.detach_device('<device/>', live=live)
            self.assertEqual([], devices)

    def test_interfaces(self):
        made = interface.Interface(mac='00:16:3e:00:00:01', bridge='br0',
                                   model='netfront', outbound_kib=10)
        self.libvirt.domains[self.guest.uuid].xml = (
            f'<domain><devices>{interface.device_xml(made)}'
            "<interface type='user'/></devices></domain>")
        for live in (True, False):
            self.assertEqual((made,), self.guest.interfaces(live=live))

    def test_its_events_are_told_all_the_same(self):
        self.settle()
        self.guest.start()
        self.guest.suspend()
        self.guest.resume()
        self.guest.destroy()
        kinds = [event[1] for event in self.settle()]
        self.assertIn(EventKind.STOPPED, kinds)
        self.assertIs(SHUTDOWN, self.state)

    def test_a_guest_that_stops_during_its_start(self):
        self.settle()
        state = self.libvirt.domains[self.guest.uuid]
        create = fake.Domain.createWithFlags

        def short(domain, flags):
            create(domain, flags)
            self.libvirt.stop(state)
            self.libvirt.emit(state, libvirt.VIR_DOMAIN_EVENT_STOPPED)
            return 0

        with mock.patch.object(fake.Domain, 'createWithFlags', short):
            self.guest.start()
        self.assertIn((self.guest.uuid, EventKind.STOPPED, SHUTDOWN),
                      self.settle())
        self.assertIs(SHUTDOWN, self.state)

    def test_saved_memory_is_not_resumed(self):
        self.libvirt.domains[self.guest.uuid].saved = True
        self.guest.start()
        self.assertEqual([], self.libvirt.woken)
        self.assertEqual(1, self.libvirt.calls.count('managedSaveRemove'))

    def test_saved_memory_of_a_failed_save(self):
        # There is a file, and libvirt says there is none.
        self.libvirt.domains[self.guest.uuid].saved = True
        with mock.patch.object(fake.Domain, 'hasManagedSaveImage',
                               return_value=0):
            self.assertTrue(self.guest.forget_memory())
            self.assertFalse(self.guest.forget_memory())

    def test_saved_memory_that_cannot_be_removed(self):
        directory = self.useFixture(fixtures.TempDir()).path
        self.useFixture(fixtures.MonkeyPatch(
            'xen44_driver.xen.savedmemory.DIRECTORY', directory))
        pathlib.Path(directory, f'{self.guest.name}.save').touch()
        self.libvirt.fail['managedSaveRemove'] = fake.error(
            libvirt.VIR_ERR_INTERNAL_ERROR)
        self.assertRaises(errors.OperationFailed, self.guest.start)
        self.assertIs(SHUTDOWN, self.state)

    def test_saved_memory_that_must_not_be_removed(self):
        self.libvirt.fail['managedSaveRemove'] = fake.error(
            libvirt.VIR_ERR_ACCESS_DENIED)
        self.assertRaises(errors.OperationFailed, self.guest.start)

    def test_memory_is_saved_and_restored(self):
        self.guest.start()
        before = self.guest.id
        self.guest.save_memory()
        self.assertIs(SHUTDOWN, self.state)
        self.assertIsNone(self.guest.id)
        self.assertTrue(self.guest.has_saved_memory())
        self.settle()
        self.guest.restore_memory()
        self.assertIs(DomainState.PAUSED, self.state)
        self.assertGreater(self.guest.id, before)
        # Until its owner is sure that it was restored.
        self.assertTrue(self.guest.has_saved_memory())
        self.assertEqual([self.guest.uuid], self.libvirt.woken)
        self.guest.resume()
        # Told while it was paused, or later.
        self.assertIn(EventKind.STARTED,
                      [kind for _uuid, kind, _state in self.settle()])

    def test_a_save_that_fails(self):
        self.guest.start()
        self.libvirt.fail['managedSave'] = fake.error(
            libvirt.VIR_ERR_INTERNAL_ERROR, 'Failed to save domain')
        self.assertRaises(errors.OperationFailed, self.guest.save_memory)
        self.assertIs(RUNNING, self.state)

    def test_wake(self):
        self.guest.start()
        state = self.libvirt.domains[self.guest.uuid]
        state.state = libvirt.VIR_DOMAIN_PMSUSPENDED
        self.assertIs(DomainState.SUSPENDED, self.guest.state())
        self.guest.wake()
        self.assertIs(RUNNING, self.state)

    def test_is_busy(self):
        self.assertFalse(self.guest.is_busy())
        self.libvirt.domains[self.guest.uuid].job = True
        self.assertTrue(self.guest.is_busy())

    def test_core_is_dumped(self):
        self.guest.start()
        state = self.libvirt.domains[self.guest.uuid]

        def asked():
            # libvirt pauses it meanwhile, and tells who asks.
            state.state = libvirt.VIR_DOMAIN_PAUSED
            self.assertIs(DomainState.PAUSED, self.guest.state())
            state.state = libvirt.VIR_DOMAIN_RUNNING

        self.libvirt.during['coreDump'] = asked
        self.guest.dump_core('/dumps/core')
        self.assertEqual([(self.guest.uuid, '/dumps/core')],
                         self.libvirt.dumped)
        self.assertIs(RUNNING, self.state)

    def test_cpu_limits(self):
        self.guest.start()
        self.assertEqual({'weight': 256, 'cap': 0}, self.guest.cpu_limits())
        self.guest.limit_cpus(weight=512, cap=50)
        self.assertEqual({'weight': 512, 'cap': 50}, self.guest.cpu_limits())

    def test_statistics(self):
        self.guest.start()
        self.libvirt.domains[self.guest.uuid].xml = DEVICES
        found = self.guest.statistics()
        self.assertEqual((256, 192), (found.max_memory_mib,
                                      found.memory_mib))
        self.assertEqual((31108293123, 7322155515), found.cpu_times)
        received = statistics.Direction(
            octets=2080, packets=18, errors=0, drop=1)
        sent = statistics.Direction(
            octets=1596, packets=12, errors=0, drop=0)
        self.assertEqual((statistics.Interface(
            mac='00:16:3e:00:00:01', received=received, sent=sent),),
            found.interfaces)
        self.assertEqual((
            statistics.Disk(target='xvda'),
            statistics.Disk(target='xvdd', read_bytes=12288,
                            read_requests=3, write_bytes=512,
                            write_requests=1)), found.disks)

    def test_statistics_of_an_emulated_interface(self):
        # Its PV half is another device of dom0, whose view is the opposite.
        self.guest.start()
        sysfs = self.useFixture(fixtures.TempDir()).path
        self._patch(statistics, 'SYSFS_NET', sysfs)
        directory = pathlib.Path(sysfs) / 'vif3.0' / 'statistics'
        directory.mkdir(parents=True)
        for way, octets in (('rx', 100), ('tx', 7)):
            for number, name in enumerate(('packets', 'errors', 'dropped')):
                (directory / f'{way}_{name}').write_text(f'{number + 1}\n')
            (directory / f'{way}_bytes').write_text(f'{octets}\n')
        self.libvirt.domains[self.guest.uuid].xml = DEVICES.replace(
            'vif3.0', 'vif3.0-emu')
        (found,) = self.guest.statistics().interfaces
        self.assertEqual(
            (statistics.Direction(octets=2087, packets=19, errors=2, drop=4),
             statistics.Direction(octets=1696, packets=13, errors=2, drop=3)),
            (found.received, found.sent))
        # The guest unplugged the emulated half.
        self.libvirt.fail['interfaceStats'] = fake.error(
            libvirt.VIR_ERR_INTERNAL_ERROR, 'Interface not found')
        (found,) = self.guest.statistics().interfaces
        self.assertEqual((7, 100),
                         (found.received.octets, found.sent.octets))

    def test_id(self):
        self.assertIsNone(self.guest.id)
        self.guest.start()
        self.assertEqual(self.libvirt.domains[self.guest.uuid].id,
                         self.guest.id)
        self.guest.suspend()
        self.assertIsNotNone(self.guest.id)

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
        error = self.assertRaises(
            errors.NotSupported, self.host.define, self.xml(3))
        self.assertIn(error.domain, self.xml(3))
        self.assertRaises(errors.SpecError, self.host.define, 'no xml')

    def test_asks_only(self):
        self.guest.start()
        self.libvirt.calls.clear()
        self.guest.shutdown()
        self.guest.press_power_button()
        self.assertEqual(['shutdown', 'powerButton'], self.libvirt.calls)
        self.assertIs(RUNNING, self.state)

    def test_vnc(self):
        state = self.libvirt.domains[self.guest.uuid]
        state.xml = SCREEN
        self.assertEqual(('127.0.0.1', 5901), self.guest.vnc_address())
        for xml in (SCREEN.replace('5901', '-1'),
                    SCREEN.replace(' id="3"', ''),
                    '<domain id="3"><devices/></domain>'):
            state.xml = xml
            self.assertIsNone(self.guest.vnc_address())
        # As older versions of the driver let it listen.
        anywhere = '0.0.0.0'  # noqa: S104
        for listen, reached in ((anywhere, '127.0.0.1'), ('::', '::1'),
                                ('192.0.2.1', '192.0.2.1')):
            state.xml = SCREEN.replace(
                'type="vnc"', f'type="vnc" listen="{listen}"')
            self.assertEqual((reached, 5901), self.guest.vnc_address())

    def test_spice(self):
        state = self.libvirt.domains[self.guest.uuid]
        spice = domain.Spice(socket='/run/s')
        for screen, found in (
                (specs.HVM.screen, False), (None, False),
                (domain.Screen(spice=spice), True),
                (domain.Screen(vnc='127.0.0.1', spice=spice), True)):
            state.xml = domain.to_xml(
                dataclasses.replace(specs.HVM, screen=screen),
                x86_64.X86_64())
            self.assertEqual(found, self.guest.has_spice())
            self.assertIsNone(self.guest.vnc_address())

    def test_terminal(self):
        state = self.libvirt.domains[self.guest.uuid]
        for spec, found in (
                (specs.PV, guest_lib.Terminal.XEN),
                (specs.PVH, guest_lib.Terminal.XEN),
                (specs.HVM, None),
                (dataclasses.replace(specs.HVM, serial_socket='/run/s'),
                 guest_lib.Terminal.SERIAL)):
            state.xml = domain.to_xml(spec, x86_64.X86_64())
            self.assertIs(found, self.guest.terminal())

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
