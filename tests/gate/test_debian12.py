# SPDX-License-Identifier: Apache-2.0
"""A host of Debian 12: Xen 4.17, libvirt 9.0, QEMU 7.2, Linux 6.1.

These run in a lab whose dom0 is that (``XENLAB_KIND=debian12``), and only
there.
"""

from __future__ import annotations

from tests.gate import base
from tests.gate import test_guests
from tests.gate.rows import snapshot
from tests.gate.rows import suspend

#: Of a flavor; the second is more than this Xen gives to any guest.
GRANT_FRAMES = 'xen44:max_grant_frames'
ASKED = '256'


class Host(base.GateCase):

    @base.slow
    def test_fit(self) -> None:
        self.assertIn('VERSION_ID="12"', self.dom0('cat', '/etc/os-release'))
        software, found = self.checks()
        self.assertIn('Xen 4.17.', software)
        self.assertIn('libvirt 9.0.', software)
        self.assertIn('guests: pv, pvh, hvm', software)
        self.assertEqual({}, {key: texts for key, (result, texts)
                              in found.items() if result == 'FAIL'})
        # What this Xen cannot do for large guests is said.
        self.assertEqual('WARN', found['grant-frames'][0])

    @base.slow
    def test_too_many_grant_frames(self) -> None:
        guest = self.make_server(self.addCleanup, flavor=self.make_flavor(
            self.addCleanup, guest_type='pv', specs={GRANT_FRAMES: ASKED}))
        self.assert_refused(guest, f'{GRANT_FRAMES} {ASKED}', 'at most 64')


class PV(test_guests.Inside, test_guests.SoftReboot, suspend.Suspend,
         snapshot.Snapshot, test_guests.GuestCase):
    """Paravirtual, booted by grub 2.06 from its own disk.

    Of a guest with virtualization, PVH or HVM, loader and firmware run here,
    and it ends without a word as soon as its kernel does. Whether by Xen 4.17
    itself or by the emulation of the CPU under it is not known.
    """

    guest_type = 'pv'
