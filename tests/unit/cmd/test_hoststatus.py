# SPDX-License-Identifier: Apache-2.0
"""``xen44-host status``: domains of Nova's, foreign ones, and the rest."""

import contextlib
import io
import json
import re

import libvirt
import openstack

from tests.unit import base as unit_base
from tests.unit.cmd import base
from tests.unit.compute import golden
from xen44_driver import privsep
from xen44_driver.cmd import cli
from xen44_driver.cmd import cloud
from xen44_driver.storage import usage

FOREIGN = '''<domain type='xen'>
  <name>my guest</name>
  <memory unit='KiB'>131072</memory>
  <vcpu current='1'>2</vcpu>
  <os><type arch='x86_64' machine='xenpv'>linux</type></os>
  <devices>
    <disk type='block' device='disk'><target dev='xvda' bus='xen'/></disk>
    <hostdev mode='subsystem' type='pci'/>
  </devices>
</domain>'''

XL_ONLY = '99999999-1111-4111-8111-111111111111'


class StatusTestCase(base.CommandTestCase):

    def setUp(self):
        super().setUp()
        self.running = self.patch(privsep, 'running_domains')
        self.client_mode = self.patch(
            privsep.sys_admin_pctxt, 'set_client_mode')
        self.patch(usage, 'measure', return_value=usage.Usage(
            total=100 << 30, used=20 << 30, free=80 << 30,
            promised=10 << 30))
        self.pvh = self.add(1, 'pvh_x86_64_grub')
        self.hvm = self.add(2, 'hvm_x86_64_firmware', running=False)
        self.foreign = self.libvirt.add(3, ours=False)
        self.foreign.xml = FOREIGN
        self.running.return_value = {
            '00000000-0000-0000-0000-000000000000': 'Domain-0',
            self.pvh.uuid: self.pvh.name, self.foreign.uuid: 'my guest',
            XL_ONLY: 'of xl'}

    def add(self, number, name, *, running=True):
        state = self.libvirt.add(number, running=running)
        state.xml = golden.path(name).read_text(encoding='utf-8')
        return state

    def status(self, *argv):
        return self.run_host('status', *argv)


class StatusTest(StatusTestCase):

    def test_table(self):
        status, text = self.status()
        self.assertEqual(0, status, text)
        self.assert_golden('status.txt', text)
        # Root needs no daemon.
        self.client_mode.assert_called_once_with(False)

    def test_json(self):
        status, text = self.status('--json')
        self.assertEqual(0, status, text)
        self.assert_golden('status.json', text)

    def test_calls(self):
        """Three for each domain, whatever it has."""
        self.status()
        of_domains = [call for call in self.libvirt.calls
                      if call in ('state', 'metadata', 'XMLDesc')]
        self.assertEqual(9, len(of_domains))
        self.assertNotIn('lookupByUUIDString', [
            call for call in self.libvirt.calls
            if call == 'lookupByUUIDString'][1:])  # dom0's

    def test_undefined_meanwhile(self):
        self.running.return_value = {}
        self.libvirt.fail['XMLDesc'] = base.fake.error(
            libvirt.VIR_ERR_NO_DOMAIN)
        status, text = self.status('--json')
        self.assertEqual(0, status)
        # Of three, whichever was asked for first.
        self.assertEqual(2, len(json.loads(text)['domains']))

    def test_a_name_controls_no_terminal(self):
        self.pvh.xml = re.sub('Käse', 'K\x9b31mse', self.pvh.xml)
        _, text = self.status()
        self.assertIn('K\ufffd31mse', text)
        self.assertNotIn('\x9b', text)

    def test_a_name_that_the_terminal_cannot_show(self):
        self.pvh.xml = re.sub('Käse', '\U0001f9c0', self.pvh.xml)
        raw = io.BytesIO()
        with contextlib.redirect_stdout(
                io.TextIOWrapper(raw, encoding='latin-1')) as out:
            self.assertEqual(0, cli.host_main(['status']))
            out.flush()
        text = raw.getvalue().decode('latin-1')
        self.assertIn('| ? <&>    |', text)
        self.assertIn('| Käse <&> |', text)

    def test_no_libvirt(self):
        self.stop_libvirt()
        status, text = self.status()
        self.assertEqual(2, status)
        self.assertRegex(text, '^xen44-host: .*refused')

    def test_no_xl(self):
        self.running.side_effect = FileNotFoundError(2, 'No such file', 'xl')
        status, text = self.status()
        self.assertEqual(2, status)
        self.assertIn("'xl'", text)


class CompareTest(StatusTestCase):

    def setUp(self):
        super().setUp()
        self.flags(host='xen1')
        self.cloud = self.patch(openstack, 'connect').return_value
        self.cloud.__enter__.return_value = self.cloud
        self.compute = self.cloud.compute
        self.servers = [self.server(self.pvh.uuid), self.server(self.hvm.uuid)]
        self.compute.servers.side_effect = lambda **query: iter(self.servers)
        self.compute.get_server.side_effect = (
            openstack.exceptions.NotFoundException('gone'))

    @staticmethod
    def server(uuid, vm_state='active', task_state=None, **values):
        return openstack.compute.v2.server.Server(
            id=uuid, vm_state=vm_state, task_state=task_state, **values)

    def differences(self):
        status, text = self.status('--json', '--compare')
        self.assertEqual(0, status, text)
        return json.loads(text)['differences']

    def test_the_same(self):
        self.assertEqual([], self.differences())
        self.compute.servers.assert_called_once_with(
            all_projects=True, compute_host='xen1')
        _, text = self.status('--compare')
        self.assertIn('Nova has the same servers here.', text)

    def test_orphan(self):
        del self.servers[0]
        [found] = self.differences()
        self.assertEqual((self.pvh.uuid, 'xen'),
                         (found['uuid'], found['only_in']))
        self.assertIn('does not know', found['text'])
        _, text = self.status('--compare')
        self.assertIn(f'{self.pvh.uuid}: Nova does not know', text)

    def test_on_another_host(self):
        del self.servers[0]
        self.compute.get_server.side_effect = None
        self.compute.get_server.return_value = self.server(
            self.pvh.uuid, status='VERIFY_RESIZE', compute_host='xen2')
        [found] = self.differences()
        self.assertIn('on host xen2 (VERIFY_RESIZE)', found['text'])

    def test_server_without_a_domain(self):
        self.servers.append(self.server(unit_base.UUID, 'stopped'))
        [found] = self.differences()
        self.assertEqual((unit_base.UUID, 'nova'),
                         (found['uuid'], found['only_in']))

    def test_servers_that_need_none_now(self):
        for number, (state, task) in enumerate((
                ('building', 'spawning'), ('building', None),
                ('error', None), ('active', 'migrating'))):
            self.servers.append(self.server(
                base.fake.uuid(100 + number), state, task))
        self.assertEqual([], self.differences())

    def test_no_credentials(self):
        openstack.connect.side_effect = (
            cloud.keystone.MissingRequiredOptions([]))
        status, text = self.status('--compare')
        self.assertEqual(2, status)
        self.assertIn('cannot compare with Nova', text)
