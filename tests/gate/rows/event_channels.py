# SPDX-License-Identifier: Apache-2.0
"""The sizes of a guest's tables in Xen that a flavor asks for."""

from __future__ import annotations

import json
from typing import Any

from tests.gate import base
from tests.gate import guest as guest_lib

TABLE_SPECS = {'xen44:max_event_channels': '2500',
               'xen44:max_grant_frames': '128'}


class TableSizes:
    """Of the class's guest, and of another one with its own flavor."""

    @base.slow
    def test_sizes_of_tables(self: Any) -> None:
        # libxl shows no default, or its own.
        self.assertIn(table_sizes(self, self.running())[0], (None, 1023))
        flavor = self.make_flavor(
            self.addCleanup, guest_type=self.guest_type, specs=TABLE_SPECS)
        guest = self.make_server(
            self.addCleanup, flavor=flavor, image=self.image(self.image_name))
        guest.wait_for_status('ACTIVE')
        self.assertEqual((2500, 128), table_sizes(self, guest))
        self.remove_server(guest.id)


def table_sizes(
    case: Any, guest: guest_lib.Guest,
) -> tuple[int | None, int | None]:
    """What libxl was told: event channels, grant frames; None for nothing."""
    domain, = json.loads(case.dom0('xl', 'list', '-l', guest.domain))
    build = domain['config']['b_info']
    return build.get('event_channels'), build.get('max_grant_frames')
