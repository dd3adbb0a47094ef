# SPDX-License-Identifier: Apache-2.0
"""SPICE consoles, which the lab's nova-compute does not have by default."""

from __future__ import annotations

import contextlib

from labkit import config
from labkit import images
from labkit import spice
from labkit import util
from labkit import vnc
from labkit.cloud import Cloud
from labkit.cloud import rest
from labkit.cloud import services
from tests.gate import base
from tests.gate.rows import consoles

OPTIONS = '''[spice]
enabled = true
server_listen = {address}
server_proxyclient_address = {address}
html5proxy_base_url = http://{proxy}:{port}/spice_auto.html
'''

PROXY_PORT = 6082
#: Seconds until the proxy listens, beside an emulated host.
PROXY_TIMEOUT = 180


class Spice(base.GateCase):
    """An HVM guest with SPICE and VNC."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cloud = Cloud()
        proxy = services.spice_proxy(cloud.venv)
        proxy.start(cloud.venv)
        cls.addClassCleanup(util.stop, proxy.pidfile)
        cls.configure(cls.addClassCleanup, OPTIONS.format(
            address=cls.host.address, proxy=config.CONTROLLER_IP,
            port=PROXY_PORT))

        def listens() -> bool:
            proxy.check()
            return rest.listening(config.CONTROLLER_IP, PROXY_PORT)

        util.wait_for(proxy.name, listens, PROXY_TIMEOUT, proxy.log)

    @base.slow  # nova-compute restarts twice.
    def test_spice_console(self) -> None:
        guest = self.make_server(
            self.addCleanup, image=self.image(images.DIRECT),
            flavor=self.make_flavor(self.addCleanup, guest_type='hvm'))
        guest.wait_for_status('ACTIVE')
        url = self.cloud.compute.create_console(guest.id, 'spice-html5')['url']
        with contextlib.closing(consoles.connect(url)) as stream:
            session = spice.start_session(stream)
        util.say(f'  {guest.name}: {session}')
        self.assertEqual(1, session.displays)
        # It has the other console as well.
        url = self.cloud.compute.create_console(guest.id, 'novnc')['url']
        self.assertGreaterEqual(vnc.take(url).width, 640)
        # Of the network only VNC has a port, and only in dom0.
        listeners = [line.split()[3] for line
                     in self.dom0('ss', '-ltnpH').splitlines()
                     if 'qemu' in line]
        self.assertTrue(listeners)
        for listener in listeners:
            self.assertTrue(listener.startswith('127.0.0.1:'), listeners)
        consoles.check_relays(self, range(7900, 8700))
