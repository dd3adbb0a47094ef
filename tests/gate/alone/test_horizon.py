# SPDX-License-Identifier: Apache-2.0
"""The web page: what a person does there happens in Nova and on the host.

A picture of each step is left in the lab's ``log/screens/horizon``.
"""

from __future__ import annotations

from typing import Any
from typing import ClassVar

from labkit import config
from labkit import horizon
from labkit import images
from labkit import util
from labkit.cloud import dashboard
from labkit.cloud import settings
from labkit.cloud.content import KEYPAIR
from tests.gate import base
from tests.gate import guest as guest_lib
from tests.gate.rows import consoles

INSTANCES = 'project/instances'
IMAGES = 'project/images'

REASON = 'gate: new RAM'

#: Seconds in which Nova finds that there is no host for an instance.
SCHEDULER_TIMEOUT = 120


class Horizon(base.GateCase):
    """The lab's admin, in a browser of their own."""

    visit: ClassVar[horizon.Visit]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.addClassCleanup(dashboard.stop)
        with util.step('Horizon'):
            dashboard.start()
        cls.visit = cls.enterClassContext(horizon.Visit(
            dashboard.URL, consoles.SCREENS / 'horizon'))
        cls.visit.do('log_in', user=dashboard.USER,
                     password=settings.load_secrets()['admin'])

    @base.slow
    def test_instance_in_a_browser(self) -> None:
        guest = self.launch()
        self.assertEqual('HVM', guest.ssh('cat /sys/hypervisor/guest_type'))
        consoles.wait_for_prompt(guest)
        self.visit.do('type_on_console', name=guest.name, text=consoles.MARK)
        util.wait_for('what was typed in the browser',
                      lambda: consoles.MARK in consoles.screen(guest),
                      consoles.SHOWN_TIMEOUT)

        guest.ssh('echo kept > /root/kept && sync')
        image = self.snapshot(guest)
        guest.ssh('echo lost > /root/lost && sync')
        before = guest.boot_id()
        self.visit.do('rebuild', name=guest.name, image=image.name)
        guest.wait_for_status('ACTIVE')
        guest.wait_for_reboot(before)
        self.assertEqual(image.id, guest.server().image.id)
        self.assertEqual('kept', guest.ssh(
            'cat /root/kept /root/lost 2>/dev/null', check=False))
        self.visit.do('wait_for_row', page=INSTANCES, name=guest.name,
                      text='Active')

        self.visit.do('delete_image', name=image.name)
        self.assertIsNone(self.cloud.image.find_image(image.id))

    def launch(self) -> guest_lib.Guest:
        """Launch an HVM instance; returns it when it takes ssh."""
        name = self._name()
        self.addCleanup(self.remove, name)
        self.visit.do('launch', name=name, image=images.DIRECT,
                      flavor='xen.hvm', network=config.LAB_NET,
                      key_pair=KEYPAIR)
        server = self.cloud.compute.find_server(name, ignore_missing=False)
        guest = guest_lib.Guest(self.cloud, server.id)
        self.visit.do('wait_for_row', page=INSTANCES, name=name,
                      text='Active')
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        return guest

    def snapshot(self, guest: guest_lib.Guest) -> Any:
        """Make a snapshot; returns its image when it is there."""
        name = self._name('image')
        self.addCleanup(self.remove, name)
        self.visit.do('create_snapshot', name=guest.name, snapshot=name)
        self.visit.do('wait_for_row', page=IMAGES, name=name, text='Active')
        image = self.cloud.image.find_image(name, ignore_missing=False)
        self.assertEqual(('active', guest.id),
                         (image.status, image.instance_uuid))
        guest.wait_for_status('ACTIVE')
        return image

    def remove(self, name: str) -> None:
        """Delete the instance and the image of a name, if they are there."""
        if server := self.cloud.compute.find_server(name):
            self.remove_server(server.id)
        if image := self.cloud.image.find_image(name):
            self.cloud.image.delete_image(image.id)

    @base.slow
    def test_host_in_a_browser(self) -> None:
        guest = self.make_server(
            self.addCleanup,
            flavor=self.make_flavor(self.addCleanup, guest_type='pv'))
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        before, name = guest.boot_id(), self.host.name
        self.visit.do('read_console', name=guest.name, text='login:')

        self.addCleanup(self.put_back)
        self.visit.do('disable_host', host=name, reason=REASON)
        service = self.service()
        self.assertEqual(('disabled', REASON),
                         (service.status, service.disabled_reason))

        # There is no other host: Nova finds that out, later.
        said = self.visit.do('migrate_host', host=name)
        self.assertIn(f'Starting to migrate host: {name}', said)
        util.wait_for(f'Nova to give up on {guest.name}',
                      lambda: self.migration_failed(guest),
                      SCHEDULER_TIMEOUT, interval=1)
        guest.wait_for_status('ACTIVE')
        self.assertEqual(before, guest.boot_id())

        # An instance that is shelved is on no host.
        guest.ssh('echo kept > /root/kept && sync')
        self.visit.do('act', name=guest.name, action='Shelve Instance')
        self.visit.do('wait_for_row', page=INSTANCES, name=guest.name,
                      text='Shelved Offloaded')
        guest.wait_for_status('SHELVED_OFFLOADED')
        self.assertNotIn(guest.domain, self.dom0('xl', 'list'))

        self.visit.do('enable_host', host=name)
        service = self.service()
        self.assertEqual(('enabled', None),
                         (service.status, service.disabled_reason))
        self.visit.do('act', name=guest.name, action='Unshelve Instance')
        self.visit.do('wait_for_row', page=INSTANCES, name=guest.name,
                      text='Active')
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        self.assertEqual('kept', guest.ssh('cat /root/kept'))

    def migration_failed(self, guest: guest_lib.Guest) -> bool:
        """Whether Nova has noted so."""
        return any(
            action.action == 'migrate' and action.message == 'Error'
            for action in self.cloud.compute.server_actions(guest.id))

    def put_back(self) -> None:
        """The host is in use."""
        service = self.service()
        if service.status != 'enabled':
            self.cloud.compute.update_service(service.id, status='enabled')
