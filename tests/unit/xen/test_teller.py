# SPDX-License-Identifier: Apache-2.0
import queue
import threading

from oslotest import base

from xen44_driver.xen import teller
from xen44_driver.xen.events import DomainEvent
from xen44_driver.xen.events import DomainState
from xen44_driver.xen.events import EventKind

_STATES = {'defined': 'shutdown', 'started': 'running', 'paused': 'paused',
           'resumed': 'running', 'stopped': 'shutdown', 'crashed': 'crashed',
           'undefined': 'nostate'}


class TellerTest(base.BaseTestCase):
    """What a listener that takes its time is told in the end."""

    def setUp(self):
        super().setUp()
        self._start()

    def _start(self):
        self.told = queue.SimpleQueue()
        self.busy, self.go_on = threading.Event(), threading.Event()
        self.addCleanup(self.go_on.set)
        self.teller = teller.Teller(
            self._listen, lambda *news: self.told.put(news))
        self.addCleanup(self.teller.close)
        # It is busy with this one.
        self.tell('started', uuid='first')
        self.assertTrue(self.busy.wait(5))

    def _listen(self, event):
        self.busy.set()
        self.go_on.wait(10)
        self.told.put(f'{event.kind.value} {event.uuid}')

    def tell(self, *kinds, uuid='u', gone=False):
        for kind in kinds:
            self.teller.event(
                DomainEvent(uuid=uuid, name='n', kind=EventKind(kind),
                            state=DomainState(_STATES[kind])),
                gone=gone or kind == 'undefined')

    def all_told(self):
        self.tell('defined', uuid='last')
        self.go_on.set()
        told = []
        while (item := self.told.get(timeout=5)) != 'defined last':
            told.append(item)
        self.assertEqual('started first', told.pop(0))
        return told

    def test_only_what_is_still_true(self):
        for kinds, wanted in (
                ('defined started', 'defined started'),
                ('started stopped', 'stopped'),
                ('stopped started', 'started'),
                ('paused resumed paused', 'paused'),
                ('started stopped started stopped started', 'started'),
                ('defined started stopped undefined', 'stopped undefined'),
                ('crashed', 'crashed')):
            with self.subTest(kinds):
                self._start()
                self.tell(*kinds.split())
                self.assertEqual([f'{kind} u' for kind in wanted.split()],
                                 self.all_told())

    def test_gone_with_its_stop(self):
        self.tell('started')
        self.tell('stopped', gone=True)
        self.assertEqual(['stopped u'], self.all_told())

    def test_order_between_domains(self):
        self.tell('started', uuid='a')
        self.tell('stopped', uuid='b')
        self.tell('paused', uuid='a')
        self.assertEqual(['started a', 'stopped b', 'paused a'],
                         self.all_told())

    def test_bounded(self):
        for _time in range(1000):
            self.tell('started', 'paused', 'resumed', 'stopped')
            self.teller.connection(False, 'why')
            self.teller.connection(True, '')
        self.assertLess(len(self.teller._waiting), 10)

    def test_connection(self):
        self.teller.connection(False, 'why')
        self.tell('stopped')
        self.assertEqual([(False, 'why'), 'stopped u'], self.all_told())

    def test_a_connection_that_came_back(self):
        self.teller.connection(False, 'why')
        self.teller.connection(True, '')
        self.assertEqual([], self.all_told())

    def test_closed(self):
        self.tell('stopped')
        self.teller.close()
        self.tell('started')
        self.assertEqual([], self.teller._waiting)
