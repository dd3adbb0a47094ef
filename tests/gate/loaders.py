# SPDX-License-Identifier: Apache-2.0
"""Guests that boot by the driver's own loaders."""

from __future__ import annotations

import json
from typing import ClassVar

from labkit import compute
from tests.gate import base
from tests.gate import guest as guest_lib

#: Where the host keeps them (loader_directory).
DIRECTORY = '/var/lib/xen44/loaders'


class LoadersCase(base.GateCase):
    """The host has the loaders, built for each class.

    They stay there, as guests of other tests may have them by then.
    """

    _built: ClassVar[dict[str, str]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        done = cls.host.ssh([f'{compute.VENV}/bin/xen44-host',
                             'build-loaders', '--json'], timeout=300)
        cls._built = {loader['path']: loader['sha256'] for loader
                      in json.loads(done.stdout)['loaders']}

    def assert_own_loader(self, guest: guest_lib.Guest) -> None:
        """The guest's domain has one, and its record the checksum."""
        described = self.dom0('virsh', 'dumpxml', guest.domain)
        self.assertIn(f'<kernel>{DIRECTORY}/grub-', described)
        self.assertTrue(any(f'"{checksum}"' in described.replace('&quot;', '"')
                            for checksum in self._built.values()), described)
