# SPDX-License-Identifier: Apache-2.0
"""A host that has few event channels.

These run in a lab whose dom0 uses the older ABI of event channels
(``XENLAB_KIND=two-level``), and only there.
"""

from __future__ import annotations

from tests.gate import base

CLASS = 'CUSTOM_XEN_EVENT_CHANNELS'
#: Of a guest: two of them are too many.
ASKED = 2000


class TwoLevel(base.GateCase):

    @base.slow
    def test_placement_says_no(self) -> None:
        self.assertIn('Using 2-level ABI',
                      self.dom0('journalctl', '--dmesg', '--boot'))
        inventory = self.inventory(CLASS)
        self.assertEqual(4095, inventory['total'])
        self.assertGreater(inventory['reserved'], 256)
        self.assertNotIn('CUSTOM_XEN44_FIFO_EVENT_CHANNELS', self.traits())
        self.assertEqual('WARN', self.check('event-channels')[0])

        flavor = self.make_flavor(
            self.addCleanup, guest_type='pv', specs={
                f'resources:{CLASS}': str(ASKED),
                'xen44:max_event_channels': str(ASKED)})
        first = self.make_server(self.addCleanup, flavor=flavor)
        first.wait_for_status('ACTIVE')
        first.wait_for_login()
        second = self.make_server(self.addCleanup, flavor=flavor)
        self.assert_fault(second, 'no valid host')
        self.remove_server(second.id)
        # What the first one had is there for another.
        self.remove_server(first.id)
        third = self.make_server(self.addCleanup, flavor=flavor)
        third.wait_for_status('ACTIVE')
