# SPDX-License-Identifier: Apache-2.0
"""An instance that runs a guest of its own.

These run in a lab whose CPU lets Xen do that (``XENLAB_KIND=nested``), and
only there.
"""

from __future__ import annotations

import json
import pathlib
import tempfile
from typing import Any

from labkit import compute
from labkit import guest as guest_images
from labkit import util
from tests.gate import base

OPTIONS = '[xen44_x86_64]\nnested_hvm = true\n'
ASKED = {'xen44:nested_hvm': 'true'}
TRAIT = 'CUSTOM_XEN44_NESTED_HVM'

#: How the driver's own probe boots its guest, and what that prints last
#: (nestedguest.py and nestedinit.py there).
CMDLINE = 'console=ttyS0 quiet PYTHONHASHSEED=0'
PASSED = 'xen44: a guest of this guest ran to its end'
FAILED = 'xen44: no guest of this guest ran: '

#: Makes that guest's initrd, in dom0.
INITRD = '/root/gate-nested-initrd'
_MAKE = ('import pathlib; from xen44_driver.cmd import nestedguest; '
         f'pathlib.Path({INITRD!r}).write_bytes(nestedguest.initrd("svm"))')

#: Seconds that the probe's guest has, and its command.
PROBE_TIMEOUT = 900
COMMAND_TIMEOUT = PROBE_TIMEOUT + 300


class Nested(base.GateCase):

    @base.slow
    def test_guest_of_an_instance(self) -> None:
        image = self.hypervisor()
        flavor = self.make_flavor(self.addCleanup, guest_type='hvm', ram=512,
                                  specs=ASKED)

        # By default nobody may have it.
        guest = self.make_server(self.addCleanup, image=image, flavor=flavor)
        self.assert_refused(guest, 'xen44:nested_hvm', 'it is off')

        # An operator's word is not enough.
        self.configure(self.addCleanup, OPTIONS)
        guest = self.make_server(self.addCleanup, image=image, flavor=flavor)
        self.assert_refused(guest, 'xen44:nested_hvm',
                            'run xen44-host probe-nested')
        self.assertNotIn(TRAIT, self.traits())

        result = self.probe()
        self.assertTrue(result['works'], result)
        # Nova reports once a minute what the host has.
        util.wait_for(f'Placement to know of {TRAIT}',
                      lambda: TRAIT in self.traits(), 300, interval=5)

        guest = self.make_server(self.addCleanup, image=image, flavor=(
            self.make_flavor(self.addCleanup, guest_type='hvm', ram=512,
                             specs={**ASKED, f'trait:{TRAIT}': 'required'})))
        guest.wait_for_status('ACTIVE')
        self.assertIn('"nested_hvm": "True"',
                      self.dom0('xl', 'list', '-l', guest.domain))
        said = util.wait_for(
            f'{guest.name} to run a guest',
            lambda: [line for line in guest.console().splitlines()
                     if PASSED in line or FAILED in line],
            PROBE_TIMEOUT, interval=5)
        # What the BIOS wrote to clear its screen may come before.
        self.assertIn(PASSED, said[0])

        # It switches itself off then; other types never have it.
        for kind in ('pv', 'pvh'):
            other = self.make_server(
                self.addCleanup, flavor=self.make_flavor(
                    self.addCleanup, guest_type=kind, specs=ASKED))
            self.assert_refused(other, "xen44:nested_hvm 'true'",
                                f'{kind} guest: false')

    def probe(self) -> Any:
        """Run the probe in dom0; returns what it prints."""
        self.addCleanup(self.host.ssh, [
            'rm', '--force', '/var/lib/xen44/nested-hvm.json'])
        done = self.host.ssh(
            [f'{compute.VENV}/bin/xen44-host', 'probe-nested', '--yes',
             '--json', '--timeout', str(PROBE_TIMEOUT)],
            check=False, timeout=COMMAND_TIMEOUT)
        self.assertIn(done.returncode, (0, 1), done.stderr)
        return json.loads(done.stdout)

    def hypervisor(self) -> Any:
        """An image with dom0's kernel, and an init that runs a guest."""
        self.addCleanup(self.host.ssh, ['rm', '--force', INITRD])
        self.host.ssh([f'{compute.VENV}/bin/python', '-c', _MAKE],
                      timeout=300)
        release = self.dom0('uname', '-r').strip()
        ids = {}
        with tempfile.TemporaryDirectory() as work:
            for kind, name, path in (
                    ('aki', 'kernel_id', f'/boot/vmlinuz-{release}'),
                    ('ari', 'ramdisk_id', INITRD)):
                copy = pathlib.Path(work, kind)
                self.host.copy_from(path, copy)
                ids[name] = self.make_image(
                    self.addCleanup, copy, kind, container_format=kind).id
        return self.make_image(
            self.addCleanup, guest_images.small_guest().disk_qcow2, 'qcow2',
            os_command_line=CMDLINE, **ids)
