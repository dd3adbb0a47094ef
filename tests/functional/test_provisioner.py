# SPDX-License-Identifier: Apache-2.0
"""The double of CloudStack's provisioner is not made to our measure.

Somebody else's extension, for Proxmox, works under it as well. It is from
PyPI: ``pip install cloudstack-extension-proxmox-ngine``; without it the test
of it is skipped.
"""

import http.server
import importlib.util
import json
import os
import pathlib
import sys
import threading
import urllib.parse

import fixtures
from oslotest import base

from tests.cloudstack import provisioner

MODULE = 'cloudstack_extension_proxmox_ngine'
#: The state of a VM after what it is asked for.
AFTER = {'start': 'running', 'reboot': 'running', 'stop': 'stopped'}
NODE = '/api2/json/nodes/pve'


class MergeTest(base.BaseTestCase):

    def test_merge(self):
        vm = provisioner.payload('prepare')['cloudstack.vm.details']
        [nic] = vm['nics']
        found = provisioner.merged(vm, {
            'details': {'External:a': 'b'},
            'nics': [{'uuid': nic['uuid'], 'mac': '00:16:3e:5a:0c:11'}]})
        self.assertEqual(
            {**vm, 'details': {**vm['details'], 'External:a': 'b'},
             'nics': [{**nic, 'mac': '00:16:3e:5a:0c:11'}]}, found)
        self.assertEqual([1], provisioner.merged([{'uuid': 1}], [1]))


class Proxmox(http.server.BaseHTTPRequestHandler):
    """As much of Proxmox as the extension asks for."""

    vms: dict[str, str]
    snapshots: list[str]

    def log_message(self, *arguments):
        pass

    def answer(self):
        path = self.path.rstrip('/')
        body = urllib.parse.parse_qs(self.rfile.read(
            int(self.headers.get('Content-Length') or 0)).decode())
        data: object = 'UPID:pve:1'
        status = self.vms.get('100')
        if path == '/api2/json/cluster/nextid':
            data = '100'
        elif path == f'{NODE}/qemu' and self.command == 'GET':
            data = [{'vmid': 100, 'name': 'i-4-231-VM', 'status': status}
                    ] if status else []
        elif '/tasks/' in path:
            data = {'status': 'stopped', 'exitstatus': 'OK'}
        elif path == f'{NODE}/network':
            data = [{'type': 'eth', 'method': 'static',
                     'address': '192.0.2.9'}]
        elif path.endswith('/clone'):
            self.vms[body['newid'][0]] = 'stopped'
        elif path.endswith('/vncproxy'):
            data = {'port': '5901', 'ticket': 'PVEVNC'}
        elif path.endswith('/snapshot') and self.command == 'GET':
            data = [{'name': name} for name in self.snapshots]
        elif path.endswith('/snapshot'):
            self.snapshots.append(body['snapname'][0])
        elif path.endswith('/status/current') and status:
            data = {'status': status}
        elif after := AFTER.get(path.rpartition('/')[2]):
            self.vms['100'] = after
        elif self.command == 'DELETE' and '/snapshot/' in path:
            self.snapshots.remove(path.rpartition('/')[2])
        elif self.command == 'DELETE':
            del self.vms['100']
        code = 500 if path.endswith('/status/current') and not status else 200
        text = json.dumps({'data': data} if code == 200 else {
            'message': 'VM 100 does not exist'}).encode()
        self.send_response(code)
        self.send_header('Content-Length', str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_DELETE = answer


class ForeignExtensionTest(base.BaseTestCase):

    def test_lifecycle(self):
        found = importlib.util.find_spec(MODULE)
        if found is None:
            self.skipTest(f'{MODULE} is not installed')
        packages = pathlib.Path(found.origin).parents[1]
        Proxmox.vms, Proxmox.snapshots = {}, []
        server = http.server.ThreadingHTTPServer(
            ('127.0.0.1', 0), Proxmox)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        entry = place / 'proxmox.sh'
        entry.write_text(
            f'#!/bin/sh\nPYTHONPATH={packages} '
            f'exec {sys.executable} -m {MODULE} "$@"\n')
        entry.chmod(0o755)
        management = provisioner.Provisioner(
            entry, place, environment={'PATH': os.environ['PATH']},
            details={'host': {
                'url': f'http://127.0.0.1:{server.server_port}',
                'user': 'root@pam', 'token': 't', 'secret': 's',
                'node': 'pve', 'network_bridge': 'vmbr0'}})
        vm: dict[str, object] = {}

        def change(payload):
            payload['externaldetails'].setdefault('virtualmachine', {})[
                'template_id'] = '9000'
            if 'cloudstack.vm.details' in payload:
                payload['cloudstack.vm.details'] = provisioner.merged(
                    payload['cloudstack.vm.details'], vm)

        def act(action, **parameters):
            answer = management.act(
                action, change=change, parameters=parameters, seconds=60)
            self.assertTrue(answer.success, answer)
            return answer

        vm.update(act('prepare').json)
        act('create')
        self.assertEqual('on', act('status').power_state)
        self.assertEqual({'i-4-231-VM': 'on'}, act('statuses').report)
        self.assertEqual('192.0.2.9', act('getconsole').console['host'])
        act('reboot')
        act('CreateSnapshot', snap_name='one')
        self.assertEqual('one', act('ListSnapshots').json[
            'message'][0]['name'])
        act('DeleteSnapshot', snap_name='one')
        act('stop')
        self.assertEqual('off', act('status').power_state)
        act('start')
        act('stop')
        act('delete')
        self.assertEqual({}, act('statuses').report)
        act('stop')
        answer = management.act('deploy', change=change)
        self.assertIn('Invalid action', answer.error)
