# SPDX-License-Identifier: Apache-2.0
"""Passwords and quiesced guests through Nova, and a double of the agent."""

import os
import socket
import threading

from nova import context as nova_context
from nova import exception
from nova import objects
from nova.tests.functional.api import client as api_client
import oslo_messaging

from tests.functional import base
from tests.functional import test_servers
from tests.unit.xen import fakeagent
from xen44_driver.xen import sockets


class AgentTest(test_servers.ServersBase):

    def setUp(self):
        super().setUp()
        self.stub_out('xen44_driver.xen.agent.SYNC_TIMEOUT', 1)
        self.guest = fakeagent.GuestAgent()

    def with_agent(self, kind='pvh', **properties):
        """Boot a server whose image says that it has an agent."""
        image = base.create_image(
            self.glance, base.raw_image(),
            hw_qemu_guest_agent='yes', **properties)
        return self.boot(
            image=image, flavor=self.flavor(xen44_guest_type=kind))

    def listen(self, server):
        """Let the QEMU of a server listen, and the agent in it answer."""
        qemu = socket.socket(socket.AF_UNIX)
        self.addCleanup(qemu.close)
        qemu.bind(sockets.path(server['id'], 'agent'))
        qemu.listen()

        def serve():
            while True:
                try:
                    self.guest.serve(qemu.accept()[0])
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()

    def set_password(self, server, password):
        self.api.post_server_action(
            server['id'], {'changePassword': {'adminPass': password}})

    def refused(self, server, *says):
        error = self.assertRaises(
            api_client.OpenStackApiException, self.set_password, server, 'x')
        self.assertEqual(409, error.response.status_code)
        for text in says:
            self.assertIn(text, error.response.text)
        server = self.api.get_server(server['id'])
        self.assertEqual(('ACTIVE', None), (
            server['status'], server['OS-EXT-STS:task_state']))

    def test_password(self):
        for kind in ('pvh', 'hvm'):
            server = self.with_agent(kind)
            self.assertIn(sockets.path(server['id'], 'agent'),
                          self.domain(server).xml)
            self.listen(server)
            self.set_password(server, f'of {kind}')
            self.assertEqual({'root': f'of {kind}'}, self.guest.passwords)
            # What an instance has was decided once.
            self._reboot_server(server, hard=True)
            self.assertIn('org.qemu.guest_agent.0', self.domain(server).xml)
            self._delete_server(server)
            self.below.assert_nothing_left()

    def test_no_password(self):
        self.refused(self.boot(), 'agent is not enabled')
        server = self.with_agent()
        self.refused(server, 'does not answer')
        self.guest.deaf.add('guest-sync-delimited')
        self.listen(server)
        self.refused(server, 'does not answer')

    def manage(self, method, server):
        context = nova_context.get_admin_context()
        getattr(self.compute.manager, method)(
            context, objects.Instance.get_by_uuid(context, server['id']))

    def test_quiesce(self):
        server = self.with_agent()
        self.listen(server)
        self.manage('quiesce_instance', server)
        self.assertTrue(self.guest.frozen)
        self.manage('unquiesce_instance', server)
        self.assertFalse(self.guest.frozen)

    def test_quiesce_refused(self):
        for server, error in (
                (self.boot(), exception.QemuGuestAgentNotEnabled),
                (self.with_agent(), exception.InstanceQuiesceFailed)):
            raised = self.assertRaises(
                oslo_messaging.ExpectedException, self.manage,
                'quiesce_instance', server)
            self.assertIsInstance(raised.exc_info[1], error)

    def test_thawed_when_nova_compute_starts(self):
        server = self.with_agent()
        self.listen(server)
        self.manage('quiesce_instance', server)
        mark = os.path.join(self.below.instances, server['id'], 'frozen')
        self.assertTrue(os.path.exists(mark))
        self.compute = self.restart_compute_service(self.compute)
        self.assertFalse(self.guest.frozen)
        self.assertFalse(os.path.exists(mark))
