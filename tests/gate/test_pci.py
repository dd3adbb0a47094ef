# SPDX-License-Identifier: Apache-2.0
"""A PCI device of the host in guests.

These run in a lab whose host has an IOMMU and a network card to give away
(``XENLAB_KIND=pci``), and only there.
"""

from __future__ import annotations

from typing import Any

from labkit import arch
from labkit import util
from tests.gate import base
from tests.gate import guest as guest_lib
from tests.gate import test_debian

#: The name that the API gives the card (lab/openstack/templates).
ASKED = {'pci_passthrough:alias': 'nic:1'}
CARD = '0x8086 0x10d3'

#: Prints the address of each device of that kind, where this runs.
_FIND = ('for device in /sys/bus/pci/devices/*; do '
         '[ "$(cat $device/vendor) $(cat $device/device)" != "'
         f'{CARD}" ] || basename $device; done')

OPTIONS = """
[pci]
device_spec = {{"address": "{address}"}}
alias = {{"name": "nic", "vendor_id": "8086", "product_id": "10d3", \
"device_type": "type-PCI"}}
"""
#: Seconds in which udev finds the driver of the card in a guest.
DRIVER_TIMEOUT = 120


class Pci(test_debian.DebianCase):

    @base.slow
    def test_device_of_the_host(self) -> None:
        self.address, = self.host.ssh(_FIND).stdout.split()
        self.assertEqual('e1000e', self.driver())

        # The operator gives nothing away yet.
        guest = self.ask('hvm')
        self.assert_fault(guest, 'no valid host')
        self.remove_server(guest.id)

        self.configure(self.addCleanup, OPTIONS.format(address=self.address))
        result, why = self.check('pci-devices')
        self.assertEqual('WARN', result)
        self.assertIn('xen-pciback', why)
        self.dom0('modprobe', 'xen-pciback')
        self.assertEqual(('PASS', ''), self.check('pci-devices'))

        self.assert_refused(self.ask('pvh'), 'pci_passthrough:alias',
                            'guest types that can: hvm, pv')
        self.in_hvm()
        self.resize_fails()
        self.in_pv()

    def in_hvm(self) -> None:
        """An HVM guest has it, until it is deleted."""
        guest = self.ask('hvm')
        guest.wait_for_status('ACTIVE')
        self.assertEqual('pciback', self.driver())
        self.assertIn(self.address, self.dom0('xl', 'pci-list', guest.domain))
        guest.wait_for_ssh()
        self.assertTrue(guest.ssh(_FIND))

        # There is one.
        second = self.ask('hvm')
        self.assert_fault(second, 'no valid host')
        self.remove_server(second.id)

        self.cloud.compute.suspend_server(guest.id)
        self.assert_action_fails(guest, 'suspend')
        guest.wait_for_status('ACTIVE')
        self.assertIn(self.address, self.dom0(
            'grep', 'does not save the state of PCI devices',
            '/var/log/nova/nova-compute.log'))

        self.cloud.compute.reboot_server(guest.id, 'HARD')
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        self.assertTrue(guest.ssh(_FIND))

        self.resize(guest, self.flavor('hvm', {}))
        guest.wait_for_status('VERIFY_RESIZE')
        self.assertEqual('e1000e', self.driver())
        self.cloud.compute.revert_server_resize(guest.id)
        guest.wait_for_status('ACTIVE')
        self.assertEqual('pciback', self.driver())
        self.assert_given_back(guest)

    def resize_fails(self) -> None:
        """A guest that cannot have it goes on, and starts, without it."""
        guest = self.make_server(
            self.addCleanup, flavor=self.flavor('pv', {}))
        guest.wait_for_status('ACTIVE')
        self.resize(guest, self.flavor('pvh', ASKED))
        self.assert_action_fails(guest, 'resize')
        guest.wait_for_status('ACTIVE')
        self.cloud.compute.reboot_server(guest.id, 'HARD')
        guest.wait_for_status('ACTIVE')
        self.assertEqual('e1000e', self.driver())
        # Nova counts it as taken until then.
        self.remove_server(guest.id)

    def resize(self, guest: guest_lib.Guest, flavor: Any) -> None:
        self.cloud.compute.resize_server(guest.id, flavor.id)

    def in_pv(self) -> None:
        """A PV guest's own driver uses it."""
        guest = self.boot(ASKED)
        self.assertEqual('pciback', self.driver())
        guest.wait_for_ssh(test_debian.BOOT_TIMEOUT)
        self.assertTrue(guest.ssh(_FIND))
        util.wait_for(
            f'the network card of {guest.name}', lambda: arch.PCI_MAC in
            guest.ssh('cat /sys/class/net/*/address').split(),
            DRIVER_TIMEOUT, interval=5)
        self.assert_given_back(guest)

    def ask(self, guest_type: str) -> guest_lib.Guest:
        """Ask Nova for a server with the card; do not wait for it."""
        return self.make_server(
            self.addCleanup, flavor=self.flavor(guest_type, ASKED))

    def flavor(self, guest_type: str, specs: dict[str, str]) -> Any:
        return self.make_flavor(
            self.addCleanup, guest_type=guest_type, specs=specs)

    def driver(self) -> str:
        """Which driver of dom0 has the card."""
        return self.dom0('readlink', f'/sys/bus/pci/devices/{self.address}/'
                         'driver').strip().rpartition('/')[2]

    def assert_given_back(self, guest: guest_lib.Guest) -> None:
        """The card is dom0's again when the guest has been deleted."""
        self.remove_server(guest.id)
        util.wait_for('dom0 to have the card again',
                      lambda: self.driver() == 'e1000e', 60, interval=2)
