# SPDX-License-Identifier: Apache-2.0
"""The double of the provisioner runs an extension that is not ours.

So it is not made to the measure of ours: a third party's extension for
Proxmox, which real management servers run, has to work under it, on a double
of Proxmox's API.
"""

import copy
import http.server
import json
import pathlib
import sys
import threading
import urllib.parse

import ddt
import fixtures
from oslotest import base
from testtools import testcase

from labkit import provisioner
from tests.functional import base as functional

NAME = 'i-4-231-VM'
TEMPLATE = '9000'
VLAN = '1204'

ENTRY = '''#!{python}
from cloudstack_extension_proxmox_ngine import cli
cli.main()
'''


class Proxmox(http.server.ThreadingHTTPServer):
    """As much of Proxmox's API as the extension uses; a task ends at once."""

    def __init__(self):
        super().__init__(('127.0.0.1', 0), _Handler)
        self.vms = {TEMPLATE: {'name': 'template', 'status': 'stopped',
                               'template': 1, 'config': {}, 'snapshots': []}}
        self.failing = None

    @property
    def url(self):
        return f'http://127.0.0.1:{self.server_port}'

    def answer(self, method, path, values):
        """Return ``data`` of an answer.

        :raises LookupError: there is no such thing.
        """
        if (method, *path) == self.failing:
            raise LookupError('it is broken')
        match (method, *path):
            case 'GET', 'cluster', 'nextid':
                return str(max(map(int, self.vms)) + 1)
            case 'GET', 'nodes', 'pve', 'tasks', _, 'status':
                return {'status': 'stopped', 'exitstatus': 'OK'}
            case 'GET', 'nodes', 'pve', 'network':
                return [{'type': 'bridge', 'method': 'static',
                         'address': '192.0.2.99'},
                        {'type': 'eth', 'method': 'static',
                         'address': '192.0.2.21'}]
            case 'GET', 'nodes', 'pve', 'qemu':
                return [{'vmid': vmid, **vm} for vmid, vm in self.vms.items()]
            case 'POST', 'nodes', 'pve', 'qemu', vmid, 'clone':
                self.vms[values['newid']] = {
                    **copy.deepcopy(self.vms[vmid]), 'template': 0,
                    'name': values['name']}
            case method, 'nodes', 'pve', 'qemu', vmid, *rest:
                if vmid not in self.vms:
                    raise LookupError(f'VM {vmid} does not exist')
                return self.change(method, vmid, rest, values)
            case _:
                raise LookupError(f'{method} {path} is not known')
        return 'UPID:pve:1'

    def change(self, method, vmid, rest, values):
        vm = self.vms[vmid]
        match (method, *rest):
            case 'DELETE',:
                del self.vms[vmid]
            case ('POST' | 'PUT'), 'config':
                vm['config'].update(values)
            case 'GET', 'status', 'current':
                return {'status': vm['status']}
            case 'POST', 'status', ('start' | 'reboot'):
                vm['status'] = 'running'
            case 'POST', 'status', 'stop':
                vm['status'] = 'stopped'
            case 'POST', 'vncproxy':
                return {'port': '5900', 'ticket': 'PVEVNC:ticket'}
            case 'GET', 'snapshot':
                return vm['snapshots']
            case 'POST', 'snapshot':
                vm['snapshots'].append({
                    'name': values['snapname'], 'snaptime': 1,
                    'description': values.get('description', '')})
            case 'POST', 'snapshot', _, 'rollback':
                vm['status'] = 'stopped'
            case 'DELETE', 'snapshot', name:
                vm['snapshots'] = [one for one in vm['snapshots']
                                   if one['name'] != name]
            case _:
                raise LookupError(f'{method} {rest} is not known')
        return 'UPID:pve:1'


class _Handler(http.server.BaseHTTPRequestHandler):

    def handle_any(self):
        text = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        values = dict(urllib.parse.parse_qsl(text.decode()))
        path = self.path.removeprefix('/api2/json/').strip('/').split('/')
        try:
            status, body = 200, {'data': self.server.answer(
                self.command, path, values)}
        except LookupError as error:
            status, body = 500, {'message': str(error)}
        sent = json.dumps(body).encode()
        self.send_response(status)
        self.send_header('Content-Length', str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def log_message(self, *args):
        pass


@ddt.ddt
class CalibrationTest(testcase.WithAttributes, base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.place = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.proxmox = Proxmox()
        self.addCleanup(self.proxmox.server_close)
        threading.Thread(target=self.proxmox.serve_forever,
                         kwargs={'poll_interval': 0.05}).start()
        self.addCleanup(self.proxmox.shutdown)
        entry = self.place / 'proxmox.py'
        entry.write_text(ENTRY.format(python=sys.executable))
        entry.chmod(0o755)
        self.entry = entry
        #: What prepare has told CloudStack.
        self.kept = {}

    def management(self, version):
        self.server = provisioner.Provisioner(
            self.entry, self.place, version, details={
                'extension': {}, 'host': {
                    'url': self.proxmox.url, 'user': 'root@pam',
                    'token': 'cs', 'secret': 'x', 'node': 'pve',
                    'network_bridge': 'vmbr0',
                    'verify_tls_certificate': 'false'}})

    def change(self, payload):
        if 'cloudstack.vm.details' not in payload:
            return
        payload['externaldetails']['virtualmachine'] = {
            'template_type': 'Template', 'template_id': TEMPLATE}
        payload['cloudstack.vm.details'] = provisioner.merged(
            payload['cloudstack.vm.details'], self.kept)

    def act(self, action, **parameters):
        return self.server.act(action, seconds=120, change=self.change,
                               parameters=parameters)

    def do(self, action, **parameters):
        answer = self.act(action, **parameters)
        self.assertTrue(answer.success, answer)
        return answer

    @functional.slow
    @ddt.data(*provisioner.VERSIONS)
    def test_lifecycle(self, version):
        self.management(version)
        self.kept = self.do('prepare').json
        self.do('create')
        vmid, = {*self.proxmox.vms} - {TEMPLATE}
        self.assertEqual(vmid, self.kept['details']['proxmox_vmid'])
        config = self.proxmox.vms[vmid]['config']
        self.assertEqual(('2', '2048'), (config['cores'], config['memory']))
        self.assertEqual(
            f'virtio=02:01:00:d9:00:0a,bridge=vmbr0,tag={VLAN},firewall=0',
            config['net0'])
        self.assertEqual('on', self.act('status').power_state)
        if version == '4.22.1':
            self.assertEqual({NAME: 'on'}, self.act('statuses').report)
        if version != '4.21':
            console = self.do('getconsole').console
            self.assertEqual(('192.0.2.21', '5900', 'vnc'), tuple(
                console[key] for key in ('host', 'port', 'protocol')))
        self.do('stop')
        self.assertEqual('off', self.act('status').power_state)
        self.do('start')
        self.do('reboot')
        self.do('CreateSnapshot', snap_name='one', snap_description='first')
        [snapshot] = self.do('ListSnapshots').json['message']
        self.assertEqual(('one', 'first'),
                         (snapshot['name'], snapshot['description']))
        self.do('RestoreSnapshot', snap_name='one')
        self.assertEqual('on', self.act('status').power_state)
        self.do('DeleteSnapshot', snap_name='one')
        for _ in range(2):
            self.do('stop')
            self.do('delete')
        self.assertEqual({TEMPLATE}, {*self.proxmox.vms})

    @functional.slow
    def test_failures(self):
        self.management('4.22.1')
        self.assertIn('proxmox_vmid', self.act('start').error)
        self.assertIn('Invalid action', self.act('Migrate').error)
        self.assertEqual('unknown', self.act('status').power_state)
        self.kept = self.do('prepare').json
        vmid = self.kept['details']['proxmox_vmid']
        self.proxmox.failing = ('POST', 'nodes', 'pve', 'qemu', vmid,
                                'status', 'start')
        self.assertIn('it is broken', self.act('create').error)
        self.assertEqual({TEMPLATE}, {*self.proxmox.vms})
        self.proxmox.failing = ('GET', 'nodes', 'pve', 'qemu')
        self.assertIsNone(self.act('statuses').report)
