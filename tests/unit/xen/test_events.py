# SPDX-License-Identifier: Apache-2.0
import dataclasses

from oslotest import base

from xen44_driver.xen import cache
from xen44_driver.xen import events
from xen44_driver.xen.events import DomainState
from xen44_driver.xen.events import EventKind


def _record(state, uuid='u', **extra):
    return events.DomainRecord(uuid=uuid, name='n', state=DomainState(state),
                               **extra)


class BetweenTest(base.BaseTestCase):
    """What must have happened, from what was and what is."""

    def test_all(self):
        for before, after, kinds in (
                (None, None, ''),
                (None, 'shutdown', 'defined'),
                (None, 'running', 'defined started'),
                ('shutdown', 'shutdown', ''),
                ('shutdown', 'running', 'started'),
                ('crashed', 'paused', 'started'),
                ('shutdown', None, 'undefined'),
                ('running', 'running', ''),
                ('running', 'paused', 'paused'),
                ('paused', 'running', 'resumed'),
                ('running', 'suspended', 'paused'),
                ('running', 'shutdown', 'stopped'),
                ('paused', 'crashed', 'crashed'),
                ('running', None, 'stopped undefined')):
            with self.subTest(before=before, after=after):
                self.assertEqual(
                    kinds.split(), [kind.value for kind in events.between(
                        before and _record(before), after and _record(after))])


    def test_missed_reboot(self):
        before, after = (
            dataclasses.replace(_record('running'), id=id_) for id_ in (5, 6))
        self.assertEqual((), events.between(before, after))
        self.assertEqual((), events.between(before, before, missed=True))
        self.assertEqual((events.EventKind.STARTED,),
                         events.between(before, after, missed=True))


class AgreesTest(base.BaseTestCase):

    def test_all(self):
        for kind, states in (
                ('defined', 'nostate running paused shutdown crashed '
                            'suspended'),
                ('undefined', 'gone'),
                ('started', 'nostate running paused suspended'),
                ('stopped', 'shutdown crashed gone'),
                ('crashed', 'shutdown crashed gone'),
                ('paused', 'paused suspended'),
                ('resumed', 'running')):
            with self.subTest(kind):
                self.assertEqual(set(states.split()), {
                    state.value if state else 'gone'
                    for state in (*DomainState, None)
                    if events.agrees(EventKind(kind), state)})


class StateCacheTest(base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.cache = cache.StateCache()

    def test_the_last_question_counts(self):
        first = self.cache.ticket()
        second = self.cache.ticket()
        self.assertTrue(self.cache.offer('u', _record('running'), second))
        self.assertFalse(self.cache.offer('u', _record('shutdown'), first))
        self.assertIs(DomainState.RUNNING, self.cache.get('u').state)

    def test_each_domain_for_itself(self):
        ticket = self.cache.ticket()
        self.assertTrue(self.cache.offer('u', _record('running'), ticket))
        self.assertTrue(
            self.cache.offer('v', _record('running', 'v'), ticket))

    def test_a_removed_one_does_not_come_back(self):
        early = self.cache.ticket()
        self.cache.offer('u', None, self.cache.ticket())
        self.assertFalse(self.cache.offer('u', _record('running'), early))
        self.assertIsNone(self.cache.get('u'))

    def test_all_at_once(self):
        self.cache.offer('u', _record('running'), self.cache.ticket())
        self.cache.offer('v', _record('running', 'v'), self.cache.ticket())
        before = self.cache.all()
        ticket = self.cache.ticket()
        # Learnt while the list was made, and not in it.
        self.cache.offer('w', _record('running', 'w'), self.cache.ticket())
        changed = self.cache.offer_all([_record('paused')], ticket)
        self.assertEqual({'u': before['u'], 'v': before['v']}, changed)
        self.assertEqual({'u', 'w'}, set(self.cache.all()))

    def test_forgets_in_the_end(self):
        self.cache.offer('stays', _record('running', 'stays'),
                         self.cache.ticket())
        for number in range(3000):
            self.cache.offer(f'u{number}', None, self.cache.ticket())
        self.assertLess(len(self.cache._learnt), 1100)
        self.assertEqual(['stays'], list(self.cache.all()))
        self.assertIn('stays', self.cache._learnt)

    def test_a_copy(self):
        self.cache.all()['u'] = _record('running')
        self.assertIsNone(self.cache.get('u'))
